# SPDX-License-Identifier: MIT
"""The licences of packages, read from Debian's copyright files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.provenance import licences
from tasks.provenance.manifest_schema import Input
from tasks.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("This package was debianized by somebody.\nLicense: GPL\n", []),
        ("License: GPL-2+\n text\n\nLicense: Expat\n", ["GPL-2.0-or-later", "MIT"]),
        ("License: GPL-2+ or LGPL-3+\n", ["GPL-2.0-or-later OR LGPL-3.0-or-later"]),
        ("License: GPL-3+ and ISC\n", ["GPL-3.0-or-later AND ISC"]),
        ("License: BSLA or so!\n", ["LicenseRef-Debian-BSLA-or-so"]),
        ("License:\n GPL\n", []),
    ],
)
def test_debians_copyright_files_are_read_and_never_guessed(text: str, found: list[str]) -> None:
    head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
    assert licences.from_debian(text if "debianized" in text else head + text) == found


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("go:example.org/a@v1.0.0", "example.org+a@v1.0.0.zip"),
        ("a-1-py3-none-any.whl", "a-1-py3-none-any.whl"),
    ],
)
def test_a_damaged_zip_is_named(origin: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"cut short")
    one = Input(kind="origin", name=name, sha256="0" * 64, size=9, origin=origin)
    with pytest.raises(UserError, match="in the cache is damaged") as caught:
        licences.of(one, path)
    assert caught.value.message.startswith(name)
    assert str(path) in caught.value.hint


def test_every_spdx_id_of_the_table_exists() -> None:
    for spdx in licences._spdx_ids().values():
        assert licences._valid(spdx) == spdx

# SPDX-License-Identifier: MIT
"""The licences of packages, read from Debian's copyright files."""

from __future__ import annotations

import pytest

from tasks.provenance import licences


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


def test_every_spdx_id_of_the_table_exists() -> None:
    for spdx in licences._spdx_ids().values():
        assert licences._valid(spdx) == spdx

# SPDX-License-Identifier: MIT
"""Licences by their texts."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from tasks.formats import licence_text

MIT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person
obtaining a copy of this software ... The above copyright notice and this permission notice
shall be included in all copies."""
BSD = """Redistribution and use in source and binary forms ... Redistributions of source code must retain
the above ... Redistributions in binary form must reproduce the above ..."""
NO_ENDORSEMENT = "\nNeither the name may be used to endorse or promote products derived from this software"
APACHE = "Apache License\n  Version 2.0, January 2004 ... 3. Grant of Patent License."


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        (MIT, "MIT"),
        (BSD, "BSD-2-Clause"),
        (BSD + NO_ENDORSEMENT, "BSD-3-Clause"),
        (APACHE, "Apache-2.0"),
        ("Do what you like.", ""),
        ("", ""),
    ],
)
def test_the_licence_of_a_text(text: str, spdx: str) -> None:
    assert licence_text.spdx(text) == spdx


@pytest.mark.parametrize(
    ("files", "expression"),
    [
        ({"LICENSE": MIT}, "MIT"),
        ({"LICENSE": APACHE, "COPYING.md": BSD, "sub/LICENSE": "mine"}, "Apache-2.0 AND BSD-2-Clause"),
        ({"LICENSE-MIT": MIT, "licenser.go": "package main"}, "MIT"),
        ({"LICENSE": MIT, "LICENSE.docs": "mine"}, ""),
        ({"main.go": MIT}, ""),
    ],
)
def test_the_licences_of_a_module(tmp_path: Path, files: dict[str, str], expression: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"example.org/a/b@v1.0.0/{name}", content)
    assert licence_text.of_zip(tmp_path / "m.zip") == expression


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize(
    ("files", "expression"),
    [
        ({"a-1.0/LICENSE": MIT, "a-1.0/sub/COPYING": "mine"}, "MIT"),
        ({"./LICENSE": MIT, "./COPYING": APACHE, "./sub/LICENSE": "mine"}, "Apache-2.0 AND MIT"),
        ({"a-1.0/COPYING": "GPL", "a-1.0/LICENSE": MIT}, ""),
        ({"a-1.0/main.c": MIT}, ""),
    ],
)
def test_the_licences_of_a_source_archive(
    tmp_path: Path, files: dict[str, str], expression: str, mode: Literal["w", "w:gz", "w:xz"]
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    assert licence_text.of_tar(path) == expression
    path.write_bytes(path.read_bytes()[:100])
    assert licence_text.of_tar(path) == ""

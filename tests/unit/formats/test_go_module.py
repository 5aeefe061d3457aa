# SPDX-License-Identifier: MIT
"""Go modules as files: names, places in a proxy, and their hash."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tasks.formats import go_module
from tasks.formats.go_module import Module

MODULES = {
    "github.com+Azure+go@v1.0.0+incompatible.zip": (
        Module("github.com/Azure/go", "v1.0.0+incompatible"),
        "github.com/!azure/go/@v/v1.0.0+incompatible.zip",
    ),
    "gopkg.in+yaml.v3@v3.0.1.zip": (Module("gopkg.in/yaml.v3", "v3.0.1"), "gopkg.in/yaml.v3/@v/v3.0.1.zip"),
    "go.opencensus.io@v0.24.0.zip": (
        Module("go.opencensus.io", "v0.24.0"),
        "go.opencensus.io/@v/v0.24.0.zip",
    ),
    "a.b+c-d_e~f@v0.0.1-RC1.zip": (Module("a.b/c-d_e~f", "v0.0.1-RC1"), "a.b/c-d_e~f/@v/v0.0.1-!r!c1.zip"),
}


@pytest.mark.parametrize("name", list(MODULES))
def test_the_names_of_a_module(name: str) -> None:
    module, place = MODULES[name]
    assert module.file_name == name
    assert go_module.of_file_name(name) == module
    assert module.at("zip") == place
    assert go_module.of_proxy_path(place) == module


@pytest.mark.parametrize(
    "name", ["a.b+c@v1.0.0.mods.tar", "a.b+c.zip", "a.b+c@1.0.0.zip", "..+c@v1.0.0.zip", "a@v1.0.0.zip"]
)
def test_the_name_of_no_module(name: str) -> None:
    assert go_module.of_file_name(name) is None


def test_the_hash_of_a_zip_is_that_of_its_files(tmp_path: Path) -> None:
    """The value is what Go 1.27 says of a module with these files."""
    files = {"a.b/c@v1.0.0/go.mod": "module a.b/c\n", "a.b/c@v1.0.0/c.go": "package c\n"}
    found = set()
    for order, packing in ((1, zipfile.ZIP_STORED), (-1, zipfile.ZIP_DEFLATED)):
        path = tmp_path / f"{packing}.zip"
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name in list(files)[::order]:
                archive.writestr(name, files[name])
        found.add(go_module.h1(path))
    assert found == {"h1:FdGKRmZlcSWwEjOQ15p9Aver35jcMy8KNwxMHUK8a18="}
    damaged = bytearray(path.read_bytes())
    damaged[-4] ^= 1
    path.write_bytes(damaged[:-30])
    assert go_module.h1(path) == ""
    path.write_bytes(b"")
    assert go_module.h1(path) == ""

# SPDX-License-Identifier: MIT
"""Modules and libraries of real programs, held against modinfo(8) and ldd(1)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.formats import elf
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import require_tool


@pytest.fixture(scope="module")
def modules() -> Path:
    """Return the root that `make modules_install` filled."""
    found = sorted((CHECKOUT.root / "artifacts").glob("*/kernel/modules"))
    if not found:
        pytest.skip("no kernel built: run ./doit kernel")
    return found[0]


def test_every_built_module_fits_the_kernel(modules: Path) -> None:
    release = (modules.parent / "release").read_text().strip()
    order = (modules / "lib/modules" / release / "modules.order").read_text().split()
    assert elf.check_modules(modules, release) == len(order)
    if order:
        with pytest.raises(UserError, match=r"expected it to start with '0\.0\.1'"):
            elf.check_modules(modules, "0.0.1")


def test_modinfo_says_the_same_as_the_program(modules: Path) -> None:
    for path in elf.modules_below(modules)[:20]:
        for tag, values in elf.modinfo(path).items():
            if tag in ("parm", "parmtype"):  # the program joins these two into one line
                continue
            said = subprocess.run(
                [require_tool("modinfo"), "-F", tag, path], capture_output=True, text=True, check=True
            ).stdout
            assert said == "".join(f"{value}\n" for value in values), (path, tag)


def ldd_root(program: Path) -> dict[str, Path]:
    """Return the program and all that ldd says it loads, links and their targets both."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    names = [str(program), *re.findall(r"(/\S+) \(0x", said)]
    files: dict[str, Path] = {}
    for name in names:
        folder = Path(name).parent
        # The folder's own links (/lib -> usr/lib) belong to the root as well.
        for link in [folder, *folder.parents]:
            if link.is_symlink():
                files[str(link)] = link
        for path in {name, os.path.realpath(name), str(folder.resolve() / Path(name).name)}:
            files[path] = Path(path)
    return files


@pytest.mark.parametrize("name", ["bash", "xz", "openssl"])
def test_ldd_and_closure_agree(name: str) -> None:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    files = ldd_root(Path(os.path.realpath(found)))
    assert elf.closure(files) == elf.Unmet()
    libraries = sorted(path for path in files if ".so" in path and not files[path].is_symlink())
    assert libraries, f"{name} is static"
    for gone in libraries:
        rest = {
            path: file for path, file in files.items() if os.path.realpath(file) != os.path.realpath(gone)
        }
        assert elf.closure(rest).libraries, f"{gone} is not missed"


def test_a_real_program_is_read(tmp_path: Path) -> None:
    python = Path(os.path.realpath(sys.executable))
    said = subprocess.run(
        [require_tool("readelf"), "-d", "-l", "-W", python], capture_output=True, text=True, check=True
    ).stdout
    assert elf.needed(python) == re.findall(r"\(NEEDED\)\s+Shared library: \[(.*)\]", said)
    assert elf.interpreter(python) == re.findall(r"program interpreter: (.*)\]", said)[0]

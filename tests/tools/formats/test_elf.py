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
    assert elf.check_modules(modules, release, elf.X86_64) == len(order)
    if order:
        with pytest.raises(UserError, match=r"expected it to start with '0\.0\.1'"):
            elf.check_modules(modules, "0.0.1", elf.X86_64)


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


@pytest.mark.parametrize("name", ["libc.so.6", "libm.so.6", "libstdc++.so.6", "ls"])
def test_versions_are_those_that_readelf_lists(name: str) -> None:
    program = Path(os.path.realpath(require_tool("ls")))
    libraries = [path for path in map(Path, sorted(ldd_root(program))) if path.name == "libc.so.6"]
    path = program if name == "ls" else libraries[0].with_name(name)
    if not path.is_file():
        pytest.skip(f"{name} is not installed")
    argv = [require_tool("readelf"), "-V", "-W", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    defined, needed = [], []
    library = ""
    for line in said.stdout.splitlines():
        if found := re.search(r"Rev: 1  Flags: (\S+) .* Name: (\S+)", line):
            defined += [found[2]] if found[1] != "BASE" else []
        elif found := re.search(r"Version: 1  File: (\S+)", line):
            library = found[1]
        elif found := re.search(r"  Name: (\S+)  Flags: none", line):
            needed.append(elf.VersionNeed(library, found[1]))
    read = elf.dynamic(path)
    assert (list(read.defines), list(read.versions)) == (defined, needed)
    assert defined or needed


def test_ld_so_and_closure_agree_on_versions(tmp_path: Path) -> None:
    """A program linked with a library of two versions starts with that one, and not with an older one."""
    (tmp_path / "program.c").write_text("int two(void); int main(void) { return two() - 2; }")
    for name, version in (("old", 1), ("new", 2)):
        functions = "".join(
            f"int {word}(void) {{ return {number}; }}\n"
            for number, word in ((1, "one"), (2, "two"))[:version]
        )
        script = "V_1 { global: one; local: *; };\nV_2 { global: two; } V_1;\n".splitlines()[:version]
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.c").write_text(functions)
        (tmp_path / f"{name}.map").write_text("\n".join(script))
        options = ["-shared", "-fPIC", "-Wl,-soname,libv.so", f"-Wl,--version-script={name}.map"]
        subprocess.run(["gcc", *options, "-o", f"{name}/libv.so", f"{name}.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "-o", "program", "program.c", "new/libv.so"], cwd=tmp_path, check=True)
    files = ldd_root(tmp_path / "program")
    said, unmet = {}, {}
    for name in ("old", "new"):
        env = {"LD_LIBRARY_PATH": str(tmp_path / name)}
        argv = [str(tmp_path / "program")]
        said[name] = subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stderr
        unmet[name] = elf.closure({**files, "/usr/lib/libv.so": tmp_path / name / "libv.so"})
    assert "version `V_2' not found" in said["old"]
    program = str(tmp_path / "program")
    need = elf.UnmetVersion(program, "libv.so", "V_2", "/usr/lib/libv.so", ("V_1",))
    assert unmet["old"] == elf.Unmet(versions=(need,))
    assert (said["new"], unmet["new"]) == ("", elf.Unmet())

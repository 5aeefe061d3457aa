# SPDX-License-Identifier: MIT
"""Programs in Rust, compiled in pinned build roots: their crates, the same bytes, and what they need."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.extensions import build
from tasks.fetch import recipe_inputs
from tasks.origins.origin_lock import OriginFile
from tasks.origins.sources.file import FileSource
from tasks.provenance import licences, purl
from tasks.provenance.manifest_schema import Input
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import run
from tests.support.sources import (
    EXA,
    build_extension,
    moved,
    programs,
    with_own_tree,
    write_recipe,
)
from tests.support.tinycore import real

pytestmark = pytest.mark.slow  # a compiler of 900 MB is fetched and unpacked first

EXA_BUILD = """\
build = "cargo"
options = ["--no-default-features"]
env = { CARGO_PROFILE_RELEASE_LTO = "off", CARGO_PROFILE_RELEASE_OPT_LEVEL = "0" }
"""
"""Without optimisation: it takes most of the time."""
TINYCORE = 'env = { RUSTFLAGS = "-Clink-arg=-Wl,--dynamic-linker=/lib/ld-linux-x86-64.so.2" }\n'
"""Tiny Core's own root has no /lib64."""
PACKAGE = '[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2018"\nlicense = "MIT/Apache-2.0"\n'
LIBRARY = 'pub fn said() -> String { format!("{} of {}", env!("CARGO_PKG_NAME"), file!()) }\n'
PROGRAM = 'fn main() { println!("{}, {}", near::said(), far::said()); }\n'
FAR = hashlib.sha256(b"an archive").hexdigest()
LOCKED = f"""\
version = 3

[[package]]
name = "far"
version = "0.1.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "{FAR}"

[[package]]
name = "near"
version = "0.1.0"

[[package]]
name = "tool"
version = "0.1.0"
dependencies = ["far", "near"]
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return with_own_tree(tmp_path, monkeypatch)


def write_program(folder: Path) -> None:
    """Write a program with a library in a folder beside it, and a crate that it brings along."""
    for place, name, file, text in (
        (folder, "tool", "main.rs", PROGRAM),
        (folder / "near", "near", "lib.rs", LIBRARY),
        (folder / "vendor/far", "far", "lib.rs", LIBRARY),
    ):
        (place / "src").mkdir(parents=True)
        (place / "src" / file).write_text(text)
        (place / "Cargo.toml").write_text(PACKAGE.format(name=name))
    with (folder / "Cargo.toml").open("a") as manifest:
        manifest.write('[dependencies]\nnear = { path = "near" }\nfar = "0.1"\n')
    (folder / "Cargo.lock").write_text(LOCKED)
    (folder / "vendor/far/.cargo-checksum.json").write_text(json.dumps({"files": {}, "package": FAR}))


def program_in(folder: Path) -> str:
    """Return the keys of an origin for the program in a folder."""
    return f'version = "1"\nsource = {{ kind = "folder", path = "{folder}" }}\nbuild = "cargo"\n'


def lock(settings: Settings, name: str, origin: str) -> tuple[OriginFile, ...]:
    """Write a recipe, lock it, and return its locked files."""
    write_recipe(settings.paths.output.with_name("tree"), name, f'kind = "source"\n{origin}')
    recipe_inputs.lock(settings, name)
    return recipe_lock.committed_lock(name).file


def test_a_folder_with_its_crates_gives_the_same_bytes_in_another_folder(
    settings: Settings, tmp_path: Path
) -> None:
    write_program(tmp_path / "program")
    assert [file.name for file in lock(settings, "tool", program_in(tmp_path / "program"))] == ["Cargo.lock"]
    tcz = build_extension(settings, "tool")
    first = sha256_file(tcz)
    program = programs(tcz)
    assert list(program) == ["usr/local/bin/tool"]
    (tmp_path / "tool").write_bytes(program["usr/local/bin/tool"])
    (tmp_path / "tool").chmod(0o755)
    assert run([tmp_path / "tool"]).stdout == "near of near/src/lib.rs, far of ./vendor/far/src/lib.rs\n"
    settings = moved(settings)
    (tmp_path / "program").rename(tmp_path / "elsewhere")
    (tmp_path / "program").symlink_to("elsewhere")
    assert sha256_file(build_extension(settings, "tool")) == first
    with (tmp_path / "program/Cargo.lock").open("a") as locked:
        locked.write("# edited\n")
    with pytest.raises(UserError, match=r"its Cargo\.lock has changed since its crates were locked"):
        build.build(settings, "tool")


def lock_exa(settings: Settings) -> tuple[OriginFile, ...]:
    """Lock exa with its crates; skip the test where no registry of crates is reached."""
    try:
        return lock(settings, "exa", EXA.table() + EXA_BUILD)
    except UserError as error:
        if "cargo cannot fetch its crates" not in error.message:
            raise
        pytest.skip(f"the registry of crates is not reached: {error.detail}")


def test_crates_are_locked_fetched_and_compiled_to_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    files = lock_exa(settings)
    assert len(files) == 45 and files[0].origin.startswith("cargo:http")
    tcz = build_extension(settings, "exa")
    first = sha256_file(tcz)
    (tmp_path / "exa").write_bytes(programs(tcz)["usr/local/bin/exa"])
    (tmp_path / "exa").chmod(0o755)
    assert run([tmp_path / "exa", "-1"], cwd=tmp_path / "tree").stdout == "extensions\n"
    crate = next(file for file in files if file.name.startswith("ansi_term@"))
    crate.cached_in(settings.paths.cache).unlink()
    settings = moved(settings)
    assert sha256_file(build_extension(settings, "exa")) == first
    one = Input("origin", crate.name, crate.sha256, crate.size, crate.origin)
    assert purl.purl(one) == "pkg:cargo/ansi_term@0.12.1"
    assert licences.of(one, crate.cached_in(settings.paths.cache)) == "MIT"


def test_the_build_root_fits_the_c_library_of_the_base(settings: Settings, tmp_path: Path) -> None:
    """Tiny Core 11's own root has version 2.30, Debian 11's build root 2.31, and Debian 12's 2.36."""
    core = Core(archives=(FileSource(path=str(real("x86_64/rootfs64.gz"))),))
    settings = replace(settings, profile=replace(settings.profile, core=core))
    write_program(tmp_path / "program")
    lock(settings, "tool", program_in(tmp_path / "program") + TINYCORE)
    with pytest.raises(UserError, match=r"tool needs GLIBC_2\.3\d of libc\.so\.6; the base has up to 2\.30"):
        build_extension(settings, "tool")
    old = replace(settings, profile=replace(settings.profile, programs_toolchain="debian11-source"))
    assert list(programs(build_extension(old, "tool"))) == ["usr/local/bin/tool"]

# SPDX-License-Identifier: MIT
"""The crates of a Rust program: which of them are locked, and how a build gets them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tomllib
from pathlib import Path

import pytest

from tasks.formats.cargo_lock import CRATES_IO, Crate
from tasks.origins import kinds
from tasks.origins.kinds import crates
from tasks.origins.kinds.crates import Program
from tasks.origins.kinds.source import SourceOrigin
from tasks.origins.origin_lock import OriginFile, entry_of, store
from tasks.origins.source_trees import ArchiveTree, FolderTree, GitTree
from tasks.util.errors import UserError
from tasks.util.process import run

ENTRY = '[[package]]\nname = "{name}"\nversion = "1.0.0"\nsource = "{source}"\n'


def archive(folder: Path, name: str) -> Path:
    """Return the archive of a crate."""
    path = folder / f"{name}.crate"
    with tarfile.open(path, "w:gz") as packed:
        member = tarfile.TarInfo(f"{name}-1.0.0/src/lib.rs")
        packed.addfile(member, io.BytesIO(b""))
    return path


def locked(*names: str, source: str = CRATES_IO) -> str:
    """Return a Cargo.lock with crates whose archives are their names."""
    entries = (
        ENTRY.format(name=name, source=source)
        + ("" if source.startswith("git") else f'checksum = "{hashlib.sha256(name.encode()).hexdigest()}"\n')
        for name in names
    )
    return "version = 4\n" + "\n".join(entries)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A workspace: its Cargo.lock lies above the folder of the program."""
    (tmp_path / "source/cli").mkdir(parents=True)
    (tmp_path / "source/Cargo.lock").write_text(locked("a", "b"))
    return Program("tool", tmp_path / "source", tmp_path / "source/cli")


def vendor(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        package = hashlib.sha256(name.encode()).hexdigest()
        (folder / name / ".cargo-checksum.json").write_text(json.dumps({"files": {}, "package": package}))


def test_the_crates_of_a_workspace(program: Program) -> None:
    assert [str(crate) for crate in program.to_fetch()] == ["a 1.0.0", "b 1.0.0"]
    program.lock.unlink()
    (program.top.parent / "Cargo.lock").write_text(locked("c"))
    with pytest.raises(UserError, match=r"tool has no Cargo\.lock"):
        program.to_fetch()


@pytest.mark.parametrize(("config", "folder"), [("", "vendor"), ("[source.x]\ndirectory = 'far'\n", "far")])
def test_a_source_may_have_its_crates(program: Program, config: str, folder: str) -> None:
    (program.top / ".cargo").mkdir()
    (program.top / ".cargo/config.toml").write_text(config)
    vendor(program.top / folder, "a")
    assert len(program.to_fetch()) == 2, "one of them is missing"
    vendor(program.top / folder, "b")
    assert program.to_fetch() == [] and program.vendored() == program.top / folder


def test_a_folder_outside_of_the_source_does_not_count(program: Program) -> None:
    (program.top / ".cargo").mkdir()
    (program.top / ".cargo/config").write_text("[source.x]\ndirectory = '../far'\n")
    vendor(program.top.parent / "far", "a", "b")
    assert program.vendored() is None


@pytest.mark.parametrize("source", ["git+https://h/x?branch=y#0123", "registry+https://h/x"])
def test_crates_from_elsewhere_must_come_along(program: Program, source: str) -> None:
    program.lock.write_text(locked("a", source=source))
    with pytest.raises(UserError, match=r"tool: its crate a 1\.0\.0 comes from https://h/x") as caught:
        program.to_fetch()
    assert "cargo vendor" in caught.value.hint
    vendor(program.top / "vendor", "a")
    assert program.to_fetch() == []


def store_crate(folder: Path, name: str) -> tuple[Crate, OriginFile]:
    """Put a crate into the cache; return it and its lock entry."""
    path = archive(folder, name)
    crate = Crate(name, "1.0.0", CRATES_IO, hashlib.sha256(path.read_bytes()).hexdigest())
    entry = entry_of("cargo:x", crate.file_name, path)
    store(folder / "cache", entry, path)
    return crate, entry


def test_a_build_gets_the_locked_crates_alone(program: Program, tmp_path: Path) -> None:
    crate, entry = store_crate(tmp_path, "a")
    program.lock.write_text(ENTRY.format(name="a", source=CRATES_IO) + f'checksum = "{crate.sha256}"\n')
    cargo = tmp_path / "with space/cargo"
    crates.lay_out(program, (entry,), tmp_path / "cache", cargo)
    settings = tomllib.loads((cargo / "sources.toml").read_text())
    assert settings["source"]["crates-io"]["replace-with"] == "tcbuild"
    folder = Path(settings["source"]["tcbuild"]["directory"])
    assert (folder / "a-1.0.0/src/lib.rs").is_file()
    assert json.loads((folder / "a-1.0.0/.cargo-checksum.json").read_text())["package"] == crate.sha256
    said = run([cargo / "rustc", "printf", "%s|", "--crate-name"]).stdout
    assert said == f"--crate-name|--remap-path-prefix={program.top}=.|--remap-path-prefix={cargo}=.|"
    with pytest.raises(UserError, match=r"tool needs the crate a 1\.0\.0, which is not locked"):
        crates.lay_out(program, (), tmp_path / "cache", tmp_path / "again")
    other = OriginFile(entry.origin, entry.name, "0" * 64, 1)
    with pytest.raises(UserError, match=r"which is locked as another file"):
        crates.lay_out(program, (other,), tmp_path / "cache", tmp_path / "more")


def test_a_build_of_what_brings_its_crates_along(program: Program, tmp_path: Path) -> None:
    vendor(program.top / "vendor", "a", "b")
    crates.lay_out(program, (), tmp_path / "cache", tmp_path / "cargo")
    settings = tomllib.loads((tmp_path / "cargo/sources.toml").read_text())
    assert settings["source"]["tcbuild"]["directory"] == str(program.top / "vendor")
    program.lock.write_text("version = 4\n")
    crates.lay_out(program, (), tmp_path / "cache", tmp_path / "alone")
    assert (tmp_path / "alone/sources.toml").read_text() == ""


def origin(source: ArchiveTree | GitTree | FolderTree, subfolder: str = "") -> SourceOrigin:
    return SourceOrigin(version="1.2", source=source, build="cargo", subfolder=subfolder)


def test_the_lock_keeps_a_rust_program_with_its_crates() -> None:
    url, commit = "https://h/a-1.2.tgz", "1" * 40
    made = {
        "pkg:cargo": origin(ArchiveTree(urls=(url,)), "cli"),
        "git": origin(GitTree(url="https://h/a.git", commit=commit)),
        "folder": origin(FolderTree(path="/home/me/a")),
    }
    assert [one.identity() for one in made.values()] == [
        f"cargo:{url}#cli",
        f"cargo:git:https://h/a.git@{commit}",
        "cargo:folder:a",  # no path of this machine
    ]
    assert all(one.is_locked and kinds.kind_of(one.identity()) is SourceOrigin for one in made.values())
    identity = made["pkg:cargo"].identity()
    assert SourceOrigin.address(identity) == url and SourceOrigin.address("cargo:folder:a") == ""
    assert SourceOrigin.package_name(identity, "a@1.0.0.crate") == ("cargo", None, "a", "1.0.0", {})
    assert SourceOrigin.package_name(identity, "a-1.2.tgz") is None
    named = SourceOrigin.package_name(made["git"].identity(), f"a-{commit}.tar")
    assert named and named.qualifiers == {"vcs_url": f"git+https://h/a.git@{commit}"}


def test_the_toolchain_with_the_same_c_library_compiles() -> None:
    made = origin(FolderTree(path="a"))
    assert made.compiled_by("debian11-source").toolchain == "debian11-rust"
    assert made.compiled_by("debian12-source").toolchain == "debian12-rust"
    own = SourceOrigin(version="1", source=FolderTree(path="a"), build="cargo", toolchain="debian11-rust")
    assert own.compiled_by("debian12-source").toolchain == "debian11-rust"
    other = SourceOrigin(version="1", source=FolderTree(path="a"), build="make")
    assert other.compiled_by("debian11-source").toolchain == "debian11-source"

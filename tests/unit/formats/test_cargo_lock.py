# SPDX-License-Identifier: MIT
"""Cargo.lock of several versions, and the licences that crates state."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tasks.formats import cargo_lock
from tasks.formats.cargo_lock import CRATES_IO, Crate
from tasks.util.errors import UserError

SHA256 = "1a" * 32
ITOA = f"""\
[[package]]
name = "itoa"
version = "1.0.19+more"
source = "{CRATES_IO}"
"""
CHECKSUM = f'checksum = "{SHA256}"\n'
GIT = '[[package]]\nname = "far"\nversion = "0.1.0"\nsource = "git+https://h/far#0123"\n'
OWN = '[[package]]\nname = "tool"\nversion = "0.1.0"\ndependencies = ["itoa"]\n'
OLD = f'[metadata]\n"checksum itoa 1.0.19+more ({CRATES_IO})" = "{SHA256}"\n'


def crates(folder: Path, text: str) -> list[Crate]:
    path = folder / "Cargo.lock"
    path.write_text(text)
    return cargo_lock.crates(path, "tool")


@pytest.mark.parametrize("text", [f"version = 4\n{ITOA}{CHECKSUM}{GIT}{OWN}", f"{ITOA}{GIT}{OWN}{OLD}"])
def test_what_a_program_is_made_of(tmp_path: Path, text: str) -> None:
    found = crates(tmp_path, text)
    assert found == [
        Crate("itoa", "1.0.19+more", CRATES_IO, SHA256),
        Crate("far", "0.1.0", "git+https://h/far#0123"),
    ]
    assert found[0].file_name == "itoa@1.0.19+more.crate"
    assert cargo_lock.of_file_name(found[0].file_name) == ("itoa", "1.0.19+more")


@pytest.mark.parametrize("name", ["itoa-1.0.crate", "a@1.tgz", "../a@1.crate", "Cargo.lock"])
def test_other_files_are_no_crates(name: str) -> None:
    assert cargo_lock.of_file_name(name) is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("not TOML", "TOMLDecodeError"),
        (ITOA, "itoa 1.0.19.more has no sha256"),
        (ITOA.replace("itoa", "../x") + CHECKSUM, "is no name and version of a crate"),
        ("package = 1\n", "TypeError"),
        ('[[package]]\nsource = "x"\n', "KeyError: 'name'"),
    ],
)
def test_a_malformed_one_is_told_in_one_line(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UserError, match=rf"^tool: its Cargo\.lock is malformed: .*{cause}") as caught:
        crates(tmp_path, text)
    assert "\n" not in caught.value.message


def crate(folder: Path, text: str) -> Path:
    """Return an archive with that Cargo.toml, and one of a crate in it."""
    path = folder / "a@1.0.0.crate"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (
            ("a-1.0.0/sub/Cargo.toml", '[package]\nlicense = "0BSD"\n'),
            ("a-1.0.0/Cargo.toml", text),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ('[package]\nlicense = "MIT OR Apache-2.0"\n', "MIT OR Apache-2.0"),
        ('[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("[package]\n", ""),
        ("[package]\nlicense = 1\n", ""),
        ("no TOML", ""),
    ],
)
def test_the_licence_that_a_crate_states(tmp_path: Path, text: str, licence: str) -> None:
    assert cargo_lock.stated_licence(crate(tmp_path, text)) == licence


def test_a_damaged_crate_states_no_licence(tmp_path: Path) -> None:
    (tmp_path / "a@1.0.0.crate").write_bytes(b"\x1f\x8b" + b"x" * 40)
    assert cargo_lock.stated_licence(tmp_path / "a@1.0.0.crate") == ""

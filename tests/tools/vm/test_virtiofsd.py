# SPDX-License-Identifier: MIT
"""The real virtiofsd, asked in QEMU's stead; tests/vm/test_run.py mounts what it serves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tasks.vm import virtiofsd
from tasks.vm.machine import Share, share_socket


@pytest.fixture
def served(tmp_path: Path) -> Share:
    """A folder whose name its options must survive."""
    folder = tmp_path / "a,b c\\d"
    folder.mkdir()
    return Share(folder, "/mnt/x", transport="virtiofs")


def test_what_is_for_virtiofs_is_served_and_nothing_is_left(served: Share, tmp_path: Path) -> None:
    if why := virtiofsd.missing():
        pytest.skip(why)
    with virtiofsd.serving([Share(tmp_path, "/mnt/y", transport="9p"), served], tmp_path):
        assert not share_socket(tmp_path, 0).exists()
        virtiofsd._ask(share_socket(tmp_path, 1))
    with pytest.raises(OSError):
        virtiofsd._ask(share_socket(tmp_path, 1))


def test_a_folder_that_it_cannot_serve_is_an_error(served: Share, tmp_path: Path) -> None:
    if why := virtiofsd.missing():
        pytest.skip(why)
    served.folder.rmdir()
    with pytest.raises((UserError, OSError)), virtiofsd.serving([served], tmp_path):
        virtiofsd._ask(share_socket(tmp_path, 0))


def test_a_user_without_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert virtiofsd.missing() == "virtiofsd is for root"


def test_a_machine_without_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("IN_RUST", "IN_C"):
        monkeypatch.setattr(virtiofsd, name, tmp_path / "absent")
    assert virtiofsd.missing() == "no virtiofsd is installed"


def test_one_that_answers_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that lets it make no namespaces: it has made its socket by then."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fake = tmp_path / "virtiofsd"
    fake.write_text(
        "#!/usr/bin/env python3\n"
        "import socket, sys\n"
        "made = socket.socket(socket.AF_UNIX)\n"
        "made.bind(sys.argv[1].partition('=')[2])\n"
        "made.listen()\n"
        "made.accept()\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(virtiofsd, "IN_RUST", tmp_path / "absent")
    monkeypatch.setattr(virtiofsd, "IN_C", fake)
    assert virtiofsd.missing() == "virtiofsd does not work here"


@pytest.mark.parametrize(
    ("name", "help_text", "folder", "read_only", "why"),
    [
        ("IN_C", "--readonly", "/a\udce9", False, ""),
        ("IN_C", "--readonly", "/a", True, "this virtiofsd cannot keep the guest from writing"),
        ("IN_RUST", "", "/a", True, "this virtiofsd cannot keep the guest from writing"),
        ("IN_RUST", "--readonly", "/a", True, ""),
        ("IN_RUST", "--readonly", "/a\udce9", False, "virtiofsd takes no such name"),
    ],
)
def test_what_each_program_can_serve(
    name: str,
    help_text: str,
    folder: str,
    read_only: bool,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = tmp_path / "virtiofsd"
    program.write_text(f"#!/bin/sh\necho '{help_text}'\n")
    program.chmod(0o755)
    for each in ("IN_RUST", "IN_C"):
        monkeypatch.setattr(virtiofsd, each, program if each == name else tmp_path / "absent")
    assert virtiofsd.refuses(Share(Path(folder), "/mnt/a", read_only)) == why

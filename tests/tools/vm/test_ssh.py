# SPDX-License-Identifier: MIT
"""What a guest gets for SSH, and what ssh(1) reads of it, by the real programs."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest

from tasks.config import architecture
from tasks.util.process import run
from tasks.vm import ssh


@pytest.mark.parametrize("name", ["plain", "with a blank", "50%d"])
def test_ssh_reads_the_settings(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config").write_text(ssh.config(folder, 2345, "tc"))
    said = run(["ssh", "-G", "-F", folder / "config", "guest"]).stdout.splitlines()
    wanted = {
        "hostname 127.0.0.1",
        "port 2345",
        "user tc",
        "identitiesonly yes",
        "stricthostkeychecking true",
        "hostkeyalias guest",
    }
    assert wanted <= set(said)
    # -G says the one as it is written, the other as it is meant.
    files = [line.replace("%%", "%") for line in said if line.startswith(("identityfile ", "userknownhosts"))]
    assert files == [f"identityfile {folder}/key", f"userknownhostsfile {folder}/known_hosts"]


def test_the_programs_come_with_all_their_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own programs, packed and run from where they are unpacked."""
    programs = {"keygen": "usr/bin/ssh-keygen", "awk": "usr/bin/mawk"}
    monkeypatch.setattr(ssh, "_brought", lambda: ssh.Brought({}, programs))
    packed = io.BytesIO()
    ssh.pack(packed, Path("/"), b"ssh-ed25519 A\n")
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        members = tar.getmembers()
        tar.extractall(tmp_path, filter="tar")
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
    assert (tmp_path / "keys/authorized_keys").read_text() == "ssh-ed25519 A\n"
    for path in (tmp_path / "keys", tmp_path / "keys/authorized_keys"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, "dropbear refuses what others may write"
    program = tmp_path / "program"
    program.write_text(program.read_text().replace(ssh.IN_GUEST, str(tmp_path)))
    (loader,) = (tmp_path / "lib").glob("ld-linux*")
    assert loader.name == Path(architecture.load("x86_64").loader).name
    listed = run([loader, "--library-path", tmp_path / "lib", "--list", tmp_path / "bin/keygen"]).stdout
    found = [line.split()[2] for line in listed.splitlines() if " => " in line and "ld-linux" not in line]
    assert found
    assert all(path.startswith(f"{tmp_path}/lib/") for path in found), listed
    assert run([tmp_path / "programs/awk", "BEGIN { print ARGV[0], ARGV[1] }", "a b"]).stdout == "awk a b\n"


def test_the_scripts_are_of_the_folder_that_they_are_unpacked_in() -> None:
    for script in (ssh.START, ssh.PROGRAM):
        assert f"\nhere={ssh.IN_GUEST}\n" in script.read_text()
        assert script.stat().st_mode & 0o111

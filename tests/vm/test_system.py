# SPDX-License-Identifier: MIT
"""What a profile says of the running system holds in the guest: names, commands, passwords, files."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import system
from tasks.config.settings import Settings
from tasks.config.system import System, User
from tasks.formats import initramfs_file
from tasks.formats.initramfs_file import Archive
from tasks.image import disk
from tasks.initramfs import core
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine
from tests.support.built import built
from tests.support.settings import with_values

CONSOLE = "loglevel=3 console=ttyS0,115200"


def password_hash(password: str) -> str:
    """Return what a person would put into the profile."""
    command = ["openssl", "passwd", "-6", "-salt", "tcbuild", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def changed_core(tmp_path: Path) -> Path:
    """The built core.gz with a [system] table's archive at its end."""
    settings = built()
    spec = System(
        hostname="hut",
        bootlocal=("echo $(hostname) > /tmp/bootlocal",),
        backup=("usr/local/etc",),
        users=(User("tc", password_hash("one two")), User("ada", password_hash("three"), 1002)),
    )
    members = system.members(spec, initramfs_file.unpacked(initramfs_file.read_core(settings.paths.core)))
    out = tmp_path / "core.gz"
    core.append(settings.paths.core, [Archive("gzip", tuple(members))], out, mtime=0)
    return out


def test_names_commands_and_passwords(changed_core: Path, tmp_path: Path) -> None:
    kernel = built().paths.kernel / "vmlinuz64"
    machine = Machine("direct", kernel=kernel, initrd=changed_core, append=f"{CONSOLE} noautologin")
    with Guest(machine, tmp_path / "log", limit=300) as guest:
        guest.expect("hut login: ", 180)
        guest.send("ada")
        guest.expect("Password: ")
        guest.send("one two")
        guest.expect("Login incorrect", 30)
        guest.expect("login: ", 30)
        guest.send("ada")
        guest.expect("Password: ")
        guest.send("three")
        guest.expect(r"ada@hut:.*[$] ", 30)
        guest.send("id -u; exit")
        guest.expect("1002", 30)
        guest.expect("login: ", 30)
        guest.send("tc")
        guest.expect("Password: ")
        guest.send("one two")
        guest.login(60)
        assert guest.run("cat /tmp/bootlocal") == "hut\n"
        assert "usr/local/etc" in guest.run("cat /opt/.filetool.lst")
        guest.power_off()


def test_mydata_of_the_profile_is_restored_from_the_disk(tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "home/tc").mkdir(parents=True)
    (files / "home/tc/note").write_text("from the profile\n")
    settings = built()
    profile = replace(settings.profile, system=System(mydata=str(files)))
    other: Settings = with_values(settings, profile=profile, output=tmp_path / "out")
    other.paths.output.mkdir()
    for name in ("kernel", "corepure64.gz", "tcz"):
        (other.paths.output / name).symlink_to(settings.paths.output / name)
    disk.build(other.paths, other.profile)
    with Guest(
        Machine("bios", disks=(Disk(disk.raw(other.paths), "ahci"),)), tmp_path / "log", limit=300
    ) as guest:
        guest.login()
        assert guest.run("cat /home/tc/note") == "from the profile\n"
        assert guest.run("stat -c %U /home/tc/note") == "tc\n"
        guest.power_off()

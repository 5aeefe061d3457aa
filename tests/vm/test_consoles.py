# SPDX-License-Identifier: MIT
"""Every console shows the boot and takes answers: our own root, and Tiny Core's own of 11.0."""

from __future__ import annotations

import re
import shutil
import stat
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pytest

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.formats import initramfs_file
from tasks.formats.squashfs import squashfs_members
from tasks.image import disk, iso
from tasks.vm import boots, qemu, share
from tasks.vm.agent import Agent
from tasks.vm.guest import Guest
from tasks.vm.machine import Firmware, Machine
from tests.support.built import built
from tests.support.screen import Screen
from tests.support.settings import both
from tests.support.tinycore import md5_text, real
from tests.vm.contract import LIMIT, QUICK, machine, make_grub, make_stick, on_tiny_cores_root, own_root

CODES = ("cde", "console=tty0", "console=ttyS0,115200", QUICK)
DEPS = {
    "parted": ("readline", "udev-lib", "liblvm2"),
    "readline": ("ncursesw",),
    "liblvm2": ("udev-lib", "readline"),
}
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")


def take(name: str, folder: Path) -> None:
    """Put an extension of Tiny Core's own, and what it depends on, into a folder as a mirror has it."""
    tcz = real(f"x86_64/tcz/{name}.tcz")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(tcz, folder / tcz.name)
    (folder / f"{tcz.name}.md5.txt").write_bytes(md5_text(tcz.name, tcz.read_bytes()))
    (folder / f"{tcz.name}.dep").write_text("".join(f"{dep}.tcz\n" for dep in DEPS.get(name, ())))
    files = [member.name for member in squashfs_members(tcz) if member.kind != stat.S_IFDIR]
    (folder / f"{tcz.name}.list").write_text("".join(f"{file}\n" for file in files))
    for dep in DEPS.get(name, ()):
        take(dep, folder)


@pytest.fixture(scope="module")
def tiny_core(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Tiny Core's own root on the built kernel, and extensions of its own on the disc."""
    image = built()
    extensions = (Extension("parted"), Extension("dosfstools", "copy2fs"))
    profile = replace(image.profile, boot=replace(image.profile.boot, bootcodes=CODES), extensions=extensions)
    made = on_tiny_cores_root(replace(image, profile=profile), tmp_path_factory.mktemp("tinycore"))
    for name in ("parted", "dosfstools"):
        take(name, made.paths.tcz)
    iso.build(*both(made))
    return made


def test_the_base_stays_byte_for_byte(tiny_core: Settings) -> None:
    base = real("x86_64/rootfs64.gz").read_bytes()
    assert tiny_core.paths.core.read_bytes().startswith(base.rstrip(b"\0"))
    _, logins, *_ = initramfs_file.read_core(tiny_core.paths.core)
    assert [member.name for member in logins.members] == [
        *("etc/inittab", "etc/securetty", "sbin/guest-agent", "sbin/on-consoles", "sbin/serial-console")
    ]


@pytest.mark.parametrize(
    ("firmware", "medium"), [("uefi", "cd"), ("bios", "stick"), ("uefi", "fat"), ("bios", "disk")]
)
def test_tiny_cores_own_root_logs_in_on_the_serial_line(
    firmware: Firmware, medium: str, tiny_core: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own extensions, by the command a person uses; test_import.py boots the CD by BIOS."""
    if medium == "disk":
        disk.build(*both(tiny_core))
    boots.test(*both(tiny_core), (firmware,), (medium,))
    assert f"{firmware}-{medium}: 5 checks passed" in capsys.readouterr().out
    said = COLOUR.sub(
        "", (tiny_core.paths.output / f"tests/{firmware}-{medium}/console.log").read_text(errors="replace")
    )
    for words in ("Booting Core 11.0", "Checking boot options... Done.", "tc@box:~$ "):
        assert words in said


def test_tiny_cores_own_root_finds_its_iso_as_a_file(tiny_core: Settings, tmp_path: Path) -> None:
    """By GRUB's loopback and the menu in the ISO; the bootcode iso= is Tiny Core's own."""
    disks = (make_grub(tmp_path), make_stick(tmp_path, tiny_core.paths.iso))
    with Guest(Machine("bios", disks=disks), tmp_path / "log", limit=LIMIT) as guest:
        guest.login(timeout=LIMIT)
        assert guest.run("cat /etc/sysconfig/cde") == "/mnt/cdrom/cde/optional\n"
        guest.run("[ -e /usr/local/tce.installed/parted ] && [ -e /usr/local/tce.installed/dosfstools ]")
        guest.power_off()


def test_one_login_alone_needs_no_password_there(tiny_core: Settings, tmp_path: Path) -> None:
    """As on tty1; and both terminals have theirs.  The agent answers there, too, and mounts a folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    folder.chmod(0o755)  # tc is another user than the one who runs the tests
    (folder / "file").write_text("from here\n")
    shares = share.choose(*both(tiny_core), share.parse([f"{folder}"], tmp_path))
    asked = qemu.machine(*both(tiny_core), "direct", "tcg", agent=True, shares=shares)
    with Guest(asked, tmp_path / "log", limit=LIMIT) as guest, Agent(guest) as agent:
        assert agent.wait(LIMIT)
        said: list[bytes] = []
        program = b"#!/bin/sh\nid -un\nprintf '\\0\\r\\n' >&2\nexit 7\n"
        assert agent.run(program, "tc", said.append, said.append) == 7
        assert b"".join(sorted(said)) == b"\0\r\ntc\n"
        said.clear()
        assert agent.run(b"#!/bin/sh\nid -un; pwd; exit 3\n", "root", said.append, said.append) == 3
        assert b"".join(said) == b"root\n/root\n"
        share.mount(agent, shares)
        guest.login()
        assert guest.run("cat /mnt/here/file") == "from here\n"
        assert guest.run("id -un; tty <&1; [ -e /usr/local/tce.installed/parted ] || echo none") == (
            "tc\n/dev/ttyS0\nnone\n"  # a direct boot has no disc
        )
        guest.send("exit")
        guest.expect("box login: ", 60)
        guest.send("tc")  # whose password is empty there, unless it was set by `secure`
        guest.expect(r"tc@box:~\$ ", 60)


@pytest.mark.parametrize("whose", ["ours", "tiny core's"])
def test_passwords_are_asked_where_somebody_sits(
    whose: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """At the screen of a machine without a serial port, although the last console= is one."""
    image = own_root() if whose == "ours" else request.getfixturevalue("tiny_core")
    codes = "nodhcp secure noautologin pause"
    again = {"ours": "same again", "tiny core's": "Re-enter"}[whose]
    with Screen(machine(image, codes), limit=LIMIT) as screen:
        screen.expect("Booting ", "for root:")
        screen.type("rootsecret")
        screen.expect(again)
        screen.type("rootsecret")
        screen.expect("for tc:")
        screen.type("tcsecret")
        screen.expect("for tc:", again)
        screen.type("tcsecret")
        shown = screen.expect("Press <Enter> to continue")
        assert "secret" not in shown
        screen.type("")
        screen.expect("box login:")
        screen.type("tc")
        screen.expect("Password:")
        screen.type("tcsecret")
        screen.expect("tc@box:~$")


def side_by_side(left: str, right: str) -> str:
    """Return both texts in columns."""
    pairs = zip_longest(left.splitlines(), right.splitlines(), fillvalue="")
    return "".join(f"{one:80}| {other}".rstrip() + "\n" for one, other in pairs)


def test_the_screen_shows_what_the_serial_line_does(tmp_path: Path) -> None:
    """Somebody at the screen goes on; both consoles said the same, and both have a shell.

    logs/consoles.png and logs/consoles.txt of the profile keep what they showed.
    """
    serial = tmp_path / "serial"
    with Screen(machine(own_root(), "nodhcp pause"), serial=serial, limit=LIMIT) as screen:
        shown = screen.expect("Press <Enter> to continue")
        said = COLOUR.sub("", serial.read_text(errors="replace")).splitlines()
        lines = [line for line in said if line.strip()]
        assert any(line.startswith("Booting ") for line in lines)
        assert [line for line in lines if line.rstrip() not in shown] == []
        screen.type("")
        screen.expect("tc@box:~$")
        while "tc@box:~$" not in serial.read_text(errors="replace"):
            screen.expect("tc@box:~$")
        logs = own_root().paths.logs
        screen.picture(logs / "consoles.png")
        serial_line = COLOUR.sub("", serial.read_text(errors="replace"))
        columns = side_by_side(f"SCREEN\n{screen.text()}", f"SERIAL LINE\n{serial_line}")
        (logs / "consoles.txt").write_text(columns)
    assert (logs / "consoles.png").read_bytes().startswith(b"\x89PNG")

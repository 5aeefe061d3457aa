# SPDX-License-Identifier: MIT
"""A login on the serial consoles of the bootcodes, for roots of others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.formats.cpio import Member, directory, regular
from tasks.formats.initramfs_file import Archive, read_core, unpacked
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs import consoles
from tasks.util.checkout import CHECKOUT
from tests.support.tinycore import real

BOTH = ("cde", "console=tty0", "console=ttyS0,115200")
SYSINIT = "::sysinit:/etc/init.d/rcS\n"
AGENT = "::wait:/sbin/guest-agent\n"
AUTOLOGIN = "tty1::respawn:/sbin/getty -nl /sbin/autologin 38400 tty1\n"


def root(*members: Member) -> RootFs:
    return unpacked([Archive("plain", (directory("etc"), directory("sbin"), *members))])


def inittab(text: str) -> Member:
    return regular("etc/inittab", text.encode(), 0o664, 0, 50)


def added(found: list[Member]) -> dict[str, str]:
    """Return what the root gets: path -> text; the lines of inittab that are new."""
    return {member.name: member.data.decode() for member in found}


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        (BOTH, {"ttyS0": "115200"}),
        (("console=ttyS1", "console=hvc0"), {"ttyS1": "115200", "hvc0": "115200"}),
        (("console=ttyS0,9600n8r", "console=ttyAMA0,57600"), {"ttyS0": "9600", "ttyAMA0": "57600"}),
        (("console=tty0", "quiet", "earlycon=ttyS0"), {}),
    ],
)
def test_serial_consoles_of_bootcodes(codes: tuple[str, ...], found: dict[str, str]) -> None:
    assert consoles.serial(codes) == found


def test_a_root_with_a_shell_on_the_screen_alone_gets_one_on_the_serial_line() -> None:
    found = consoles.members(root(inittab(SYSINIT + AUTOLOGIN)), BOTH)
    assert [member.name for member in found] == [
        *("etc/inittab", "sbin/guest-agent", "sbin/on-consoles", "sbin/serial-console")
    ]
    assert added(found)["etc/inittab"] == (
        "::sysinit:/sbin/on-consoles /etc/init.d/rcS\n"
        + AUTOLOGIN
        + "ttyS0::respawn:/sbin/serial-console ttyS0 115200 autologin\n"
        + AGENT
    )
    assert [(m.mode & 0o7777, m.uid, m.gid) for m in found] == [(0o664, 0, 50), *[(0o755, 0, 0)] * 3]


def test_a_root_that_asks_for_a_password_asks_on_the_serial_line_too() -> None:
    found = consoles.members(root(inittab(SYSINIT + "tty1::respawn:/sbin/getty 38400 tty1\n")), BOTH)
    last = added(found)["etc/inittab"].splitlines()[-2]
    assert last == "ttyS0::respawn:/sbin/serial-console ttyS0 115200"


@pytest.mark.parametrize(
    "line",
    [
        "ttyS0::respawn:/sbin/getty -L 9600 ttyS0 vt100\n",
        "ttyS0::askfirst:/bin/sh\n",
        "::respawn:/sbin/getty -L 9600 ttyS0 vt100\n",
    ],
)
def test_a_login_of_the_roots_own_stays_as_it_is(line: str) -> None:
    """Its boot messages still go to every console."""
    text = added(consoles.members(root(inittab(SYSINIT + line)), BOTH))["etc/inittab"]
    assert text == "::sysinit:/sbin/on-consoles /etc/init.d/rcS\n" + line + AGENT


def test_a_line_that_is_a_comment_is_no_login() -> None:
    text = added(consoles.members(root(inittab(f"{SYSINIT}#ttyS0::respawn:/bin/sh\n")), BOTH))["etc/inittab"]
    assert text.endswith(
        "#ttyS0::respawn:/bin/sh\nttyS0::respawn:/sbin/serial-console ttyS0 115200\n" + AGENT
    )


def test_root_may_log_in_there_where_he_may_on_the_screen() -> None:
    secure = regular("etc/securetty", b"console\n# ttyS0\ntty1", 0o640)
    found = added(consoles.members(root(inittab(SYSINIT), secure), (*BOTH, "console=ttyS1")))
    assert found["etc/securetty"] == "console\n# ttyS0\ntty1\nttyS0\nttyS1\n"


@pytest.mark.parametrize(
    ("members", "codes"),
    [
        ((inittab(SYSINIT + AGENT),), ("cde", "console=tty0")),
        ((inittab(SYSINIT), regular("sbin/on-consoles", b"#!/bin/sh\n", 0o755)), BOTH),
    ],
)
def test_nothing_is_added_where_nothing_is_missing(
    members: tuple[Member, ...], codes: tuple[str, ...]
) -> None:
    assert consoles.members(root(*members), codes) == []


def test_a_root_without_a_serial_console_gets_the_agent_alone() -> None:
    found = consoles.members(root(inittab(SYSINIT)), ("cde", "console=tty0"))
    assert added(found) == {
        "etc/inittab": SYSINIT + AGENT,
        "sbin/guest-agent": consoles.scripts()[consoles.AGENT].read_text(),
    }


@pytest.mark.parametrize("members", [(), (inittab("id:3:initdefault:\nsi::sysinit\n"),)])
def test_a_root_of_another_kind_stays_as_it_is(
    members: tuple[Member, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert consoles.members(root(*members), BOTH) == []
    assert "so tcbuild adds no login on ttyS0" in capsys.readouterr().out


def test_a_core_of_ours_as_the_base_of_another_gets_what_it_lacks() -> None:
    """A core that has the archive for one serial console, built again with one console more."""
    first = added(consoles.members(root(inittab(SYSINIT + AUTOLOGIN)), BOTH))
    again = root(*(regular(name, text.encode(), 0o755) for name, text in first.items()))
    assert consoles.members(again, BOTH) == []
    second = added(consoles.members(again, (*BOTH, "console=ttyS1,9600")))
    assert second["etc/inittab"] == (
        first["etc/inittab"] + "ttyS1::respawn:/sbin/serial-console ttyS1 9600 autologin\n"
    )


def test_our_own_root_needs_none() -> None:
    files = CHECKOUT.rootfs / "files"
    ours = [
        regular(name, (files / name).read_bytes(), 0o755) for name in ("etc/inittab", consoles.ON_CONSOLES)
    ]
    assert b"::sysinit:/sbin/on-consoles " in ours[0].data
    assert consoles.members(root(*ours), BOTH) == []


@pytest.mark.parametrize("name", ["x86_64/rootfs64.gz", "x86/rootfs.gz"])
def test_tiny_cores_own_root_gets_one(name: str) -> None:
    base = unpacked(read_core(real(name)))
    found = added(consoles.members(base, BOTH))
    before = base.find("etc/inittab")
    assert before is not None
    old, new = before.data.decode().splitlines(), found["etc/inittab"].splitlines()
    assert [line for line in old if line not in new] == ["::sysinit:/etc/init.d/rcS"]
    assert [line for line in new if line not in old] == [
        "::sysinit:/sbin/on-consoles /etc/init.d/rcS",
        "ttyS0::respawn:/sbin/serial-console ttyS0 115200 autologin",
        AGENT.strip(),
    ]
    assert found["etc/securetty"].splitlines().count("ttyS0") == 1


@pytest.mark.parametrize("path", consoles.scripts().values(), ids=str)
def test_the_scripts_are_for_every_shell(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)

# SPDX-License-Identifier: MIT
"""Boot menus of others are read, and nothing in them is run."""

from __future__ import annotations

import pytest

from tasks.image import grub, iso
from tasks.remaster import boot_menus
from tasks.remaster.boot_menus import Entry, Menu, parse_grub, parse_syslinux, usable, words
from tests.support.media import MENU

# As Tiny Core 11's own disc has it.
TINY_CORE = """\
display boot.msg
default microcore
label microcore
\tkernel /boot/vmlinuz
\tinitrd /boot/core.gz
\tappend loglevel=3

label mc
\tkernel /boot/vmlinuz
\tappend initrd=/boot/core.gz,/boot/more.gz loglevel=3 tce=sda1
implicit 0
prompt 1
timeout 300
F1 boot.msg
"""


def test_the_menu_of_tiny_cores_disc() -> None:
    menu = parse_syslinux(TINY_CORE)
    assert menu.timeout == 30
    assert menu.default_entry() == Entry(
        "microcore", "", "/boot/vmlinuz", ("/boot/core.gz",), ("loglevel=3",)
    )
    assert menu.entries[1].initrds == ("/boot/core.gz", "/boot/more.gz")
    assert menu.entries[1].codes == ("loglevel=3", "tce=sda1")


def test_menu_default_wins_and_help_is_no_command() -> None:
    menu = parse_syslinux(MENU + "TEXT HELP\nLABEL evil\nDEFAULT evil\nENDTEXT\n")
    assert menu.timeout == 5  # no time is cut to nothing
    assert [entry.name for entry in menu.entries] == ["tc", "base"]
    chosen = menu.default_entry()
    assert chosen and (chosen.name, chosen.initrds) == ("base", ("/boot/corepure64.gz",))
    assert menu.entries[0].codes == ("loglevel=3", "cde", "waitusb=5", 'dyndbg="file ext4 +p"')


@pytest.mark.parametrize("program", ["chain.c32", "/boot/memtest.BIN", "pxelinux.0"])
def test_what_boots_something_else_is_no_kernel(program: str) -> None:
    """A stick's first entry may be the hard disk."""
    text = f"DEFAULT hd\nLABEL hd\nKERNEL {program}\nAPPEND hd0\nLABEL tc\nKERNEL /v\nAPPEND cde\n"
    menu = boot_menus.parse_syslinux(text)
    assert menu.default_entry() == Entry("tc", kernel="/v", codes=("cde",))
    linux = boot_menus.parse_syslinux(f"LABEL a\nLINUX {program}\n").default_entry()
    assert linux and linux.kernel == program, "LINUX names a kernel whatever its name is"


def test_append_above_the_labels_is_for_those_without_one() -> None:
    menu = parse_syslinux(
        "APPEND cde\nLABEL a\nKERNEL a\nLABEL b\nKERNEL b\nAPPEND -\nLABEL c\nKERNEL c\nAPPEND x"
    )
    assert [entry.codes for entry in menu.entries] == [("cde",), (), ("x",)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("DEFAULT tc text", ("/k", ("cde", "text"))),
        ("DEFAULT /other single", ("/other", ("single",))),
        ("DEFAULT gone", ("/k", ("cde",))),
        ("", ("/k", ("cde",))),
    ],
)
def test_a_default_that_is_no_label(line: str, expected: tuple[str, tuple[str, ...]]) -> None:
    chosen = parse_syslinux(f"LABEL tc\nKERNEL /k\nAPPEND cde\n{line}\n").default_entry()
    assert chosen and (chosen.kernel, chosen.codes) == expected


def test_other_files_are_not_followed() -> None:
    assert parse_syslinux("INCLUDE ../../etc/passwd\nTIMEOUT 0\n").unread == [
        "the boot menu's line include '../../etc/passwd' was not followed"
    ]
    assert parse_grub("source /etc/passwd\n").unread == [
        "the boot menu's line 'source /etc/passwd' was not followed"
    ]


def test_our_own_menus_come_back() -> None:
    values = {
        **iso.code_values(["cde", 'dyndbg="file ext4 +p"', "x=$HOME"]),
        "TITLE": "Tiny",
        "GRUB_TITLE": "Tiny",
        "TIMEOUT_S": "7",
        "TIMEOUT_DS": "70",
        "KERNEL": "vmlinuz64",
        "CORE": "corepure64.gz",
    }
    expected = ("/boot/vmlinuz64", ("/boot/corepure64.gz",))
    linux = parse_syslinux(grub.fill("isolinux.cfg", values))
    chosen = linux.default_entry()
    assert chosen and (chosen.kernel, chosen.initrds) == expected
    assert chosen.codes == ("loglevel=3", "cde", 'dyndbg="file ext4 +p"', "x=$HOME")
    menu = parse_grub(grub.fill("grub.cfg", values))
    chosen = menu.default_entry()
    assert (linux.timeout, menu.timeout, menu.default) == (7, 7, "tc")
    assert chosen and (chosen.kernel, chosen.initrds) == expected
    assert chosen.codes[:3] == ("loglevel=3", "cde", 'dyndbg="file ext4 +p"')


def test_grub_of_others() -> None:
    menu = parse_grub(
        "set timeout=5\nset default='1'\nif [ x ]; then\n set root=(hd0,1)\nfi\n"
        "menuentry 'One' { linux /k1 ; initrd /i1; }\n"
        'menuentry "Two words" --class os --id=two {\n  search --set=root x\n'
        "  linux16 ($root)/boot/k2 tce=${uuid} quiet \\\n    text\n  initrd16 /ucode (hd0)/i2\n}\n"
        "submenu 'More' {\n menuentry Three {\n linux /k3\n }\n}\n"
        "menuentry 'no end {\n"
    )
    chosen = menu.default_entry()
    assert (menu.timeout, menu.default) == (5, "1")
    assert chosen == Entry("two", "Two words", "/boot/k2", ("/ucode", "/i2"), ("quiet", "text"))
    assert [entry.kernel for entry in menu.entries] == ["/k1", "/boot/k2", "/k3"]
    assert menu.unread == [
        "the bootcode 'tce=${uuid}' of menu entry 'Two words' was left out: only GRUB knows its value",
        "the boot menu has a menu inside: 'More'",
        'the boot menu has no end of its quotes at "\'no end {"',
    ]


def test_a_menu_without_a_kernel_boots_nothing() -> None:
    assert Menu().default_entry() is None
    assert parse_syslinux("LABEL a\nMENU LABEL x\n").default_entry() is None


@pytest.mark.parametrize("text", ["TIMEOUT -1", "TIMEOUT 9999999999999", "TIMEOUT ²", "TIMEOUT", "TIMEOUT 0"])
def test_odd_timeouts_are_none(text: str) -> None:
    assert parse_syslinux(text).timeout is None


def test_long_timeouts_are_the_longest_that_a_profile_can_have() -> None:
    assert parse_syslinux("TIMEOUT 99999999").timeout == 3599


def test_only_bootcodes_that_menus_can_carry_are_taken() -> None:
    good, bad = usable(words("cde it's a\\b \x1b[0m x" + " y=" + "z" * 1900))
    assert good == ["cde", "x"]
    assert bad[:3] == ["it's", "a\\b", "\x1b[0m"]
    assert len(bad) == 4


def test_the_number_of_entries_is_limited() -> None:
    many = "".join(f"LABEL {n}\nKERNEL k\n" for n in range(2000))
    assert len(parse_syslinux(many).entries) == boot_menus.MAX_MENU_ENTRIES
    assert len(parse_grub("menuentry x { linux /k; }\n" * 2000).entries) == boot_menus.MAX_MENU_ENTRIES

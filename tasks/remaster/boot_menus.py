# SPDX-License-Identifier: MIT
"""Boot menus of others: those of isolinux, syslinux and extlinux, and those of GRUB.

Syslinux' doc/syslinux.txt and doc/menu.txt describe the first, GRUB's manual the second.  Nothing of
a menu is run: of GRUB's language only menu entries and plain `set` lines are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tasks.config import bootcodes
from tasks.config.profile import MAX_TIMEOUT

SYSLINUX_FILES = ("isolinux.cfg", "extlinux.conf", "syslinux.cfg")
GRUB_FILES = ("grub.cfg",)
# Syslinux takes a KERNEL of these names for a module, a boot sector or a program (doc/syslinux.txt).
NO_KERNEL = (".0", ".bin", ".bs", ".bss", ".c32", ".cbt", ".com", ".img")
MAX_MENU_ENTRIES = 500
WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
# Words that a boot loader adds by itself.
OF_LOADERS = ("BOOT_IMAGE=", "initrd=")
SHOWN = 60


@dataclass(frozen=True)
class Entry:
    """An entry of a menu.

    name: the label or id it is called by; title: what the menu shows; kernel: a path on the medium;
    initrds: paths in order; codes: the words of the command line.
    """

    name: str
    title: str = ""
    kernel: str = ""
    initrds: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


@dataclass
class Menu:
    """A menu.

    default: what names the default entry, "" for the first one; timeout: seconds, None if the menu
    waits for ever or does not say; unread: lines about what has no meaning here.
    """

    entries: list[Entry] = field(default_factory=list)
    default: str = ""
    timeout: int | None = None
    unread: list[str] = field(default_factory=list)

    def default_entry(self) -> Entry | None:
        """Return the entry that boots by itself; without a clear default the first with a kernel."""
        able = [entry for entry in self.entries if entry.kernel]
        for entry in able:
            if self.default and self.default in (entry.name, entry.title):
                return entry
        number = int(self.default) if re.fullmatch(r"[0-9]{1,3}", self.default) else 0
        if number < len(self.entries) and self.entries[number].kernel:
            return self.entries[number]
        return able[0] if able else None


def words(text: str) -> tuple[str, ...]:
    """Return the words of a kernel's command line; white space in double quotes divides no word."""
    return tuple(WORD.findall(text))


def usable(codes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the bootcodes that a profile may have, and those that no menu of ours can carry."""
    good: list[str] = []
    bad: list[str] = []
    for code in codes:
        try:
            bootcodes.check([*good, code])
        except ValueError:
            bad.append(code)
        else:
            good.append(code)
    return good, bad


def _seconds(text: str, per_second: int) -> int | None:
    """Return a timeout in seconds; None for ever, and for what is no number."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        return None
    return min(-(-int(text) // per_second), MAX_TIMEOUT)


# --- isolinux, syslinux, extlinux -----------------------------------------------------------------


def parse_syslinux(text: str) -> Menu:
    """Return the menu of an isolinux.cfg, syslinux.cfg or extlinux.conf."""
    menu = Menu()
    common = ""  # an APPEND above the first label is for all without their own
    appended: dict[int, str] = {}
    in_help = False
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        key, _, tabbed = key.partition("\t")
        key, value = key.lower(), f"{tabbed} {value}".strip()
        if in_help or (key == "text" and value.lower() == "help"):
            in_help = key != "endtext"
        elif key == "label" and len(menu.entries) < MAX_MENU_ENTRIES:
            menu.entries.append(Entry(value))
        elif key in ("default", "ontimeout") and not (key == "default" and menu.default and not value):
            menu.default = value
        elif key == "timeout":
            menu.timeout = _seconds(value, 10) or None
        elif key in ("include", "config"):
            menu.unread.append(f"the boot menu's line {key} {value[:SHOWN]!r} was not followed")
        elif key == "append" and not menu.entries:
            common = value
        elif menu.entries:
            if key == "append":
                appended[len(menu.entries) - 1] = value
            else:
                _of_label(menu, key, value)
    for number, entry in enumerate(menu.entries):
        menu.entries[number] = _with_codes(entry, appended.get(number, common))
    _default_line(menu, common)
    return menu


def _of_label(menu: Menu, key: str, value: str) -> None:
    """Take one line of the last label."""
    entry = menu.entries[-1]
    if key == "linux" or (key == "kernel" and not value.lower().endswith(NO_KERNEL)):
        entry = replace(entry, kernel=value)
    elif key == "initrd":
        entry = replace(entry, initrds=tuple(filter(None, value.split(","))))
    elif key == "menu":
        about, _, title = value.partition(" ")
        if about.lower() == "default":
            menu.default = entry.name
        elif about.lower() == "label":
            entry = replace(entry, title=title.strip().replace("^", ""))
    menu.entries[-1] = entry


def _with_codes(entry: Entry, append: str) -> Entry:
    """Return an entry with its command line; an `initrd=` in it names initrds, as syslinux takes it."""
    codes = words("" if append == "-" else append)
    named = [code.partition("=")[2] for code in codes if code.startswith("initrd=")]
    initrds = entry.initrds or tuple(one for value in named for one in value.split(",") if one)
    return replace(entry, initrds=initrds, codes=_own(codes))


def _default_line(menu: Menu, common: str) -> None:
    """Add an entry for `DEFAULT KERNEL WORDS`, which names no label."""
    first, *codes = words(menu.default) or ("",)
    known = {entry.name: entry for entry in menu.entries}
    if menu.default in known or not first:
        return
    if first in known:
        entry = known[first]
        menu.entries.append(replace(entry, name=menu.default, codes=(*entry.codes, *_own(codes))))
    elif "/" in first or not menu.entries:
        line = f"{common if common != '-' else ''} {' '.join(codes)}"
        menu.entries.append(_with_codes(Entry(menu.default, kernel=first), line))


def _own(codes: Sequence[str]) -> tuple[str, ...]:
    """Return bootcodes without those of loaders, quoted as a profile has them."""
    return tuple(_quoted(bootcodes.word(code)) for code in codes if not code.startswith(OF_LOADERS))


# --- GRUB ----------------------------------------------------------------------------------------

# GRUB's manual, 16.2 "Shell-like scripting": words, quotes, and what ends a command.
QUOTED = r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\."""
SPACE = r"(?:[ \t\r\f\v]|\\\n)+|\#[^\n]*"
END = r"[;\n|&<>]+"
WORDS = rf"""(?:{QUOTED}|[^ \t\r\f\v\n;|&<>'"\\])+"""
TOKEN = re.compile(rf"{SPACE}|(?P<end>{END})|(?P<word>{WORDS})|(?P<open>.)", re.DOTALL)
PART = re.compile(
    r"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|\$|[^'"\\$]+""", re.DOTALL
)
VARIABLE = "\0"  # no menu has it
LINUX = ("linux", "linux16", "linuxefi")
INITRD = ("initrd", "initrd16", "initrdefi")


def parse_grub(text: str) -> Menu:
    """Return the menu of a grub.cfg; what only GRUB can decide (`if`, functions, variables) is unread."""
    menu = Menu()
    inside: Entry | None = None
    for command in _commands(text.replace(VARIABLE, ""), menu):
        name = command[0]
        if name == "menuentry" and len(menu.entries) < MAX_MENU_ENTRIES:
            inside = _menu_entry(command)
            menu.entries.append(inside)
        elif name == "submenu":
            menu.unread.append(f"the boot menu has a menu inside: {' '.join(command[1:2])[:SHOWN]!r}")
        elif name in ("source", "configfile", "legacy_configfile"):
            menu.unread.append(f"the boot menu's line {' '.join(command)[:SHOWN]!r} was not followed")
        elif name == "}":
            inside = None
        elif name == "set" and len(command) == 2 and inside is None:
            key, _, value = command[1].partition("=")
            if key == "timeout":
                menu.timeout = _seconds(value, 1)
            elif key == "default" and VARIABLE not in value:
                menu.default = value
        elif inside is not None and len(command) > 1 and name in LINUX + INITRD:
            inside = _loaded(inside, command, menu)
            menu.entries[-1] = inside
    return menu


def _commands(text: str, menu: Menu) -> Iterator[list[str]]:
    """Yield the words of each command, as GRUB divides them; a variable's `$` becomes `VARIABLE`."""
    command: list[str] = []
    for found in TOKEN.finditer(text):
        if found["end"] or found[0] in ("{", "}"):
            if command:
                yield command
            if found[0] == "}":
                yield ["}"]
            command = []
        elif found["word"]:
            command.append("".join(_unquoted(part) for part in PART.finditer(found["word"])))
        elif found["open"]:
            shown = text[found.start() :].partition("\n")[0][:SHOWN]
            menu.unread.append(f"the boot menu has no end of its quotes at {shown!r}")
            return
    if command:
        yield command


def _unquoted(part: re.Match[str]) -> str:
    """Return a part of a word without its quotes and backslashes."""
    if part["single"] is not None:
        return part["single"]
    if part["double"] is not None:
        return re.sub(
            r'\\([\\"$])|\\\n|(\$)', lambda one: VARIABLE if one[2] else one[1] or "", part["double"]
        )
    if part["escaped"] is not None:
        return part["escaped"].strip("\n")
    return VARIABLE if part[0] == "$" else part[0]


def _menu_entry(command: Sequence[str]) -> Entry:
    title = command[1] if len(command) > 1 else ""
    name = ""
    for at, word in enumerate(command[2:], start=2):
        if word in ("--id", f"{VARIABLE}menuentry_id_option") and at + 1 < len(command):
            name = command[at + 1]
        elif word.startswith("--id="):
            name = word.removeprefix("--id=")
    return Entry(name, title)


def _loaded(entry: Entry, command: Sequence[str], menu: Menu) -> Entry:
    """Return `entry` with what a `linux` or an `initrd` command loads."""
    if command[0] in INITRD:
        return replace(entry, initrds=tuple(map(_path, command[1:])))
    codes = []
    for word in command[2:]:
        if VARIABLE in word:
            word = word.replace(VARIABLE, "$")
            shown = f"{word[:SHOWN]!r} of menu entry {entry.title[:SHOWN]!r}"
            menu.unread.append(f"the bootcode {shown} was left out: only GRUB knows its value")
        else:
            codes.append(_quoted(word))
    return replace(entry, kernel=_path(command[1]), codes=_own(codes))


def _path(word: str) -> str:
    """Return a path without the device before it: `(hd0,1)/boot/x`, `($root)/boot/x`, `$root/x`."""
    return re.sub(r"^(\([^)]*\)|\0\{?\w+\}?)", "", word)


def _quoted(word: str) -> str:
    """Return a word as a profile has it: with quotes where it has a space."""
    if not re.search(r"\s", word):
        return word
    key, sign, value = word.partition("=")
    return f'{key}="{value}"' if sign and not re.search(r"\s", key) else f'"{word}"'

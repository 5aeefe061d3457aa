# SPDX-License-Identifier: MIT
"""Check that the programs and scripts of an extension can start on the running system.

Strict are the folders of PATH, of start scripts and of tce.installed.  Elsewhere packages carry
scripts that only their developers run, so a missing interpreter there is only logged.
"""

from __future__ import annotations

import codecs
import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.checks.left_out import LeftOut, hint_for
from tasks.checks.libraries import refuse_foreign
from tasks.config.architecture import Architecture
from tasks.formats import cpio, elf
from tasks.formats.cpio import Member
from tasks.util.errors import UserError
from tasks.util.links import follow_links
from tasks.util.log import logger

PATH = ("usr/local/sbin", "usr/local/bin", "apps/bin", "usr/sbin", "usr/bin", "sbin", "bin")
"""The folders of PATH in /etc/profile of Tiny Core."""
INSTALLED = "usr/local/tce.installed"
START_SCRIPTS = ("etc/init.d", "usr/local/etc/init.d", INSTALLED)
HEAD_BYTES = 256  # BINPRM_BUF_SIZE of the kernel: it reads no longer `#!` line
X_BITS = 0o111
SPLIT = " -S"  # of GNU env; BusyBox's env ends with "invalid option"
ENV_SPLITS = re.compile(r"(?:-[iv]*S|--split-string=?)(.*)")
BYTE_ORDER_MARK = codecs.BOM_UTF8
# Folders of the running system that are filled after the boot.
FILLED_LATER = (
    "/dev/",
    "/etc/alternatives/",
    "/home/",
    "/mnt/",
    "/opt/",
    "/proc/",
    "/run/",
    "/sys/",
    "/tmp/",
    "/var/",
)
SHOWN = 3


@dataclass
class Closure:
    """The paths of an extension, its dependencies and the base; what is added first stays.

    Paths are absolute.  links: symbolic links and their targets; files: everything else, with modes;
    installers: the content of the scripts in tce.installed, without the `#!` line.
    """

    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    installers: list[bytes] = field(default_factory=list)

    def add(self, members: Iterable[Member]) -> None:
        """Add the members of an archive."""
        for member in members:
            path = f"/{member.name}"
            if path in self.files or path in self.links:
                continue
            if member.kind == stat.S_IFLNK:
                self.links[path] = cpio.decode(member.data)
            else:
                self.files[path] = member.mode
            if member.name.startswith(f"{INSTALLED}/"):
                first, _, rest = member.data.partition(b"\n")
                self.installers.append(rest if first.startswith(b"#!") else member.data)

    def resolve(self, path: str) -> str:
        """Return a path with all links followed; "" if there is no such file."""
        real = follow_links(path, lambda step: self.links.get(step, ""))
        return real if real in self.files else ""

    def runs(self, path: str) -> bool:
        """Tell whether there is a file that may be executed."""
        return bool(self.files.get(self.resolve(path), 0) & X_BITS)

    def find(self, command: str) -> str:
        """Return where PATH has `command`; "" if nowhere."""
        places = [f"/{folder}/{command}" for folder in PATH]
        return next((place for place in places if self.runs(place)), "")

    def has(self, wanted: str) -> bool:
        """Tell whether there is an interpreter: a path, with -S behind that of env, or a command of PATH.

        A path may also be a link that a script of tce.installed makes: Tiny Core's bash.tcz has
        /usr/local/bin/bash and links it to /bin/bash.
        """
        if not posixpath.isabs(wanted):
            return "/" not in wanted and bool(self.find(wanted))  # with a slash, the current folder counts
        if wanted.endswith(SPLIT):
            real = posixpath.basename(self.resolve(wanted.removesuffix(SPLIT)))
            return bool(real) and not real.startswith("busybox")
        return self.runs(wanted) or (
            bool(self.find(posixpath.basename(wanted))) and self.is_installed(wanted)
        )

    def is_installed(self, path: str) -> bool:
        """Tell whether a script of tce.installed names the file, so that it may make it."""
        return any(posixpath.basename(path).encode() in script for script in self.installers)


def check(
    name: str,
    architecture: Architecture,
    root: Path,
    listing: Collection[str],
    below: Mapping[str, Iterable[Member]],
    own: Collection[str],
    left_out: Collection[LeftOut],
) -> None:
    """Check the programs and scripts of the extension `name`, unpacked in `root`.

    architecture: of the system; listing: its paths without folders; below: the members of the base
    and of its dependencies by their names, the base first; own: the paths of the recipe's own files;
    left_out: what the recipe leaves out.
    Raises `UserError` for a program of another machine, without its x bit, or without its
    interpreter, and for a link in PATH that leads nowhere.
    """
    closure = Closure()
    for members in below.values():
        closure.add(members)
    closure.add(_member(root, path) for path in listing)
    helpless: dict[str, str] = {}
    for path in listing:
        target = closure.resolve(f"/{path}").lstrip("/")
        if target not in listing:  # a link that leads nowhere or out of the extension
            if not target and posixpath.dirname(path) in PATH:
                _refuse_dangling(name, path, root, closure, left_out)
            continue
        strict = posixpath.dirname(path) in (*PATH, *START_SCRIPTS)
        mode, head = _head(root / target)
        where = path if path == target else f"{path} ({target})"
        if strict:
            if machine := elf.program_machine(root / target):
                refuse_foreign(name, architecture, where, machine)
            _check_mode(name, where, path, mode, head, own=target in own)
            if head.startswith(BYTE_ORDER_MARK + b"#!"):
                raise UserError(
                    f"extension {name}: {where} has a byte order mark before its `#!`, which hides it",
                    "store the script as UTF-8 without that mark",
                )
        elif path != target or not mode & X_BITS:
            continue
        missing = [wanted for wanted in interpreters(head) if not closure.has(wanted)]
        if missing and strict:
            raise UserError(
                f"extension {name}: {where} is a script for {_shown(missing[0])}, "
                f"which {_why(missing[0], closure)}",
                _hint(missing[0], closure, left_out),
            )
        if missing:
            helpless[path] = missing[0]
    if helpless:
        wanted = ", ".join(sorted({_shown(posixpath.basename(one)) for one in helpless.values()}))
        some = ", ".join(sorted(helpless)[:SHOWN])
        logger.info(f"{name}.tcz: no {wanted} for {len(helpless)} scripts outside PATH: {some}")


def _why(wanted: str, closure: Closure) -> str:
    if "/" in wanted and not posixpath.isabs(wanted):
        return "is looked for in the current folder"
    if closure.resolve(wanted):
        return "has no x bit"
    return "is neither in it nor in what it depends on nor in the base"


def _refuse_dangling(
    name: str, path: str, root: Path, closure: Closure, left_out: Collection[LeftOut]
) -> None:
    """Raise `UserError` for a link of PATH to nowhere, unless the running system may make its target."""
    wanted = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), os.readlink(root / path)))
    if wanted.startswith(FILLED_LATER) or closure.is_installed(wanted):
        return
    raise UserError(
        f"extension {name}: {path} leads to {_shown(wanted)}, which is nowhere",
        hint_for([posixpath.basename(wanted)], left_out) or "leave the link out by `drop`, or add its target",
    )


def _member(root: Path, path: str) -> Member:
    """Return a file or link of the folder `root`; of files, only those of tce.installed with content."""
    place = root / path
    if place.is_symlink():
        return cpio.symlink(path, os.readlink(place))
    read = path.startswith(f"{INSTALLED}/") and place.is_file()
    return cpio.regular(path, place.read_bytes() if read else b"", place.stat().st_mode)


def _head(path: Path) -> tuple[int, bytes]:
    """Return mode and first bytes of a file; no bytes of a device or FIFO."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return mode, b""
    with path.open("rb") as stream:
        return mode, stream.read(HEAD_BYTES)


def _check_mode(name: str, where: str, path: str, mode: int, head: bytes, *, own: bool) -> None:
    """Raise `UserError` for a program in PATH or tce.installed that nobody may execute."""
    ending = posixpath.splitext(path)[1]
    is_program = head.startswith(elf.MAGIC) and ".so" not in posixpath.basename(path)
    # Packages have scripts there that others read by `.`, such as gettext.sh.
    is_script = head.startswith(b"#!") and (own or ending != ".sh")
    if mode & X_BITS or posixpath.dirname(path) not in (*PATH, INSTALLED) or not (is_program or is_script):
        return
    hint = f"chmod +x extensions/{name}/files/{path}" if own else "take an origin that stores modes"
    raise UserError(f"extension {name}: {where} is a program, but has no x bit", hint)


def interpreters(head: bytes) -> list[str]:
    """Return what a script needs to start, by its first bytes; [] if it is no script.

    This is the path in its `#!` line, with `./` before it if it is relative.  If that is env(1), it is
    also the command that env starts, and the path with -S, if env is to split the line.
    """
    if not head.startswith(b"#!"):
        return []
    # Only blanks and the newline count: of a file with DOS line ends, `\r` belongs to the name.
    line = head[2:].split(b"\n")[0].decode(errors="replace").strip(" \t")
    path, *words = re.split(r"[ \t]+", line)
    if path and not posixpath.isabs(path):
        return [f"./{path}"]
    if posixpath.basename(path) != "env":
        return [path] if path else []
    splits = [f"{path}{SPLIT}"] if any(ENV_SPLITS.fullmatch(word) for word in words) else []
    return [path, *splits, *filter(None, [_env_command(words)])]


def _env_command(words: list[str]) -> str:
    """Return the command among the arguments of env(1), "" if there is none."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        split = ENV_SPLITS.fullmatch(word)
        if split:
            rest[:0] = filter(None, [split[1]])
        elif word in ("-u", "-C", "--unset", "--chdir"):  # these take an argument
            rest[:1] = []
        elif not word.startswith("-") and "=" not in word:
            return word
    return ""


def _hint(wanted: str, closure: Closure, left_out: Collection[LeftOut]) -> str:
    if wanted.endswith(SPLIT):
        return "BusyBox's env has no -S: name the interpreter itself in the `#!` line"
    name = posixpath.basename(wanted)
    if not name.isprintable():
        return "the script has DOS line ends: convert it by dos2unix"
    place = closure.find(name)
    return (
        hint_for([name], left_out)
        or (f"{place} is there: name it in the `#!` line" if place else "")
        or f"depend on an extension that has {name}, or leave the script out by `drop`"
    )


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)

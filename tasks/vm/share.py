# SPDX-License-Identifier: MIT
"""Folders of this machine in the guest: `--share DIR[:PATH][:ro]`.

They come by virtiofs where machine and guest can, else by 9p; tasks/vm/shares.toml says what each
needs.  With both, the guest sees owners and modes as this machine has them.
"""

from __future__ import annotations

import functools
import io
import os
import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, Protocol

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.text import printable
from tasks.vm import virtiofsd
from tasks.vm.agent import Sink
from tasks.vm.guest_kernel import GuestKernel, hint_for
from tasks.vm.machine import Share

DATA = Path(__file__).with_name("shares.toml")
READ_ONLY = ":ro"
PLACE = re.compile(r"/[A-Za-z0-9._+/-]*")
NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*")
SECONDS = 240.0  # an emulated guest on a busy machine loads modules slowly


@dataclass(frozen=True)
class Transport:
    """A way of a folder into the guest.

    symbols: symbol of the kernel (without CONFIG_) -> its module.  mount: the guest's command.
    """

    name: Literal["virtiofs", "9p"]
    symbols: dict[str, str]
    mount: str


@dataclass(frozen=True)
class Refused:
    """Paths of the guest where no folder may be mounted; below: nor below them.

    A path is a regular expression.
    """

    why: str
    paths: tuple[str, ...]
    below: bool = False


@dataclass(frozen=True)
class Rules:
    """The content of tasks/vm/shares.toml."""

    transport: tuple[Transport, ...]
    refused: tuple[Refused, ...]


@functools.cache
def _rules() -> Rules:
    return toml_schema.load(DATA, Rules)


def _transports() -> dict[str, Transport]:
    return {one.name: one for one in _rules().transport}


def parse(words: Sequence[str], caller: Path) -> tuple[Share, ...]:
    """Return the folders that words DIR[:PATH][:ro] mean; the transport is not chosen yet.

    PATH is /mnt/NAME if none is given.  caller: the folder that a relative DIR is below.
    Raises `UserError` if DIR is no folder, and if PATH would break the guest or meets another.
    """
    found: list[Share] = []
    for word in words:
        share = _parse(word, caller)
        for other in found:
            if share.path == other.path:
                raise _error(word, f"{share.path} is taken by another share")
            for inner, outer in ((share, other), (other, share)):
                if inner.path.startswith(f"{outer.path}/"):
                    raise _error(word, f"{inner.path} is below {outer.path}, which is a share, too")
        found.append(share)
    return tuple(found)


def _parse(word: str, caller: Path) -> Share:
    rest = word.removesuffix(READ_ONLY)
    given, colon, path = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if not given:
        raise _error(word, "no folder is named", "expected DIR[:PATH][:ro]")
    folder = Path(os.path.realpath(caller / given))
    if colon and not path.startswith("/"):
        hint = "of a folder with a colon in its name, say where it is to be: DIR:/mnt/NAME"
        raise _error(word, f"{path!r} is no absolute path of the guest", hint)
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise _error(word, f"{folder} {what}")
    if not colon:
        if not NAME.fullmatch(folder.name):
            hint = "letters, digits and . _ + - may stand in it; or say where: DIR:/mnt/NAME"
            raise _error(word, f"the guest gets no folder named {folder.name!r}", hint)
        path = f"/mnt/{folder.name}"
    return Share(folder, _checked(word, path), read_only=rest != word)


def _checked(word: str, path: str) -> str:
    """Return the path without a slash at its end.  Raises `UserError` if nothing may be mounted there."""
    plain = posixpath.normpath(path)
    if not PLACE.fullmatch(path) or ".." in path.split("/") or plain.startswith("//"):
        raise _error(word, f"{path!r}: expected letters, digits and . _ + - between slashes, and no ..")
    above = [plain, *(str(one) for one in Path(plain).parents)]
    for rule in _rules().refused:
        for one in above if rule.below else above[:1]:
            if any(re.fullmatch(pattern, one) for pattern in rule.paths):
                hint = "say where it is to be: DIR:/mnt/NAME"
                raise _error(word, f"nothing may be mounted at {plain}: {rule.why}", hint)
    return plain


def _error(word: str, text: str, hint: str = "") -> UserError:
    return UserError(_line(f"--share {word}: {text}"), hint)


def _line(text: str) -> str:
    """Return a text with a folder's name, which may have any character, as one line."""
    return printable(text).replace("\n", "\\n")


def choose(paths: Paths, profile: Profile, shares: Sequence[Share]) -> tuple[Share, ...]:
    """Return the folders with the transport of each, and say it.

    Raises `UserError`, which names what the built kernel lacks, if there is none.
    """
    if not shares:
        return ()
    known = _transports()
    kernel = GuestKernel.of(paths, profile)
    lacks = {name: kernel.lacking(one.symbols) for name, one in known.items()}
    here = "" if lacks["virtiofs"] else virtiofsd.missing()
    made = []
    for share in shares:
        why = here or lacks["virtiofs"]
        why = why or virtiofsd.refuses(share)
        if why and lacks["9p"]:
            hint = hint_for(profile, known["9p"].symbols)
            text = f"--share: the guest can mount neither by 9p ({lacks['9p']}) nor by virtiofs ({why})"
            raise UserError(text, hint)
        made.append(replace(share, transport="9p" if why else "virtiofs"))
        how = f"9p, as {why}" if why else "virtiofs"
        only = ", read-only" if share.read_only else ""
        logger.info(_line(f"share: {share.folder} will be the guest's {share.path}{only} (by {how})"))
    return tuple(made)


class Runner(Protocol):
    """What runs programs in a guest: its agent, or `run.Asker`."""

    def run(
        self, program: bytes, user: str, output: Sink, errors: Sink, given: IO[bytes] | None, seconds: float
    ) -> int:
        """Run a program; see `Agent.run`."""


def mount(runner: Runner, shares: Sequence[Share]) -> None:
    """Mount the folders in a guest, and say how.  Raises `UserError` if one is not mounted."""
    output, errors = io.BytesIO(), io.BytesIO()
    status = runner.run(mount_program(shares), "root", output.write, errors.write, None, SECONDS)
    check_mounted(shares, status, output.getvalue(), errors.getvalue())


def mount_program(shares: Sequence[Share]) -> bytes:
    """Return the program that mounts the folders in the guest, as root.

    It prints the lines of /proc/mounts that are theirs; what fails is on its stderr.
    """
    known = _transports()
    lines = ["#!/bin/sh"]
    for number, share in enumerate(shares):
        transport, path = known[share.transport], shlex.quote(share.path)
        command = transport.mount
        for key, value in {
            "@OPTIONS@": "-o ro" if share.read_only else "",
            "@TAG@": share.tag(number),
            "@PATH@": path,
        }.items():
            command = command.replace(key, value)
        lines += [f"modprobe {module} 2> /dev/null" for module in transport.symbols.values()]
        lines += [
            f'grep -F " {share.path} " /proc/mounts >&2 && echo "{share.path} is in use" >&2 && exit 1',
            f"mkdir -p {path} && {command} || exit 1",
            f'grep -F "{share.tag(number)} {share.path} " /proc/mounts || exit 1',
        ]
    return "\n".join([*lines, ""]).encode()


def check_mounted(shares: Sequence[Share], status: int, output: bytes, errors: bytes) -> None:
    """Say how each folder is mounted, by what `mount_program` printed.  Raises `UserError` if one is not."""
    lines = [line.split() for line in output.decode("utf-8", "replace").splitlines()]
    for number, share in enumerate(shares):
        found = [words for words in lines if words[:2] == [share.tag(number), share.path]]
        if not found or found[0][2] != share.transport:
            text = f"the guest did not mount the share {share.path} by {share.transport}"
            raise UserError(text, detail=f"  status {status}\n{errors.decode('utf-8', 'replace')}")
        how = "read-only" if "ro" in found[0][3].split(",") else "read and write"
        logger.info(f"share: the guest has mounted {share.path} by {found[0][2]}, {how}")

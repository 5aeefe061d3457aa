# SPDX-License-Identifier: MIT
"""Checks: questions to a booted guest, which `./doit qemu:test` asks.

`[[check]]` tables hold them: in tasks/config/checks.toml, in the files `checks/*.toml` of a recipe or of a
tree, and in a profile.  tasks/config/checks.py puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from tasks.util.text import ONE_LINE, check_line, check_pattern, did_you_mean
from tasks.util.toml_schema import PATTERN

SYMBOL = re.compile(
    r"(?!CONFIG_)\w+", re.ASCII
)  # of Kconfig: kernel Documentation, kbuild/kconfig-language.rst
LONGEST = 86_400  # seconds


@dataclass(frozen=True)
class Check:
    """A program to run in a booted guest, and what it must answer.

    name: one line, which no other check of the profile has.  A check of a profile replaces one of the
    same name that it inherits, that a recipe or a tree has, or that tcbuild itself has.
    off: the check is not made; nothing but its name is needed.
    command: lines for the guest's /bin/sh.  @RELEASE@ in them stands for the kernel's release, and
    @EXTENSIONS@ for the extensions that are loaded, as words.
    script: a file to run by the program that its #! line names, instead of a command: its path in the
    checkout or a tree, or, in a folder `checks/`, its path there.
    status: the exit status that is expected; 128 and its number for a signal.
    output: a regular expression of Python that is searched in the standard output; ^ and $ are the begin
    and the end of a line.
    user: who runs it.
    timeout: seconds until the check has failed, at most 86,400.
    firmware: the firmwares with which the check is made; `direct` loads no extensions from a medium.
    media: the media from which the system must have been booted; any if empty.
    extension: only if this extension is loaded.  A recipe's check is made if the recipe's is.
    kconfig: only if the kernel has these symbols (without CONFIG_), as modules or built in.
    own_root: only in a root that tcbuild made; others may lack the programs that the check uses.
    """

    name: str = field(metadata={PATTERN: ONE_LINE})
    off: bool = False
    command: str = ""
    script: str = ""
    status: int = 0
    output: str = ""
    user: Literal["tc", "root"] = "tc"
    timeout: int = 60
    firmware: tuple[Literal["bios", "uefi", "direct"], ...] = ("bios", "uefi", "direct")
    media: tuple[Literal["cd", "stick", "fat", "disk"], ...] = ()
    extension: str = ""
    kconfig: tuple[str, ...] = field(default=(), metadata={PATTERN: SYMBOL})
    own_root: bool = False

    def __post_init__(self) -> None:
        check_line("name", self.name)
        if not self.name.strip():
            raise ValueError("name: expected a line of text")
        if (self.command and self.script) or not (self.command.strip() or self.script or self.off):
            raise ValueError(
                f"{'script' if self.script else 'command'}: expected either a command or a script"
            )
        path = PurePosixPath(self.script)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"script: expected a path below the folder, got {self.script!r}")
        if not 0 <= self.status <= 255:
            raise ValueError(f"status: expected 0 to 255, got {self.status}")
        if not 1 <= self.timeout <= LONGEST:
            raise ValueError(f"timeout: expected 1 to {LONGEST} seconds, got {self.timeout}")
        for symbol in self.kconfig:
            if not SYMBOL.fullmatch(symbol):
                raise ValueError(f"kconfig: expected symbols without CONFIG_, as OVERLAY_FS, got {symbol!r}")
        try:
            check_pattern(self.output)
        except ValueError as error:
            raise ValueError(f"output: {error}") from None


@dataclass(frozen=True)
class CheckFile:
    """A file of checks: tasks/config/checks.toml, or one in the folder `checks/` of a recipe or a tree.

    check: the checks; those of a recipe are made in systems that load its extension.
    """

    check: tuple[Check, ...]

    def __post_init__(self) -> None:
        refuse_twins(check.name for check in self.check)


def refuse_twins(names: Iterable[str]) -> None:
    """Raise `ValueError` for a name that two checks of one file have."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise ValueError(f"check[{number}].name: there is a check {name!r} already")
        seen.add(name)


def similar(name: str, known: Sequence[str], what: str = "checks") -> str:
    """Return the hint for a name that does not exist; known: those that do."""
    return did_you_mean(name, known) or f"{what}: {', '.join(map(repr, known)) or 'none'}"

# SPDX-License-Identifier: MIT
"""The Python packages that tcbuild needs, as pyproject.toml and requirements.lock name them.

pyproject.toml (PEP 621) names what the code imports: the extra `build`, and those of some commands.
requirements.lock pins these packages and their dependencies, with the sha256 of every file.  It
is in pip's requirements format as `uv pip compile` writes it.  The comment `# via A, B` below a
pin names the packages that need it, and so shows which pins an extra needs.  This module needs
only python3, because it runs before anything is installed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.util.errors import UserError

PROJECT = "pyproject.toml"
LOCK = "requirements.lock"
RELOCK = "uv pip compile pyproject.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PIN = re.compile(
    rf"(?P<name>{NAME.pattern})(?:\[[^]]*\])?==(?P<version>[0-9][^ ]*)(?: ; (?P<marker>.+?))?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)"
    r"\n    # via (?P<via>.+)"
)


@dataclass(frozen=True)
class Pin:
    """One pin of the lock: name (as PEP 503 normalizes it), version, packages that need it, lines for pip."""

    name: str
    version: str
    needed_by: frozenset[str]
    text: str


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> list[Pin]:
    """Return the pins of a lock.  Raises `UserError` for a line that does not belong to a pin with hashes."""
    text = path.read_text(encoding="utf-8")
    pins = []
    for entry in re.split(r"\n+(?=[^ \n])", text.rstrip("\n")):
        if entry.startswith("#"):
            continue
        found = PIN.fullmatch(entry)
        if found is None:
            raise UserError(f"{path.name}: this is no pin with hashes: {entry.splitlines()[0]}", RELOCK)
        needed_by = frozenset(normalized(name) for name in NAME.findall(found["via"]))
        lines = entry.rpartition("\n")[0]
        pins.append(Pin(normalized(found["name"]), found["version"], needed_by, f"{lines}\n"))
    return pins


def requirements(top: Path) -> dict[str, list[str]]:
    """Return the requirements (PEP 508) in pyproject.toml: extra -> requirements; key "" is for building."""
    project = tomllib.loads((top / PROJECT).read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = dict(project["optional-dependencies"])
    return {"": extras.pop("build"), **extras}


def pins(top: Path, extras: Iterable[str] = ()) -> list[Pin]:
    """Return the pins for building and for `extras`, with all dependencies, in the lock's order.

    top: the checkout.  Raises `UserError` for an unknown extra, or if the lock lacks a package
    that pyproject.toml names.
    """
    named = requirements(top)
    wanted: set[str] = set()
    for extra in ("", *extras):
        if extra not in named:
            hint = f"extras: {', '.join(sorted(named.keys() - {''}))}"
            raise UserError(f"{PROJECT}: there is no extra {extra!r}", hint)
        wanted |= {normalized(_name(requirement)) for requirement in named[extra]}
    locked = read_lock(top / LOCK)
    lacking = wanted - {pin.name for pin in locked}
    if lacking:
        raise UserError(f"{LOCK} lacks {', '.join(sorted(lacking))}, which {PROJECT} names", RELOCK)
    while more := {pin.name for pin in locked if pin.needed_by & wanted} - wanted:
        wanted |= more
    return [pin for pin in locked if pin.name in wanted]


def _name(requirement: str) -> str:
    found = NAME.match(requirement)
    if found is None:
        raise UserError(f"{PROJECT}: {requirement!r} is no requirement", "NAME >= VERSION, as PEP 508 says")
    return found[0]

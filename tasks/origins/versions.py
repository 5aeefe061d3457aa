# SPDX-License-Identifier: MIT
"""Versions that upstream offers: their order, and how they are found in a listing.

A listing is a text that names files or tags: the page of a web server's folder, a list of checksums,
the tags of a git repository.  A template, as `v{version}` or `linux-{version}.tar.xz`, says how a
version is written there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.util.errors import UserError
from tasks.util.process import CommandFailed, run

VERSION = "{version}"
PART = re.compile(r"\d+|[a-z]+")
EARLIER = ("alpha", "a", "beta", "b", "rc", "pre", "preview", "dev")
"""The words that make a version one before the release of that number."""
# After a version: what ends a name in a page, a list or an address.
END = r"""(?=["'/<>\s?#]|$)"""


def order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key by which versions sort: 1.0-rc1 before 1.0, before 1.0.1, before 1.0.10."""
    parts = []
    for part in PART.findall(version.lower()):
        if part.isdigit():
            parts.append((3, int(part), ""))
        else:
            parts.append((0 if part in EARLIER else 2, 0, part))
    return (*parts, (1, 0, ""))


def is_early(version: str) -> bool:
    """Tell whether a version is one before a release, as 1.0-rc1."""
    return any(part in EARLIER for part in PART.findall(version.lower()))


def newest(offered: Iterable[str], locked: str) -> str:
    """Return the newest of `offered`, or `locked` if none is newer.

    Versions before a release count only if the locked one is such a version.
    """
    early = is_early(locked)
    return max((one for one in (locked, *offered) if early or not is_early(one) or one == locked), key=order)


def named_in(text: str, template: str) -> list[str]:
    """Return the versions of the names in a listing that fit `template`, each once."""
    before, _, after = template.partition(VERSION)
    rest = re.escape(after.replace(VERSION, "\0")).replace("\0", r"(?P=version)")
    name = rf"(?<![\w.+~-]){re.escape(before)}(?P<version>[0-9][\w.+~-]*?){rest}{END}"
    return list(dict.fromkeys(found["version"] for found in re.finditer(name, text)))


def of_tags(address: str, template: str) -> list[str]:
    """Return the versions of the tags that a git repository has.

    Raises `UserError` if git is missing, or the repository does not answer.
    """
    argv = ["git", "ls-remote", "--tags", "--refs", "--", address]
    try:
        said = run(argv, env={"GIT_TERMINAL_PROMPT": "0"}).stdout
    except CommandFailed as error:
        lines = [line.partition("fatal: ")[2] for line in error.detail.splitlines()]
        why = next(filter(None, lines), error.message)
        raise UserError(f"git: {why}", "check the network and the address") from None
    return named_in("\n".join(line.rpartition("refs/tags/")[2] for line in said.splitlines()), template)

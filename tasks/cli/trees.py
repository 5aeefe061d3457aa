# SPDX-License-Identifier: MIT
"""Trees: folders of a user's own with the same folders as the checkout (`tree=DIR`, $TCBUILD_TREE)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.cli import variables
from tasks.util.checkout import CHECKOUT, KINDS, Kind, caller_folder
from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.util.text import shortened

VARIABLE = "TCBUILD_TREE"
"""Environment variable with the trees that are used if the command line names none, separated by `:`."""
MERGED = "rootfs/rootfs.toml"  # a tree's hides no other
SHORTEST = 7  # what git writes of a commit at least
SHOWN = 8  # names of what a tree has
PATTERNS: dict[Kind, str] = {
    "profiles": "*.toml",
    "extensions": "*/recipe.toml",
    "images": "*/recipe.toml",
    "kconfig": "*",
    "patches": "*/series",
    "rootfs": "**/*",
    "checks": "*",
}


def use(named: Iterable[str]) -> None:
    """Use the trees that the command line names, or else those of $TCBUILD_TREE; later ones win.

    A relative path begins where the command was typed.
    Raises `UserError` for a path that is no folder, and for a folder that has nothing of a tree.
    """
    words = [*named] or [*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    # One that is named again counts at its last place.
    found = [*dict.fromkeys(reversed([_tree(word) for word in words]))]
    CHECKOUT.use(found[::-1])


def _tree(word: str) -> Path:
    path = (caller_folder() / word).resolve()
    if not word or not path.is_dir():
        raise UserError(f"tree={word}: there is no such folder", "./doit init DIR writes a tree")
    if path == CHECKOUT.root:
        raise UserError(f"tree={word}: this is tcbuild itself", "./doit init DIR writes a tree elsewhere")
    if not any((path / kind).is_dir() for kind in KINDS):
        folders = ", ".join(f"{kind}/" for kind in KINDS)
        raise UserError(f"tree={word}: {path} has none of {folders}", "./doit init DIR writes a tree")
    return path


def contents(root: Path) -> Iterator[str]:
    """Yield what a tree or the checkout has, as `profiles/NAME.toml`, `extensions/NAME`, `kconfig/FILE`."""
    for kind, pattern in PATTERNS.items():
        for path in sorted((root / kind).glob(pattern)):
            if not path.is_dir() and not path.name.endswith(".lock.toml"):
                name = path.relative_to(root)
                yield str(name.parent if "/" in pattern and pattern.startswith("*/") else name)


def clashes() -> Iterator[str]:
    """Yield a line for each name that two of the checkout and the trees have, which says whose is used."""
    holders = dict.fromkeys(contents(CHECKOUT.root), CHECKOUT.root) if CHECKOUT.trees else {}
    for tree in CHECKOUT.trees:
        for name in contents(tree):
            if name in holders and name != MERGED:
                yield f"{name} of {tree} is used, not that of {holders[name]}"
            holders[name] = tree


def tell() -> None:
    """Print on stderr which trees are used, with their commits and what they have, and what `warn` says."""
    from tasks.provenance import materials  # a run with nothing to do does not need it

    for tree in CHECKOUT.trees:
        commit, dirty, reason = materials.tree_state(tree)
        state = f"commit {commit[:12]}{', with changes' if dirty else ''}" if commit else reason
        print(f"tree {tree}: {state}", file=sys.stderr)
        print(f"  it has {shortened([*contents(tree)], SHOWN)}", file=sys.stderr)
    warn()


def warn() -> None:
    """Print on stderr which names clash, and if the profile is written for another tcbuild than this one."""
    for line in clashes():
        print(f"tree: {line}", file=sys.stderr)
    settings = variables.settings()
    if line := other_tcbuild(settings.profile.tcbuild):
        print(f"profile {settings.paths.name} {line}", file=sys.stderr)


def other_tcbuild(pin: str) -> str:
    """Return what tells that this tcbuild is not the commit or tag `pin`; "" if it is, or without a pin."""
    if not pin:
        return ""
    from tasks.provenance import materials

    head, dirty, reason = materials.git_state()
    if not head:
        return f"is written for tcbuild {pin}; nobody knows which one this is: {reason}"
    if CHECKOUT.is_installed:
        # A wheel knows its commit, and no tags.
        there = head if len(pin) >= SHORTEST and head.startswith(pin) else ""
    else:
        there = _commit(pin)
    if there != head:
        return f"is written for tcbuild {pin}, and this is {head[:12]}"
    return f"is written for tcbuild {pin}, and this one has changes" if dirty else ""


def _commit(pin: str) -> str:
    """Return the commit of the checkout that a commit or a tag names, "" if it has none of that name."""
    command = ["git", "-C", str(CHECKOUT.root), "rev-parse", "--verify", "--quiet", f"{pin}^{{commit}}"]
    return run(command, check=False).stdout.strip()

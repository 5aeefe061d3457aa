# SPDX-License-Identifier: MIT
"""`./doit init DIR`: write a small tree that builds at once (tasks/cli/trees.py says what a tree is).

The folder tree/ beside this module is the tree that is written, and tree-ci/ has what CI systems read.
In their names and contents `@NAME@` and the like stand for what was asked.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.config import checks, inheritance, profile, recipe
from tasks.config.settings import Paths
from tasks.kernel import fragments, requests
from tasks.provenance import materials
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.process import CREDENTIALS, run

TREE = Path(__file__).with_name("tree")
CI = Path(__file__).with_name("tree-ci")
NONE = "none"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
LICENCE = "# SPDX-License-Identifier:"  # of a template; the licence of a tree is its owner's choice
LINK = ".tcbuild"


def init(folder: Path, names: Sequence[str], name: str, base: str, ci: str, url: str) -> None:
    """Write a tree to `names[0]` (a relative path begins at `folder`), and print what to do with it.

    name: of its profile, extension, fragment and check; base: the profile that it inherits; ci: `CI` has
    it, or `NONE`; url: of tcbuild's repository.  What is "" is asked on a terminal, or has a default.
    Raises `UserError` for a file that is there already, and for a name that tcbuild has.
    """
    if len(names) != 1:
        raise UserError("init takes one folder", "./doit init DIR")
    target = (folder / names[0]).resolve()
    if target.is_relative_to(CHECKOUT.root):
        hint = "a tree of your own lies elsewhere, so that tcbuild can be replaced"
        raise UserError(f"{target} lies in tcbuild's checkout", hint)
    default = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")
    default = default if NAME.fullmatch(default) else "mine"
    name = name or _asked("name of the profile", default)
    _check_name(name)
    base = base or _asked(f"profile to build on ({', '.join(profile.names())})", "quick")
    below = profile.load(base)
    ci = ci or _asked(f"CI ({', '.join(_ci_names())} or {NONE})", "github")
    if ci not in (*_ci_names(), NONE):
        raise UserError(f"--ci {ci}: expected {', '.join(_ci_names())} or {NONE}")
    commit, dirty, reason = materials.git_state()
    values = {
        "NAME": name,
        "BASE": base,
        "COMMIT": commit,
        "FRAGMENTS": ", ".join(f'"{one}"' for one in (*below.kernel.fragments, name)),
        "URL": url or _origin(),
    }
    sources = [TREE, *([CI / ci] if ci != NONE else [])]
    with scratch_folder(cache_folder(), "init") as scratch:
        written = _fill(sources, scratch / "tree", values)
        _check(scratch / "tree", name)
        _move(scratch / "tree", target, written)
    if not os.path.lexists(target / LINK):
        (target / LINK).symlink_to(CHECKOUT.root)
    print(f"wrote {target}:", *(f"  {file}" for file in written), sep="\n")
    print(f"  {LINK} -> {CHECKOUT.root}, which {target}/doit runs; elsewhere it fetches tcbuild")
    for line in _cautions(values, dirty, reason):
        print(f"note: {line}")
    print(f"build it: cd {os.path.relpath(target, folder)} && ./doit iso && ./doit qemu:test")


def _asked(question: str, default: str) -> str:
    """Return the answer of a person at a terminal; elsewhere the default."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return default
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:
        return default


def _ci_names() -> list[str]:
    return sorted(path.name for path in CI.iterdir())


def _check_name(name: str) -> None:
    """Raise `UserError` for a name that cannot be a profile's and an extension's, or that tcbuild uses."""
    if not NAME.fullmatch(name) or name == "auto":
        raise UserError(f"{name!r} cannot be the name of a tree", "use small letters, digits and -")
    used = {"profile": profile.names(), "recipe": recipe.names(), "fragment": fragments.known_fragments()}
    for what, known in used.items():
        if name in known:
            raise UserError(f"tcbuild has a {what} {name!r}", "choose another name: --name NAME")


def _origin() -> str:
    """Return the address that the checkout was cloned from, "" if nobody knows."""
    if CHECKOUT.is_installed:
        return ""  # what git finds above it is another's repository
    command = ["git", "-C", str(CHECKOUT.root), "remote", "get-url", "origin"]
    said = run(command, check=False) if shutil.which("git") else None
    address = said.stdout.strip() if said and not said.status else ""
    return address if address and not CREDENTIALS.search(address) and "'" not in address else ""


def _fill(sources: Sequence[Path], folder: Path, values: Mapping[str, str]) -> list[str]:
    """Write the templates in `sources` to `folder`; return the paths of the files there, sorted."""
    written = []
    for source in sources:
        for path in sorted(source.rglob("*")):
            if path.is_dir():
                continue
            name = _filled(str(path.relative_to(source)), values)
            # A line about the commit is left out if there is none.
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(LICENCE)]
            kept = [line for line in kept if values["COMMIT"] or "@COMMIT@" not in line]
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled("".join(kept), values))
            target.chmod(0o777 & ~_umask() if recipe.executable(path) else 0o666 & ~_umask())
            written.append(name)
    return sorted(written)


def _filled(text: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def _check(tree: Path, name: str) -> None:
    """Raise `UserError` if the tree is not valid: a base may contradict its fragment."""
    before = CHECKOUT.trees
    CHECKOUT.use([tree])
    try:
        made = profile.load(name)
        recipe.load(name)
        requests.check(Paths(name, tree, tree, made.arch), made)
        checks.require(made, [name], recipe.names(), inheritance.lineage(CHECKOUT.folders("profiles"), name))
    finally:
        CHECKOUT.use(before)


def _move(tree: Path, target: Path, written: Sequence[str]) -> None:
    """Move the files `written` from `tree` to `target`.  Raises `UserError` if one is there already."""
    there = [file for file in written if os.path.lexists(target / file)]
    if there:
        raise UserError(f"{target / there[0]} is there already", "name another folder, or move the file away")
    for file in written:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tree / file, target / file)


def _cautions(values: Mapping[str, str], dirty: bool, reason: str) -> list[str]:
    found = []
    if not values["COMMIT"]:
        found.append(f"the profile names no tcbuild, because {reason}")
    elif dirty:
        found.append("this tcbuild has changes that are in no commit, and the profile names the commit")
    if not values["URL"]:
        found.append(
            "nobody knows where to fetch this tcbuild: write its address into `url` of the file doit"
        )
    return found

# SPDX-License-Identifier: MIT
"""A kernel source that is a local folder, which its owner edits: `source = { kind = "file" }`.

tasks/kernel/tree_copy.py copies it, and keeps a record of what it copied.  Edits are found by
sizes and times, as git's index does: reading a gigabyte would cost more than the build.
edited_tree.toml says which files are no source.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import itertools
import json
import os
import re
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.origins.sources.base import Material
from tasks.util.errors import UserError
from tasks.util.files import COARSE_STEP, is_settled, write_atomic

SUMMARY = ".tcbuild/summary"
"""In the copy: `Summary` as JSON."""
STATES = ".tcbuild/states"
"""In the copy: what `scan` returned when it was made, as `write_texts` writes it."""
PENDING = ".tcbuild/pending"
"""In the copy, JSON: the files that a run is copying; a killed run leaves it."""
CONFIGURATION = ".tcbuild/configuration"
"""In the copy: a digest of the files that the configuration reads.  An edited C file leaves it as it is."""

SEEN: dict[Path, dict[str, str]] = {}
"""Tree -> its state, as `is_current` saw it for the action of the same task."""
RECORDED: dict[Path, dict[str, str]] = {}
"""Copy -> its `STATES`, as `is_current` read them for that action."""


@dataclass(frozen=True)
class Rules:
    """edited_tree.toml: see there."""

    products: re.Pattern[str]
    product_paths: frozenset[str]
    built_in_place: tuple[str, ...]
    configuration: re.Pattern[str]
    never: re.Pattern[str]


@dataclass(frozen=True)
class Summary:
    """What was copied.

    digest: of the copied files' content; size: theirs in bytes; products: further files of the
    original that `make mrproper` removed from the copy; configuration: the files that the
    configuration reads.
    """

    digest: str = ""
    size: int = 0
    products: list[str] = field(default_factory=list)
    configuration: list[str] = field(default_factory=list)


@functools.cache
def rules() -> Rules:
    """Return the content of edited_tree.toml."""
    with Path(__file__).with_name("edited_tree.toml").open("rb") as stream:
        found = tomllib.load(stream)
    products, config = found["products"], found["configuration"]
    ends = [fnmatch.translate(name[2:]) for name in products["names"] if name.startswith("*.")]
    others = [fnmatch.translate(name) for name in products["names"] if not name.startswith("*.")]
    names = [f"(?:.*/)?{fnmatch.translate(name)}" for name in config["names"]]
    return Rules(
        # What most have in common stands once: so it takes a fifth of the time.
        products=_any([rf"(?s:.*\.)(?:{'|'.join(ends)})", *others]),
        product_paths=frozenset(products["paths"]),
        built_in_place=tuple(products["built_in_place"]),
        configuration=_any([*names, *map(fnmatch.translate, config["paths"])]),
        never=_any(map(fnmatch.translate, config["never"])),
    )


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


def never_read_by_configuration(path: str) -> bool:
    """Tell whether Kconfig reads the file `path` of a kernel tree for no configuration, by its name alone."""
    return bool(rules().never.match(path)) and not rules().configuration.match(path)


def is_current(paths: Paths, profile: Profile) -> bool:
    """Tell whether the kernel tree has all edits; true if the source is not a folder."""
    tree = profile.kernel.tree
    if tree is None:
        return True
    try:
        seen = SEEN[tree] = scan(tree, left_out(paths.linux, tree))
    except UserError:
        return False  # the task's action meets it again, and fails with it
    if (paths.linux / PENDING).exists() or "" in seen.values():
        return False
    RECORDED[paths.linux] = read_texts(paths.linux / STATES)
    return seen == RECORDED[paths.linux]


def seen_or_scan(tree: Path, products: Iterable[str]) -> dict[str, str]:
    """Return what `is_current` saw just before in this run, once; else scan the tree.

    A scan of a kernel's files takes longer than to compile one of them.  What is edited since is found
    by the next run.
    """
    return SEEN.pop(tree, None) or scan(tree, products)


def material(paths: Paths, tree: Path) -> Material | None:
    """Return what a manifest says of a tree: the content that was copied; None before it is copied."""
    known = summary(paths.linux)
    if not known.digest:
        return None
    return Material("local", tree.name, known.digest, known.size, "a tree of the builder's own")


def summary(copy: Path) -> Summary:
    """Return the summary of a copy, an empty one if there is none or it is damaged."""
    try:
        return Summary(**json.loads((copy / SUMMARY).read_text()))
    except (OSError, ValueError, TypeError):
        return Summary()


def write_summary(copy: Path, known: Summary) -> None:
    """Write the summary of a copy."""
    write_atomic(copy / SUMMARY, json.dumps(asdict(known)))


def left_out(copy: Path, tree: Path) -> list[str]:
    """Return the files of `tree` that are known to be products; none if it was cleaned meanwhile."""
    return summary(copy).products if is_built_in_place(tree) else []


def is_built_in_place(tree: Path) -> bool:
    """Tell whether somebody has built in a tree, so that it has products of no fixed name."""
    return any(os.path.lexists(tree / path) for path in rules().built_in_place)


def scan(tree: Path, products: Iterable[str] = ()) -> dict[str, str]:
    """Return the state of a folder's sources by relative path: a file's size and times, or a link's target.

    A link that would lead elsewhere from a copy of the tree counts as the file or folder it leads to.
    A folder in which somebody has built by `make O=` is no source.  products: paths to leave out
    besides those of edited_tree.toml.  The state of a file that may change again without a trace is "".
    Raises `UserError` for what is neither file, folder nor link, and for what cannot be read.
    """
    named, left_out = rules().products.match, rules().product_paths | {*products}
    began = time.time_ns()
    surely = began - COARSE_STEP
    found: dict[str, str] = {}
    todo = [""]
    while todo:
        below = todo.pop()
        try:
            with os.scandir(f"{tree}/{below}") as listed:
                entries = [entry for entry in listed if not named(entry.name)]
            if below and _is_build_folder(tree, entries):
                continue
            for entry in entries:
                path = below + entry.name
                if path in left_out:
                    continue
                # What an entry is, is known without a look at it: a kernel has 80,000 files.
                plain = entry.is_file(follow_symlinks=False)
                followed = not plain and entry.is_symlink() and leads_out(tree, path)
                if not plain and entry.is_dir(follow_symlinks=followed):
                    if followed:
                        _refuse_circle(tree, path)
                    todo.append(f"{path}/")
                    continue
                try:
                    status = entry.stat(follow_symlinks=followed)
                    if not plain and not entry.is_file(follow_symlinks=followed):
                        found[path] = _target(tree, path, entry, followed)
                    elif (ctime := status.st_ctime_ns) < surely or is_settled(ctime, began):
                        found[path] = f"{status.st_size} {status.st_mtime_ns} {ctime}"
                    else:
                        found[path] = ""
                except FileNotFoundError:  # it vanished meanwhile
                    continue
        except PermissionError as error:
            raise unusable(tree, f"{error.filename} cannot be read") from None
        except FileNotFoundError:
            if not below:
                raise
    return found


def _is_build_folder(tree: Path, entries: Iterable[os.DirEntry[str]]) -> bool:
    """Tell whether a folder is one of `make O=`: kbuild puts a link `source` to the tree there (Makefile)."""
    links = [entry.path for entry in entries if entry.name == "source" and entry.is_symlink()]
    return any(os.path.realpath(link) == os.path.realpath(tree) for link in links)


def _target(tree: Path, path: str, entry: os.DirEntry[str], followed: bool) -> str:
    """Return the state of a link; raise `UserError` for anything else."""
    if not entry.is_symlink() or followed:
        raise unusable(tree, f"{path} is neither a file, a folder nor a link")
    return f"-> {os.readlink(entry.path)}"


def leads_out(tree: Path, path: str) -> bool:
    """Tell whether `path` is a link that exists, and leads out of the tree or has an absolute target."""
    full = os.path.join(tree, path)
    if not os.path.islink(full) or not os.path.exists(full):
        return False
    top, real = os.path.realpath(tree), os.path.realpath(full)
    return os.path.isabs(os.readlink(full)) or not f"{real}/".startswith(f"{top}/")


def _refuse_circle(tree: Path, path: str) -> None:
    """Raise `UserError` if the link `path` leads to a folder that it lies in."""
    full = os.path.join(tree, path)
    if f"{os.path.realpath(os.path.dirname(full))}/".startswith(f"{os.path.realpath(full)}/"):
        raise unusable(tree, f"{path} is a link to a folder that it lies in")


def unusable(tree: Path, why: str, hint: str = "", detail: str = "") -> UserError:
    """Return the error for a tree of the user's that cannot be used."""
    return UserError(f"the kernel tree {os.path.normpath(tree)} cannot be used: {why}", hint, detail)


def write_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Write a text for each path of a tree to a file: `PATH NUL TEXT NUL` for each.

    JSON of 80,000 files takes five times as long.
    """
    write_atomic(path, _packed(texts))


def _packed(texts: Mapping[str, str]) -> bytes:
    packed = "\0".join([*itertools.chain.from_iterable(texts.items()), ""])
    return packed.encode(errors="surrogateescape")


def read_texts(path: Path) -> dict[str, str]:
    """Return what `write_texts` wrote; nothing if there is no such file, or it is damaged."""
    try:
        *parts, rest = path.read_bytes().decode(errors="surrogateescape").split("\0")
    except (OSError, ValueError):
        return {}
    return {} if rest or len(parts) % 2 else dict(zip(parts[::2], parts[1::2], strict=True))


def content_digest(content: Mapping[str, str]) -> str:
    """Return the sha256 of `PATH NUL TEXT NUL` for each path, in the order of the paths."""
    return hashlib.sha256(_packed(dict(sorted(content.items())))).hexdigest()

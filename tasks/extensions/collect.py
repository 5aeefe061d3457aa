# SPDX-License-Identifier: MIT
"""Collect the files of an extension from its origins.

Each origin unpacks its files into a folder.  The keys `keep`, `drop`, `rename` and `join` of the
recipe decide which of them go into the extension, and where.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.checks.left_out import LeftOut
from tasks.config import recipe, recipe_lock
from tasks.config.settings import Paths, Settings
from tasks.kernel import make_errors
from tasks.origins.kinds.base import LockedOrigin, ModuleBuilder, Origin, Resources, no_kernel
from tasks.origins.origin_lock import OriginFile
from tasks.toolchain import build_root, tools
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, scratch_folder
from tasks.util.process import CommandFailed


def collect(
    settings: Settings, name: str, origin: Origin, root: Path, modules: ModuleBuilder = no_kernel
) -> list[LeftOut]:
    """Copy the files of `origin` of the recipe `name` below `root`, which may hold other origins' files.

    Returns what the recipe leaves out.  No network.  Raises `UserError` if a file was not fetched,
    is missing or damaged in the cache, or has a path that is taken.  Raises it too if a pattern of
    `keep`, `rename` or `join` matches no file: then the package is not the one that the recipe was
    written for.
    """
    placer = Placer(origin, root)
    files: tuple[OriginFile, ...] = ()
    if isinstance(origin, LockedOrigin) and origin.is_locked:
        files = _fetched_files(settings.paths, name, origin)
    with scratch_folder(root.parent, "origin") as scratch:
        content = scratch / "content"
        try:
            for label, folder in origin.unpack(_resources(settings, name, origin, modules), files, content):
                placer.place(label, folder)
                remove_tree(content)
        except CommandFailed as error:
            found = make_errors.explained(error)
            raise found.reworded(f"{origin.label()}: {found.message}", found.hint) from None
    placer.finish()
    return placer.left_out


def _resources(settings: Settings, name: str, origin: Origin, modules: ModuleBuilder) -> Resources:
    """Return what the origin needs to unpack its files, with the programs of its toolchain."""
    found, paths = replace(recipe_lock.resources(settings, name), modules=modules), settings.paths
    if not origin.toolchain:
        return replace(found, box=tools.of_profile(paths, settings.profile).box)
    kept = build_root.kept_folder(paths.cache, origin.toolchain)
    return replace(found, box=tools.of_toolchain(paths, origin.toolchain, kept).box, kept=kept)


def _fetched_files(paths: Paths, name: str, origin: LockedOrigin) -> tuple[OriginFile, ...]:
    """Return the files that the last fetch of `name` got for an origin.

    Raises `UserError` if one is missing or damaged in the cache.
    """
    files = recipe_lock.fetched_files(paths, name, origin)
    for file in files:
        if not file.is_cached_in(paths.cache):
            exists = file.cached_in(paths.cache).exists()
            problem = "in the cache is damaged" if exists else "is not in the cache"
            raise UserError(f"{file.name} {problem}", f"./doit fetch:{recipe.name_of(name)}")
    return files


@dataclass
class Placer:
    """Copies trees below `root` by the keys of `origin`.  Call `finish` after the last tree.

    used: the patterns that matched a file; joined: the parts of each joined file, by their names;
    left_out: the files that `keep` and `drop` leave out.
    """

    origin: Origin
    root: Path
    used: set[str] = field(default_factory=set)
    joined: dict[str, dict[str, bytes]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def place(self, label: str, folder: Path) -> None:
        """Copy the included files of the tree `folder`, which messages call `label`.

        Raises `UserError` if a path is taken, or if `join` matches something other than a file.
        """
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if (path.is_dir() and not path.is_symlink()) or not self._is_included(label, name):
                continue
            target = self._join_target(name)
            if target:
                if not path.is_file() or path.is_symlink():
                    # A link may lead to a file of this machine.
                    raise UserError(f"{label}: {name} is no file, and `join` takes only files")
                self.joined.setdefault(target, {})[name] = path.read_bytes()
            else:
                self._copy(label, path, self._renamed(name))

    def finish(self) -> None:
        """Write the joined files.  Raises `UserError` for a pattern that has matched no file."""
        for target, parts in self.joined.items():
            self._prepare_target("join", target)
            # A part without a final newline gets one, so that the next part begins a new line.
            content = [data if data.endswith(b"\n") else data + b"\n" for _, data in sorted(parts.items())]
            (self.root / target).write_bytes(b"".join(content))
            (self.root / target).chmod(0o644)
        wanted = [*self.origin.keep, *self.origin.rename, *self.origin.join.values()]
        unmatched = [pattern for pattern in wanted if pattern not in self.used]
        if unmatched:
            raise UserError(
                f"no file of {self.origin.label()} matches {', '.join(map(repr, unmatched))} in the recipe",
                f"list its files by: {self.origin.list_command}",
            )

    def _is_included(self, label: str, name: str) -> bool:
        if self._matches(name, self.origin.drop):
            self.left_out.append(LeftOut(label, name, "drop"))
            return False
        if not self._matches(name, self.origin.keep):
            self.left_out.append(LeftOut(label, name, "keep"))
            return False
        return True

    def _matches(self, name: str, patterns: tuple[str, ...]) -> bool:
        matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
        self.used.update(matching)
        return bool(matching)

    def _join_target(self, name: str) -> str:
        for target, pattern in self.origin.join.items():
            if self._matches(name, (pattern,)):
                return target
        return ""

    def _renamed(self, name: str) -> str:
        self.used.add(self.origin.renaming(name))
        return self.origin.renamed(name)

    def _copy(self, label: str, source: Path, name: str) -> None:
        self._prepare_target(label, name)
        shutil.copy2(source, self.root / name, follow_symlinks=False)

    def _prepare_target(self, label: str, name: str) -> None:
        target = self.root / name
        if os.path.lexists(target):
            raise UserError(
                f"{label} has {name}, which the extension has already",
                "leave one out by `drop` in the recipe",
            )
        for parent in target.relative_to(self.root).parents:
            if (self.root / parent).is_symlink() or (self.root / parent).is_file():
                raise UserError(f"{label} has {name}, but {parent} is no folder")
        target.parent.mkdir(parents=True, exist_ok=True)

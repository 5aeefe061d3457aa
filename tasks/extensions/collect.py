"""What of an extension's origins goes into it, and where: each origin unpacks itself into a folder,
and what the recipe says of it (`keep`, `drop`, `rename`, `join`) decides what goes on from there.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tasks.config import recipe_lock
from tasks.config.settings import Settings
from tasks.origins.kinds.base import LockedOrigin, Origin
from tasks.origins.origin_lock import OriginFile
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, scratch_folder


def collect(settings: Settings, name: str, origin: Origin, root: Path) -> None:
    """Put what `origin` of the recipe `name` brings below `root`, which other origins may have filled.

    No network.  Raises `UserError` if something was not fetched or is no longer whole in the
    cache, if a path comes a second time, and if what the recipe wants by `keep`, `rename` or
    `join` fits no file at all: then a package is not what the recipe was written for.
    """
    placer = Placer(origin, root)
    files = _fetched(settings, name, origin) if isinstance(origin, LockedOrigin) else ()
    with scratch_folder(root.parent, "origin") as scratch:
        content = scratch / "content"
        for label, folder in origin.unpack(recipe_lock.resources(settings), files, content):
            placer.place(label, folder)
            remove_tree(content)
    placer.finish()


def _fetched(settings: Settings, name: str, origin: LockedOrigin) -> tuple[OriginFile, ...]:
    """Return what the last fetch of `name` brought of an origin, whole in the cache."""
    files = recipe_lock.fetched_files(settings, name, origin)
    for file in files:
        if not file.is_cached_in(settings.cache):
            there = file.cached_in(settings.cache).exists()
            what = "in the cache is damaged" if there else "is not in the cache"
            raise UserError(f"{file.name} {what}", f"./doit fetch:{name}")
    return files


@dataclass
class Placer:
    """Copies trees below `root` as `origin` says; `finish` ends it."""

    origin: Origin
    root: Path
    used: set[str] = field(default_factory=set)
    joined: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def place(self, label: str, folder: Path) -> None:
        """Copy what the recipe takes of the tree `folder`; `label` is what messages call it."""
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if (path.is_dir() and not path.is_symlink()) or not self._taken(name):
                continue
            target = self._joined_into(name)
            if target:
                if not path.is_file() or path.is_symlink():
                    # A link may lead to a file of this machine.
                    raise UserError(f"{label}: {name} is no file, and `join` takes nothing else")
                self.joined.setdefault(target, {})[name] = path.read_bytes()
            else:
                self._copy(label, path, self._renamed(name))

    def finish(self) -> None:
        """Write the joined files; refuse patterns that fitted nothing."""
        for target, parts in self.joined.items():
            self._make_room("join", target)
            # A part without a newline at its end must not run into the next one.
            content = [data if data.endswith(b"\n") else data + b"\n" for _, data in sorted(parts.items())]
            (self.root / target).write_bytes(b"".join(content))
            (self.root / target).chmod(0o644)
        wanted = [*self.origin.keep, *self.origin.rename, *self.origin.join.values()]
        idle = [pattern for pattern in wanted if pattern not in self.used]
        if idle:
            raise UserError(
                f"no file of {self.origin.label()} fits {', '.join(map(repr, idle))} in the recipe",
                f"list what is in it by: {self.origin.list_command}",
            )

    def _taken(self, name: str) -> bool:
        return not self._fits(name, self.origin.drop) and self._fits(name, self.origin.keep)

    def _fits(self, name: str, patterns: tuple[str, ...]) -> bool:
        fitting = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
        self.used.update(fitting)
        return bool(fitting)

    def _joined_into(self, name: str) -> str:
        for target, pattern in self.origin.join.items():
            if self._fits(name, (pattern,)):
                return target
        return ""

    def _renamed(self, name: str) -> str:
        fitting = [old for old in self.origin.rename if name == old or _is_below(name, old)]
        if not fitting:
            return name
        old = max(fitting, key=len)
        self.used.add(old)
        return self.origin.rename[old] + name[len(old) :]

    def _copy(self, label: str, source: Path, name: str) -> None:
        self._make_room(label, name)
        shutil.copy2(source, self.root / name, follow_symlinks=False)

    def _make_room(self, label: str, name: str) -> None:
        target = self.root / name
        if os.path.lexists(target):
            raise UserError(f"{label} brings {name} a second time", "leave one out: `drop` in the recipe")
        for parent in target.relative_to(self.root).parents:
            if (self.root / parent).is_symlink() or (self.root / parent).is_file():
                raise UserError(f"{label} brings {name}, but {parent} is no folder")
        target.parent.mkdir(parents=True, exist_ok=True)


def _is_below(name: str, folder: str) -> bool:
    return folder.endswith("/") and name.startswith(folder)

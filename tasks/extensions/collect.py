"""Where an extension's files come from: each kind of origin unpacks them into a folder, and
what the recipe says of them (`keep`, `drop`, `rename`, `join`) decides what goes on from there.

A new kind is a name in `recipe.Origin.kind`, its fields in `recipe.FIELDS`, what
`Origin.identity` says of it, and its functions in `KINDS`.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.config import inputs, recipe_lock
from tasks.config.recipe import Origin
from tasks.config.recipe_lock import LockedFile
from tasks.config.settings import Settings
from tasks.formats import debian_package
from tasks.origins import npm, tarball, wheel
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, scratch_folder

Unpacked = Iterator[tuple[str, Path]]


@dataclass(frozen=True)
class Kind:
    """What one kind of origin can do.

    unpack(settings, origin, files, scratch): yield (label, folder) of what it brings, below
    `scratch`, an absent folder that is removed between two; no network.
    Kinds that recipes lock also have learn(settings, origin, scratch), which brings what
    nobody has verified yet into the cache and returns its lock entries, and
    fetch(settings, origin, files), which brings those of the lock there.
    """

    unpack: Callable[[Settings, Origin, tuple[LockedFile, ...], Path], Unpacked]
    learn: Callable[[Settings, Origin, Path], tuple[LockedFile, ...]] | None = None
    fetch: Callable[[Settings, Origin, tuple[LockedFile, ...]], None] | None = None


def collect(settings: Settings, name: str, origin: Origin, root: Path) -> None:
    """Put what `origin` of the recipe `name` brings below `root`, which other origins may have filled.

    No network.  Raises `UserError` if something was not fetched, if a path comes a
    second time, and if what the recipe wants by `keep`, `rename` or `join` fits no file at
    all: then a package is not what the recipe was written for.
    """
    placer = Placer(origin, root)
    files = _fetched(settings, name, origin)
    with scratch_folder(root.parent, "origin") as scratch:
        content = scratch / "content"
        for label, folder in KINDS[origin.kind].unpack(settings, origin, files, content):
            placer.place(label, folder)
            remove_tree(content)
    placer.finish()


def _fetched(settings: Settings, name: str, origin: Origin) -> tuple[LockedFile, ...]:
    """Return what the last fetch of `name` brought of an origin; what the cache has lost is fetched again."""
    if not origin.identity():
        return ()
    files = recipe_lock.load(recipe_lock.used_path(settings, name)).of(origin.identity())
    if not files:
        raise UserError(f"{origin.identity()} was not fetched yet", f"./doit fetch:{name}")
    again = KINDS[origin.kind].fetch
    if again and not all(file.is_whole_in(settings.cache) for file in files):
        again(settings, origin, files)
    return files


def _from_apt(settings: Settings, origin: Origin, files: tuple[LockedFile, ...], scratch: Path) -> Unpacked:
    cached = inputs.package_files(settings, origin.packages)
    for package in origin.packages:
        debian_package.unpack_deb(cached[package], scratch)
        yield package, scratch


KINDS: dict[str, Kind] = {
    "apt": Kind(_from_apt),
    "archive": Kind(tarball.unpack, tarball.learn, tarball.fetch),
    "wheel": Kind(wheel.unpack, wheel.learn, wheel.fetch),
    "npm": Kind(npm.unpack, npm.learn, npm.fetch),
}


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
            what = " ".join(self.origin.packages) or Path(self.origin.identity()).name
            lister = "dpkg-deb --contents FILE.deb" if self.origin.packages else "tar -tf, or unzip -l"
            raise UserError(
                f"no file of {what} fits {', '.join(map(repr, idle))} in the recipe",
                f"list what is in it by: {lister}",
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

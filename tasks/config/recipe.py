# SPDX-License-Identifier: MIT
"""Recipes: `extensions/NAME/recipe.toml`, `images/NAME/recipe.toml`, and the files beside them.

A recipe in images/ makes a container image.  Its name among recipes is `images/NAME`, which no
extension can have.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tasks.config import bootcodes
from tasks.config.container import Container
from tasks.formats import tcz
from tasks.origins.kinds import AnyOrigin
from tasks.origins.kinds.base import LockedOrigin
from tasks.origins.lock import CORE
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT, Kind
from tasks.util.errors import UserError
from tasks.util.files import Stamp, stamp
from tasks.util.text import ONE_LINE, check_line
from tasks.util.trees import Tree

IMAGES = "images/"
LINE = {toml_schema.PATTERN: ONE_LINE}
SYMBOL = re.compile(r"\w+", re.ASCII)  # of Kconfig: kernel Documentation, kbuild/kconfig-language.rst
NO_NAME = (
    "its folder's name may have only letters, digits and . _ + -, with a letter or digit first, "
    "and may neither end with .tcz nor be core"
)


@dataclass(frozen=True)
class Info:
    """The fields of Tiny Core's .info file that a person writes; tcbuild fills in sizes and dates.

    title: the title of the extension.
    description: one line on what the extension is.
    original_site: the web address of upstream's project.
    copying_policy: the licence.
    author: upstream's authors.
    tags: words that a search for the extension may use.
    comments: lines of text for users of the extension.
    """

    title: str = field(metadata=LINE)
    description: str = field(metadata=LINE)
    original_site: str = field(default="", metadata=LINE)
    copying_policy: str = field(default="", metadata=LINE)
    author: str = field(default="", metadata=LINE)
    tags: tuple[str, ...] = field(default=(), metadata=LINE)
    comments: tuple[str, ...] = field(default=(), metadata=LINE)

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            for line in (value,) if isinstance(value, str) else value:
                check_line(key, line)


@dataclass(frozen=True)
class Recipe:
    """The recipe of one extension, or of one container image.  Its own files lie in `files/` beside it.

    info: the fields of its .info file.
    origin: where its other files come from.
    deps: the names of other extensions that it needs, without .tcz; `-KERNEL` stands for the
    kernel's release.
    bootcodes: the bootcodes that it needs to work; tasks/image/bootcodes.toml says why.
    setuid: the paths of programs that run as their owner or group (set-id bits).  No other file
    may have these bits.
    kconfig: the symbols that it needs of the kernel's configuration, without CONFIG_.  A module (m)
    is as good as y.
    imports_images: the extension holds the program that imports the profile's images at boot
    (tasks/image/container_images.py).
    image: what makes it the recipe of a container image, in images/.  Such a recipe has none of the
    keys that speak of the system: deps, bootcodes, setuid, kconfig, imports_images.
    """

    info: Info
    origin: tuple[AnyOrigin, ...] = ()
    deps: tuple[str, ...] = ()
    bootcodes: tuple[str, ...] = ()
    setuid: tuple[str, ...] = ()
    kconfig: tuple[str, ...] = ()
    imports_images: bool = False
    image: Container | None = None

    def __post_init__(self) -> None:
        if self.image:
            for key in ("deps", "bootcodes", "setuid", "kconfig", "imports_images"):
                if getattr(self, key):
                    raise ValueError(f"{key}: a container image has none")
        for dep in self.deps:
            if dep.endswith(".tcz") or "/" in dep or not dep:
                raise ValueError(f"deps: expected a name without .tcz, got {dep!r}")
        bootcodes.check(self.bootcodes)
        self._check_locked()
        for symbol in self.kconfig:
            if not SYMBOL.fullmatch(symbol) or symbol.startswith("CONFIG_"):
                raise ValueError(f"kconfig: expected symbols without CONFIG_, as OVERLAY_FS, got {symbol!r}")

    def _check_locked(self) -> None:
        """Raise `ValueError` for origins that share their entries of the lock, and need different ones."""
        known: dict[str, LockedOrigin] = {}
        for origin in self.origin:
            if isinstance(origin, LockedOrigin):
                other = known.setdefault(origin.identity(), origin)
                if other.locked_by() != origin.locked_by():
                    same = "two origins of it must have the same packages, tags, cgo and go"
                    raise ValueError(f"origin: {origin.identity()}: {same}")


def alternatives(recipe: Recipe) -> list[str]:
    """Return the names of a recipe's alternatives; the first is the default."""
    return list(dict.fromkeys(origin.alternative for origin in recipe.origin if origin.alternative))


def with_alternative(name: str, recipe: Recipe, alternative: str = "") -> Recipe:
    """Return `recipe`, that of `name`, with the origins of one alternative and those without one.

    alternative: "" for the recipe's first.  The choice does not depend on the machine.
    Raises `UserError`, which lists the alternatives, for an unknown one.
    """
    there = alternatives(recipe)
    if alternative and alternative not in there:
        hint = f"it has: {', '.join(there)}" if there else "it has none: leave out `alternative`"
        raise UserError(f"the recipe of {name} has no alternative {alternative!r}", hint)
    taken = ("", alternative or (there[0] if there else ""))
    return replace(recipe, origin=tuple(origin for origin in recipe.origin if origin.alternative in taken))


def is_image(name: str) -> bool:
    """Tell whether the recipe `name` makes a container image."""
    return name.startswith(IMAGES)


def label(name: str) -> str:
    """Return what messages call the recipe `name`."""
    return f"image {name.removeprefix(IMAGES)}" if is_image(name) else f"extension {name}"


def folder(name: str) -> Path:
    """Return the folder of the recipe `name`."""
    kind: Kind = "images" if is_image(name) else "extensions"
    return CHECKOUT.find(kind, f"{name.removeprefix(IMAGES)}/recipe.toml").parent


def names() -> list[str]:
    """Return the names of all extensions that have a recipe, but for those of `misnamed`."""
    return [name for name in _folders() if _is_name(name)]


def image_names() -> list[str]:
    """Return the names of all recipes of container images."""
    return sorted(f"{IMAGES}{Path(name).parent}" for name in CHECKOUT.found("images", "*/recipe.toml"))


def misnamed() -> dict[str, str]:
    """Return the recipes whose folder has no name of an extension, quoted, each with the reason."""
    return {repr(name): NO_NAME for name in _folders() if not _is_name(name)}


def _is_name(name: str) -> bool:
    """Tell whether an extension may have a name.

    `tree.tcz` would be the task of an extension `tree`, and locks call the base root `core`.
    """
    if is_image(name):
        return bool(tcz.EXTENSION_NAME.fullmatch(name.removeprefix(IMAGES)))
    return bool(tcz.EXTENSION_NAME.fullmatch(name)) and not name.endswith(".tcz") and name != CORE


def _folders() -> list[str]:
    return sorted(Path(name).parent.name for name in CHECKOUT.found("extensions", "*/recipe.toml"))


def load(name: str) -> Recipe:
    """Return the recipe of `name`.  Raises `UserError` if there is none, or it is malformed or misnamed.

    A recipe in images/ has the table `image`, and one in extensions/ has not.
    """
    path = folder(name) / "recipe.toml"
    if not _is_name(name) and path.is_file():
        raise UserError(f"the recipe {name!r} cannot be built: {NO_NAME}", "rename its folder in extensions/")
    state = stamp(path)
    if state is None:
        if is_image(name):
            there = ", ".join(one.removeprefix(IMAGES) for one in image_names())
            raise UserError(f"there is no recipe for the {label(name)}", f"images/ holds: {there}")
        raise UserError(
            f"there is no recipe for extension {name!r}", f"extensions/ holds: {', '.join(names())}"
        )
    made = _load(path, state)
    if (made.image is not None) != is_image(name):
        hint = "a recipe in images/ has the table [image], and one in extensions/ has not"
        raise UserError(f"{CHECKOUT.name_of(path)}: {label(name)} is in the wrong folder", hint)
    return made


@functools.cache
def _load(path: Path, state: Stamp) -> Recipe:
    """Read a recipe once for each state of its file: a run loads each recipe several times."""
    return toml_schema.load(path, Recipe)


def readable() -> dict[str, Recipe]:
    """Return all recipes by name, without those that are malformed."""
    found = {}
    for name in names():
        with contextlib.suppress(UserError):
            found[name] = load(name)
    return found


def exists(name: str) -> bool:
    """Tell whether there is a recipe for the extension `name`, be it one that cannot be read."""
    return (folder(name) / "recipe.toml").exists()


def files(name: str) -> list[Path]:
    """Return the files of a recipe, recipe.toml first; links are left out, as their targets may not exist."""
    return [folder(name) / "recipe.toml", *(path for path in own_files(name) if not path.is_symlink())]


def own_tree(name: str) -> Tree:
    """Return the folder of the own files of `name`, which tells what each is besides its content."""
    return Tree(folder(name) / "files", folders=False)


def executable(path: Path) -> bool:
    """Tell whether a file is executable.  git stores only this bit; the umask decides the rest."""
    return bool(path.stat().st_mode & stat.S_IXUSR)


def own_files(name: str) -> list[Path]:
    """Return the files and links in `extensions/NAME/files/`, sorted."""
    return [path for path in _own_paths(name) if path.is_file() or path.is_symlink()]


def refuse_special_files(name: str) -> None:
    """Raise `UserError` for a pipe, a socket or a device in `extensions/NAME/files/`."""
    own = set(own_files(name))
    for path in _own_paths(name):
        if path not in own and os.path.lexists(path):
            where = CHECKOUT.name_of(path)
            raise UserError(
                f"extension {name}: {where} is no regular file, folder or link",
                "an extension cannot hold it; remove it",
            )


def _own_paths(name: str) -> list[Path]:
    # os.walk is quick: even a run with nothing to do reads the folder of every recipe.
    found = []
    for top, folders, others in os.walk(folder(name) / "files"):
        links = (entry for entry in folders if os.path.islink(os.path.join(top, entry)))
        found += [Path(top, entry) for entry in (*others, *links)]
    return sorted(found)


def toolchains(made: Recipe) -> tuple[str, ...]:
    """Return the toolchains that the origins of a recipe need beside the profile's, each once."""
    return tuple(dict.fromkeys(origin.toolchain for origin in made.origin if origin.toolchain))


def packages(recipes: dict[str, Recipe]) -> tuple[str, ...]:
    """Return the apt packages that `recipes` take files from, sorted."""
    origins = [origin for recipe in recipes.values() for origin in recipe.origin]
    return tuple(sorted({name for origin in origins for name in origin.apt_packages()}))

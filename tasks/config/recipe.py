# SPDX-License-Identifier: MIT
"""Recipes: `extensions/NAME/recipe.toml`, `images/NAME/recipe.toml`, and the files beside them.

A recipe in images/ makes a container image.  Its name among recipes is `images/NAME`, which no
extension can have.  A recipe with kernel modules is called `NAME-KERNEL`, as Tiny Core's .dep files write
it: the extension is NAME-RELEASE, where RELEASE is the kernel's.
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
from tasks.origins.kinds.module import ModuleOrigin
from tasks.origins.kinds.source import SourceOrigin
from tasks.origins.lock import CORE
from tasks.origins.source_trees import LEFT_OUT, files_of
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT, Kind
from tasks.util.errors import UserError
from tasks.util.files import Stamp, stamp
from tasks.util.links import is_below
from tasks.util.text import ONE_LINE, check_line
from tasks.util.trees import Tree

IMAGES = "images/"
KERNEL = "-KERNEL"
RELEASE = re.compile(r"-(?=\d+\.\d)")
"""Where the release of a kernel may begin in the name of an extension with its modules."""
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
    links: new path = target of symbolic links of its own, as in `files/`.  A wheel of tcbuild can hold
    no links.
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
    links: dict[str, str] = field(default_factory=dict)
    kconfig: tuple[str, ...] = ()
    imports_images: bool = False
    image: Container | None = None

    def __post_init__(self) -> None:
        if self.has_modules and self.packages_of_origins():
            raise ValueError("origin: kernel modules and packages need an extension each")
        if self.image:
            if self.has_modules:
                raise ValueError("origin: a container image has no kernel modules")
            for key in ("deps", "bootcodes", "setuid", "kconfig", "imports_images"):
                if getattr(self, key):
                    raise ValueError(f"{key}: a container image has none")
        for dep in self.deps:
            if dep.endswith(".tcz") or "/" in dep or not dep:
                raise ValueError(f"deps: expected a name without .tcz, got {dep!r}")
        for path, target in self.links.items():
            if not is_below(path):
                raise ValueError(f"links: {path!r} must be a path below /, without a leading slash")
            if not target:
                raise ValueError(f"links: {path!r} has no target")
        bootcodes.check(self.bootcodes)
        self._check_locked()
        for symbol in self.kconfig:
            if not SYMBOL.fullmatch(symbol) or symbol.startswith("CONFIG_"):
                raise ValueError(f"kconfig: expected symbols without CONFIG_, as OVERLAY_FS, got {symbol!r}")

    @property
    def has_modules(self) -> bool:
        """Whether it has kernel modules that are built against the profile's kernel."""
        return any(isinstance(origin, ModuleOrigin) for origin in self.origin)

    def packages_of_origins(self) -> set[str]:
        """Return the apt packages that its origins take files from."""
        return {name for origin in self.origin for name in origin.apt_packages()}

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


def with_toolchain(made: Recipe, toolchain: str) -> Recipe:
    """Return a recipe whose programs are compiled by `toolchain` where it names none."""
    if not any(isinstance(origin, SourceOrigin) for origin in made.origin):
        return made
    origins = (
        origin.compiled_by(toolchain) if isinstance(origin, SourceOrigin) else origin
        for origin in made.origin
    )
    return replace(made, origin=tuple(origins))


def is_image(name: str) -> bool:
    """Tell whether the recipe `name` makes a container image."""
    return name.startswith(IMAGES)


def label(name: str) -> str:
    """Return what messages call the recipe `name`."""
    return f"image {name.removeprefix(IMAGES)}" if is_image(name) else f"extension {name}"


def name_of(name: str) -> str:
    """Return the name of the recipe that makes the extension `name`: NAME-KERNEL for NAME-RELEASE."""
    if not is_image(name) and not CHECKOUT.find("extensions", f"{name}/recipe.toml").is_file():
        for place in RELEASE.finditer(name):
            found = f"{name[: place.start()]}{KERNEL}"
            if CHECKOUT.find("extensions", f"{found}/recipe.toml").is_file():
                return found
    return name


def folder(name: str) -> Path:
    """Return the folder of the recipe `name`, which may be that of an extension with kernel modules."""
    kind: Kind = "images" if is_image(name) else "extensions"
    return CHECKOUT.find(kind, f"{name_of(name).removeprefix(IMAGES)}/recipe.toml").parent


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
    if made.has_modules != path.parent.name.endswith(KERNEL):
        what = "has kernel modules" if made.has_modules else "has no kernel modules (kind = 'module')"
        hint = f"a recipe with kernel modules, and no other, lies in a folder NAME{KERNEL}"
        raise UserError(f"{CHECKOUT.name_of(path)}: {label(name)} {what}", hint)
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


def source_files(made: Recipe) -> list[Path]:
    """Return the files of the folders of this machine that origins are compiled from."""
    return [path for folder in _source_folders(made) for path in files_of(folder)]


def _source_folders(made: Recipe) -> list[Path]:
    return [folder for origin in made.origin if (folder := origin.source_folder())]


def own_tree(name: str, made: Recipe | None = None) -> Tree:
    """Return the folder of the own files of `name`, which tells what each is besides its content.

    made: its recipe, if the folders that its origins are compiled from count, too.
    """
    sources = tuple(_source_folders(made)) if made else ()
    return Tree(folder(name) / "files", folders=False, under=sources, left_out=LEFT_OUT)


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
    return tuple(sorted({name for made in recipes.values() for name in made.packages_of_origins()}))

"""Extension recipes: `extensions/NAME/recipe.toml` and the files beside it."""

from __future__ import annotations

import functools
import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tasks.config.sources import check_hosts
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError


@dataclass(frozen=True)
class Info:
    """The fields of Tiny Core's .info file that a person writes; sizes and dates are measured."""

    title: str
    description: str
    original_site: str = ""
    copying_policy: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


# What each kind of origin needs, and what it may have besides.
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "apt": (("packages",), ()),
    "archive": (("urls", "version"), ("checksums", "redirects", "strip", "mode", "into")),
    "wheel": (("package", "version", "tag"), ("into",)),
    "npm": (("package", "version", "node"), ("build", "skip", "into")),
}
# Parts of file names and command lines.
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_~-]*")
PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
TAG = re.compile(r"[a-z0-9_.]+-[a-z0-9_.]+-[a-z0-9_.]+")
ALTERNATIVE = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Origin:
    """Where an extension's files come from, and what becomes of them.

    kind `apt`: the files of `packages`, by their paths below `/`, without a leading slash.
    kind `archive`: a tar archive (plain, gz, xz, zst or bz2) from the first of `urls` that has
    it, `strip` leading path components cut off; with `mode` (as 0o755), a file that is taken
    as it is, under its name in the first of `urls`.  In urls, {version} stands for `version`.
    `checksums` is the url of what upstream publishes: sha256sum's output, checked when the
    hash is learnt; `redirects` are the hosts that these addresses may send us to.
    kind `wheel`: what the Python wheel PACKAGE-VERSION-TAG.whl holds, from where pip looks.
    kind `npm`: an npm package and the tree that its own npm-shrinkwrap.json lists, from where
    npm looks.  `node` names the extension whose wheel it runs on; the native modules in
    `build` are compiled for that; what fits `skip` (shell patterns of packages' names), and
    what only that needs, is not installed.
    These three: `into` is the folder below `/` that it is unpacked into; from there on, paths
    have it in front.

    `alternative` names a choice: of a recipe's alternatives one is taken (see `chosen`).

    For every kind, what fits none of `keep`, or one of `drop` (shell patterns in which `*`
    stands for `/` too), is left out; `rename` puts a file, or all below a folder if both
    sides end in `/`, elsewhere (the longest that fits counts); `join` writes the files that
    fit a pattern one after the other, sorted by path, into one file: path -> pattern.
    """

    kind: Literal["apt", "archive", "wheel", "npm"]
    packages: tuple[str, ...] = ()
    alternative: str = ""
    version: str = ""
    urls: tuple[str, ...] = ()
    checksums: str = ""
    redirects: tuple[str, ...] = ()
    strip: int = 0
    mode: int = 0
    into: str = ""
    package: str = ""
    tag: str = ""
    node: str = ""
    build: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    keep: tuple[str, ...] = ("*",)
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    join: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_fields()
        for old, new in self.rename.items():
            if old.endswith("/") != new.endswith("/"):
                raise ValueError(f"rename: {old!r} and {new!r} must both end in / (folders) or neither")
        for path in (*self.rename.values(), *self.join, *filter(None, [self.into])):
            if path.startswith("/") or not path.strip("/") or ".." in Path(path).parts:
                message = f"rename, join, into: {path!r} must be a path below /, without a leading slash"
                raise ValueError(message)

    def _check_fields(self) -> None:
        needed, more = FIELDS[self.kind]
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"{name}: needed by kind = {self.kind!r}")
        for name in sorted({name for parts in FIELDS.values() for part in parts for name in part}):
            if getattr(self, name) and name not in (*needed, *more):
                raise ValueError(f"{name}: not known to kind = {self.kind!r}")
        forms = {"version": VERSION, "package": PACKAGE, "tag": TAG, "alternative": ALTERNATIVE}
        for name, form in forms.items():
            if getattr(self, name) and not form.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: expected {form.pattern}, got {getattr(self, name)!r}")
        for url in filter(None, (*self.urls, self.checksums)):
            if not re.fullmatch(r"https?://[^/\s]+/[^\s?#]*[^\s?#/]", url):
                raise ValueError(f"urls, checksums: expected http(s)://HOST/PATH/FILE, got {url!r}")
        check_hosts(self.redirects)
        if self.mode and self.strip:
            raise ValueError("mode: a file that is not unpacked has no path components to strip")
        if not 0 <= self.mode <= 0o755 or self.strip < 0:
            raise ValueError("mode, strip: expected 0 to 0o755, and no number below 0")

    def url_list(self) -> list[str]:
        """Return `urls` with the version filled in."""
        return [url.replace("{version}", self.version) for url in self.urls]

    def identity(self) -> str:
        """Return what its entries in a lock are found by; "" for what is not locked by recipes."""
        if self.kind == "archive":
            return self.url_list()[0]
        if self.kind == "wheel":
            # As the binary distribution format writes a name in a file name (PEP 427).
            return f"{re.sub('[-_.]+', '_', self.package)}-{self.version}-{self.tag}.whl"
        if self.kind == "npm":
            return f"npm:{self.package}@{self.version}"
        return ""


@dataclass(frozen=True)
class Recipe:
    """One extension.  Files of its own stand in `extensions/NAME/files/` as in `/`."""

    info: Info
    origin: tuple[Origin, ...] = ()
    deps: tuple[str, ...] = ()
    """Names of other extensions, without .tcz; `-KERNEL` stands for the running kernel."""
    bootcodes: tuple[str, ...] = ()
    """Bootcodes it does not work without; tasks/image/bootcodes.toml says why."""
    setuid: tuple[str, ...] = ()
    """Paths of programs that run as their owner or group (set-id bits); others must not have them."""
    imports_images: bool = False
    """It brings the program that imports the profile's images at boot (tasks/image/container_images.py)."""

    def __post_init__(self) -> None:
        for dep in self.deps:
            if dep.endswith(".tcz") or "/" in dep or not dep:
                raise ValueError(f"deps: expected a name without .tcz, got {dep!r}")
        for code in self.bootcodes:
            if code.split() != [code]:
                raise ValueError(f"bootcodes: expected single words, got {code!r}")


def alternatives(made: Recipe) -> list[str]:
    """Return the names of a recipe's alternatives; the first is the one taken by default."""
    return list(dict.fromkeys(origin.alternative for origin in made.origin if origin.alternative))


def chosen(name: str, made: Recipe, alternative: str = "") -> Recipe:
    """Return the recipe of `name` with the origins of one alternative, and those that belong to none.

    alternative: "" for the recipe's first.  Nothing is tried out: the same choice is the same
    origins everywhere.  Raises `UserError` naming what there is.
    """
    there = alternatives(made)
    if alternative and alternative not in there:
        hint = f"it has: {', '.join(there)}" if there else "it has none: leave out `alternative`"
        raise UserError(f"the recipe of {name} has no alternative {alternative!r}", hint)
    taken = ("", alternative or (there[0] if there else ""))
    return replace(made, origin=tuple(origin for origin in made.origin if origin.alternative in taken))


def folder(name: str) -> Path:
    """Return the folder of the extension `name`."""
    return ROOT / "extensions" / name


def names() -> list[str]:
    """Return the names of all extensions that have a recipe."""
    return sorted(path.parent.name for path in (ROOT / "extensions").glob("*/recipe.toml"))


def load(name: str) -> Recipe:
    """Return the recipe of `name`.  Raises `UserError` if there is none or it is malformed."""
    path = folder(name) / "recipe.toml"
    try:
        status = path.stat()
    except OSError:
        raise UserError(
            f"there is no recipe for extension {name!r}", f"extensions/ holds: {', '.join(names())}"
        ) from None
    return _load(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _load(path: Path, mtime: int, size: int) -> Recipe:
    """Read a recipe once for each state of its file: every run asks several times for each."""
    return toml_schema.load(path, Recipe)


def exists(name: str) -> bool:
    """Tell whether there is a recipe for the extension `name`."""
    return (folder(name) / "recipe.toml").is_file()


def files(name: str) -> list[Path]:
    """Return every file a recipe is made of, itself first; links may lead nowhere and are left out."""
    return [folder(name) / "recipe.toml", *(path for path in own_files(name) if not path.is_symlink())]


def layout(name: str) -> tuple[str, ...]:
    """Return what the content of `files` does not show: paths, what is executable, links' targets."""
    top = folder(name) / "files"
    lines = []
    for path in own_files(name):
        about = f"-> {os.readlink(path)}" if path.is_symlink() else "executable" if executable(path) else ""
        lines.append(f"{path.relative_to(top)} {about}".rstrip())
    return tuple(lines)


def executable(path: Path) -> bool:
    """Tell what git keeps of a file's mode; the umask decides the rest at checkout."""
    return bool(path.stat().st_mode & stat.S_IXUSR)


def own_files(name: str) -> list[Path]:
    """Return the files and links in `extensions/NAME/files/`, sorted."""
    # os.walk, for a run with nothing to do looks into the folder of every recipe.
    found = []
    for top, folders, others in os.walk(folder(name) / "files"):
        links = (entry for entry in folders if os.path.islink(os.path.join(top, entry)))
        found += [Path(top, entry) for entry in (*others, *links)]
    return sorted(path for path in found if path.is_file() or path.is_symlink())


def packages(recipes: dict[str, Recipe]) -> tuple[str, ...]:
    """Return the apt packages that `recipes` take files from, sorted."""
    return tuple(
        sorted({name for recipe in recipes.values() for origin in recipe.origin for name in origin.packages})
    )

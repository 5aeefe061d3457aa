"""Extension recipes: `extensions/NAME/recipe.toml` and the files beside it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks import schema
from tasks.errors import UserError
from tasks.run import ROOT


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


@dataclass(frozen=True)
class Origin:
    """Where an extension's files come from, and what becomes of them.

    kind `apt`: the files of `packages`, by their paths below `/`, without a leading slash.
    For every kind, what fits none of `keep`, or one of `drop` (shell patterns in which `*`
    stands for `/` too), is left out; `rename` puts a file, or all below a folder if both
    sides end in `/`, elsewhere (the longest that fits counts); `join` writes the files that
    fit a pattern one after the other, sorted by path, into one file: path -> pattern.
    """

    kind: Literal["apt"]
    packages: tuple[str, ...] = ()
    keep: tuple[str, ...] = ("*",)
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    join: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "apt" and not self.packages:
            raise ValueError("packages: needed by kind = 'apt'")
        for old, new in self.rename.items():
            if old.endswith("/") != new.endswith("/"):
                raise ValueError(f"rename: {old!r} and {new!r} must both end in / (folders) or neither")
        for path in (*self.rename.values(), *self.join):
            if path.startswith("/") or not path.strip("/") or ".." in Path(path).parts:
                raise ValueError(f"rename, join: {path!r} must be a path below /, without a leading slash")


@dataclass(frozen=True)
class Recipe:
    """One extension.  Files of its own stand in `extensions/NAME/files/` as in `/`."""

    info: Info
    origin: tuple[Origin, ...] = ()
    deps: tuple[str, ...] = ()
    """Names of other extensions, without .tcz; `-KERNEL` stands for the running kernel."""

    def __post_init__(self) -> None:
        for dep in self.deps:
            if dep.endswith(".tcz") or "/" in dep or not dep:
                raise ValueError(f"deps: expected a name without .tcz, got {dep!r}")


def folder(name: str) -> Path:
    """Return the folder of the extension `name`."""
    return ROOT / "extensions" / name


def names() -> list[str]:
    """Return the names of all extensions that have a recipe."""
    return sorted(path.parent.name for path in (ROOT / "extensions").glob("*/recipe.toml"))


def load(name: str) -> Recipe:
    """Return the recipe of `name`.  Raises `UserError` if there is none or it is malformed."""
    path = folder(name) / "recipe.toml"
    if not path.is_file():
        raise UserError(
            f"there is no recipe for extension {name!r}", f"extensions/ holds: {', '.join(names())}"
        )
    return schema.load(path, Recipe)


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
    own = (folder(name) / "files").rglob("*")
    return sorted(path for path in own if path.is_file() or path.is_symlink())


def packages(recipes: dict[str, Recipe]) -> tuple[str, ...]:
    """Return the apt packages that `recipes` take files from, sorted."""
    return tuple(
        sorted({name for recipe in recipes.values() for origin in recipe.origin for name in origin.packages})
    )

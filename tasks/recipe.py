"""Extension recipes: `extensions/NAME/recipe.toml`, and what one extension depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks import schema
from tasks.errors import UserError
from tasks.profile import Profile
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
    """Where an extension's files come from.

    kind `apt`: what `keep` (shell patterns below `/`) leaves of the packages' files.
    """

    kind: Literal["apt"]
    packages: tuple[str, ...]
    keep: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class Recipe:
    """One extension.  Files of its own stand in `extensions/NAME/files/` as in `/`."""

    info: Info
    origin: tuple[Origin, ...] = ()
    deps: tuple[str, ...] = ()
    """Names of other extensions, without .tcz; `-KERNEL` stands for the running kernel."""


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
    """Return every file a recipe is made of, itself first."""
    own = (path for path in (folder(name) / "files").rglob("*") if path.is_file() or path.is_symlink())
    return [folder(name) / "recipe.toml", *sorted(own)]


def closure(wanted: list[str]) -> dict[str, Recipe]:
    """Return `wanted` and all they depend on, each before what needs it.

    Raises `UserError` for a dependency without a recipe, and for a cycle, naming it.
    """
    done: dict[str, Recipe] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise UserError(f"extensions depend on each other in a circle: {circle}")
        if name in done:
            return
        recipe = load(name)
        for dep in recipe.deps:
            visit(dep, (*path, name))
        done[name] = recipe

    for name in wanted:
        visit(name, ())
    return done


def of_profile(profile: Profile) -> dict[str, Recipe]:
    """Return the recipes of a profile's extensions and of their dependencies."""
    return closure([extension.name for extension in profile.extensions])


def packages(recipes: dict[str, Recipe]) -> tuple[str, ...]:
    """Return the apt packages that `recipes` take files from, sorted."""
    return tuple(
        sorted({name for recipe in recipes.values() for origin in recipe.origin for name in origin.packages})
    )

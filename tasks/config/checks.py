# SPDX-License-Identifier: MIT
"""All checks of a profile: tcbuild's own, those of its recipes, of trees, and of the profile itself."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks.config import inheritance, recipe
from tasks.config.check import Check, CheckFile, similar
from tasks.config.profile import Profile
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

BUILT_IN = Path(__file__).with_name("checks.toml")


@dataclass(frozen=True)
class PlacedCheck:
    """A check, and where it stands.

    file: the file that has it, None if that is one of the profile's; recipe: the name of the recipe, ""
    for none.
    """

    check: Check
    file: Path | None = None
    recipe: str = ""

    @property
    def script(self) -> Path | None:
        """The file of its script; None if it has a command."""
        named = self.check.script
        if not named:
            return None
        return self.file.parent / named if self.file else CHECKOUT.path(named)


@functools.cache
def built_in() -> tuple[Check, ...]:
    """Return tcbuild's own checks."""
    return toml_schema.load(BUILT_IN, CheckFile).check


def of_recipe(name: str) -> Iterator[PlacedCheck]:
    """Yield the checks in the folder `checks/` of a recipe.  Raises `UserError` for a malformed file."""
    folder = recipe.folder(name) / "checks"
    yield from _of_files(sorted(folder.glob("*.toml")), name)


def of_trees() -> Iterator[PlacedCheck]:
    """Yield the checks in the folders `checks/` of the trees and of the checkout, as `of_recipe` does."""
    yield from _of_files(CHECKOUT.found("checks", "*.toml").values(), "")


def _of_files(paths: Iterable[Path], of: str) -> Iterator[PlacedCheck]:
    for path in paths:
        for check in toml_schema.load(path, CheckFile).check:
            if check.off:
                where = CHECKOUT.name_of(path)
                raise UserError(
                    f"{where}: {check.name!r}: a {'recipe' if of else 'tree'} switches no check off",
                    "a profile may",
                )
            yield PlacedCheck(check, path, of)


def of_profile(profile: Profile, recipes: Iterable[str]) -> list[PlacedCheck]:
    """Return the checks of `profile`, with those of `recipes` and trees, but for those that are off.

    Raises `UserError` for a malformed file, and for two of these files with a check of the same name.
    """
    found = {check.name: PlacedCheck(check, BUILT_IN) for check in built_in()}
    for placed in _beside(recipes):
        other = found.setdefault(placed.check.name, placed)
        if other is not placed:
            first, second = (CHECKOUT.name_of(one.file) for one in (other, placed) if one.file)
            message = f"{second}: {first} has a check {placed.check.name!r}, too"
            raise UserError(message, "give it another name")
    found |= {check.name: PlacedCheck(check) for check in profile.check}
    return [placed for placed in found.values() if not placed.check.off]


def _beside(recipes: Iterable[str]) -> Iterator[PlacedCheck]:
    for name in recipes:
        yield from of_recipe(name)
    yield from of_trees()


def require(
    profile: Profile, recipes: Sequence[str], extensions: Container[str], files: Sequence[Path] = ()
) -> None:
    """Raise `UserError` as `of_profile` does, and for a name in a check that nothing has.

    recipes: those that the profile uses; extensions: all that there are; files: those of the profile.
    """
    for placed in of_profile(profile, recipes):
        check = placed.check
        where = partial(_where, files, placed)
        if placed.script and not placed.script.is_file():
            script = CHECKOUT.name_of(placed.script)
            raise UserError(f"{where()}: check {check.name!r}: script: there is no file {script}")
        name = check.extension
        if name and name not in extensions and not recipe.exists(name):
            message = f"{where()}: check {check.name!r}: extension: there is no extension {name!r}"
            raise UserError(message, similar(name, recipe.names(), "extensions"))
    # What is off and was there before has a command, or a script.
    for check in (one for one in profile.check if one.off and not (one.command or one.script)):
        others = [other.name for other in built_in()]
        others += [placed.check.name for placed in _beside(recipes)]
        if check.name not in others:
            message = f"{_where(files, PlacedCheck(check))}: check: there is no {check.name!r} to switch off"
            raise UserError(message, similar(check.name, sorted(others)))


def _where(files: Sequence[Path], placed: PlacedCheck) -> str:
    """Return the name of the file that has a check."""
    return CHECKOUT.name_of(
        placed.file or inheritance.file_with(files, inheritance.CHECKS, placed.check.name)
    )

# SPDX-License-Identifier: MIT
"""What `./doit qemu:matrix` boots: the cells of the matrices that `matrix.toml` declares."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.config import profile
from tasks.config.check import similar
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.text import ONE_LINE, check_line
from tasks.util.toml_schema import PATTERN
from tasks.vm import devices
from tasks.vm.boots import MEDIA, Media
from tasks.vm.machine import LEAST_MEMORY, Firmware

FILE = CHECKOUT.root / "matrix.toml"
AXES = ("profile", "firmware", "media", "memory", "cpus", "devices")
MOST_CPUS = 255
MOST_MEMORY = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of each axis; None if nothing is said of it.

    profile: names; the profile of the command line if none is named.
    firmware, media: as `./doit qemu:test` has them.  `direct` has no medium.
    memory: MiB.
    cpus: how many.
    devices: `none`, or names of devices (tasks/vm/devices.toml) with + between them.
    """

    profile: tuple[str, ...] | None = None
    firmware: tuple[Firmware, ...] | None = None
    media: tuple[Literal["cd", "stick", "fat", "disk"], ...] | None = None
    memory: tuple[int, ...] | None = None
    cpus: tuple[int, ...] | None = None
    devices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in AXES:
            if getattr(self, name) == ():
                raise ValueError(f"{name}: expected at least one value")
            values = self.values(name)
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{name}: {value!r} stands twice")
        for number in self.memory or ():
            if not LEAST_MEMORY <= number <= MOST_MEMORY:
                raise ValueError(f"memory: expected {LEAST_MEMORY} to {MOST_MEMORY} MiB, got {number}")
        for number in self.cpus or ():
            if not 1 <= number <= MOST_CPUS:
                raise ValueError(f"cpus: expected 1 to {MOST_CPUS}, got {number}")

    def values(self, axis: str) -> tuple[Any, ...]:
        """Return the values of an axis; () if nothing is said of it."""
        return getattr(self, axis) or ()


DEFAULT = Axes(firmware=("bios",), media=("cd",), memory=(1024,), cpus=(1,), devices=(devices.NONE,))


@dataclass(frozen=True, kw_only=True)
class Matrix(Axes):
    """A matrix: a cell for each combination of the values of its axes.

    exclude: a cell that has one of the values of every axis that is named is none.
    """

    name: str = field(metadata={PATTERN: ONE_LINE})
    exclude: tuple[Axes, ...] = ()

    def __post_init__(self) -> None:
        check_line("name", self.name)
        super().__post_init__()


@dataclass(frozen=True)
class Matrices:
    """The content of `matrix.toml`.

    axes: the values that a matrix has if it does not say otherwise.
    exclude: as in a matrix, but of all of them.
    """

    matrix: tuple[Matrix, ...]
    axes: Axes = Axes()
    exclude: tuple[Axes, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A boot: one value of each axis.  media: "" for `direct`."""

    profile: str
    firmware: Firmware
    media: str
    memory: int
    cpus: int
    devices: str

    @property
    def name(self) -> str:
        """All values, as they stand in reports and name folders."""
        devices_ = "" if self.devices == devices.NONE else self.devices
        sizes = (f"{self.memory}MiB", f"{self.cpus}cpu")
        return "-".join(filter(None, (self.profile, self.firmware, self.media, *sizes, devices_)))

    def is_one_of(self, axes: Axes) -> bool:
        """Return whether it has one of the values of every axis that is named."""
        named = [axis for axis in AXES if axes.values(axis)]
        return all(getattr(self, axis) in axes.values(axis) for axis in named)


def load(path: Path = FILE) -> Matrices:
    """Return the matrices of a file.  Raises `UserError` for a malformed one, and for names of nothing."""
    found = toml_schema.load(path, Matrices)
    seen: set[str] = set()
    _require(found.axes, f"{path}: axes")
    for key, one in _excludes(found):
        _require(one, f"{path}: {key}")
        if not any(one.values(axis) for axis in AXES):
            raise UserError(f"{path}: {key}: names no axis", f"axes: {', '.join(AXES)}")
    for number, matrix in enumerate(found.matrix):
        _require(matrix, f"{path}: matrix[{number}]")
        if matrix.name in seen:
            raise UserError(f"{path}: matrix[{number}].name: there is a matrix {matrix.name!r} already")
        seen.add(matrix.name)
    return found


def _excludes(found: Matrices) -> Iterator[tuple[str, Axes]]:
    """Yield each exclusion, behind its key."""
    for number, one in enumerate(found.exclude):
        yield f"exclude[{number}]", one
    for at, matrix in enumerate(found.matrix):
        for number, one in enumerate(matrix.exclude):
            yield f"matrix[{at}].exclude[{number}]", one


def _require(axes: Axes, where: str) -> None:
    """Raise `UserError` for a name of a profile or a device that there is not."""
    known = profile.names()
    for number, name in enumerate(axes.values("profile")):
        if name not in known:
            raise UserError(
                f"{where}.profile[{number}]: there is no profile {name!r}", similar(name, known, "profiles")
            )
    for number, word in enumerate(axes.values("devices")):
        devices.parse(word, f"{where}.devices[{number}]")


def cells(found: Matrices, current: str, *, only: bool, wanted: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of the matrices `wanted` by name (default: of all), each once.

    current: the profile of the command line, which matrices have that name none; only: all have it.
    Raises `UserError` for an unknown name, for a matrix without a cell, and for an exclusion of nothing.
    """
    known = [matrix.name for matrix in found.matrix]
    for name in wanted:
        if name not in known:
            raise UserError(f"there is no matrix {name!r}", similar(name, known, "matrices"))
    every = {matrix.name: list(_product(matrix, found.axes, current, only)) for matrix in found.matrix}
    unused = dict(_excludes(found)) if not only else {}
    made: dict[Cell, None] = {}
    for at, matrix in enumerate(found.matrix):
        rules = {f"exclude[{number}]": one for number, one in enumerate(found.exclude)}
        rules |= {f"matrix[{at}].exclude[{number}]": one for number, one in enumerate(matrix.exclude)}
        left = []
        for cell in every[matrix.name]:
            hits = [key for key, one in rules.items() if cell.is_one_of(one)]
            for key in hits:
                unused.pop(key, None)
            left += [] if hits else [cell]
        if not left:
            raise UserError(
                f"matrix {matrix.name!r} has no cell", "no firmware boots its media, or all are excluded"
            )
        if not wanted or matrix.name in wanted:
            made |= dict.fromkeys(left)
    if unused:
        raise UserError(f"{FILE.name}: {next(iter(unused))} fits no cell", "remove it, or mend its values")
    return list(made)


def _product(matrix: Matrix, above: Axes, current: str, only: bool) -> Iterator[Cell]:
    """Yield the cells of a matrix before exclusions, those of `direct` once for all media."""
    on = {medium.name: medium.on for medium in toml_schema.load(MEDIA, Media).medium}
    values = {axis: matrix.values(axis) or above.values(axis) or DEFAULT.values(axis) for axis in AXES}
    if only or not values["profile"]:
        values["profile"] = (current,)
    seen = set()
    for combination in itertools.product(*values.values()):
        cell = dict(zip(AXES, combination, strict=True))
        if cell["firmware"] == "direct":
            cell["media"] = ""
        elif cell["firmware"] not in on[cell["media"]]:
            continue
        made = Cell(**cell)
        if made not in seen:
            seen.add(made)
            yield made

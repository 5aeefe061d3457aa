# SPDX-License-Identifier: MIT
"""How the time of our steps grows with the number of extensions.

Each extension is two tiny files of its own: what is left is what tcbuild, mksquashfs and
xorriso cost for each.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.util.log import logger
from tests.bench.measure import Sample, meter
from tests.bench.workplace import PROFILE, Workplace

COUNTS = (10, 100, 1000)
# A straight line through zero would be 1; above it, each extension costs more the more there are.
LINEAR = 1.1
CHAIN = 10  # every so many extensions depend one on the other, as they do in life

RECIPE = """\
{deps}
[info]
title = "{name}"
description = "made up, number {number}"
"""


@dataclass
class Growth:
    """CPU and wall of one step for each number of extensions."""

    name: str
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """The numbers, each with the next."""
        return list(itertools.pairwise(sorted(self.samples)))

    def cpu(self, count: int) -> float:
        """Return the median CPU seconds with `count` extensions."""
        return statistics.median(sample.cpu for sample in self.samples[count])

    def times(self, few: int, many: int) -> float:
        """Return how many times longer `many` take than `few`."""
        return self.cpu(many) / self.cpu(few)

    def each(self, few: int, many: int) -> float:
        """Return the CPU seconds that each extension between `few` and `many` costs."""
        return (self.cpu(many) - self.cpu(few)) / (many - few)

    @property
    def linear(self) -> bool:
        """Whether ten times the extensions take at most ten times as long (and 10 %), everywhere."""
        return all(self.times(few, many) <= many / few * LINEAR for few, many in self.steps)


@dataclass(frozen=True)
class Step:
    """One command, and what is done before each run of it."""

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Workplace], None] = lambda place: None


def _without_extensions(place: Workplace) -> None:
    place.drop(place.settings.paths.tcz, place.settings.paths.iso)
    place.empty_cache()


STEPS = (
    Step("tcz, all cold", ("tcz",), _without_extensions),
    Step("iso, extensions there", ("iso",), lambda place: place.drop(place.settings.paths.iso)),
    Step("no-op", ("iso",)),
    Step("explain", ("explain", "iso")),
    Step("tcz:tree", ("tcz:tree",)),
)


def measure(
    place: Workplace, counts: Sequence[int], runs: int, wanted: Callable[[str], bool]
) -> list[Growth]:
    """Measure every wanted step for each of `counts` extensions.

    The workplace's recipes and its profile's extensions are lost by that.
    """
    found = {step.name: Growth(f"growth {step.name}") for step in STEPS if wanted(f"growth {step.name}")}
    for count in counts if found else ():
        give_extensions(place, count)
        place.run("iso")
        for step, _ in itertools.product(STEPS, range(runs)):
            if step.name not in found:
                continue
            step.prepare(place)
            sample = meter(place.doit(*step.words), place.checkout, place.env)
            found[step.name].samples.setdefault(count, []).append(sample)
            logger.info(f"growth {step.name}, {count}: {sample.cpu:.2f} s CPU, {sample.wall:.2f} s")
    return list(found.values())


def give_extensions(place: Workplace, count: int) -> None:
    """Replace the recipes of a workplace, and what its profile is made of, by `count` made-up ones."""
    place.drop(place.checkout / "extensions", place.settings.paths.tcz)
    apt = place.checkout / "profiles/apt.toml"
    apt.write_text(apt.read_text().partition("[[extensions]]")[0])
    profile = place.checkout / "profiles" / f"{PROFILE}.toml"
    names = write_recipes(place.checkout / "extensions", count)
    wanted = "".join(f'\n[[extensions]]\nname = "{name}"\n' for name in names)
    profile.write_text(profile.read_text().partition("[[extensions]]")[0] + wanted)


def write_recipes(folder: Path, count: int) -> Iterator[str]:
    """Write `count` recipes below `folder`; yield their names."""
    for number in range(count):
        name = f"made{number:04}"
        program = folder / name / "files/usr/local/bin" / name
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
        other = folder / name / "files/usr/local/share" / name / "about"
        other.parent.mkdir(parents=True)
        other.write_text(f"{name}\n")
        deps = f'deps = ["made{number - 1:04}"]\n' if number % CHAIN else ""
        (folder / name / "recipe.toml").write_text(RECIPE.format(name=name, number=number, deps=deps))
        yield name

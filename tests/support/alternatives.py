# SPDX-License-Identifier: MIT
"""Extensions built by another alternative of their recipe than the built image has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tasks.config import plan, recipe
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.extensions import build
from tasks.fetch import recipe_inputs, toolchain
from tests.support.settings import with_values


def build_alternative(image: Settings, name: str, alternative: str, folder: Path) -> Path:
    """Build NAME.tcz, and what lies beside it, in an empty folder of its own; return the folder.

    Its dependencies are those of the image.
    """
    chosen = replace(image.profile, extensions=(Extension(name, alternative=alternative),))
    made = with_values(image, output=folder / "output", profile=chosen)
    made.paths.tcz.mkdir(parents=True)
    for path in image.paths.output.iterdir():
        if path.name not in ("tcz", "tcz-root", "origins"):
            (made.paths.output / path.name).symlink_to(path)
    for path in image.paths.tcz.iterdir():
        if path.name.partition(".tcz")[0] != name:
            (made.paths.tcz / path.name).symlink_to(path)
    recipe_inputs.fetch(made, name)
    toolchain.make_roots(made, recipe.toolchains(plan.recipe_of(made.profile, name)))
    build.build(made, name)
    return made.paths.tcz

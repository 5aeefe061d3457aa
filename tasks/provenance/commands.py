# SPDX-License-Identifier: MIT
"""The commands that made the parts of an image, which its manifest has.

They are read from the logs of tasks.  A task whose results come from a shared cache runs none: the
entry brings the commands that made them, and they are laid down in the same logs.  So the manifest
is the same wherever the parts were made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.config import plan, recipe
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel import patches
from tasks.provenance import materials, redaction
from tasks.util.files import write_atomic

COMMAND = re.compile(r"^\+ (.*)$", re.MULTILINE)
# Task -> names of its logs.
LOGS = {
    "kconfig:base": ("kconfig-base",),
    "kconfig": ("kconfig",),
    "kernel": ("kernel", "kernel-install", "kernel-modules"),
}
FROM_CACHE = "# The results came from a shared cache; these commands made them:\n"


def of_image(paths: Paths, profile: Profile, images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return task -> the commands that made its results.

    images: which of the tasks `iso` and `disk` to include.  A task without logged commands is
    left out.
    """
    logs = LOGS | {image: (image,) for image in images}
    compiled: dict[str, set[str]] = {}
    for name in materials.extensions(paths, profile):
        logs[f"tcz:{name}"] = (_of_extension(name),)
    for name in materials.recipes(paths, profile):
        for origin in plan.recipe_of(profile, name).origin:
            compiled.setdefault(origin.kind, set()).update(origin.log_names())
    logs |= {kind: tuple(sorted(names)) for kind, names in compiled.items()}
    found = {"linux": _patching(paths, profile)}
    for task, names in logs.items():
        found[task] = tuple(line for lines in logged(paths, names).values() for line in lines)
    return {task: lines for task, lines in sorted(found.items()) if lines}


def logs_of(profile: Profile, task: str, made: Iterable[Path]) -> list[str]:
    """Return the names of the logs, without .log, that have the commands of one task.

    task: its name; made: the files that it makes.
    """
    extensions = [path.stem for path in made if path.suffix == ".tcz"]
    image = task.removeprefix("image:")
    recipes = [name for name in extensions if recipe.exists(name)]
    recipes += [f"{recipe.IMAGES}{image}"] if image != task else []
    found = [*LOGS.get(task, ()), *map(_of_extension, extensions)]
    for name in recipes:
        for origin in plan.recipe_of(profile, name).origin:
            found += sorted(origin.log_names())
    return found


def logged(paths: Paths, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return name of the log -> the commands in it, without secrets and folders of this machine.

    A log without commands is left out.
    """
    found = {}
    for name in names:
        path = _path(paths, name)
        text = path.read_text(errors="replace") if path.is_file() else ""
        found[name] = tuple(redaction.command(paths, line) for line in COMMAND.findall(text))
    return {name: lines for name, lines in found.items() if lines}


def lay_down(paths: Paths, names: Iterable[str], commands: Mapping[str, Sequence[str]]) -> None:
    """Write `commands`, as `logged` returns them, to the logs `names`; remove a log that has none."""
    for name in names:
        lines = [f"+ {line}\n" for line in commands.get(name, ())]
        if lines:
            write_atomic(_path(paths, name), "".join([FROM_CACHE, *lines]))
        else:
            _path(paths, name).unlink(missing_ok=True)


def _of_extension(name: str) -> str:
    return f"tcz-{name}"


def _path(paths: Paths, name: str) -> Path:
    return paths.logs / f"{name}.log"


def _patching(paths: Paths, profile: Profile) -> tuple[str, ...]:
    """Return the commands that patch a new tree, whatever has been patched and taken back in this one.

    A kernel from a shared cache has no tree.
    """
    outcome = paths.kernel / "patches"
    if profile.kernel.image or not outcome.is_file():  # a kernel of an older tcbuild has none
        return ()
    lines = patches.commands(paths.linux, patches.series(profile), outcome.read_text())
    return tuple(redaction.command(paths, line) for line in lines)

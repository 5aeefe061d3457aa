# SPDX-License-Identifier: MIT
"""The tasks that configure a kernel which tcbuild builds, and the commands about its configuration."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.config.settings import Settings
from tasks.engine.task import Action, Task, beside, changed, command, do, files
from tasks.kernel import inputs
from tasks.util.checkout import CHECKOUT

PROGRAM = {
    "name": "program",
    "long": "program",
    "default": "nconfig",
    "choices": [("nconfig", ""), ("menuconfig", "")],
    "help": "the kernel's menus",
}
WRITE = {
    "name": "write",
    "long": "write",
    "type": bool,
    "default": False,
    "help": "remove the lines from the file",
}
LSMOD = {
    "name": "lsmod",
    "long": "lsmod",
    "default": "",
    "help": "the file with what lsmod printed, in a guest or elsewhere (default: this machine's modules)",
}


@dataclasses.dataclass(frozen=True)
class Question:
    """A command about the configuration.

    doc: its help text; module, function: what answers it, in tasks/kernel; check: the function there that
    refuses names which it cannot take; options: in doit's form.
    """

    doc: str
    module: str
    function: str
    check: str
    options: tuple[dict[str, Any], ...] = ()


QUESTIONS = {
    "kconfig:menu": Question(
        "change the configuration in the kernel's menus; what was asked there goes into the fragment NAME",
        "kconfig_menu",
        "menu",
        "check",
        (PROGRAM,),
    ),
    "kconfig:search": Question(
        "find symbols that have all the given words in name, prompt or help, and tell what sets them",
        "kconfig_search",
        "search",
        "check_search",
    ),
    "kconfig:why": Question(
        "print why SYMBOL has its value: what asks for it, selects it, or keeps it off",
        "kconfig_search",
        "why",
        "check_why",
    ),
    "kconfig:minimise": Question(
        "print the lines of a fragment whose removal changes nothing",
        "kconfig_minimise",
        "minimise",
        "check",
        (WRITE,),
    ),
    "kconfig:import": Question(
        "make the fragment NAME of a whole config FILE, so that base config and fragment give it",
        "kconfig_import",
        "import_config",
        "check_import",
    ),
    "kconfig:local": Question(
        "make the fragment NAME that turns off the modules which are not loaded, as localmodconfig does",
        "kconfig_import",
        "local",
        "check_local",
        (LSMOD,),
    ),
}


def declared(
    settings: Settings,
    reads: Sequence[Path],
    locks: Sequence[Path],
    prepare: Sequence[Action],
    tools: object,
    share: Callable[..., Task],
) -> Iterator[Task]:
    """Yield the tasks.

    reads: what Kconfig reads of the source; locks: that of the base config; prepare: the actions that fetch
    what a stage needs; tools: what tells the compiler; share: wraps a task for the shared cache.
    """
    paths, profile = settings.paths, settings.profile
    base, diff = paths.base_config, paths.config.with_name("diff.txt")
    # `reads` tells which patches matter.
    kernel = dataclasses.replace(profile.kernel, patches="")
    complete = {
        "basename": "kconfig:base",
        "doc": "complete the base config for the kernel source",
        "actions": [*prepare, do("kernel.kconfig", "complete_base", settings)],
        "file_dep": files(*reads, *locks, *inputs.base_config_files(profile)),
        "targets": files(base),
        "uptodate": changed(kernel=dataclasses.replace(kernel, fragments=()), tools=tools),
    }
    yield share(complete)
    merge = {
        "basename": "kconfig",
        "doc": "merge the fragments into the base config, and check that every line took effect",
        "actions": [*prepare, do("kernel.kconfig", "merge", settings)],
        # The notes in diff.txt come from kconfig/notes.toml.
        "file_dep": files(
            *reads, base, *locks, *inputs.config_files(profile), CHECKOUT.find("kconfig", "notes.toml")
        ),
        "targets": files(paths.config, diff),
        "uptodate": changed(kernel=kernel, tools=tools),
    }
    yield share(merge)
    doc = "print what changed since the last build, then what the fragments change against the base config"
    yield command(
        "kconfig:diff", doc, do("kernel.kconfig_diff", "print_diff", paths, profile), reads=files(diff)
    )
    yield from _commands(settings, prepare, base)


def _commands(settings: Settings, prepare: Sequence[Action], base: Path) -> Iterator[Task]:
    """Yield the commands that ask the kernel's Kconfig."""
    proved = files(settings.paths.config)
    report = "print for each requested config line its final value, and what set it"
    action = do("kernel.kconfig", "print_report", settings)
    yield command("kconfig:report", report, *prepare, action, reads=proved)
    ncurses = beside("fetch.toolchain", "fetch_alone", settings, "ncurses")
    more: dict[str, dict[str, Any]] = {
        "kconfig:menu": {"io": {"capture": False}},
        "kconfig:import": {"reads": files(base)},
    }
    for name, one in QUESTIONS.items():
        before = [*prepare, *([ncurses] if name == "kconfig:menu" else [])]
        actions = [*before, do(f"kernel.{one.module}", one.function, settings)]
        given = {"reads": proved, "params": list(one.options), "pos_arg": "names", **more.get(name, {})}
        yield command(name, one.doc, *actions, **given, meta={"check": _check(settings, one)})


def _check(settings: Settings, one: Question) -> Callable[[object, Sequence[str]], None]:
    """Return what refuses names before the kernel's source is fetched for the command."""

    def check(_options: object, names: Sequence[str]) -> None:
        getattr(importlib.import_module(f"tasks.kernel.{one.module}"), one.check)(settings, names)

    return check

# SPDX-License-Identifier: MIT
"""Make a fragment of a whole config: one from elsewhere, or the profile's, cut down to loaded modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.kernel import kconfig, kconfig_draft, kconfig_explain
from tasks.kernel.fragments import Request, apply_requests, config_line, parse_config
from tasks.kernel.kconfig_diff import describes_toolchain
from tasks.kernel.kconfig_draft import Draft
from tasks.kernel.kconfig_workspace import Workspace, workspace
from tasks.kernel.requests import implied_requests, profile_requests
from tasks.util.checkout import caller_folder
from tasks.util.errors import UserError
from tasks.util.log import logger

THIS_MACHINE = Path("/proc/modules")
"""The loaded modules; its first words are those of lsmod(8)."""
# A line of lsmod(8) or /proc/modules: name, size, number of users, ...
LOADED = re.compile(r"(\w[\w-]*)\s+\d+\s+\d+(\s.*)?", re.ASCII)
SHOWN = 20


def import_config(settings: Settings, names: Sequence[str]) -> None:
    """Make a fragment of a whole config, so that base config and fragment give it.

    names: the file, and the name of the fragment, by default that of the file.  The profile's own fragments
    do not count.  Raises `UserError` for a file that is no config, and for a fragment that exists.
    """
    draft, text = check_import(settings, names)
    values, settings = parse_config(text), _without_fragments(settings)
    with workspace(settings, "kconfig-import") as space:
        implied = implied_requests(settings.paths, settings.profile)
        goal = space.complete(apply_requests(text, implied))
        _tell_of_differences(space, values, parse_config(goal), {one.symbol for one in implied})
        before = kconfig.merge_requests(space, settings, implied)
        kconfig_draft.write(space, settings, draft, before, goal)
    logger.info(f'kernel.fragments = ["{draft.name}"] gives this config')


def check_import(settings: Settings, names: Sequence[str]) -> tuple[Draft, str]:
    """Return the draft, and the text of the config.

    Raises `UserError` for what can be seen without the kernel's source.
    """
    if not 0 < len(names) < 3:
        raise UserError("kconfig:import takes a config and a name", "./doit kconfig:import FILE.config mine")
    file = caller_folder() / names[0]
    draft = _new(_without_fragments(settings), names[1:] or [default_name(file)], "kconfig:import")
    text = _read(file)
    if not parse_config(text):
        raise UserError(f"{file}: not a kernel config", "it has no line CONFIG_...=...")
    return draft, text


def _without_fragments(settings: Settings) -> Settings:
    alone = replace(settings.profile, kernel=replace(settings.profile.kernel, fragments=()))
    return replace(settings, profile=alone)


def local(settings: Settings, names: Sequence[str], *, lsmod: str = "") -> None:
    """Make a fragment that turns off the modules which are not loaded, as `make localmodconfig` does.

    names: the fragment, alone; lsmod: a file with what lsmod(8) printed in a guest; this machine's
    modules without it.  What a fragment of the profile asks for stays.  Raises `UserError` for a bad
    list, for a fragment that exists, and if nothing can be turned off.
    """
    draft = check_local(settings, names)
    file = caller_folder() / lsmod if lsmod else THIS_MACHINE
    # A kernel without modules has no such file.
    text = "" if file == THIS_MACHINE and not file.exists() else _read(file)
    modules = loaded_modules(text, str(file))
    with workspace(settings, "kconfig-local") as space:
        requests = profile_requests(settings.paths, settings.profile)
        before = kconfig.prove(space, kconfig.merge_requests(space, settings, requests))
        off = [Request(name, "n", "lsmod") for name in _unloaded(space, before.config, modules)]
        goal = space.complete(apply_requests(apply_requests(before.text, off), before.asked))
        if parse_config(goal) == parse_config(before.config):
            raise UserError(
                "no module of this configuration can be turned off",
                "all are loaded, or lines of the profile ask for them: ./doit kconfig:report",
            )
        kconfig_draft.write(space, settings, draft, before, goal)


def check_local(settings: Settings, names: Sequence[str]) -> Draft:
    """Return the draft of the new fragment.  Raises `UserError` for a name that it cannot have."""
    return _new(settings, names, "kconfig:local")


def _new(settings: Settings, names: Sequence[str], command: str) -> Draft:
    """Return the draft of a fragment that does not exist yet.  Raises `UserError` if it does."""
    draft = kconfig_draft.of_name(settings, names, command)
    if draft.text:
        raise UserError(f"{draft.shown} exists", "choose another name, or remove it")
    return draft


def default_name(file: Path) -> str:
    """Return the name of the fragment that is made of a file: its own without .config, in lower case."""
    name = file.name.lower().removesuffix(".config").lstrip(".")
    return re.sub(r"[^a-z0-9_.+-]", "-", name) or "imported"


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None


def loaded_modules(text: str, name: str) -> list[str]:
    """Return the names of the modules in a text as lsmod(8) prints it; `name` is its file, for messages.

    Raises `UserError` if it is no such text, or lists none.
    """
    rows = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("Module ")]
    matches = [LOADED.fullmatch(row) for row in rows]
    bad = next((row for row, match in zip(rows, matches, strict=True) if not match), "")
    if bad:
        raise UserError(f"{name}: not the output of lsmod: {bad[:60]!r}", "write it by: lsmod >FILE")
    if not rows:
        raise UserError(f"{name}: no module is loaded", "give the list of another machine: --lsmod FILE")
    return [match[1] for match in matches if match]


def _unloaded(space: Workspace, config: str, modules: Iterable[str]) -> list[str]:
    """Return the symbols of `config` for modules that the loaded `modules` do not need.

    The tree's scripts/kconfig/streamline_config.pl knows them.
    """
    listed, cut = space.work / "lsmod", space.work / "cut.config"
    listed.write_text("".join(f"{module} 1 0\n" for module in modules))
    (space.work / ".config").write_text(config)  # where the script looks for it
    tree = space.kbuild.tree
    script = tree / "scripts" / "kconfig" / "streamline_config.pl"
    environment = space.environment(".config") | {"LSMOD": str(listed)}
    # find(1), which it runs, follows a link only with the slash.
    argv: list[str | Path] = ["perl", script, "--localmodconfig", f"{tree}/", "Kconfig"]
    space.run(argv, environment, stdout=cut)
    # It also turns IKCONFIG on, for its own next run.
    left = parse_config(cut.read_text())
    values = parse_config(config)
    return [name for name, value in values.items() if value == "m" and left.get(name, "n") == "n"]


def _tell_of_differences(
    space: Workspace, values: dict[str, str], goal: dict[str, str], implied: set[str]
) -> None:
    """Print which values of an imported config this kernel does not know or reads otherwise."""
    known = kconfig.defined_symbols(space.kbuild.tree, space.kbuild.arch)
    lost = [
        name
        for name, value in values.items()
        if value not in ("n", goal.get(name, "n")) and name not in implied and not describes_toolchain(name)
    ]
    unknown = [name for name in lost if name not in known]
    notes = kconfig_explain.load_notes()
    if unknown:
        print(f"# this kernel does not know {len(unknown)} symbols of the file")
        for name in unknown[:SHOWN]:
            note = f"  ({notes[name]})" if name in notes else ""
            print(f"- {config_line(name, values[name])}{note}")
    others = [name for name in lost if name in known]
    if others:
        print(f"# this kernel gives {len(others)} symbols another value")
        print(
            "\n".join(f"~ CONFIG_{name}={values[name]} -> {goal.get(name, 'n')}" for name in others[:SHOWN])
        )

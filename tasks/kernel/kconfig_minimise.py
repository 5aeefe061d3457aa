# SPDX-License-Identifier: MIT
"""Tell what was asked of a configuration from what followed: find the lines that bring a config about.

`kconfig/minimise.c` tries with the tree's own Kconfig which lines can be left out, so
what select, imply, default and dependencies give is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.kernel import kconfig
from tasks.kernel.fragments import (
    Request,
    config_line,
    display_path,
    fragment_file,
    parse_config,
    read_fragment,
    same_value,
    split_overridden,
    with_fragment,
)
from tasks.kernel.kconfig_workspace import Workspace, workspace
from tasks.kernel.requests import all_requests, profile_requests
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger


def differing(text: str, goal: str) -> dict[str, str]:
    """Return symbol -> value of all that may have to be asked for, so that `text` becomes the config `goal`.

    text: what `conf` reads.  The symbols stand in the order of `goal`, which is that of the menus.
    """
    read, wanted = parse_config(text), parse_config(goal)
    # A symbol without a line has its default, which may be y: so `is not set` is a line to ask for.
    lines = {name: value for name, value in wanted.items() if value != read.get(name)}
    gone = {name: "n" for name, value in read.items() if name not in wanted and value != "n"}
    return lines | gone


def needed(space: Workspace, text: str, lines: Mapping[str, str], goal: str) -> dict[str, str]:
    """Return those of `lines` (symbol -> value) without which `text` does not become the config `goal`.

    Raises `UserError` if it does not become that with all the lines either.
    """
    for name, content in (("base", text), ("goal", goal)):
        (space.work / name).write_text(content)
    asked = [config_line(name, value) for name, value in lines.items()]
    (space.work / "lines").write_text("".join(f"{line}\n" for line in asked))
    files = (str(space.work / name) for name in ("base", "lines", "goal", "scratch"))
    kept, differs = parse_records(space.ask("minimise", "base", *files), space.log)
    if differs:
        shown = [f"  {config_line(name, got)} instead of {value}" for name, got, value in differs]
        raise UserError(
            f"no lines lead from the profile's configuration to that one: {len(differs)} values differ",
            "the config is of another kernel or compiler",
            "\n".join(shown[:20]),
        )
    names = list(lines)
    return {names[number - 1]: lines[names[number - 1]] for number in kept}


def parse_records(text: str, log: Path) -> tuple[list[int], list[tuple[str, str, str]]]:
    """Return the numbers of the needed lines, and (symbol, got, wanted) of all that differs.

    text: as minimise.c prints it.  Raises `UserError` if it is not complete.
    """
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        why = ": ".join(lines[-1].split("\t")[1:]) if lines else ""
        message = f"kconfig/minimise.c failed: {why or 'the output ends early'}"
        raise UserError(message, f"its messages are in {log}")
    fields = [line.split("\t") for line in lines[:-1]]
    numbers = [int(number) for key, number, *_ in fields if key == "need"]
    return sorted(numbers), [(rest[0], rest[1], rest[2]) for key, *rest in fields if key == "differs"]


def redundant(space: Workspace, settings: Settings, lines: Sequence[Request], goal: str) -> list[Request]:
    """Return those of `lines`, of one fragment of the profile, whose removal changes nothing.

    All of them can be removed together, and every other line still holds.  goal: the config that the
    profile gives.
    """
    requests = profile_requests(settings.paths, settings.profile)
    # What a line overrides comes back without it.
    every = all_requests(settings.paths, settings.profile)
    others, _overridden = split_overridden(one for one in every if one not in lines)
    counting = {one.symbol: one for one in requests if one in lines}
    text = kconfig.merged_text(settings, others)
    kept = needed(space, text, {name: one.value for name, one in counting.items()}, goal)
    contradicted = {
        one.symbol
        for one in [*kconfig.base_requests(settings.paths, settings.profile), *others]
        if one.symbol in counting and not same_value(one.value, counting[one.symbol].value)
    }
    return [one for name, one in counting.items() if name not in kept and name not in contradicted]


def check(settings: Settings, names: Sequence[str]) -> list[Request]:
    """Return the lines of the fragment that is named.

    Raises `UserError` for what can be seen without the kernel's source.
    """
    if len(names) != 1:
        raise UserError("kconfig:minimise takes one fragment", "./doit kconfig:minimise qemu")
    with_fragment(settings.profile, names[0])
    return read_fragment(fragment_file(names[0]))


def minimise(settings: Settings, names: Sequence[str], *, write: bool = False) -> None:
    """Print the lines of a fragment whose removal changes nothing.

    names: the fragment, alone; write: remove them from its file.  Raises `UserError` for another number of
    names, and if lines of the profile do not hold.
    """
    lines = check(settings, names)
    settings = replace(settings, profile=with_fragment(settings.profile, names[0]))
    path = fragment_file(names[0])
    with workspace(settings, "kconfig-minimise") as space:
        requests = profile_requests(settings.paths, settings.profile)
        proved = kconfig.prove(space, kconfig.merge_requests(space, settings, requests))
        found = redundant(space, settings, lines, proved.config)
    others = {one.symbol: one for one in all_asked(settings) if one not in lines}
    for one in found:
        also = others.get(one.symbol)
        print(f"{one.where}: {one.text}  ({f'also asked at {also.where}' if also else 'follows by itself'})")
    shown, total = display_path(path), f"{len(lines)} lines"
    if not found:
        logger.info(f"{shown}: each of its {total} changes something")
        return
    if write:
        write_atomic(path, without_lines(path.read_text(), {one.line for one in found}))
        logger.info(f"{shown}: {len(found)} of {total} removed; the configuration is the same")
        return
    logger.info(f"{shown}: {len(found)} of {total} can be removed: --write removes them")


def all_asked(settings: Settings) -> list[Request]:
    """Return the requests of the base config, of the profile and of its fragments."""
    own = kconfig.base_requests(settings.paths, settings.profile)
    return [*own, *all_requests(settings.paths, settings.profile)]


def without_lines(text: str, numbers: Iterable[int]) -> str:
    """Return a fragment's text without the config lines of these numbers, and the marks above them."""
    gone = set(numbers)
    kept = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        is_mark = line.startswith("# override") and number + 1 in gone
        if number not in gone and not is_mark:
            kept.append(line)
    return "".join(kept)

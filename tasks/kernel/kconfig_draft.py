# SPDX-License-Identifier: MIT
"""A fragment that a command writes: made of a config that is wanted, proved, and only then written.

The fragment has the lines that were asked for.  What follows of them by select, default
and dependencies is said, and not written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.kernel import kconfig, kconfig_minimise
from tasks.kernel.fragments import (
    CONFIG_LINE,
    OVERRIDE,
    Request,
    config_line,
    display_path,
    fragment_files,
    parse_config,
    parse_fragment,
    read_fragment,
    same_value,
    split_overridden,
    with_fragment,
)
from tasks.kernel.kconfig_diff import change_line, changed_symbols
from tasks.kernel.kconfig_workspace import Workspace
from tasks.kernel.requests import check_conflicts, implied_requests
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.text import as_typed

NAME = re.compile(r"(?!base-)[a-z0-9][a-z0-9_.+-]*")
MARK = "# override"
NEW = "# SPDX-License-Identifier: MIT\n"
SHOWN = 20
"""How many lines of what follows are printed."""


@dataclass(frozen=True)
class Draft:
    """A fragment that is to be written.

    name: as in `kernel.fragments`; path: its file; text: what the file has now, "" if there is none;
    place: its place among the profile's fragments, which is the last if the profile does not have it.
    """

    name: str
    path: Path
    text: str
    place: int

    @property
    def shown(self) -> str:
        return display_path(self.path)

    @property
    def own(self) -> list[Request]:
        """The requests that the file has now."""
        return parse_fragment(self.text.encode(), self.shown)


def of_name(settings: Settings, names: Sequence[str], command: str) -> Draft:
    """Return the draft of the one fragment that is named.

    command: for messages.  Raises `UserError` for another number of names, and for a name that no
    fragment can have.
    """
    if len(names) != 1:
        raise UserError(f"{command} needs the name of one fragment", f"./doit {command} mine")
    name = names[0].removesuffix(".config")
    if not NAME.fullmatch(name):
        raise UserError(
            f"{names[0]!r} cannot be the name of a fragment",
            "use lower-case letters, digits and . _ + -; base-* are base configs",
        )
    path = CHECKOUT.find("kconfig", f"{name}.config")
    first = CHECKOUT.folders("kconfig")[0]
    if not path.is_file():
        path = first / path.name
    elif CHECKOUT.trees and not CHECKOUT.is_in_tree(path):
        raise UserError(
            f"{display_path(path)} is of tcbuild, which a tree leaves as it is",
            f"choose another name: a fragment in {first} may override it",
        )
    CHECKOUT.refuse_installed(path, display_path(path))
    files = fragment_files(settings.profile)
    place = files.index(path) if path in files else len(files)
    return Draft(name, path, path.read_text() if path.is_file() else "", place)


def requests_with(settings: Settings, draft: Draft, text: str | None) -> list[Request]:
    """Return the requests of the profile with `text` in place of the draft's file; None: without it.

    Raises `UserError` as `requests.profile_requests` does.
    """
    requests = implied_requests(settings.paths, settings.profile)
    others = [path for path in fragment_files(settings.profile) if path != draft.path]
    parts = [read_fragment(path) for path in others]
    if text is not None:
        parts.insert(draft.place, parse_fragment(text.encode(), draft.shown))
    kept, _overridden = split_overridden([*requests, *(one for part in parts for one in part)])
    check_conflicts(kept)
    return kept


def write(space: Workspace, settings: Settings, draft: Draft, before: kconfig.Merged, goal: str) -> None:
    """Write the lines by which `before` becomes the config `goal` into the draft's file, and tell of them.

    before: the profile's configuration with the draft's file as it is.  The file is written if the profile
    with it gives `goal` to the byte.  Raises `UserError` if no lines do, and if some do not hold.
    """
    # Without the lines of the draft that do not fit any more.
    fitting = composed(settings, draft, {}, parse_config(goal))
    read = kconfig.merged_text(settings, requests_with(settings, draft, fitting))
    asked = kconfig_minimise.needed(space, read, kconfig_minimise.differing(read, goal), goal)
    text, merged = _merged_with(space, settings, draft, asked, goal)
    unmet = {one.symbol: parse_config(goal).get(one.symbol, "n") for one in kconfig.misses(space, merged)}
    try:
        kconfig.prove(space, merged)
    except UserError:
        # A line of another fragment does not hold any more, also if its new value only follows.
        text, merged = _merged_with(space, settings, draft, {**asked, **unmet}, goal)
        kconfig.prove(space, merged)
    if merged.config != goal:
        differs = changed_symbols(parse_config(goal), parse_config(merged.config))
        raise UserError(f"the fragment gives other values than asked for: {', '.join(differs[:5])}")
    write_atomic(draft.path, text)
    _tell(draft, {**asked, **_taken_out(draft, text)}, before, goal)
    _tell_of_lines(space, settings, draft, goal)


def _merged_with(
    space: Workspace, settings: Settings, draft: Draft, lines: Mapping[str, str], goal: str
) -> tuple[str, kconfig.Merged]:
    """Return the draft's text with `lines`, and what the profile gives with it."""
    text = composed(settings, draft, lines, parse_config(goal))
    return text, kconfig.merge_requests(space, settings, requests_with(settings, draft, text))


def composed(settings: Settings, draft: Draft, lines: Mapping[str, str], goal: Mapping[str, str]) -> str:
    """Return the draft's text with `lines` (symbol -> value) in it.

    A line of the fragment for the same symbol is replaced, one that does not fit `goal` is left out, and
    new ones go to the end.  A line that contradicts an earlier fragment is marked.
    """
    earlier = {
        one.symbol: one.value
        for path in fragment_files(settings.profile)[: draft.place]
        if path != draft.path
        for one in read_fragment(path)
    }
    marked = {name for name, value in lines.items() if not same_value(earlier.get(name, value), value)}
    kept: list[str] = []
    written: set[str] = set()
    for line in (draft.text or NEW).splitlines():
        match = CONFIG_LINE.fullmatch(line.rstrip())
        name = (match[1] or match[3]) if match else ""
        value = (match[2] if match[1] else "n") if match else ""
        if not name or (name not in lines and same_value(value, goal.get(name, "n"))):
            kept.append(line)
            continue
        mark = kept.pop() if kept and OVERRIDE.fullmatch(kept[-1].rstrip()) else MARK
        if name in lines and name not in written:
            kept += [*([mark] if name in marked else []), config_line(name, lines[name])]
            written.add(name)
    for name, value in lines.items():
        if name not in written:
            kept += [*([MARK] if name in marked else []), config_line(name, value)]
    return "".join(f"{line}\n" for line in kept)


def _taken_out(draft: Draft, text: str) -> dict[str, str]:
    """Return symbol -> n for the draft's lines that `text` has not got any more."""
    left = {one.symbol for one in parse_fragment(text.encode(), draft.shown)}
    return {one.symbol: "n" for one in draft.own if one.symbol not in left}


def _tell(draft: Draft, asked: Mapping[str, str], before: kconfig.Merged, goal: str) -> None:
    """Print what was written, and what follows from it."""
    old, new = parse_config(before.config), parse_config(goal)
    changed = changed_symbols(old, new)
    print(f"# asked for, in {draft.shown}")
    for name in asked:
        if name in changed:
            print(change_line(name, old, new))
    followed = [name for name in changed if name not in asked]
    if followed:
        print("# followed by itself (select, default or dependency)")
        print("\n".join(change_line(name, old, new) for name in followed[:SHOWN]))
    if len(followed) > SHOWN:
        print(as_typed(f"# and {len(followed) - SHOWN} more: ./doit kconfig:diff"))


def _tell_of_lines(space: Workspace, settings: Settings, draft: Draft, goal: str) -> None:
    """Print which lines of the written fragment override others, and which are redundant."""
    lines = read_fragment(draft.path)
    overriding = [one for one in lines if one.overrides]
    if overriding:
        print("# override a line of an earlier fragment")
        print("\n".join(f"{one.where}: {one.text}" for one in overriding))
    used = draft.path in fragment_files(settings.profile)
    # Of a new fragment each line is needed.
    whole = replace(settings, profile=with_fragment(settings.profile, draft.name))
    needless = kconfig_minimise.redundant(space, whole, lines, goal) if draft.text else []
    if needless:
        print("# redundant: without these lines the configuration is the same")
        print("\n".join(f"{one.where}: {one.text}" for one in needless))
    logger.info(f"{draft.shown}: proved, it gives the configuration that was asked for")
    if not used:
        profile = display_path(settings.paths.profile_file)
        logger.info(f'{profile} does not use it yet: add "{draft.name}" to kernel.fragments')

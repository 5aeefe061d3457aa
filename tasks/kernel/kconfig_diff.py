# SPDX-License-Identifier: MIT
"""What changed in a kernel's configuration: against the base config, and since the last build."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel.fragments import Request, config_line, parse_config, parse_fragment
from tasks.kernel.requests import profile_requests
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed

BUILT = "built.requests"
"""In the folder of the configuration: what the profile asked for when its kernel was last built.
Lines as in a fragment, each below a comment that says where it stood."""


def format_diff(original: str, base: str, final: str, requests: Iterable[Request]) -> str:
    """Return the differences between the base config and the result, sorted, in three parts.

    `original` is the text of an imported base ("" if it is none), `base` that of
    base.config, `final` that of the result.  The parts: changes that a line asked for,
    changes by select or default, and the changes of olddefconfig to the imported base.
    Symbols that only describe the toolchain are left out.
    """
    before, after = parse_config(base), parse_config(final)
    asked = {request.symbol: request for request in requests}
    changed = changed_symbols(before, after)
    lines = ["# asked for"]
    lines += [
        f"{change_line(name, before, after)}  ({asked[name].where})" for name in changed if name in asked
    ]
    lines += ["", "# followed by itself (select or default)"]
    lines += [change_line(name, before, after) for name in changed if name not in asked]
    if original:
        first = parse_config(original)
        lines += ["", "# base file, as this kernel version reads it"]
        lines += [change_line(name, first, before) for name in changed_symbols(first, before)]
    return "\n".join(lines) + "\n"


def changed_symbols(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the sorted symbols whose values differ, without those that only describe the toolchain."""
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "n") != after.get(name, "n") and not describes_toolchain(name)
    ]


def describes_toolchain(name: str) -> bool:
    """Tell whether a symbol only states what compiler, linker and tools were found."""
    return bool(_toolchain_names().fullmatch(name))


@functools.cache
def _toolchain_names() -> re.Pattern[str]:
    with CHECKOUT.find("kconfig", "notes.toml").open("rb") as stream:
        return re.compile("|".join(tomllib.load(stream)["toolchain"]["patterns"]))


def change_line(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the line of a diff for a symbol whose value differs."""
    old, new = before.get(name, "n"), after.get(name, "n")
    if old == "n":
        return f"+ CONFIG_{name}={new}"
    return f"- CONFIG_{name}={old}" if new == "n" else f"~ CONFIG_{name}={old} -> {new}"


def remember(paths: Paths, profile: Profile) -> None:
    """Record what the profile asks for now, when its kernel has been built."""
    lines = [f"# {one.where}\n{one.text}\n" for one in profile_requests(paths, profile)]
    write_if_changed(paths.config.with_name(BUILT), "".join(lines))


def print_diff(paths: Paths, profile: Profile) -> None:
    """Print what changed since the kernel was last built, then diff.txt of the last good run.

    Raises `UserError` if there is no diff.txt.
    """
    path = paths.config.with_name("diff.txt")
    if not path.is_file():
        raise UserError(f"{path} does not exist", "./doit kconfig")
    built, record = paths.kernel / "config", paths.config.with_name(BUILT)
    if built.is_file() and paths.config.is_file():
        then = _remembered(record) if record.is_file() else None
        before, after = (parse_config(file.read_text()) for file in (built, paths.config))
        print(format_since_build(before, after, then, profile_requests(paths, profile)))
    else:
        print("# no kernel has been built here yet\n")
    print(path.read_text().rstrip("\n"))


def _remembered(record: Path) -> dict[str, Request]:
    """Return by symbol what was asked for; the file of each request is the place where it stood."""
    text = record.read_text()
    places = [line.removeprefix("# ") for line in text.splitlines()[::2]]
    requests = parse_fragment(text.encode(), str(record))
    return {
        one.symbol: Request(one.symbol, one.value, place) for one, place in zip(requests, places, strict=True)
    }


def format_since_build(
    before: Mapping[str, str],
    after: Mapping[str, str],
    then: Mapping[str, Request] | None,
    now: Sequence[Request],
) -> str:
    """Return what changed from config `before` to `after`: first what lines asked, then what that brought.

    then: by symbol, what was asked when `before` was built; None if nobody knows.
    """
    changed = changed_symbols(before, after)
    if not changed:
        return "# since the last build: nothing changed\n"
    asked = {request.symbol: request for request in now}
    reasons = {name: _reason(name, after, then, asked) for name in changed}
    lines = ["# since the last build: asked for"]
    lines += [f"{change_line(name, before, after)}  ({why})" for name, why in reasons.items() if why]
    lines += ["", "# since the last build: brought by that, by the base config or by the source"]
    lines += [change_line(name, before, after) for name, why in reasons.items() if not why]
    return "\n".join(lines) + "\n"


def _reason(
    name: str, after: Mapping[str, str], then: Mapping[str, Request] | None, asked: Mapping[str, Request]
) -> str:
    """Return the place that asks for the change of a symbol, "" if none does."""
    here = asked.get(name)
    if then is None:
        return here.where if here and here.text == config_line(name, after.get(name, "n")) else ""
    there = then.get(name)
    if here:
        return "" if there and there.value == here.value else here.where
    return f"no longer asked at {there.where}" if there else ""

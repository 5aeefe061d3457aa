# SPDX-License-Identifier: MIT
"""Stage kconfig: merge the fragments onto the base config, and check that every line took effect.

Writes `kconfig/` in the output folder: `base.config` (by a task of its own, as it does not
depend on fragments), `config` (the checked result) and `diff.txt` (the changes against the base).
All work is done on copies; a failing run leaves the files of the last good run.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config import release
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.kernel import installed, kconfig_explain
from tasks.kernel.fragments import (
    Request,
    apply_requests,
    config_line,
    display_path,
    find_misses,
    parse_config,
    read_fragment,
    same_value,
)
from tasks.kernel.kbuild import Kbuild
from tasks.kernel.kconfig_diff import format_diff
from tasks.kernel.kconfig_workspace import Workspace, workspace
from tasks.kernel.requests import base_file, check_conflicts, overridden_requests, profile_requests
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

DEFINITION = re.compile(r"^\s*(?:menu)?config\s+(\w+)", re.ASCII | re.MULTILINE)


def complete_base(settings: Settings) -> None:
    """Write base.config: the profile's base config, with a value for every symbol of the kernel tree.

    Raises `UserError` for a base that does not exist, is not a config, or contradicts itself.
    """
    with workspace(settings, "kconfig-base") as space:
        if settings.profile.kernel.base_mode == "allnoconfig":
            path = base_file(settings.paths, settings.profile)
            check_conflicts(read_fragment(path))
            # make would expand a `$` in the checkout's path.
            asked = space.work / "asked.config"
            shutil.copyfile(path, asked)
            space.make("base.config", "allnoconfig", f"KCONFIG_ALLCONFIG={asked}")
        else:
            (space.work / "base.config").write_text(_imported_base(settings.paths, settings.profile))
            space.make("base.config", "olddefconfig")
            _tell_of_own_symbols(settings, space.work / "base.config")
        write_if_changed(settings.paths.base_config, (space.work / "base.config").read_bytes())


def _tell_of_own_symbols(settings: Settings, completed: Path) -> None:
    """Say which symbols of the release's config only Tiny Core's own source has, if this is not it."""
    profile, source = settings.profile, settings.profile.kernel.source
    if not profile.release or not isinstance(source, KernelOrgSource):
        return
    if source.version != release.load(profile.release).linux:  # of it nothing is known
        return
    before, after = parse_config(_imported_base(settings.paths, profile)), parse_config(completed.read_text())
    lost = [
        name for name in release.load(profile.release).own_symbols if name in before and name not in after
    ]
    if lost:
        logger.info(f"kconfig: {release.without_own_symbols(profile.release, lost)}")


@dataclass(frozen=True)
class Merged:
    """The requests of a profile, merged onto base.config.

    asked: the requests that count; base_requests: those of the base config, asked or not; text: what
    `conf` reads: base.config and the lines of the requests; config: what it makes of that.
    """

    asked: tuple[Request, ...]
    base_requests: tuple[Request, ...]
    text: str
    config: str


def merge_requests(
    space: Workspace, settings: Settings, requests: Sequence[Request], config: str = ""
) -> Merged:
    """Return `requests` merged onto base.config, as the tree's Kconfig completes that.

    config: what that gives, if it is known.
    """
    own = base_requests(settings.paths, settings.profile)
    asked = _effective_requests(own, requests)
    text = _text(settings, asked)
    return Merged(tuple(asked), tuple(own), text, config or space.complete(text))


def merged_text(settings: Settings, requests: Sequence[Request]) -> str:
    """Return base.config with the lines of `requests` and of the base config, for `conf` to read."""
    return _text(settings, _effective_requests(base_requests(settings.paths, settings.profile), requests))


def _text(settings: Settings, asked: Iterable[Request]) -> str:
    # The base's own lines are requested again: a fragment may set what they depend on.
    return apply_requests(settings.paths.base_config.read_text(), asked)


def prove(space: Workspace, merged: Merged) -> Merged:
    """Return what was merged, without the requests of the base that the choice of another member overrides.

    Raises `UserError` that explains each other request that did not take effect.
    """
    overridden = overridden_by_choice(space, merged)
    return replace(merged, asked=tuple(one for one in merged.asked if one.symbol not in overridden))


def merge(settings: Settings) -> None:
    """Merge the fragments onto base.config, and check that every requested line took effect.

    Raises `UserError` for an unknown or malformed fragment, for lines that
    contradict each other, and for lines that did not take effect, each of which is explained; and if
    the kernel will have another release than the profile declares.
    """
    requests = profile_requests(settings.paths, settings.profile)
    original = _imported_base(settings.paths, settings.profile)
    with workspace(settings, "kconfig") as space:
        proved = prove(space, merge_requests(space, settings, requests))
        if settings.profile.kernel.release:
            release_name = coming_release(space, proved.config)
            installed.check_release(settings.paths, settings.profile, release_name)
        base = settings.paths.base_config.read_text()
        made = {"config": proved.config, "diff.txt": format_diff(original, base, proved.config, proved.asked)}
        for name, text in made.items():
            write_if_changed(settings.paths.config.with_name(name), text)
    logger.info(f"kconfig: {len(proved.asked)} requested lines hold")


def print_report(settings: Settings) -> None:
    """Print a line for each requested line: its place, its value in the result, and what set that.

    Raises `UserError` if there is no config yet.
    """
    config = proved_config(settings.paths)
    requests = profile_requests(settings.paths, settings.profile)
    with workspace(settings, "kconfig-report") as space:
        merged = merge_requests(space, settings, requests, config)
        (space.work / "config").write_text(config)
        space.make("config", "savedefconfig")
        by_request = {request.symbol: request for request in requests}
        by_request |= overridden_by_choice(space, merged)
        needed = parse_config((space.build / "defconfig").read_text())
        earlier = [*merged.base_requests, *overridden_requests(settings.paths, settings.profile)]
        base = parse_config(settings.paths.base_config.read_text())
        report = format_report(earlier, requests, by_request, base, parse_config(config), needed)
    print(report.rstrip("\n"))


def proved_config(paths: Paths) -> str:
    """Return the config that the stage made.  Raises `UserError` if there is none yet."""
    if not paths.config.is_file():
        raise UserError(f"{paths.config} does not exist", "./doit kconfig")
    return paths.config.read_text()


def _effective_requests(base_requests: Iterable[Request], requests: Sequence[Request]) -> list[Request]:
    """Return all requests, without those of the base that a fragment overrides."""
    changed = {request.symbol for request in requests}
    return [*(request for request in base_requests if request.symbol not in changed), *requests]


def base_requests(paths: Paths, profile: Profile) -> list[Request]:
    """Return the requests of the base config.

    An imported base (`olddefconfig`) was made for another kernel.  It has thousands of lines
    that this kernel may not know, so none of them is a request.
    """
    return read_fragment(base_file(paths, profile)) if profile.kernel.base_mode == "allnoconfig" else []


def _imported_base(paths: Paths, profile: Profile) -> str:
    """Return the text of a base config made for another kernel, "" if the profile's is none.

    Raises `UserError` if it is no config.
    """
    if profile.kernel.base_mode == "allnoconfig":
        return ""
    path = base_file(paths, profile)
    text = path.read_text(errors="replace")
    if not parse_config(text):
        raise UserError(f"{display_path(path)}: not a kernel config", "it has no line CONFIG_...=...")
    return text


def coming_release(space: Workspace, config: str) -> str:
    """Return the release that the kernel will have with `config`, before it is compiled.

    Its parts are those of the kernel's scripts/setlocalversion.
    """
    tree = space.kbuild.tree
    version = space.kbuild.run([f"O={space.build}", "-s", "kernelversion"]).stdout.strip()
    files = sorted(path for path in tree.glob("localversion*") if not path.name.endswith("~"))
    suffix = "".join(path.read_text().rstrip("\n") for path in files)
    own = parse_config(config).get("LOCALVERSION", "").strip('"')
    return f"{version}{suffix}{own}"


def misses(space: Workspace, merged: Merged) -> list[Request]:
    """Return the requests that did not take effect."""
    final = parse_config(merged.config)
    missed = {
        *find_misses(merged.asked, final),
        *_unset_unknown_symbols(space.kbuild, merged.asked, final),
    }
    return [request for request in merged.asked if request in missed]


def overridden_by_choice(space: Workspace, merged: Merged) -> dict[str, Request]:
    """Return by symbol the requests that override lines of the base: other members of the same choice.

    Raises `UserError` that explains each other request that did not take effect.
    """
    missed = misses(space, merged)
    if not missed:
        return {}
    (space.work / "merged.config").write_text(merged.text)
    symbols, names = kconfig_explain.ask(space, "merged.config", [miss.symbol for miss in missed])
    by_symbol = {request.symbol: request for request in merged.asked}
    overridden = {}
    for miss in missed:
        holder = by_symbol.get((symbols[miss.symbol].choice or ("", ""))[1])
        if miss in merged.base_requests and holder and holder not in merged.base_requests:
            overridden[miss.symbol] = holder
    notes, final = kconfig_explain.load_notes(), parse_config(merged.config)
    blocks = [
        kconfig_explain.describe(miss, symbols[miss.symbol], final, names, notes, by_symbol)
        for miss in missed
        if miss.symbol not in overridden
    ]
    if blocks:
        raise UserError(
            f"{len(blocks)} of {len(merged.asked)} requested kernel config lines did not take effect",
            "request also what they depend on, or remove the lines",
            "\n".join(f"  {block}" for block in blocks),
        )
    return overridden


def _unset_unknown_symbols(
    make: Kbuild, requests: Iterable[Request], final: Mapping[str, str]
) -> list[Request]:
    """Return the `is not set` requests for symbols that the tree does not define (likely misspelt)."""
    doubtful = [request for request in requests if request.value == "n" and request.symbol not in final]
    known = defined_symbols(make.tree, make.arch) if doubtful else set()
    return [request for request in doubtful if request.symbol not in known]


def defined_symbols(linux: Path, arch: str) -> set[str]:
    """Return the symbols that the tree's Kconfig files define; arch: the folder below arch/."""
    symbols: set[str] = set()
    for folder, folders, files in os.walk(linux):
        if Path(folder) == linux / "arch":
            folders[:] = [arch]
        if Path(folder) == linux / "scripts":
            folders[:] = [name for name in folders if name != "kconfig"]  # has test data
        for name in files:
            if name.startswith("Kconfig"):
                symbols.update(DEFINITION.findall((Path(folder) / name).read_text(errors="replace")))
    return symbols


def format_report(
    base_requests: Iterable[Request],
    requests: Iterable[Request],
    overridden: Mapping[str, Request],
    base: Mapping[str, str],
    final: Mapping[str, str],
    needed: Mapping[str, str],
) -> str:
    """Return a line per requested symbol: where, asked, got, via.

    `overridden` gives by symbol the request that overrides a line of the base; `needed` is the
    result of `make savedefconfig`, the minimal lines from which the config follows.  `via`
    is `line` if the symbol is among them, and `default` if default or select alone would
    give that value; `base` marks values that the base config had already.
    """
    rows = [("# where", "asked", "got", "via")]
    last = {request.symbol: request for request in requests}
    for request in [*base_requests, *last.values()]:
        got = final.get(request.symbol, "n")
        via = "line" if request.symbol in needed else "default"
        if not same_value(request.value, got):
            via = f"overridden at {overridden[request.symbol].where}"
        elif request.symbol in last and same_value(base.get(request.symbol, "n"), got):
            via += ", base"
        rows.append((request.where, request.text, config_line(request.symbol, got), via))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(
        "  ".join([*(row[column].ljust(widths[column]) for column in range(3)), row[3]]) + "\n"
        for row in rows
    )

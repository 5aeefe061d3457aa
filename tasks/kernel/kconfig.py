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
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.config import release
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.kernel import installed, kbuild, kconfig_explain
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
from tasks.kernel.requests import base_file, check_conflicts, profile_requests
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic, write_if_changed
from tasks.util.log import logger

DEFINITION = re.compile(r"^\s*(?:menu)?config\s+(\w+)", re.ASCII | re.MULTILINE)


def complete_base(settings: Settings) -> None:
    """Write base.config: the profile's base config, with a value for every symbol of the kernel tree.

    Raises `UserError` for a base that does not exist, is not a config, or contradicts itself.
    """
    with _workspace(settings, "kconfig-base") as workspace:
        if settings.profile.kernel.base_mode == "allnoconfig":
            path = base_file(settings.paths, settings.profile)
            check_conflicts(read_fragment(path))
            # make would expand a `$` in the checkout's path.
            asked = workspace.work / "asked.config"
            shutil.copyfile(path, asked)
            workspace.make("base.config", "allnoconfig", f"KCONFIG_ALLCONFIG={asked}")
        else:
            (workspace.work / "base.config").write_text(_imported_base(settings.paths, settings.profile))
            workspace.make("base.config", "olddefconfig")
            _tell_of_own_symbols(settings, workspace.work / "base.config")
        write_if_changed(
            settings.paths.config.with_name("base.config"), (workspace.work / "base.config").read_bytes()
        )


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


def merge(settings: Settings) -> None:
    """Merge the fragments onto base.config, and check that every requested line took effect.

    Raises `UserError` for an unknown or malformed fragment, for lines that
    contradict each other, and for lines that did not take effect, each of which is explained; and if
    the kernel will have another release than the profile declares.
    """
    requests = profile_requests(settings.paths, settings.profile)
    base_requests, original = _base_requests(settings.paths, settings.profile)
    with _workspace(settings, "kconfig") as workspace:
        base = settings.paths.config.with_name("base.config").read_text()
        asked = _effective_requests(base_requests, requests)
        merged, config = workspace.work / "merged.config", workspace.work / "config"
        # The base's own lines are requested again: a fragment may set what they depend on.
        merged.write_text(apply_requests(base, asked))
        shutil.copyfile(merged, config)
        workspace.make("config", "olddefconfig")
        overridden = _overridden_by_choice(workspace, asked, base_requests)
        asked = [request for request in asked if request.symbol not in overridden]
        if settings.profile.kernel.release:
            installed.check_release(settings.paths, settings.profile, coming_release(workspace))
        (workspace.work / "diff.txt").write_text(format_diff(original, base, config.read_text(), asked))
        for name in ("config", "diff.txt"):
            write_if_changed(settings.paths.config.with_name(name), (workspace.work / name).read_bytes())
    logger.info(f"kconfig: {len(asked)} requested lines hold")


def print_report(settings: Settings) -> None:
    """Print a line for each requested line: its place, its value in the result, and what set that.

    Raises `UserError` if there is no config yet.
    """
    if not settings.paths.config.is_file():
        raise UserError(f"{settings.paths.config} does not exist", "./doit kconfig")
    requests = profile_requests(settings.paths, settings.profile)
    base_requests, _original = _base_requests(settings.paths, settings.profile)
    with _workspace(settings, "kconfig-report") as workspace:
        base = settings.paths.config.with_name("base.config").read_text()
        asked = _effective_requests(base_requests, requests)
        (workspace.work / "merged.config").write_text(apply_requests(base, asked))
        shutil.copyfile(settings.paths.config, workspace.work / "config")
        workspace.make("config", "savedefconfig")
        overridden = {request.symbol: request for request in requests}
        overridden |= _overridden_by_choice(workspace, asked, base_requests)
        needed = parse_config((workspace.build / "defconfig").read_text())
        final = parse_config(settings.paths.config.read_text())
        report = format_report(base_requests, requests, overridden, parse_config(base), final, needed)
    print(report.rstrip("\n"))


def _effective_requests(base_requests: Iterable[Request], requests: Sequence[Request]) -> list[Request]:
    """Return all requests, without those of the base that a fragment overrides."""
    changed = {request.symbol for request in requests}
    return [*(request for request in base_requests if request.symbol not in changed), *requests]


def _base_requests(paths: Paths, profile: Profile) -> tuple[list[Request], str]:
    """Return the requests of the base config, and the text of an imported base ("" if it is none).

    An imported base (`olddefconfig`) was made for another kernel.  It has thousands of lines
    that this kernel may not know, so none of them is a request.
    """
    if profile.kernel.base_mode == "allnoconfig":
        return read_fragment(base_file(paths, profile)), ""
    return [], _imported_base(paths, profile)


def _imported_base(paths: Paths, profile: Profile) -> str:
    """Return the text of a base config made for another kernel; raise `UserError` if it is no config."""
    path = base_file(paths, profile)
    text = path.read_text(errors="replace")
    if not parse_config(text):
        raise UserError(f"{display_path(path)}: not a kernel config", "it has no line CONFIG_...=...")
    return text


@dataclass(frozen=True)
class Workspace:
    """The folders of one run of the stage.

    kbuild: the kernel's make; build: the folder in which kbuild compiles `conf`;
    work: the folder of the configs; log: the stage's log file.
    """

    kbuild: Kbuild
    build: Path
    work: Path
    log: Path

    def make(self, config: str, goal: str, *arguments: str) -> None:
        """Run the kernel's make for `goal` on the file `config` of `work`."""
        where = [f"O={self.build}", f"KCONFIG_CONFIG={self.work / config}"]
        # Kconfig runs the compiler a hundred times and compiles nothing: a launcher only costs time.
        where.append(f"CC={self.kbuild.toolchain.compiler}")
        self.kbuild.run([*where, *arguments, goal], log=self.log)


def coming_release(workspace: Workspace) -> str:
    """Return the release that the kernel will have with `work/config`, before it is compiled.

    Its parts are those of the kernel's scripts/setlocalversion.
    """
    tree = workspace.kbuild.tree
    version = workspace.kbuild.run([f"O={workspace.build}", "-s", "kernelversion"]).stdout.strip()
    files = sorted(path for path in tree.glob("localversion*") if not path.name.endswith("~"))
    suffix = "".join(path.read_text().rstrip("\n") for path in files)
    own = parse_config((workspace.work / "config").read_text()).get("LOCALVERSION", "").strip('"')
    return f"{version}{suffix}{own}"


@contextmanager
def _workspace(settings: Settings, stage: str) -> Iterator[Workspace]:
    """Yield a workspace with an empty `work` folder; keep `conf` for the next run if this one succeeds.

    Raises `UserError` if there is no kernel tree.
    """
    if not (settings.paths.linux / "Kconfig").is_file():
        raise UserError(f"{settings.paths.linux} is not a kernel tree", "./doit linux")
    workspace = Workspace(
        kbuild.of_profile(settings),
        build=settings.paths.config.with_name(".build"),
        work=settings.paths.config.with_name(".work"),
        log=settings.paths.logs / f"{stage}.log",
    )
    remove_tree(workspace.work)
    workspace.work.mkdir(parents=True)
    workspace.log.unlink(missing_ok=True)
    state = workspace.kbuild.state
    stamp = _prepare_build_folder(workspace.build, state)
    try:
        yield workspace
    finally:
        remove_tree(workspace.work)
    write_atomic(stamp, state)


def _prepare_build_folder(build: Path, state: str) -> Path:
    """Make the folder in which kbuild compiles `conf`; return the path of the stamp for a good run.

    The folder is emptied if an interrupted run or another tree wrote it.  It is not the kernel's
    build folder: `conf` there may be of an older source, and would write an auto.conf of a
    config that is not final.
    """
    stamp = build / ".tcbuild.state"
    if not stamp.is_file() or stamp.read_text() != state:
        remove_tree(build)
    stamp.unlink(missing_ok=True)
    build.mkdir(exist_ok=True)
    return stamp


def _overridden_by_choice(
    workspace: Workspace, asked: Sequence[Request], base_requests: Sequence[Request]
) -> dict[str, Request]:
    """Return by symbol the requests that override lines of the base: other members of the same choice.

    Raises `UserError` that explains each other request that did not take effect in `work/config`.
    """
    final = parse_config((workspace.work / "config").read_text())
    missed = {*find_misses(asked, final), *_unset_unknown_symbols(workspace.kbuild, asked, final)}
    if not missed:
        return {}
    misses = [request for request in asked if request in missed]
    merged = workspace.work / "merged.config"
    symbols, names = kconfig_explain.ask(
        workspace.kbuild, workspace.build, merged, misses, workspace.work, workspace.log
    )
    by_symbol = {request.symbol: request for request in asked}
    overridden = {}
    for miss in misses:
        holder = by_symbol.get((symbols[miss.symbol].choice or ("", ""))[1])
        if miss in base_requests and holder and holder not in base_requests:
            overridden[miss.symbol] = holder
    notes = kconfig_explain.load_notes()
    blocks = [
        kconfig_explain.describe(miss, symbols[miss.symbol], final, names, notes, by_symbol)
        for miss in misses
        if miss.symbol not in overridden
    ]
    if blocks:
        raise UserError(
            f"{len(blocks)} of {len(asked)} requested kernel config lines did not take effect",
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


def format_diff(original: str, base: str, final: str, requests: Iterable[Request]) -> str:
    """Return the differences between the base config and the result, sorted, in three parts.

    `original` is the text of an imported base ("" if it is none), `base` that of
    base.config, `final` that of the result.  The parts: changes that a line asked for,
    changes by select or default, and the changes of olddefconfig to the imported base.
    Symbols that only describe the toolchain are left out.
    """
    before, after = parse_config(base), parse_config(final)
    asked = {request.symbol: request for request in requests}
    changed = _changed_symbols(before, after)
    lines = ["# asked for"]
    lines += [
        f"{_change_line(name, before, after)}  ({asked[name].where})" for name in changed if name in asked
    ]
    lines += ["", "# followed by itself (select or default)"]
    lines += [_change_line(name, before, after) for name in changed if name not in asked]
    if original:
        first = parse_config(original)
        lines += ["", "# base file, as this kernel version reads it"]
        lines += [_change_line(name, first, before) for name in _changed_symbols(first, before)]
    return "\n".join(lines) + "\n"


def _changed_symbols(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    with CHECKOUT.find("kconfig", "notes.toml").open("rb") as stream:
        toolchain = re.compile("|".join(tomllib.load(stream)["toolchain"]["patterns"]))
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "n") != after.get(name, "n") and not toolchain.fullmatch(name)
    ]


def _change_line(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    old, new = before.get(name, "n"), after.get(name, "n")
    if old == "n":
        return f"+ CONFIG_{name}={new}"
    return f"- CONFIG_{name}={old}" if new == "n" else f"~ CONFIG_{name}={old} -> {new}"


def print_diff(paths: Paths) -> None:
    """Print diff.txt of the last good run.  Raises `UserError` if there is none."""
    path = paths.config.with_name("diff.txt")
    if not path.is_file():
        raise UserError(f"{path} does not exist", "./doit kconfig")
    print(path.read_text().rstrip("\n"))

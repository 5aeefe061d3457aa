"""The kconfig stage: base config, fragments on top, and the proof that every line holds.

Writes `kconfig/` in the output folder: `base.config` (its own task: no fragment changes
it), `config` (the proven result) and `diff.txt` (what changed against the base).
All work is done on copies; a failing run leaves the files of the last good one.
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

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.kernel import kbuild, kconfig_explain
from tasks.kernel.fragments import (
    FOLDER,
    Request,
    config_line,
    find_conflicts,
    find_misses,
    fragment_files,
    lay_over,
    parse_config,
    read_fragment,
    same_value,
    shown,
)
from tasks.kernel.kbuild import Kbuild
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.verified_digests import digest

__all__ = [
    "base_file",
    "format_diff",
    "format_report",
    "fragment_files",
    "merge",
    "print_diff",
    "read_fragment",
]

DEFINITION = re.compile(r"^\s*(?:menu)?config\s+(\w+)", re.ASCII | re.MULTILINE)


def complete_base(settings: Settings) -> None:
    """Write base.config: the profile's base config, complete for the kernel's tree.

    Raises `UserError` for a base that does not exist, is no config, or contradicts itself.
    """
    with _workshop(settings, "kconfig-base") as shop:
        if settings.profile.kernel.base_mode == "allnoconfig":
            path = base_file(settings)
            _refuse_conflicts(read_fragment(path))
            asked = f"KCONFIG_ALLCONFIG={path.absolute()}"
            shop.make("base.config", "allnoconfig", asked, sees=[path.absolute()])
        else:
            (shop.work / "base.config").write_text(_foreign(settings))
            shop.make("base.config", "olddefconfig")
        write_if_changed(settings.config.with_name("base.config"), (shop.work / "base.config").read_bytes())


def merge(settings: Settings) -> None:
    """Lay the fragments over base.config and prove every line asked.

    Raises `UserError` for an unknown or malformed fragment, for lines that
    contradict each other, and for lines that did not take effect; the last with
    an explanation of each.
    """
    requests = _requests(settings)
    base_requests, original = _of_base(settings)
    with _workshop(settings, "kconfig") as shop:
        base = settings.config.with_name("base.config").read_text()
        asked = _in_force(base_requests, requests)
        merged, config = shop.work / "merged.config", shop.work / "config"
        # The base's own lines once more: what they depend on may come with a fragment.
        merged.write_text(lay_over(base, asked))
        shutil.copyfile(merged, config)
        shop.make("config", "olddefconfig")
        outvoted = _outvoted(shop, asked, base_requests)
        asked = [request for request in asked if request.symbol not in outvoted]
        (shop.work / "diff.txt").write_text(format_diff(original, base, config.read_text(), asked))
        for name in ("config", "diff.txt"):
            write_if_changed(settings.config.with_name(name), (shop.work / name).read_bytes())
    logger.info(f"kconfig: {len(asked)} requested lines hold")


def print_report(settings: Settings) -> None:
    """Print a line for each line asked: where, what it became, and by what.

    Raises `UserError` if no config was made yet.
    """
    if not settings.config.is_file():
        raise UserError(f"{settings.config} does not exist", "./doit kconfig")
    requests = _requests(settings)
    base_requests, _original = _of_base(settings)
    with _workshop(settings, "kconfig-report") as shop:
        base = settings.config.with_name("base.config").read_text()
        asked = _in_force(base_requests, requests)
        (shop.work / "merged.config").write_text(lay_over(base, asked))
        shutil.copyfile(settings.config, shop.work / "config")
        shop.make("config", "savedefconfig")
        overridden = {request.symbol: request for request in requests}
        overridden |= _outvoted(shop, asked, base_requests)
        needed = parse_config((shop.build / "defconfig").read_text())
        final = parse_config(settings.config.read_text())
        report = format_report(base_requests, requests, overridden, parse_config(base), final, needed)
    print(report.rstrip("\n"))


def _requests(settings: Settings) -> list[Request]:
    """Return what the profile and its fragments ask, free of contradictions."""
    requests = implied_requests(settings)
    for path in fragment_files(settings):
        requests += read_fragment(path)
    _refuse_conflicts(requests)
    return requests


def _in_force(base_requests: Iterable[Request], requests: Sequence[Request]) -> list[Request]:
    """Return all that holds: a fragment may change what the base says."""
    changed = {request.symbol for request in requests}
    return [*(request for request in base_requests if request.symbol not in changed), *requests]


def _of_base(settings: Settings) -> tuple[list[Request], str]:
    """Return what the base asks, and the text of one that was made elsewhere.

    A config made for another kernel (`olddefconfig`) holds thousands of lines that
    this one may not know, and it asks for none of them in particular.
    """
    if settings.profile.kernel.base_mode == "allnoconfig":
        return read_fragment(base_file(settings)), ""
    return [], _foreign(settings)


def _foreign(settings: Settings) -> str:
    path = base_file(settings)
    text = path.read_text(errors="replace")
    if not parse_config(text):
        raise UserError(f"{shown(path)}: not a kernel config", "it has no line CONFIG_...=...")
    return text


@dataclass(frozen=True)
class Workshop:
    """Where configs are made: `work` holds them, `log` is the stage's.

    kbuild: the kernel's make; build: the folder in which it has `conf` compiled.
    """

    kbuild: Kbuild
    build: Path
    work: Path
    log: Path

    def make(self, config: str, goal: str, *arguments: str, sees: Sequence[Path] = ()) -> None:
        """Run the kernel's make for `goal` on the file `config` of `work`."""
        where = [f"O={self.build}", f"KCONFIG_CONFIG={self.work / config}"]
        # Kconfig's hundred questions to the compiler compile nothing: a launcher only costs time.
        where.append(f"CC={self.kbuild.toolchain.compiler}")
        self.kbuild.run([*where, *arguments, goal], log=self.log, sees=sees)


@contextmanager
def _workshop(settings: Settings, stage: str) -> Iterator[Workshop]:
    """Yield an empty folder for configs of `stage`, and have make's `conf` kept for the next time.

    What a cut run or another tree has left is not used.  Raises `UserError` if there is no tree.
    """
    if not (settings.linux / "Kconfig").is_file():
        raise UserError(f"{settings.linux} is not a kernel tree", "./doit linux")
    shop = Workshop(
        kbuild.of_profile(settings),
        build=settings.config.with_name(".build"),
        work=settings.config.with_name(".work"),
        log=settings.logs / f"{stage}.log",
    )
    remove_tree(shop.work)
    shop.work.mkdir(parents=True)
    shop.log.unlink(missing_ok=True)
    state = _tree_state(shop.kbuild)
    stamp = _prepare_build_folder(shop.build, state)
    try:
        yield shop
    finally:
        remove_tree(shop.work)
    write_atomic(stamp, state)


def _tree_state(make: Kbuild) -> str:
    """Return what tells one kernel tree and toolchain from another."""
    stamps = [make.tree / ".tcbuild" / name for name in ("source", "series")]
    known = [stamp.read_bytes() for stamp in stamps if stamp.is_file()]  # not in a tree put there by hand
    return digest(str(make.tree).encode(), *known, make.toolchain.fingerprint.encode())


def _prepare_build_folder(build: Path, state: str) -> Path:
    """Make the folder in which make has `conf` compiled; return the stamp it gets when all went well.

    Not the kernel's own: there `conf` could be one of an older source, and would leave an
    auto.conf of a config not yet final.  What a cut run or another tree has left is not used.
    """
    stamp = build / ".tcbuild.state"
    if not stamp.is_file() or stamp.read_text() != state:
        remove_tree(build)
    stamp.unlink(missing_ok=True)
    build.mkdir(exist_ok=True)
    return stamp


def implied_requests(settings: Settings) -> list[Request]:
    """Return what the profile itself asks of the config: the release string.

    Raises `UserError` for a localversion that cannot be part of one.
    """
    local, profile = settings.profile.kernel.localversion, shown(settings.profile_file)
    requests = [Request("LOCALVERSION_AUTO", "n", "tcbuild, no git state in the release")]
    if not re.fullmatch(r"[A-Za-z0-9._+~-]*", local):
        raise UserError(
            f"{profile}: kernel.localversion {local!r} cannot be part of a release",
            "it ends in a folder's name: use letters, digits and . _ + ~ -",
        )
    if local:
        requests.append(Request("LOCALVERSION", f'"{local}"', f"{profile}, kernel.localversion"))
    return requests


def base_file(settings: Settings) -> Path:
    """Return the profile's base config: a file of kconfig/ by name, or a fetched source.

    Raises `UserError` if it does not exist.
    """
    base = settings.profile.kernel.base
    if not isinstance(base, str):
        return inputs.source_file(settings, base)
    path = FOLDER / base
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in FOLDER.glob("base-*.config")))
        raise UserError(f"base config {base!r} does not exist", f"in kconfig/: {known}")
    return path


def _refuse_conflicts(requests: Iterable[Request]) -> None:
    conflicts = find_conflicts(requests)
    if conflicts:
        blocks = [
            f"  {earlier.where}: {earlier.text}\n    overridden at {later.where}: {later.text}"
            for earlier, later in conflicts
        ]
        raise UserError(
            f"{len(conflicts)} requested kernel option(s) are asked two different values",
            "remove one of the two lines",
            "\n".join(blocks),
        )


def _outvoted(
    shop: Workshop, asked: Sequence[Request], base_requests: Sequence[Request]
) -> dict[str, Request]:
    """Return, by symbol, what overrides lines of the base: another member of the same choice.

    Raises `UserError` with an explanation of each other line that does not hold in `work/config`.
    """
    final = parse_config((shop.work / "config").read_text())
    missed = {*find_misses(asked, final), *_unknown_unset(shop.kbuild.tree, asked, final)}
    if not missed:
        return {}
    misses = [request for request in asked if request in missed]
    merged = shop.work / "merged.config"
    symbols, names = kconfig_explain.ask(shop.kbuild, shop.build, merged, misses, shop.work, shop.log)
    by_symbol = {request.symbol: request for request in asked}
    outvoted = {}
    for miss in misses:
        holder = by_symbol.get((symbols[miss.symbol].choice or ("", ""))[1])
        if miss in base_requests and holder and holder not in base_requests:
            outvoted[miss.symbol] = holder
    notes = kconfig_explain.load_notes()
    blocks = [
        kconfig_explain.describe(miss, symbols[miss.symbol], final, names, notes, by_symbol)
        for miss in misses
        if miss.symbol not in outvoted
    ]
    if blocks:
        raise UserError(
            f"{len(blocks)} of {len(asked)} requested kernel config lines did not take effect",
            "ask also for what they depend on, or remove the lines",
            "\n".join(f"  {block}" for block in blocks),
        )
    return outvoted


def _unknown_unset(linux: Path, requests: Iterable[Request], final: Mapping[str, str]) -> list[Request]:
    """Return the `is not set` requests for symbols the tree does not have: misspelt, most likely."""
    doubtful = [request for request in requests if request.value == "n" and request.symbol not in final]
    known = defined_symbols(linux) if doubtful else set()
    return [request for request in doubtful if request.symbol not in known]


def defined_symbols(linux: Path) -> set[str]:
    """Return the symbols that the tree's Kconfig files define for x86."""
    symbols: set[str] = set()
    for folder, folders, files in os.walk(linux):
        if Path(folder) == linux / "arch":
            folders[:] = ["x86"]
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
    """Return a line per requested symbol: where, asked, got, and by what it came to hold.

    `overridden` says by which request a base's line is overridden; `needed` is the
    result of `make savedefconfig`, the lines that make the config what it is.  `via`
    is `line` if the symbol is among them, `default` if it would have that value by
    default or select alone; `base` marks what the base config already had.
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
    """Return what separates the result from the base config, sorted, in three parts.

    `original` is the text of a base file made elsewhere ("" if the base was made
    here), `base` that of base.config, `final` that of the result.  The parts: asked
    for by a line, followed by itself (select or default), and what olddefconfig
    made of the original in this tree.  Facts about the compiler are left out.
    """
    before, after = parse_config(base), parse_config(final)
    asked = {request.symbol: request for request in requests}
    changed = _changed(before, after)
    lines = ["# asked for"]
    lines += [f"{_change(name, before, after)}  ({asked[name].where})" for name in changed if name in asked]
    lines += ["", "# followed by itself (select or default)"]
    lines += [_change(name, before, after) for name in changed if name not in asked]
    if original:
        first = parse_config(original)
        lines += ["", "# base file, as this kernel version reads it"]
        lines += [_change(name, first, before) for name in _changed(first, before)]
    return "\n".join(lines) + "\n"


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    with (FOLDER / "notes.toml").open("rb") as stream:
        toolchain = re.compile("|".join(tomllib.load(stream)["toolchain"]["patterns"]))
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "n") != after.get(name, "n") and not toolchain.fullmatch(name)
    ]


def _change(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    old, new = before.get(name, "n"), after.get(name, "n")
    if old == "n":
        return f"+ CONFIG_{name}={new}"
    return f"- CONFIG_{name}={old}" if new == "n" else f"~ CONFIG_{name}={old} -> {new}"


def print_diff(settings: Settings) -> None:
    """Print diff.txt of the last good run.  Raises `UserError` if there was none."""
    path = settings.config.with_name("diff.txt")
    if not path.is_file():
        raise UserError(f"{path} does not exist", "./doit kconfig")
    print(path.read_text().rstrip("\n"))

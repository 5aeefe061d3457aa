# SPDX-License-Identifier: MIT
"""`./doit reproduce`: prove that the results do not depend on user, place and time of the build.

It copies the checkout twice and builds each copy with `./doit`, the second one in a different
environment (tasks/provenance/reproduce/variations.py).  The second build has its own cache, so
it cannot take over a result of the first.  Then it compares every artefact, and reports the first
member and offset that differ (tasks/provenance/reproduce/compare.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from tasks.config import profile
from tasks.config.settings import NO_CACHE, SHARED_VARIABLE, Paths, Settings
from tasks.provenance.reproduce import compare, variations
from tasks.provenance.reproduce.variations import Start
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import TAIL_LINES, end_group, run

GOALS = ("iso", "disk", "tcz")
# Patterns below the output folder: the images and their parts.
ARTEFACTS = (
    *("*.iso", "*.img", "*.qcow2", "*.gz", "images.lst", "kernel/**/*", "tcz/*", "mirror/**/*"),
    *("kconfig/config", "rootfs.index"),
)
# Links of `make modules_install` to folders of the build machine; no image has them.
LINKS = ("build", "source")
LARGE_FOLDERS = ("linux", "build")
SHOWN = 10
VIEWER = "diffoscope"
VIEWER_SECONDS = "600"


def reproduce(
    settings: Settings,
    goals: Sequence[str] = (),
    only: str = "",
    leave_out: str = "",
    ccache: bool = False,
    keep: bool = False,
) -> None:
    """Build the tasks `goals` (by default iso, disk, tcz) twice and compare the results.

    only, leave_out: variations to make, or not to make, separated by commas; ccache: both builds
    use the builder's ccache; keep: keep both trees.  Writes
    `artifacts/PROFILE/reproduce/report.json`.  Raises `UserError` if an artefact differs.
    """
    top = settings.paths.output / "reproduce"
    first, second = Start(top / "a"), Start(top / "the-second-of-the-two-builds")
    skipped = _split_names(leave_out)
    if only:
        wanted = _split_names(only)
        unknown = [name for name in wanted if name not in (*variations.CHANGES, "folder")]
        if unknown:
            raise UserError(
                f"--only {unknown[0]}: no such variation", f"known variations: {_variation_names()}"
            )
        skipped += tuple(name for name in variations.CHANGES if name not in wanted)
    _remove_previous(top, first, second)
    top.mkdir(parents=True)
    variations.vary(second, skipped, ccache)
    try:
        words = list(goals) or list(GOALS)
        one = _build(settings, first, words, None)
        cache = None if ccache else _own_cache(settings.paths, second)
        # Both builds use the same inputs, even if pinned ones have left the mirrors.
        locked = second.folder / one.relative_to(first.folder) / settings.paths.used_lock.name
        locked.parent.mkdir(parents=True, exist_ok=True)
        if (one / locked.name).is_file():
            shutil.copyfile(one / locked.name, locked)
        other = _build(settings, second, words, cache)
        names, differing = compare_trees(one, other)
        _report(top, second, names, differing)
        if differing:
            raise _difference_error(top, one, other, differing)
    finally:
        if not keep:
            for start in (first, second):
                remove_tree(start.folder)


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _variation_names() -> str:
    return ", ".join(variations.CHANGES)


def _remove_previous(top: Path, *starts: Start) -> None:
    """Remove the files of an earlier run, its mounts first: a mount shows the files of a tree."""
    for start in starts:
        variations.unmount(start.folder.with_name(f"{start.folder.name}-reversed"))
    remove_tree(top)


def copy_checkout(root: Path, start: Start) -> None:
    """Copy the files of a git checkout but ignored ones, with the modes of a clone under `start.umask`.

    Of what a wheel installed, the copy is what the checkout was, as far as it is in the wheel.
    Raises `UserError` if `root` is neither.
    """
    names = _installed_files(root) if (root / CHECKOUT.wheel.name).exists() else _git_files(root)
    for name in (name for name in sorted(names, reverse=True) if not name.startswith("artifacts/")):
        source, target = root / name, start.folder / name
        if not os.path.lexists(source):
            continue  # removed, but not committed yet
        for parent in reversed(target.relative_to(start.folder).parents):
            (start.folder / parent).mkdir(mode=0o777 & ~start.umask, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod((0o777 if os.access(source, os.X_OK) else 0o666) & ~start.umask)


def _installed_files(root: Path) -> list[str]:
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [str(path.relative_to(root)) for path in found if path.name != CHECKOUT.wheel.name]


def _git_files(root: Path) -> list[str]:
    listed = run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        hint=f"both builds get the files that git lists: git init in {root} if it is no repository",
    ).stdout
    return [name for name in listed.split("\0") if name]


def _own_cache(paths: Paths, start: Start) -> Path:
    """Make a cache folder with the downloads and build roots, without build results; return it."""
    cache = start.folder / ".cache-of-the-second"
    cache.mkdir(parents=True)
    for path in sorted(paths.cache.iterdir()):
        if path.name == "downloads" or path.name.startswith("toolchain"):
            # No hard links: through them, the other user could change the builder's files.
            shutil.copytree(path, cache / path.name, symlinks=True)
    return cache


def _build(settings: Settings, start: Start, goals: list[str], cache: Path | None) -> Path:
    """Build in a copy of the checkout; return its output folder."""
    copy_checkout(CHECKOUT.root, start)
    copies = [f"tree{number}" for number in range(1, len(CHECKOUT.trees) + 1)]
    for tree, name in zip(CHECKOUT.trees, copies, strict=True):
        copy_checkout(tree, dataclasses.replace(start, folder=start.folder / name))
    home = start.folder / "home"
    home.mkdir()
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **{
            name: os.environ[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") if name in os.environ
        },
        "CI": "1",
        SHARED_VARIABLE: NO_CACHE,  # the second build would take the results of the first from there
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": str(_packages(start)),
        **start.environment,
    }
    if start.user is not None:
        _change_owner(start.folder, start.user)
    started = time.monotonic()
    with variations.place(start) as folder:
        environment["HOME"] = str(folder / "home")
        own = folder / cache.relative_to(start.folder) if cache else settings.paths.cache
        environment["TCBUILD_CACHE"] = str(own)
        program = [start.python, "-m", "tasks.cli.main"]
        words = [
            *program,
            *goals,
            f"profile={settings.paths.name}",
            *command_variables(settings),
            *(f"tree={folder / name}" for name in copies),
        ]
        # The first build fetches missing inputs; the second must find all of them.
        words += ["offline=1"] if cache else []
        log = start.folder.with_name(f"{start.folder.name}.log")
        logger.info(f"reproduce: building {' '.join(goals)} in {folder}")
        _run_build(variations.command(start, words), folder, environment, log)
    logger.info(f"reproduce: built in {time.monotonic() - started:.0f} s")
    output = start.folder.joinpath(*copies[-1:], "artifacts", settings.paths.name)
    if start.user is not None:
        _change_owner(start.folder, os.geteuid())
    for name in LARGE_FOLDERS:
        remove_tree(output / name)
    return output


def command_variables(settings: Settings) -> list[str]:
    """Return the variables of the command line that decide what is built."""
    chosen, written = settings.profile, profile.load(settings.paths.name)
    found = ["frozen=1"] if settings.network.frozen else []
    if chosen.kernel.fragments != written.kernel.fragments:
        found.append(f"fragments={','.join(chosen.kernel.fragments)}")
    if (chosen.toolchain, chosen.kernel.toolchain) != (written.toolchain, written.kernel.toolchain):
        found.append(f"toolchain={chosen.toolchain}")
    return found


def _packages(start: Start) -> Path:
    """Return a folder with the Python packages, one that the build's user can read."""
    ours = Path(sysconfig.get_path("purelib"))
    if start.user is None:
        return ours
    target = start.folder / ".packages"
    shutil.copytree(ours, target, ignore=shutil.ignore_patterns("__pycache__", "mypy*", "pip", "selenium"))
    return target


def _change_owner(folder: Path, user: int) -> None:
    """Make `user` the owner of `folder` and of everything in it."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)


def _run_build(words: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    """Run a build, not by `run`: its fixed environment is a part of what is tested here."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            end_group(process)
            raise
    if status != 0:
        how = (
            f"was ended by {signal.Signals(-status).name}"
            if status < 0
            else f"failed with exit status {status}"
        )
        tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        detail = "\n".join([f"  log: {log}", *(f"  | {line}" for line in tail)])
        raise UserError(f"the build in {folder} {how}", "the log says why", detail)


def artefacts(output: Path) -> dict[str, Path]:
    """Return every artefact of a build by its path below the output folder."""
    found = {path for pattern in ARTEFACTS for path in output.glob(pattern)}
    return {
        str(path.relative_to(output)): path
        for path in found
        if (path.is_file() or path.is_symlink()) and path.name not in LINKS
    }


def compare_trees(one: Path, other: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of all artefacts, and name -> first difference of those that differ.

    Raises `UserError` if nothing was built: that would prove nothing.
    """
    a, b = artefacts(one), artefacts(other)
    names = sorted(a.keys() | b.keys())
    if not names:
        raise UserError("neither build made anything to compare", "name tasks that build something")
    differing = {}
    for name in names:
        if name not in a or name not in b:
            differing[name] = f"only the {'first' if name in a else 'second'} build has it"
        elif a[name].is_symlink() or b[name].is_symlink():
            targets = [os.readlink(side[name]) if side[name].is_symlink() else "a file" for side in (a, b)]
            if targets[0] != targets[1]:
                differing[name] = f"links to {targets[0]} and to {targets[1]}"
        else:
            place = compare.difference(a[name], b[name])
            if place:
                differing[name] = place
    return names, differing


def _report(top: Path, start: Start, names: list[str], differing: dict[str, str]) -> None:
    for name, how in start.varied.items():
        logger.info(f"reproduce: varied: {name}: {how}")
    for name, why in start.not_varied.items():
        logger.info(f"reproduce: not varied: {name}: {why}")
    report = {
        "artefacts": names,
        "differing": differing,
        "varied": start.varied,
        "not varied": start.not_varied,
    }
    write_atomic(top / "report.json", json.dumps(report, indent=2) + "\n")
    text = f"reproduce: {len(differing)} of {len(names)} artefacts differ over {len(start.varied)} variations"
    logger.info(text)


def _difference_error(top: Path, one: Path, other: Path, differing: dict[str, str]) -> UserError:
    """Copy the artefacts that differ, run diffoscope on one, and return the error that names them."""
    # The smallest artefact first: a module that differs is why the core and the ISO differ.
    sizes = {name: (one / name).stat().st_size if (one / name).is_file() else 0 for name in differing}
    order = sorted(differing, key=lambda name: (sizes[name], name))
    for side, output in (("first", one), ("second", other)):
        for name in order:
            target = top / "differing" / side / name
            if (output / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(output / name, target)
    lines = [f"  {name}: {differing[name]}" for name in order[:SHOWN]]
    lines += [f"  and {len(order) - SHOWN} more (report.json)"] if order[SHOWN:] else []
    both = [name for name in order if all((side / name).is_file() for side in (one, other))]
    if both and shutil.which(VIEWER):
        text = top / f"{VIEWER}.txt"
        pair = [top / "differing" / side / both[0] for side in ("first", "second")]
        run(["timeout", VIEWER_SECONDS, VIEWER, "--text", text, *pair], check=False)
        lines.append(f"  {VIEWER} of {both[0]}: {text}")
    first = order[0]
    message = f"{len(order)} artefacts are not the same in both builds: {first}: {differing[first]}"
    return UserError(message, f"both are in {top / 'differing'}", "\n".join(lines))

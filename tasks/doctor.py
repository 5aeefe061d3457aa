"""`./doit doctor`: is this machine, and what lies in the cache, fit to build?  And if not, what mends it?

Every check looks at one thing and never raises: a machine on which half of all is missing
is the very one to look at.  `fail` means that builds will not work or be wrong; `warn`, that
something is lacking that not every build needs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tasks import health, schema
from tasks.errors import EXIT_FAILED, UserError
from tasks.health import State, Verdict
from tasks.profile import Settings
from tasks.run import ROOT, clean_env, run

GIB = 1 << 30
# A kernel tree with its objects has some 3 GiB, an image and its parts one more.
OUTPUT_GIB, CACHE_GIB = 6, 2
INODES = 200_000  # of a kernel tree and its objects, and of what extensions are made from
OLDEST_PYTHON = (3, 11)


def doctor(settings: Settings, as_json: bool = False) -> None:
    """Print a line for each check, or all as JSON.

    Raises `UserError` if one of them fails; with `as_json`, the exit status alone says so.
    """
    found: list[Verdict] = []
    for check in CHECKS:
        for verdict in _careful(check, settings):
            found.append(verdict)
            if not as_json:
                print(line(verdict), flush=True)
    if as_json:
        print(json.dumps([dataclasses.asdict(verdict) for verdict in found], indent=2))
    failed = [verdict.name for verdict in found if verdict.state == "fail"]
    if failed and as_json:
        sys.stdout.flush()
        raise SystemExit(EXIT_FAILED)
    if failed:
        raise UserError(f"not fit to build: {', '.join(failed)}", "each line above says what mends it")


def line(verdict: Verdict) -> str:
    """Return a verdict as a line, with a second one that says how to mend it."""
    text = f"{verdict.state:<5}{verdict.name}: {verdict.said}"
    return f"{text}\n     mend: {verdict.mend}" if verdict.mend else text


Check = Callable[[Settings], Iterator[Verdict]]


def _careful(check: Check, settings: Settings) -> Iterator[Verdict]:
    """Yield what a check finds; that it could not look is a finding, too."""
    name = check.__name__.strip("_").replace("_", " ")
    try:
        yield from check(settings)
    except UserError as error:
        yield Verdict(name, "warn", error.message, error.hint or "see the message")
    except OSError as error:
        yield Verdict(name, "warn", f"cannot be looked at: {error}", "check the permissions of that path")


def _python(settings: Settings) -> Iterator[Verdict]:
    said = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield Verdict("Python", "fail", f"{said}, 3.11 is needed", "apt-get install python3")
    elif sys.prefix == sys.base_prefix and not (ROOT / "artifacts/.venv").exists():
        yield Verdict(
            "Python", "warn", f"{said}, not in tcbuild's own venv", "start it by ./doit, not by doit"
        )
    else:
        yield Verdict("Python", "ok", said)


def _machine(settings: Settings) -> Iterator[Verdict]:
    machine, processors = platform.machine(), len(os.sched_getaffinity(0))
    if machine != "x86_64":
        yield Verdict(
            "machine", "fail", f"{machine}: x86-64 is needed", "build on a PC or in an x86-64 container"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    said = f"{processors} processors, {memory / GIB:.1f} GiB of memory"
    if memory < 2 * GIB:
        yield Verdict("machine", "warn", said, "2 GiB or more; else QEMU's tests and xz may be ended")
    elif machine == "x86_64":
        yield Verdict("machine", "ok", said)


def _tools(settings: Settings) -> Iterator[Verdict]:
    groups = schema.read_toml(ROOT / "host.toml")
    path = clean_env()["PATH"]
    for group, tools in groups.items():
        lacking = {
            package
            for tool, package in tools.items()
            if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool, path=path))
        }
        needed = group == "build" or (group == "toolchain" and settings.profile.kernel.toolchain != "host")
        name = f"tools ({group})"
        if lacking:
            state: State = "fail" if needed else "warn"
            packages = " ".join(sorted(lacking))
            yield Verdict(
                name, state, f"lacking: {packages}", f"apt-get install --no-install-recommends {packages}"
            )
        else:
            yield Verdict(name, "ok", f"all {len(tools)} are there")


def _versions(settings: Settings) -> Iterator[Verdict]:
    for name, known in schema.read_toml(ROOT / "doctor.toml").items():
        command, oldest = known["command"], known["oldest"]
        if shutil.which(command[0], path=clean_env()["PATH"]) is None:
            continue  # told by `tools`
        found = re.search(r"\d+(\.\d+)+", run(command, check=False).stdout)
        version = found[0] if found else "?"
        if found and _numbers(version) < _numbers(oldest):
            yield Verdict(name, "warn", f"{version}; {oldest} or newer is known to do", f"upgrade {name}")
        else:
            yield Verdict(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _kvm(settings: Settings) -> Iterator[Verdict]:
    """Ask for what a boot found; boot once if there is an image, for /dev/kvm alone proves nothing."""
    if not Path("/dev/kvm").exists():
        yield Verdict("KVM", "warn", "there is no /dev/kvm: QEMU will emulate, some ten times slower", _KVM)
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Verdict(
            "KVM", "warn", "/dev/kvm cannot be opened", "as root: adduser USER kvm, then log in again"
        )
    elif not settings.core.exists() or not (settings.kernel / "vmlinuz64").exists():
        yield Verdict(
            "KVM", "ok", "/dev/kvm can be opened; whether a guest comes up is tried once an image is built"
        )
    else:
        from tasks import qemu  # reads what boots a machine

        if qemu.accelerator(settings) == "kvm":
            yield Verdict("KVM", "ok", "a guest came up under it")
        else:
            said = "/dev/kvm opens, but no guest came up under it: QEMU will emulate"
            yield Verdict(
                "KVM", "warn", said, "on a virtual machine, nested virtualization must be switched on outside"
            )


_KVM = "load kvm_intel or kvm_amd; in a virtual machine, have nested virtualization switched on outside"


def _disk_space(settings: Settings) -> Iterator[Verdict]:
    for name, folder, wanted in (
        ("results", settings.output, OUTPUT_GIB),
        ("cache", settings.cache, CACHE_GIB),
    ):
        place = _existing(folder)
        room = os.statvfs(place)
        free, inodes = room.f_bavail * room.f_frsize, room.f_favail
        label = f"space for {name}"
        if free < wanted * GIB:
            said = f"{free / GIB:.1f} GiB free in {place}, {wanted} are needed for a first build"
            yield Verdict(
                label,
                "warn" if free > GIB else "fail",
                said,
                f"free some, or use another place ({_MOVE[name]})",
            )
        elif room.f_files and inodes < INODES:
            said = f"{inodes:,} inodes free in {place}, {INODES:,} are needed"
            yield Verdict(label, "warn", said, f"remove small files, or use another place ({_MOVE[name]})")
        else:
            yield Verdict(label, "ok", f"{free / GIB:.1f} GiB free in {place}")


_MOVE = {"results": "out=DIR", "cache": "$TCBUILD_CACHE"}


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _file_systems(settings: Settings) -> Iterator[Verdict]:
    """Try what a build does: names that differ in case, links, programs run from there."""
    for name, folder in (("results", settings.output), ("cache", settings.cache)):
        label = f"file system of {name}"
        place = _existing(folder)
        if not os.access(place, os.W_OK):
            yield Verdict(
                label, "fail", f"{place} cannot be written to", f"use another place ({_MOVE[name]})"
            )
            continue
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as scratch:
            problem = _unfit(Path(scratch))
        if problem:
            yield Verdict(label, "fail", f"{place} {problem}", f"use another place ({_MOVE[name]})")
        else:
            yield Verdict(label, "ok", str(place))


def _unfit(folder: Path) -> str:
    (folder / "a").touch()
    if (folder / "A").exists():
        return "does not tell upper from lower case, and the kernel has files that differ in nothing else"
    try:
        (folder / "link").symlink_to("a")
        os.link(folder / "a", folder / "hard")
    except OSError as error:
        return f"knows no links ({error.strerror})"
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    if not os.access(folder / "run", os.X_OK) or run([folder / "run"], check=False).status != 0:
        return "is mounted noexec: the kernel's own programs cannot run there"
    (folder / "run").chmod(0o4755)
    if not (folder / "run").stat().st_mode & 0o4000:
        return "does not keep set-user-id bits"
    return ""


def _clock(settings: Settings) -> Iterator[Verdict]:
    now, newest = time.time(), max(path.stat().st_mtime for path in (ROOT / "dodo.py", ROOT / "host.toml"))
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < newest - 60:
        said += ": the checkout's files are from the future, and make goes by times"
        yield Verdict("clock", "fail", said, "set the clock, or: touch the files of the checkout")
    elif now < settings.profile.source_date_epoch:
        yield Verdict("clock", "fail", f"{said} is before the profile's own date", "set the clock")
    else:
        yield Verdict("clock", "ok", said)


def _user_namespaces(settings: Settings) -> Iterator[Verdict]:
    done = run(["unshare", "--user", "--map-root-user", "true"], check=False)
    if done.status == 0:
        yield Verdict("user namespaces", "ok", "can be made")
    else:
        needed = settings.profile.kernel.toolchain != "host"
        mend = "as root: sysctl -w kernel.unprivileged_userns_clone=1; in a container, allow them outside"
        said = "cannot be made: pinned toolchains run in one"
        yield Verdict("user namespaces", "fail" if needed else "warn", said, mend)


CHECKS: Sequence[Check] = (
    *(_python, _machine, _tools, _versions, _kvm, _disk_space, _file_systems, _clock, _user_namespaces),
    *(health.apt, health.pip, health.mirrors, health.cache, health.leftovers),
)

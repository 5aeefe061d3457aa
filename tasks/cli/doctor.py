# SPDX-License-Identifier: MIT
"""`./doit doctor`: check whether this machine and the cache are fit to build, and say how to fix each fault.

Each check looks at one thing.  A check that raises is reported as a warning, so that the other
checks run on a broken machine, too.  `fail` means that builds fail or give wrong results.
`warn` means that something is missing which only some builds need.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from tasks.cli import machine_inputs
from tasks.cli.verdict import Check, State, Verdict
from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry, prepare
from tasks.util import file_record, files, host, toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import EXIT_FAILED, UserError
from tasks.util.process import clean_env, run
from tasks.util.text import shortened

VERSIONS = Path(__file__).with_name("doctor.toml")
STALE_SECONDS = 24 * 3600
NETWORK_SECONDS = 5.0
GIB = 1 << 30
# A kernel tree with its objects takes about 3 GiB, an image and its parts one more.
OUTPUT_GIB, CACHE_GIB = 6, 2
INODES = 200_000  # for a kernel tree with its objects, and the inputs of extensions
OLDEST_PYTHON = (3, 11)


def cache(settings: Settings) -> Iterator[Verdict]:
    """Compare each locked download with its sha256, whose first digits are the name of its folder."""
    folder = settings.paths.cache / "downloads"
    # The name of a temporary folder is no sha256; `leftovers` reports it.
    folders = [path for path in folder.glob("*/") if not files.is_temporary(path.name)]
    entries = [path for one in folders for path in one.iterdir() if path.is_file() and path.name[0] != "."]
    whole = [path for path in entries if not path.name.endswith((".part", ".sha256"))]
    bad = [path for path in whole if not files.sha256_file(path).startswith(path.parent.name)]
    for path in bad:
        yield Verdict(
            "cache", "fail", f"{path} is damaged", f"rm {shlex.quote(str(path))} (it is fetched again)"
        )
    if not bad:
        size = sum(path.stat().st_size for path in whole)
        yield Verdict(
            "cache", "ok", f"{len(whole)} downloads are whole, {size / 1e6:.0f} MB, in {settings.paths.cache}"
        )


def leftovers(settings: Settings) -> Iterator[Verdict]:
    """Look for temporary files of killed runs.  Young ones may belong to a running build."""
    # Downloads lie one folder deeper than other results.
    places = [settings.paths.output, settings.paths.cache, settings.paths.cache / "downloads"]
    found = {path for place in places if place.is_dir() for path in files.leftovers(place)}
    old = sorted(path for path in found if time.time() - path.lstat().st_mtime > STALE_SECONDS)
    if old:
        names = " ".join(shlex.quote(str(path)) for path in old[:5]) + (" ..." if old[5:] else "")
        yield Verdict("leftovers", "warn", f"{len(old)} temporary files of killed runs", f"rm -r {names}")
    elif found:
        count = f"{len(found)} temporary file{'s' if len(found) > 1 else ''}"
        said = f"{count}, younger than a day: of a run that is still running, or of a killed one"
        yield Verdict("leftovers", "ok", said)
    else:
        yield Verdict("leftovers", "ok", "none of killed runs")


def build_roots(settings: Settings) -> Iterator[Verdict]:
    """Compare each file of the build roots that are used here with its sha256, and name old roots."""
    folder = settings.paths.cache
    made = [name for name in build_root.names() if entry.root_needed(name)]
    made = [name for name in made if build_root.is_made(folder, name)]
    whole = []
    for name in made:
        found = build_root.faults(build_root.root_folder(folder, name), read_all=True)
        if found:
            fix = f"./doit toolchain toolchain={name}"
            yield Verdict(f"build root {name}", "fail", file_record.told(found), fix)
        else:
            whole.append(name)
    if whole == made:
        yield Verdict("build roots", "ok", f"whole: {' '.join(whole)}" if whole else "none is made")
    if old := build_root.old_folders(folder):
        said = f"no toolchain of this checkout has {shortened([CHECKOUT.name_of(path) for path in old], 3)}"
        yield Verdict("old build roots", "ok", said, "./doit toolchain:prune removes them")


def mirrors(settings: Settings) -> Iterator[Verdict]:
    """Ask each mirror for the profile's probe file, and for nothing else."""
    wanted, fix = settings.profile, "fine for offline=1; else check the network and the proxy settings"
    if not wanted.mirrors or not wanted.probe:
        yield Verdict("mirrors", "ok", f"profile {settings.paths.name} uses none")
        return
    if settings.network.offline:
        yield Verdict("mirrors", "ok", "not asked: offline=1")
        return
    from tasks.fetch import mirror_probe  # imports requests

    for mirror in wanted.mirrors:
        url = f"{mirror.rstrip('/')}/{wanted.probe}"
        there = mirror_probe.first_answer([url], NETWORK_SECONDS, wanted.redirects) is not None
        said = "answers" if there else "not reachable, or without the profile's files"
        yield Verdict(f"mirror {mirror}", "ok" if there else "warn", said, "" if there else fix)


def apt(settings: Settings) -> Iterator[Verdict]:
    """Look for apt, and for settings that switch its checks off.

    Its package lists do not matter: a suite has lists of its own, and set-up fetches new ones.
    """
    if shutil.which("apt-cache") is None:
        fix = "build on Debian or in a container"
        yield Verdict("apt", "fail", "not installed: profiles take packages by it", fix)
    elif insecure := _insecure_setting():
        said = f"{insecure} is set: not everything is checked by signatures"
        yield Verdict("apt", "warn", said, "remove it from apt.conf")
    else:
        yield Verdict("apt", "ok", "it checks signatures and dates")


def _insecure_setting() -> str:
    """Return the name of an apt setting that disables a check, "" if there is none (apt.conf(5))."""
    dump = run(["apt-config", "dump"], check=False).stdout
    found = re.search(
        r'^(Acquire::AllowInsecureRepositories|APT::Get::AllowUnauthenticated) "(?:1|true|yes)";'
        r'|^(Acquire::Check-Valid-Until) "(?:0|false|no)";',
        dump,
        re.MULTILINE | re.IGNORECASE,
    )
    return (found[1] or found[2]) if found else ""


def pip(settings: Settings) -> Iterator[Verdict]:
    """Let pip download a small package from its index."""
    if run([sys.executable, "-m", "pip", "--version"], check=False).status != 0:
        yield Verdict("pip", "warn", "this Python has none", "apt-get install python3-pip python3-venv")
        return
    if settings.network.offline:
        yield Verdict("pip", "ok", "its index was not asked: offline=1")
        return
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    # `wheel` is small, and every index has it.
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory(prefix="tcbuild-doctor-") as folder:
        options = ["--no-input", "--no-cache-dir", "--retries", "0", "--timeout", str(NETWORK_SECONDS)]
        done = run([*argv, *options, "--dest", folder, "wheel"], env=env, check=False)
    if done.status == 0:
        yield Verdict("pip", "ok", "its index answers")
    else:
        fix = "fine if the venv exists and no recipe needs a wheel; else check pip's settings"
        yield Verdict("pip", "warn", "its index cannot be reached", fix)


def doctor(settings: Settings, as_json: bool = False) -> None:
    """Print a line for each check, or all as JSON.

    Raises `UserError` if a check fails; with `as_json`, only the exit status is 1.
    """
    found: list[Verdict] = []
    # A check may log a line; with `as_json`, stdout holds nothing but JSON.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        for check in CHECKS:
            for verdict in _run_check(check, settings):
                found.append(verdict)
                if not as_json:
                    print(line(verdict), flush=True)
    if as_json:
        print(json.dumps([record(verdict) for verdict in found], indent=2))
    failed = [verdict.name for verdict in found if verdict.state == "fail"]
    if failed and as_json:
        sys.stdout.flush()
        raise SystemExit(EXIT_FAILED)
    if failed:
        raise UserError(f"not fit to build: {', '.join(failed)}", "each line above says how to fix it")


def record(verdict: Verdict) -> dict[str, str]:
    """Return a verdict as `--json` prints it; programs rely on these keys."""
    return {"name": verdict.name, "state": verdict.state, "said": verdict.finding, "mend": verdict.fix}


def line(verdict: Verdict) -> str:
    """Return a verdict as a line, and a second line with the fix if there is one."""
    text = f"{verdict.state:<5}{verdict.name}: {verdict.finding}"
    return f"{text}\n     fix: {verdict.fix}" if verdict.fix else text


def _run_check(check: Check, settings: Settings) -> Iterator[Verdict]:
    """Yield the verdicts of a check, and a warning if it raises."""
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
    elif sys.prefix == sys.base_prefix and not (CHECKOUT.artifacts / ".venv").exists():
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
        yield Verdict(
            "machine", "warn", said, "use 2 GiB or more; with less, the kernel may kill QEMU and xz"
        )
    elif machine == "x86_64":
        yield Verdict("machine", "ok", said)


def _tools(settings: Settings) -> Iterator[Verdict]:
    path = clean_env()["PATH"]
    pinned = build_root.HOST not in settings.profile.toolchains
    writers = prepare.host_groups(settings.profile)
    for group, tools in host.groups().items():
        lacking = host.missing_packages(tools, path)
        needed = group == "host" or (group in writers and not pinned)
        name = f"tools ({group})"
        if lacking and group in (prepare.BUILD, prepare.COMPILE) and not needed:
            by = "the profile's toolchains bring their own" if pinned else "others built the profile's kernel"
            yield Verdict(name, "ok", f"not needed: {by}")
            continue
        if lacking:
            state: State = "fail" if needed else "warn"
            packages = " ".join(lacking)
            yield Verdict(
                name, state, f"lacking: {packages}", f"apt-get install --no-install-recommends {packages}"
            )
        else:
            yield Verdict(name, "ok", f"all {len(tools)} are there")


def _versions(settings: Settings) -> Iterator[Verdict]:
    for name, known in toml_schema.read_toml(VERSIONS).items():
        command, oldest = known["command"], known["oldest"]
        if shutil.which(command[0], path=clean_env()["PATH"]) is None:
            continue  # `_tools` reports it
        found = re.search(r"\d+(\.\d+)+", run(command, check=False).stdout)
        version = found[0] if found else "?"
        if found and _numbers(version) < _numbers(oldest):
            yield Verdict(name, "warn", f"{version}; {oldest} or newer is known to work", f"upgrade {name}")
        else:
            yield Verdict(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _kvm(settings: Settings) -> Iterator[Verdict]:
    """Report whether a guest boots under KVM.  A usable /dev/kvm alone does not prove it.

    Without a built image only /dev/kvm is checked.
    """
    if not Path("/dev/kvm").exists():
        yield Verdict(
            "KVM", "warn", "there is no /dev/kvm: QEMU will emulate, about ten times slower", _ENABLE_KVM
        )
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Verdict(
            "KVM", "warn", "/dev/kvm cannot be opened", "as root: adduser USER kvm, then log in again"
        )
    elif not settings.paths.core.exists() or not settings.paths.vmlinuz.exists():
        yield Verdict("KVM", "ok", "/dev/kvm can be opened; a guest is booted as soon as an image is built")
    else:
        from tasks.vm import qemu  # reads what boots a machine

        if qemu.accelerator(settings.paths, settings.profile) == "kvm":
            yield Verdict("KVM", "ok", "a guest booted under it")
        else:
            said = "/dev/kvm can be opened, but no guest booted under it: QEMU will emulate"
            yield Verdict(
                "KVM", "warn", said, "in a virtual machine, enable nested virtualization on the host"
            )


_ENABLE_KVM = "load kvm_intel or kvm_amd; in a virtual machine, enable nested virtualization on the host"


def _disk_space(settings: Settings) -> Iterator[Verdict]:
    for name, folder, wanted in (
        ("results", settings.paths.output, OUTPUT_GIB),
        ("cache", settings.paths.cache, CACHE_GIB),
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
                f"free some, or use another place ({_OTHER_PLACE[name]})",
            )
        elif room.f_files and inodes < INODES:
            said = f"{inodes:,} inodes free in {place}, {INODES:,} are needed"
            yield Verdict(
                label, "warn", said, f"remove small files, or use another place ({_OTHER_PLACE[name]})"
            )
        else:
            yield Verdict(label, "ok", f"{free / GIB:.1f} GiB free in {place}")


_OTHER_PLACE = {"results": "out=DIR", "cache": "$TCBUILD_CACHE"}


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _file_systems(settings: Settings) -> Iterator[Verdict]:
    """Try what a build needs: names that differ only in case, links, running programs."""
    for name, folder in (("results", settings.paths.output), ("cache", settings.paths.cache)):
        label = f"file system of {name}"
        place = _existing(folder)
        if not os.access(place, os.W_OK):
            yield Verdict(
                label, "fail", f"{place} cannot be written to", f"use another place ({_OTHER_PLACE[name]})"
            )
            continue
        with files.scratch_folder(place, "doctor") as scratch:
            problem = _file_system_fault(scratch)
        if problem:
            yield Verdict(label, "fail", f"{place} {problem}", f"use another place ({_OTHER_PLACE[name]})")
        else:
            yield Verdict(label, "ok", str(place))


def _file_system_fault(folder: Path) -> str:
    (folder / "a").touch()
    if (folder / "A").exists():
        return "does not tell upper from lower case, and some names of kernel files differ only in that"
    try:
        (folder / "link").symlink_to("a")
        os.link(folder / "a", folder / "hard")
    except OSError as error:
        return f"has no links ({error.strerror})"
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    if not os.access(folder / "run", os.X_OK) or run([folder / "run"], check=False).status != 0:
        return "is mounted noexec: the kernel's own programs cannot run there"
    (folder / "run").chmod(0o4755)
    if not (folder / "run").stat().st_mode & 0o4000:
        return "does not keep set-user-id bits"
    return ""


def _clock(settings: Settings) -> Iterator[Verdict]:
    now, newest = time.time(), max(path.stat().st_mtime for path in (CHECKOUT.root / "dodo.py", host.FILE))
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < newest - 60:
        said += ": the checkout's files are from the future, and make compares times"
        yield Verdict("clock", "fail", said, "set the clock, or touch the files of the checkout")
    elif now < settings.profile.source_date_epoch:
        yield Verdict("clock", "fail", f"{said} is before the profile's own date", "set the clock")
    else:
        yield Verdict("clock", "ok", said)


def _user_namespaces(settings: Settings) -> Iterator[Verdict]:
    done = run(["unshare", "--user", "--map-root-user", "true"], check=False)
    if done.status == 0:
        yield Verdict("user namespaces", "ok", "can be made")
    else:
        fix = "as root: sysctl -w kernel.unprivileged_userns_clone=1; in a container, allow them on the host"
        said = "cannot be made: build roots are entered by proot, which is slower"
        yield Verdict("user namespaces", "warn", said, fix)


CHECKS: Sequence[Check] = (
    *(machine_inputs.system, machine_inputs.suite, machine_inputs.toolchain, machine_inputs.image),
    *(_python, _machine, _tools, _versions, _kvm, _disk_space, _file_systems, _clock, _user_namespaces),
    *(apt, pip, mirrors, cache, build_roots, leftovers),
)

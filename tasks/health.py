"""Checks of `./doit doctor`: what inputs come from and where they lie (apt, pip, mirrors, cache).

Each takes the settings and yields verdicts; none asks more of the network than whether
somebody answers.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks import files
from tasks.profile import Settings
from tasks.run import run

State = Literal["ok", "warn", "fail"]
STALE_SECONDS = 24 * 3600
NETWORK_SECONDS = 5.0
OLD_DAYS = 60
# What a killed run leaves behind, by its names.
TEMPORARY = (
    ".*.part",
    ".*.old",
    ".linux-*",
    ".rootfs-*",
    ".deb-*",
    ".apt.*",
    ".learn-*",
    ".npm-*",
    ".wheel-*",
)


@dataclass(frozen=True)
class Verdict:
    """What a check found: what was looked at, how it is, and, if it is not well, how to mend it."""

    name: str
    state: State
    said: str
    mend: str = ""


def cache(settings: Settings) -> Iterator[Verdict]:
    """Compare every locked download with its sha256; the folder's name holds its beginning."""
    folder = settings.cache / "downloads"
    entries = [path for path in folder.glob("*/*") if path.is_file() and not path.name.startswith(".")]
    whole = [path for path in entries if not path.name.endswith((".part", ".sha256"))]
    bad = [path for path in whole if not files.sha256_file(path).startswith(path.parent.name)]
    for path in bad:
        yield Verdict("cache", "fail", f"{path} is damaged", f"rm {path} (it is fetched again)")
    if not bad:
        size = sum(path.stat().st_size for path in whole)
        yield Verdict(
            "cache", "ok", f"{len(whole)} downloads are whole, {size / 1e6:.0f} MB, in {settings.cache}"
        )


def leftovers(settings: Settings) -> Iterator[Verdict]:
    """Look for what killed runs left; young ones may belong to a run that is under way."""
    places = [settings.output, settings.output / "tcz", settings.cache, settings.cache / "downloads"]
    old = [
        path
        for place in places
        for pattern in TEMPORARY
        for path in place.glob(pattern)
        if time.time() - path.lstat().st_mtime > STALE_SECONDS
    ]
    if old:
        names = " ".join(str(path) for path in sorted(old)[:5]) + (" ..." if old[5:] else "")
        yield Verdict("leftovers", "warn", f"{len(old)} temporary files of killed runs", f"rm -r {names}")
    else:
        yield Verdict("leftovers", "ok", "none of killed runs")


def mirrors(settings: Settings) -> Iterator[Verdict]:
    """Ask each mirror for the profile's probe file; nothing else is asked of it."""
    wanted, mend = settings.profile, "fine for offline=1; else check the network and the proxy settings"
    if not wanted.mirrors or not wanted.probe:
        yield Verdict("mirrors", "ok", f"profile {settings.name} uses none")
        return
    if settings.offline:
        yield Verdict("mirrors", "ok", "not asked: offline=1")
        return
    from tasks import probe  # imports requests

    for mirror in wanted.mirrors:
        url = f"{mirror.rstrip('/')}/{wanted.probe}"
        there = probe.first_answer([url], NETWORK_SECONDS, wanted.redirects) is not None
        said = "answers" if there else "not reachable, or without the profile's files"
        yield Verdict(f"mirror {mirror}", "ok" if there else "warn", said, "" if there else mend)


def apt(settings: Settings) -> Iterator[Verdict]:
    """Look at apt's package lists, and for settings that switch its checks off."""
    if shutil.which("apt-cache") is None:
        yield Verdict(
            "apt",
            "fail",
            "there is none: profiles take packages from it",
            "build on Debian or in a container",
        )
        return
    targets = ["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]
    lists = [Path(name) for name in run(targets, check=False).stdout.split()]
    there = [path for path in lists if path.exists()]
    if not there:
        yield Verdict("apt", "fail", "it has no package lists", "apt-get update")
        return
    days = (time.time() - max(path.stat().st_mtime for path in there)) / 86400
    insecure = _insecure()
    if insecure:
        yield Verdict(
            "apt",
            "warn",
            f"{insecure} is set: not everything is checked by signatures",
            "take it out of apt.conf",
        )
    said = f"{len(there)} package lists"
    yield (
        Verdict("apt", "ok", said)
        if days < OLD_DAYS
        else Verdict("apt", "warn", f"{said}, the newest is {days:.0f} days old", "apt-get update")
    )


def _insecure() -> str:
    """Return a setting of apt that gives up a check, "" if there is none (apt.conf(5))."""
    told = run(["apt-config", "dump"], check=False).stdout
    found = re.search(
        r'^(Acquire::AllowInsecureRepositories|APT::Get::AllowUnauthenticated) "(?:1|true|yes)";'
        r'|^(Acquire::Check-Valid-Until) "(?:0|false|no)";',
        told,
        re.MULTILINE | re.IGNORECASE,
    )
    return (found[1] or found[2]) if found else ""


def pip(settings: Settings) -> Iterator[Verdict]:
    """Ask pip where its index is, and whether that host takes connections."""
    if run([sys.executable, "-m", "pip", "--version"], check=False).status != 0:
        yield Verdict("pip", "warn", "this Python has none", "apt-get install python3-pip python3-venv")
        return
    if settings.offline:
        yield Verdict("pip", "ok", "its index was not asked: offline=1")
        return
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    # One small package that pip surely finds where it finds anything: itself.
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory(prefix="tcbuild-doctor-") as folder:
        options = ["--no-input", "--no-cache-dir", "--retries", "0", "--timeout", str(NETWORK_SECONDS)]
        done = run([*argv, *options, "--dest", folder, "wheel"], env=env, check=False)
    if done.status == 0:
        yield Verdict("pip", "ok", "its index answers")
    else:
        mend = "fine if the venv is there and no recipe's wheel is to be fetched; else check pip's settings"
        yield Verdict("pip", "warn", "its index cannot be reached", mend)

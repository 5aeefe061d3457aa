# SPDX-License-Identifier: MIT
"""The checks of `./doit doctor` that tell this machine from others: its system, the suite, the toolchain.

They say which of these are inputs of the image, and so by what a result of another machine would differ.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from tasks.cli.verdict import Verdict
from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry, prepare
from tasks.util import host
from tasks.util.errors import UserError
from tasks.util.process import run

NOTHING = "nothing of this machine: another one makes the same bytes from this checkout"
# Packages of the toolchain `host` that stand for all in a line.
SHOWN = ("gcc", "binutils", "squashfs-tools", "xorriso", "grub-common")


def system(settings: Settings) -> Iterator[Verdict]:
    """Name the system, the user, and where programs come from that the system lacks."""
    release = host.os_release()
    name = release.get("PRETTY_NAME", "Linux without os-release")
    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()} without root"
    said = f"{name}, Python {platform.python_version()}, {user}"
    added = host.added_folder() / "packages"
    if added.is_file():
        said += f"; unpacked in {added.parent}: {' '.join(added.read_text().split())}"
    yield Verdict("host", "ok", said)


def suite(settings: Settings) -> Iterator[Verdict]:
    """Name the suite that packages come from, and the date of the lock."""
    chosen = settings.profile.packages_suite
    if chosen is None:
        yield Verdict("suite", "ok", "the profile names none, so it can take no packages")
        return
    lock = inputs.pinned_lock(settings.paths)
    said = [str(chosen), f"{len(lock.package)} packages locked"]
    said += sorted(f"{archive.suite} of {archive.date}" for archive in lock.archive)
    yield Verdict("suite", "ok", ", ".join(said))


def toolchain(settings: Settings) -> Iterator[Verdict]:
    """Say what runs the programs of each toolchain here, and why."""
    for name in settings.profile.toolchains:
        reason = entry.root_needed(name)
        if reason and not build_root.is_made(settings.paths.cache, name):
            yield Verdict(f"toolchain {name}", "ok", f"a build root that the first build makes ({reason})")
            continue
        said = prepare.describe(name, entry.of_toolchain(settings.paths.cache, name))
        yield Verdict(f"toolchain {name}", "ok", said.partition(": ")[2])


def image(settings: Settings) -> Iterator[Verdict]:
    """Say which parts of this machine are inputs of the image, and what pins them."""
    found = list(_inputs(settings))
    yield from found
    if not found:
        yield Verdict("inputs of the image", "ok", NOTHING)


def _inputs(settings: Settings) -> Iterator[Verdict]:
    profile = settings.profile
    if build_root.HOST in profile.toolchains:
        said = ", ".join(f"{name} {version}" for name, version in _versions().items())
        yield _differs(
            "this machine's programs compile and pack it",
            f"another machine's differ unless it has the same versions: {said}",
            'toolchain = "debian12" in the profile',
        )
    if not settings.paths.pinned_lock.is_file():
        yield _differs("no lock pins the inputs", "another day or mirror may serve newer ones", "./doit lock")
    if tree := profile.kernel.tree:
        yield _differs(
            f"the kernel tree {tree} is read as it is", "no lock pins it", "a source with a sha256"
        )


def _differs(what: str, why: str, fix: str) -> Verdict:
    return Verdict("inputs of the image", "warn", f"{what}; {why}", fix)


def _versions() -> dict[str, str]:
    """Return the versions of the packages `SHOWN` that dpkg has; {} without dpkg."""
    try:
        listing = run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *SHOWN], check=False).stdout
    except UserError:
        return {}
    rows = [line.split() for line in listing.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}

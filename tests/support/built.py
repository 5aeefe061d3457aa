# SPDX-License-Identifier: MIT
"""What the tests of the tools and vm tiers stand on: the image that `./doit` has built."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.util.checkout import CHECKOUT


def built() -> Settings:
    """Return the settings of the image in artifacts/; fails if `./doit iso` has not been run."""
    settings = variables.resolve({}, CHECKOUT.root / "artifacts")
    assert settings.paths.iso.is_file(), "run these tests by ./doit test, which builds the image first"
    return settings


def compiled() -> Settings:
    """Return the settings of that image's kernel and base root, with the kernel's build folder.

    If a shared cache had the kernel, it is compiled in an output folder of its own, with the same bytes.
    """
    settings = built()
    if (settings.paths.build / "vmlinux").is_file():
        return settings
    name = settings.paths.name
    out = CHECKOUT.root / "artifacts" / f"{name}-compiled"
    done = doit(CHECKOUT.root, "kernel", "rootfs", f"profile={name}", f"out={out}", "cache=none")
    assert done.status == 0, done.output
    return replace(settings, paths=replace(settings.paths, output=out))


def with_source() -> Settings:
    """Return the settings of that image with its kernel's tree, unpacked also if a cache had the kernel."""
    settings = built()
    done = doit(CHECKOUT.root, "linux", f"profile={settings.paths.name}", "cache=none")
    assert done.status == 0, done.output
    return settings


@dataclass(frozen=True)
class Outcome:
    """How a `./doit` command ended: exit status, all its output, and the tasks that ran."""

    status: int
    output: str

    @property
    def ran(self) -> list[str]:
        return [line[3:] for line in self.output.splitlines() if line.startswith("=> ")]


def doit(folder: Path, *words: str, env: dict[str, str] | None = None) -> Outcome:
    """Run `./doit WORDS` in a checkout, as a person would, and return how it ended."""
    return outcome(["./doit", *words], folder, {**os.environ, **(env or {})})


def outcome(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Outcome:
    """Run a command without input in `folder`, and return how it ended."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)


def copy_checkout(target: Path) -> Path:
    """Copy this checkout as it stands, committed or not, without anything git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=CHECKOUT.root, capture_output=True, check=True).stdout
    for name in filter(None, listing.decode().split("\0")):
        if not os.path.lexists(CHECKOUT.root / name):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT.root / name, target / name, follow_symlinks=False)
    return target

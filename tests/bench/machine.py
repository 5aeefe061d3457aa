# SPDX-License-Identifier: MIT
"""What a table was measured on: machine, load, versions of all programs that took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

# A program and how it says its version; the first number in its first lines counts.
PROGRAMS = (
    ("gcc", "--version"),
    ("ld", "--version"),
    ("make", "--version"),
    ("ccache", "--version"),
    ("mkosi", "--version"),
    ("cpio", "--version"),
    ("gzip", "--version"),
    ("mksquashfs", "-version"),
    ("xorriso", "-version"),
    ("qemu-system-x86_64", "--version"),
)
PACKAGES = ("doit", "tuxmake")
VERSION = re.compile(r"\d+\.\d+[\w.]*|(?<= )\d+\b")


def describe() -> list[str]:
    """Return lines: processors, memory, system, load averages, versions."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    usable = len(os.sched_getaffinity(0))
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return [
        f"machine: {usable} processors ({model[1] if model else platform.machine()}), {memory >> 20} MiB",
        f"system: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"load at start (1, 5, 15 minutes): {load}",
        "versions: " + ", ".join(f"{name} {found}" for name, found in versions().items()),
    ]


def versions() -> dict[str, str]:
    """Return the version of every program; `not installed` where it is not."""
    found = {}
    for name, option in PROGRAMS:
        found[name] = _version(name, option) if shutil.which(name) else "not installed"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _version(name: str, option: str) -> str:
    done = subprocess.run([name, option], capture_output=True, text=True, check=False)
    match = VERSION.search(f"{done.stdout}\n{done.stderr}")
    return match[0] if match else "of unknown version"

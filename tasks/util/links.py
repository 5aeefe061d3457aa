# SPDX-License-Identifier: MIT
"""Paths and symbolic links inside a root file system that is not this machine's."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

MAX_SYMLINKS = 40  # MAXSYMLINKS of the kernel


def is_below(path: str) -> bool:
    """Tell whether `path` names something below `/`, without a leading slash and without `..`."""
    return bool(path.strip("/")) and not path.startswith("/") and ".." not in path.split("/")


def follow_links(path: str, link: Callable[[str], str]) -> str:
    """Return the absolute `path` with all its symbolic links followed; "" for a loop.

    link: returns the target of the link at an absolute path, "" if there is no link.
    """
    rest, done, links = path.strip("/").split("/"), "", 0
    while rest:
        step = posixpath.normpath(f"{done}/{rest.pop(0)}")
        target = link(step)
        if not target:
            done = "" if step == "/" else step
            continue
        links += 1
        if links > MAX_SYMLINKS:
            return ""
        done = "" if target.startswith("/") else done
        rest = [*filter(None, target.split("/")), *rest]
    return done

# SPDX-License-Identifier: MIT
"""The identity of the kernel tree's source, and whether the tree is unpacked.

This module reads stamps in the tree and the used lock.  It reads no fetched file.
"""

from __future__ import annotations

import os

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.origins.sources.base import Source
from tasks.util.files import sha256_file

STAMP = ".tcbuild/source"
"""In the tree: a line that identifies its source."""
DEFERRED = ".tcbuild/deferred"
"""In the tree: marks a tree that holds only stamps and is unpacked when a stage needs it."""


def is_tree(source: Source) -> bool:
    """Tell whether `source` is a local folder, which may be edited at any time."""
    return source.is_local and source.local_file().is_dir()


def identity(paths: Paths, profile: Profile) -> str:
    """Return the stamp of a tree unpacked from the profile's archive: file name and sha256."""
    source = profile.kernel.source
    if source.is_local:
        path = source.local_file()
        return f"{path.name} {sha256_file(path)}\n"
    entry = inputs.locked_source(paths, source)
    return f"{entry.cached_in(paths.cache).name} {entry.sha256}\n"


def is_unpacked(paths: Paths, profile: Profile) -> bool:
    """Tell whether the tree is completely unpacked from the profile's archive."""
    try:
        stamp = (paths.linux / STAMP).read_text()
    except OSError:
        return False
    return stamp == identity(paths, profile) and not os.path.lexists(paths.linux / DEFERRED)

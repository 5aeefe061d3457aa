# SPDX-License-Identifier: MIT
"""The identity of the kernel tree's source, and whether the tree is unpacked.

This module reads stamps in the tree and the used lock.  It reads no fetched file.
"""

from __future__ import annotations

import os
from pathlib import Path

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.engine import code
from tasks.origins.git_clone import shown
from tasks.origins.lock import LockedCommit
from tasks.origins.sources.base import Source
from tasks.util.files import sha256_file

STAMP = ".tcbuild/source"
"""In the tree: a line that identifies its source."""
FINISHED = ".tcbuild.finished"
"""In a build folder, while no make runs there and none has failed: what its objects were made from."""
BUILD_STAMP = ".tcbuild.json"
"""In a build folder: the source and the toolchain that its objects were made from."""
CONF_FOLDER = ".build"
"""Beside the configuration: where its program `conf` is compiled."""
CONF_STAMP = ".tcbuild.conf"
"""In that folder: the source and the toolchain that `conf` was made from."""
HEAD = "git "
"""How that begins for a commit of a git repository."""
DEFERRED = ".tcbuild/deferred"
"""In the tree: marks a tree that holds only stamps and is unpacked when a stage needs it."""


SERIES = ".tcbuild/series"
"""In the tree: the checksums of its patch series (`patches.listing`)."""
CONFIGURATION_SERIES = ".tcbuild/configuration-series"
"""In the tree: the same of the patches that may change what Kconfig reads (`patches.for_configuration`)."""
UNPACKED_BY = ".tcbuild/unpacked-by"
"""In the tree: a digest of the code that unpacked it."""

UNPACKING = (
    "tasks.formats.archive",
    "tasks.formats.debian_package",
    "tasks.kernel.git_tree",
    "tasks.kernel.nearest_tree",
    "tasks.kernel.patches",
    "tasks.kernel.source_tree",
)


def is_tree(source: Source) -> bool:
    """Tell whether `source` is a local folder, which may be edited at any time."""
    return source.is_local and source.local_file().is_dir()


def identity(paths: Paths, profile: Profile) -> str:
    """Return the stamp of a tree unpacked from the profile's source: file name and sha256.

    Of a git repository the first line is its address, and the second the locked commit and its tree: its
    build folder stays from one commit to the next.
    """
    source = profile.kernel.own_source
    if source.is_local:
        path = source.local_file()
        return f"{path.name} {sha256_file(path)}\n"
    entry = inputs.locked_source(paths, source)
    if isinstance(entry, LockedCommit):
        return f"{HEAD}{shown(entry.url)}\n{entry.commit} {entry.tree}\n"
    return f"{entry.cached_in(paths.cache).name} {entry.sha256}\n"


def is_whole(paths: Paths) -> bool:
    """Tell whether nothing of the kernel tree is deferred."""
    return not os.path.lexists(paths.linux / DEFERRED)


def is_unpacked(paths: Paths, profile: Profile) -> bool:
    """Tell whether the tree is completely unpacked from the profile's archive, by the code as it is."""
    return is_stamped(paths.linux, identity(paths, profile))


def is_stamped(linux: Path, stamp: str) -> bool:
    """Tell whether a tree is completely unpacked from the source of that stamp, by the code as it is."""
    try:
        found, made_by = (linux / STAMP).read_text(), (linux / UNPACKED_BY).read_text()
    except OSError:
        return False
    return found == stamp and made_by == unpacking_code() and not os.path.lexists(linux / DEFERRED)


def unpacking_code() -> str:
    """Return a digest of the code that unpacks and patches a tree: changed, it may make another tree.

    What these modules import does not count.  A kernel takes minutes to unpack, and which files
    come out is decided here.
    """
    return f"{code.here().digest_of(*UNPACKING)}\n"

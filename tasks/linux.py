"""The kernel tree: unpacked and patched, but not before somebody needs it.

With a shared cache, configuration and kernel may come from there, and 1.5 GB of source
would be unpacked for nothing.  Task `linux` then writes only the stamps, which say what
the tree is to be, and a mark; what really reads the tree asks for it by `ensure`.
"""

from __future__ import annotations

import os
from pathlib import Path

from tasks.files import atomic_dir, write_atomic
from tasks.profile import Settings
from tasks.run import say

SOURCE = ".tcbuild/source"
SERIES = ".tcbuild/series"
DEFERRED = ".tcbuild/deferred"
BUILD_STAMP = ".tcbuild.json"
"""In the build folder: which source and toolchain its objects are of."""


def prepare(settings: Settings) -> None:
    """Make the kernel tree, or with a shared cache only what says which one it will be."""
    from tasks import fetch, patches

    if settings.shared_cache and not fetch.is_tree(settings.profile.kernel.source):
        identity = fetch.linux_identity(settings)
        if not _is_unpacked(settings.linux, identity):
            with atomic_dir(settings.linux) as folder:
                write_atomic(folder / SOURCE, identity)
                write_atomic(folder / SERIES, patches.listing(patches.series(settings)))
                write_atomic(folder / DEFERRED, "")
            say("linux: not unpacked yet; whatever the shared cache does not have will do so")
            return
    _make(settings)


def ensure(settings: Settings) -> None:
    """Make the kernel tree if that was put off."""
    if (settings.linux / DEFERRED).exists():
        say("linux: unpacking the source, which was put off")
        _make(settings)


def _make(settings: Settings) -> None:
    from tasks import fetch, patches

    if (settings.linux / DEFERRED).exists():
        # A run killed from here on finds no stamp, and begins with this task again.
        (settings.linux / SOURCE).unlink(missing_ok=True)
        # The tree's files will be older than any object: make would keep those of another patch series.
        (settings.build / BUILD_STAMP).unlink(missing_ok=True)
    fetch.unpack_linux(settings)
    patches.apply(settings)


def _is_unpacked(linux: Path, identity: str) -> bool:
    try:
        return (linux / SOURCE).read_text() == identity and not os.path.lexists(linux / DEFERRED)
    except OSError:
        return False

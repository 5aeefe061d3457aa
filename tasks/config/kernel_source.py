"""Which source the kernel tree is made of, and whether it is unpacked already.

Both are read from stamps in the tree and from the used lock; nothing fetched is read.
"""

from __future__ import annotations

import os

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.origins.sources.base import Source
from tasks.util.files import sha256_file

STAMP = ".tcbuild/source"
"""In the tree: a line that says which source it is of."""
DEFERRED = ".tcbuild/deferred"
"""In the tree: it holds the stamps alone, and is unpacked when a stage needs it."""


def is_tree(source: Source) -> bool:
    """Tell whether `source` is a tree of this machine, which may be edited in place at any time."""
    return source.is_local and source.local_file().is_dir()


def identity(settings: Settings) -> str:
    """Return the stamp of the tree that is unpacked from the profile's archive: file name and sha256."""
    source = settings.profile.kernel.source
    if source.is_local:
        path = source.local_file()
        return f"{path.name} {sha256_file(path)}\n"
    entry = inputs.locked_source(settings, source)
    return f"{entry.cached_in(settings.cache).name} {entry.sha256}\n"


def is_unpacked(settings: Settings) -> bool:
    """Tell whether the tree is that of the profile's archive, as a whole."""
    try:
        stamp = (settings.linux / STAMP).read_text()
    except OSError:
        return False
    return stamp == identity(settings) and not os.path.lexists(settings.linux / DEFERRED)

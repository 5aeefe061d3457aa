"""The kernel tree: unpacked and patched, but not before somebody needs it.

With a shared cache, configuration and kernel may come from there, and 1.5 GB of source
would be unpacked for nothing.  Task `linux` then writes only the stamps, which say what
the tree is to be, and a mark; what really reads the tree asks for it by `ensure`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tasks.config.inputs import _entry, _local, source_file, used_lock
from tasks.config.settings import Settings
from tasks.config.sources import Source
from tasks.formats import debian_package
from tasks.formats.archive import unpack_tar
from tasks.kernel import edited_tree
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, scratch_folder, sha256_file, write_atomic
from tasks.util.log import logger

SOURCE = ".tcbuild/source"
SERIES = ".tcbuild/series"
DEFERRED = ".tcbuild/deferred"
BUILD_STAMP = ".tcbuild.json"
"""In the build folder: which source and toolchain its objects are of."""


def prepare(settings: Settings) -> None:
    """Make the kernel tree, or with a shared cache only what says which one it will be."""
    from tasks.kernel import patches

    if settings.shared_cache and not is_tree(settings.profile.kernel.source):
        identity = linux_identity(settings)
        if not _is_unpacked(settings.linux, identity):
            with atomic_dir(settings.linux) as folder:
                write_atomic(folder / SOURCE, identity)
                write_atomic(folder / SERIES, patches.listing(patches.series(settings)))
                write_atomic(folder / DEFERRED, "")
            logger.info("linux: not unpacked yet; whatever the shared cache does not have will do so")
            return
    _make(settings)


def ensure(settings: Settings) -> None:
    """Make the kernel tree if that was put off."""
    if (settings.linux / DEFERRED).exists():
        logger.info("linux: unpacking the source, which was put off")
        _make(settings)


def _make(settings: Settings) -> None:
    from tasks.kernel import patches

    if (settings.linux / DEFERRED).exists():
        # A run killed from here on finds no stamp, and begins with this task again.
        (settings.linux / SOURCE).unlink(missing_ok=True)
        # The tree's files will be older than any object: make would keep those of another patch series.
        (settings.build / BUILD_STAMP).unlink(missing_ok=True)
    unpack_linux(settings)
    patches.apply(settings)


def _is_unpacked(linux: Path, identity: str) -> bool:
    try:
        return (linux / SOURCE).read_text() == identity and not os.path.lexists(linux / DEFERRED)
    except OSError:
        return False


def is_tree(source: Source) -> bool:
    """Tell whether `source` is a tree of this machine, which may be edited in place at any time."""
    return source.kind == "file" and _local(source).is_dir()


def linux_identity(settings: Settings) -> str:
    """Return the line in `.tcbuild/source` of an archive's tree, without reading what was fetched."""
    source = settings.profile.kernel.source
    if source.kind == "file":
        path = _local(source)
        return f"{path.name} {sha256_file(path)}\n"
    entry = _entry(source, used_lock(settings))
    return f"{entry.cached_in(settings.cache).name} {entry.sha256}\n"


def unpack_linux(settings: Settings) -> None:
    """Make `settings.linux` a fresh kernel source tree from the fetched source.

    The source is a linux-source .deb (it holds usr/src/linux-source-X.tar.xz), a
    tar archive, or, for kind `file`, a tree that is copied.  What it was stands in
    `.tcbuild/source` of the tree; the same source is not unpacked again, so that
    patches and mtimes stay, and of a tree edits are taken over.  Raises `UserError` if
    there is no kernel tree in it.
    """
    origin = source_file(settings, settings.profile.kernel.source)
    if origin.is_dir():
        _refuse_unless_kernel(origin, origin)
        edited_tree.sync(settings, origin)
        return
    stamp = Path(".tcbuild") / "source"
    identity = f"{origin.name} {sha256_file(origin)}\n"
    with suppress(OSError):
        if (settings.linux / stamp).read_text() == identity:
            return
    with scratch_folder(settings.output, "linux") as scratch:
        archive = origin
        if origin.suffix == ".deb":
            debian_package.unpack_deb(origin, scratch / "deb")
            archive = _tar_in_deb(scratch / "deb", origin)
        unpack_tar(archive, scratch / "tree", label=archive.name)
        tree = _top(scratch / "tree")
        _refuse_unless_kernel(tree, origin)
        write_atomic(tree / stamp, identity)
        with atomic_dir(settings.linux) as folder:
            os.replace(tree, folder)


def _tar_in_deb(unpacked: Path, deb: Path) -> Path:
    found = sorted((unpacked / "usr/src").glob("linux-source-*.tar.*"))
    if len(found) != 1:
        raise UserError(f"{deb.name} holds {len(found)} archives usr/src/linux-source-*.tar.*, expected one")
    return found[0]


def _top(folder: Path) -> Path:
    """Return the one folder in `folder` that holds all the rest, as in kernel archives, or itself."""
    inside = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _refuse_unless_kernel(tree: Path, origin: Path) -> None:
    if not all((tree / name).exists() for name in ("Makefile", "Kconfig", "arch")):
        raise UserError(f"{origin.name} holds no kernel source (Makefile, Kconfig, arch/)")

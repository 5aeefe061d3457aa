"""The kernel tree: unpacked and patched, but not before somebody needs it.

With a shared cache, configuration and kernel may come from there, and 1.5 GB of source
would be unpacked for nothing.  Task `linux` then writes only the stamps, which say what
the tree is to be, and a mark; `ensure` unpacks it before the first stage that reads the tree.
"""

from __future__ import annotations

import os
from pathlib import Path

from tasks.config import inputs
from tasks.config.kernel_source import DEFERRED, STAMP, identity, is_tree, is_unpacked
from tasks.config.settings import Settings
from tasks.formats import debian_package
from tasks.formats.archive import unpack_tar
from tasks.kernel import edited_tree, patches
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, scratch_folder, write_atomic
from tasks.util.log import logger

SERIES = ".tcbuild/series"
BUILD_STAMP = ".tcbuild.json"
"""In the build folder: which source and toolchain its objects are of."""


def prepare(settings: Settings) -> None:
    """Make the kernel tree, or with a shared cache only what says which one it will be."""
    put_off = settings.shared_cache and not is_tree(settings.profile.kernel.source)
    if put_off and not is_unpacked(settings):
        with atomic_dir(settings.linux) as folder:
            write_atomic(folder / STAMP, identity(settings))
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
    if (settings.linux / DEFERRED).exists():
        # A run killed from here on finds no stamp, and begins with this task again.
        (settings.linux / STAMP).unlink(missing_ok=True)
        # The tree's files will be older than any object: make would keep those of another patch series.
        (settings.build / BUILD_STAMP).unlink(missing_ok=True)
    unpack_linux(settings)
    patches.apply(settings)


def unpack_linux(settings: Settings) -> None:
    """Make `settings.linux` a fresh kernel source tree from the fetched source.

    The source is a linux-source .deb (it holds usr/src/linux-source-X.tar.xz), a
    tar archive, or, for kind `file`, a tree that is copied.  What it was stands in
    `.tcbuild/source` of the tree; the same source is not unpacked again, so that
    patches and mtimes stay, and of a tree edits are taken over.  Raises `UserError` if
    the source is not in the cache, and if there is no kernel tree in it.
    """
    source = settings.profile.kernel.source
    if is_tree(source):
        origin = source.local_file()
        _refuse_unless_kernel(origin, origin)
        edited_tree.sync(settings, origin)
        return
    if is_unpacked(settings):
        return
    origin = inputs.source_file(settings, source)
    with scratch_folder(settings.output, "linux") as scratch:
        archive = origin
        if origin.suffix == ".deb":
            debian_package.unpack_deb(origin, scratch / "deb")
            archive = _tar_in_deb(scratch / "deb", origin)
        unpack_tar(archive, scratch / "tree", label=archive.name)
        tree = _top(scratch / "tree")
        _refuse_unless_kernel(tree, origin)
        write_atomic(tree / STAMP, identity(settings))
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

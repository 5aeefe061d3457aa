# SPDX-License-Identifier: MIT
"""The kernel tree: the unpacked and patched source.

A shared cache may hold the configuration and the kernel; 1.5 GB of source would then be
unpacked for nothing.  With a shared cache, task `linux` therefore defers the work: it writes
only the stamps, which identify source and patch series, and a mark.  `ensure` unpacks the tree
before the first stage that reads it.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from tasks.config import inputs
from tasks.config.kernel_source import (
    DEFERRED,
    STAMP,
    UNPACKED_BY,
    identity,
    is_tree,
    is_unpacked,
    is_whole,
    unpacking_code,
)
from tasks.config.settings import Settings
from tasks.formats import debian_package
from tasks.formats.archive import unpack_tar
from tasks.kernel import git_tree, nearest_tree, patches, tree_copy, tree_state
from tasks.origins.sources.git import GitSource
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, scratch_folder, write_atomic
from tasks.util.log import logger

UNTOUCHED = ".tcbuild.untouched"
"""In the build folder: all of its objects are of a tree that nobody had edited in place."""


def prepare(settings: Settings, whole: bool = False) -> None:
    """Unpack and patch the kernel tree.

    With a shared cache, write only its stamps and defer the rest, unless the tree is wanted `whole`.
    """
    deferred = settings.network.shared_cache and not is_tree(settings.profile.kernel.own_source)
    # A tree that other code unpacked keeps its times, and so does one of another commit, so that make
    # compiles only what differs.
    stamp = identity(settings.paths, settings.profile) if deferred and not whole else ""
    if stamp and not _stays(settings, stamp):
        with atomic_dir(settings.paths.linux) as folder:
            write_atomic(folder / STAMP, stamp)
            patches.write_listings(folder, patches.series(settings.profile))
            write_atomic(folder / DEFERRED, "")
        logger.info(
            "linux: the source is unpacked later, if the shared cache lacks the kernel or its configuration"
        )
        return
    _unpack_and_patch(settings)


def _stays(settings: Settings, stamp: str) -> bool:
    """Tell whether the tree that is there becomes that of `stamp` by what is in the cache folder."""
    linux, source = settings.paths.linux, settings.profile.kernel.own_source
    if not _is_of(linux, stamp):
        return False
    same = (linux / STAMP).read_text() == stamp
    return same or (isinstance(source, GitSource) and git_tree.is_fetched(settings.paths, source))


def ensure(settings: Settings) -> None:
    """Unpack and patch the kernel tree if that was deferred."""
    if not is_whole(settings.paths):
        logger.info("linux: unpacking the source now, as a stage needs it")
        _unpack_and_patch(settings)


def _unpack_and_patch(settings: Settings) -> None:
    if not is_whole(settings.paths):
        # Without the stamp, the run after a killed one repeats this task from its start.
        (settings.paths.linux / STAMP).unlink(missing_ok=True)
    tree, source = settings.paths.linux, settings.profile.kernel.own_source
    if not is_tree(source) and nearest_tree.begin(settings, identity(settings.paths, settings.profile)):
        return
    as_before = tree_state.is_as_unpacked(tree)
    tree_state.forget(tree)
    is_new = unpack_linux(settings)
    patches.apply(settings.paths, settings.profile)
    # Once somebody has edited the tree, it is no longer what the source and the patches give.
    if is_new or as_before:
        tree_state.record(tree)


def unpack_linux(settings: Settings) -> bool:
    """Unpack the fetched source to `paths.linux`, without patches; tell whether all of it is new.

    The source is a linux-source .deb (it holds usr/src/linux-source-X.tar.xz), a
    tar archive, a commit in a clone of git, or, for kind `file`, a folder that is copied.
    `.tcbuild/source` of the tree identifies the source.  The same archive is not unpacked again, so that
    patches and mtimes stay; from a folder, only edited files are copied again.  If the code that unpacks
    has changed, the archive is unpacked again, and files with the same content keep their mtimes,
    so that `make` compiles only what differs.  Raises `UserError` if the source is not in the
    cache, and if it holds no kernel tree.
    """
    source = settings.profile.kernel.own_source
    if is_tree(source):
        tree_copy.sync(settings.paths, source.local_file())
        return False
    if is_unpacked(settings.paths, settings.profile):
        return False
    stamp = identity(settings.paths, settings.profile)
    if isinstance(source, GitSource) and git_tree.move(settings.paths, source, stamp):
        return False
    with scratch_folder(settings.paths.output, "linux") as scratch:
        if isinstance(source, GitSource):
            tree = scratch / "tree"
            git_tree.export(settings.paths, source, tree)
            _check_is_kernel(tree, source.label())
        else:
            tree = _unpacked(inputs.source_file(settings.paths, source), scratch)
        write_atomic(tree / STAMP, stamp)
        write_atomic(tree / UNPACKED_BY, unpacking_code())
        if _is_of(settings.paths.linux, stamp):
            patches.sync(tree, patches.series(settings.profile), settings.paths.logs / "patches.log")
            _keep_times(settings.paths.linux, tree)
        else:
            # They may be of another patch series, or of a tree that somebody had edited.
            tree_state.forget_objects(settings.paths)
        with atomic_dir(settings.paths.linux) as folder:
            os.replace(tree, folder)
    return True


def _unpacked(origin: Path, scratch: Path) -> Path:
    """Unpack a .deb or an archive of a kernel below `scratch`; return the kernel tree."""
    archive = origin
    if origin.suffix == ".deb":
        debian_package.unpack_deb(origin, scratch / "deb")
        archive = _tar_in_deb(scratch / "deb", origin)
    unpack_tar(archive, scratch / "tree", label=archive.name)
    tree = _top_folder(scratch / "tree")
    _check_is_kernel(tree, origin.name)
    return tree


def _is_of(tree: Path, stamp: str) -> bool:
    """Tell whether a tree has been unpacked from the source with this stamp, or from its repository."""
    if not (tree / STAMP).is_file() or (tree / DEFERRED).exists():
        return False
    return (tree / STAMP).read_text().partition("\n")[0] == stamp.partition("\n")[0]


def _keep_times(old: Path, new: Path) -> None:
    """Give each file below `new` the mtime of an equal file below `old`, or the current time."""
    for folder, _, names in os.walk(new):
        for name in names:
            path = os.path.join(folder, name)
            before = os.path.join(old, os.path.relpath(path, new))
            if os.path.islink(path):
                continue
            if os.path.isfile(before) and _are_equal(before, path):
                shutil.copystat(before, path)
            else:
                os.utime(path)


def _are_equal(one: str, other: str) -> bool:
    modes = {os.stat(path).st_mode for path in (one, other)}
    return len(modes) == 1 and filecmp.cmp(one, other, shallow=False)


def _tar_in_deb(unpacked: Path, deb: Path) -> Path:
    found = sorted((unpacked / "usr/src").glob("linux-source-*.tar.*"))
    if len(found) != 1:
        raise UserError(f"{deb.name} holds {len(found)} archives usr/src/linux-source-*.tar.*, expected one")
    return found[0]


def _top_folder(folder: Path) -> Path:
    """Return the single top folder in `folder`, as kernel archives have one; else `folder` itself."""
    inside = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _check_is_kernel(tree: Path, name: str) -> None:
    if not all((tree / name).exists() for name in ("Makefile", "Kconfig", "arch")):
        raise UserError(f"{name} holds no kernel source (Makefile, Kconfig, arch/)")

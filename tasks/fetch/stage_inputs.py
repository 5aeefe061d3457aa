# SPDX-License-Identifier: MIT
"""Fetch the inputs of one stage into the cache: the first action of the stage's task.

Each function fetches the locked inputs of one kind of stage.  It skips files that the cache
holds with the right sha256, so a second run asks no mirror.  With a shared
cache, task `fetch` only locks the inputs and these functions fetch them.  Without one, task
`fetch` fetches everything, and these functions replace files that were lost or damaged since.

All raise `UserError` for an input that is not locked yet, that no source offers any more, or
that is missing while `offline` is set.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.config import inputs, plan
from tasks.config.kernel_source import is_unpacked
from tasks.config.settings import Paths, Settings
from tasks.origins import suite
from tasks.origins.lock import LockedCommit, LockedExtension, LockedPackage, load_lock
from tasks.origins.sources.base import Entry, Source
from tasks.origins.sources.imported import require_imported
from tasks.util import parallel
from tasks.util.files import sha256_file


def fetch_kernel_source(settings: Settings) -> None:
    """Fetch the kernel's source, unless the kernel tree is already unpacked from it."""
    wanted = settings.profile.kernel.own_source
    if not wanted.is_local and not is_unpacked(settings.paths, settings.profile):
        _fetch_sources(settings, [wanted])


def fetch_kernel_image(settings: Settings) -> None:
    """Fetch the files of a kernel that others built."""
    _fetch_sources(settings, settings.profile.kernel.sources)


def fetch_base_config(settings: Settings) -> None:
    """Fetch the base config of the kernel, unless it is a file of kconfig/."""
    base = settings.profile.kernel.base
    _fetch_sources(settings, [] if isinstance(base, str) else [base])


def fetch_core_packages(settings: Settings) -> None:
    """Fetch the packages of the base root."""
    part = settings.paths.lock_part("rootfs")
    inputs.locked_packages(part, settings.profile.core.packages)
    _fetch_packages(settings, load_lock(part).package)


def fetch_core_archives(settings: Settings) -> None:
    """Fetch the archives that the core begins with."""
    _fetch_sources(settings, settings.profile.core.archives)


def fetch_images(settings: Settings) -> None:
    """Fetch the container images."""
    _fetch_sources(settings, (image.source for image in settings.profile.images))


def fetch_backup(settings: Settings) -> None:
    """Fetch the mydata.tgz of the disk image, unless it is made of a folder."""
    mydata = settings.profile.system.mydata
    _fetch_sources(settings, [] if isinstance(mydata, str) else [mydata])


def fetch_recipe_packages(settings: Settings, name: str) -> None:
    """Fetch the packages of the recipe `name`, and the archives that its files are checked against."""
    origins = plan.recipe_of(settings.profile, name).origin
    packages = [package for origin in origins for package in origin.apt_packages()]
    if packages:
        part = settings.paths.extension_lock(name)
        inputs.locked_packages(part, packages)
        _fetch_packages(settings, load_lock(part).package)
    fetch_core_archives(settings)


def fetch_extension(settings: Settings, name: str) -> None:
    """Fetch the upstream extension `name`."""
    item = inputs.locked_extension(settings.paths, name)
    if not _is_cached(settings.paths, item):
        download_extension(settings, item)


def download_extension(settings: Settings, item: LockedExtension) -> None:
    """Download the extension that `item` locks; one that was imported must be in the cache.

    Raises `UserError` as `http.download` does.
    """
    profile = settings.profile
    if profile.is_imported(item.name):
        path = item.cached_in(settings.paths.cache)
        require_imported(path, item.sha256, profile.imported, settings.paths.imported_name)
        return
    address = f"{profile.tcz.strip('/')}/{item.name}.tcz"
    final = item.cached_in(settings.paths.cache)
    inputs.access(settings).mirrors.download(
        address, final, sha256=item.sha256, offline=settings.network.offline
    )


def fetch_packages(settings: Settings) -> None:
    """Fetch every locked apt package except the kernel's source."""
    lock = inputs.used_lock(settings.paths)
    kernel = settings.profile.kernel
    sources = [] if kernel.image else [kernel.own_source.locked_in(lock)]
    _fetch_packages(settings, (package for package in lock.package if package not in sources))


def _fetch_sources(settings: Settings, sources: Iterable[Source]) -> None:
    access = inputs.access(settings)
    remote = [(one, inputs.locked_source(settings.paths, one)) for one in sources if one.is_fetched]
    missing = [(one, entry) for one, entry in remote if not _is_cached(settings.paths, entry)]
    parallel.each(lambda pair: pair[0].fetch(pair[1], access), missing)


def _fetch_packages(settings: Settings, packages: Iterable[LockedPackage]) -> None:
    """Fetch those of `packages` that the cache lacks or holds damaged."""
    missing = [package for package in packages if not _is_cached(settings.paths, package)]
    if missing:
        access = inputs.access(settings)
        whole = access.packages_suite()
        suite.fetch(whole, missing, access.cache, offline=access.offline, dates=access.dates)


def _is_cached(paths: Paths, entry: Entry | LockedExtension) -> bool:
    if isinstance(entry, LockedCommit):
        return False  # its source looks for it itself
    path = entry.cached_in(paths.cache)
    return path.is_file() and sha256_file(path) == entry.sha256

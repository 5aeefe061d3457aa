"""Bring what one stage needs from the network into the cache: the first action of its task.

Each function brings the inputs of one kind of stage, as they are locked.  What the cache
holds whole is left alone, so that a second run asks neither apt nor a mirror.  With a shared
cache, task `fetch` has locked the inputs and left the fetching to these functions; without
one it has fetched everything, and these replace what was lost or damaged since.

All raise `UserError` for an input that is not locked yet, that cannot be had any more, and,
with `offline`, for one that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.config import inputs, plan
from tasks.config.kernel_source import is_unpacked
from tasks.config.settings import Settings
from tasks.origins import apt
from tasks.origins.lock import LockedExtension, LockedPackage
from tasks.origins.sources.base import Entry, Source
from tasks.util import parallel
from tasks.util.files import sha256_file


def fetch_kernel_source(settings: Settings) -> None:
    """Bring the kernel's source, unless the kernel tree is unpacked from it already."""
    wanted = settings.profile.kernel.source
    if not wanted.is_local and not is_unpacked(settings):
        _fetch_sources(settings, [wanted])


def fetch_base_config(settings: Settings) -> None:
    """Bring the base of the kernel's config, if it is no file of kconfig/."""
    base = settings.profile.kernel.base
    _fetch_sources(settings, [] if isinstance(base, str) else [base])


def fetch_core_packages(settings: Settings) -> None:
    """Bring the apt packages that the base root is made of."""
    _fetch_packages(settings, inputs.locked_packages(settings, settings.profile.core.packages))


def fetch_core_archives(settings: Settings) -> None:
    """Bring the archives that the core begins with."""
    _fetch_sources(settings, settings.profile.core.archives)


def fetch_images(settings: Settings) -> None:
    """Bring the container images."""
    _fetch_sources(settings, (image.source for image in settings.profile.images))


def fetch_recipe_packages(settings: Settings, name: str) -> None:
    """Bring the apt packages of an extension, and the archives it is checked against."""
    origins = plan.recipe_of(settings.profile, name).origin
    packages = [package for origin in origins for package in origin.apt_packages()]
    _fetch_packages(settings, inputs.locked_packages(settings, packages) if packages else [])
    fetch_core_archives(settings)


def fetch_extension(settings: Settings, name: str) -> None:
    """Bring an upstream extension."""
    item = inputs.locked_extension(settings, name)
    if not _is_cached(settings, item):
        download_extension(settings, item)


def download_extension(settings: Settings, item: LockedExtension) -> None:
    """Bring an upstream extension as `item` locks it.  Raises `UserError` as `http.download` does."""
    path = f"{settings.profile.tcz.strip('/')}/{item.name}.tcz"
    final = item.cached_in(settings.cache)
    inputs.access(settings).mirrors.download(path, final, sha256=item.sha256, offline=settings.offline)


def fetch_packages(settings: Settings) -> None:
    """Bring every locked apt package but the kernel's source."""
    lock = inputs.used_lock(settings)
    kernel = settings.profile.kernel.source.locked_in(lock)
    _fetch_packages(settings, (package for package in lock.package if package != kernel))


def _fetch_sources(settings: Settings, sources: Iterable[Source]) -> None:
    access = inputs.access(settings)
    remote = [(one, inputs.locked_source(settings, one)) for one in sources if not one.is_local]
    missing = [(one, entry) for one, entry in remote if not _is_cached(settings, entry)]
    parallel.each(lambda pair: pair[0].fetch(pair[1], access), missing)


def _fetch_packages(settings: Settings, packages: Iterable[LockedPackage]) -> None:
    """Bring those of `packages` that the cache does not hold whole."""
    missing = [package for package in packages if not _is_cached(settings, package)]
    apt.fetch_locked(missing, offline=settings.offline, frozen=settings.frozen, cache=settings.cache)


def _is_cached(settings: Settings, entry: Entry | LockedExtension) -> bool:
    path = entry.cached_in(settings.cache)
    return path.is_file() and sha256_file(path) == entry.sha256

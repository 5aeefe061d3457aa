"""Bring what one stage needs from the network into the cache: the first action of its task.

Each function brings the inputs of one kind of stage, as they are locked.  What the cache
holds whole is left alone, so that a second run asks neither apt nor a mirror.  With a shared
cache, task `fetch` has locked the inputs and left the fetching to these functions; without
one it has fetched everything, and these replace what was lost or damaged since.

All raise `UserError` for an input that is not locked yet, that cannot be had any more, and,
with `offline`, for one that is missing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from tasks.config import inputs, plan
from tasks.config.kernel_source import is_unpacked
from tasks.config.settings import Settings
from tasks.config.sources import Source
from tasks.origins import apt
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import sha256_file


def kernel_source(settings: Settings) -> None:
    """Bring the kernel's source, unless the kernel tree is unpacked from it already."""
    wanted = settings.profile.kernel.source
    if wanted.kind != "file" and not is_unpacked(settings):
        _bring_sources(settings, [wanted])


def base_config(settings: Settings) -> None:
    """Bring the base of the kernel's config, if it is no file of kconfig/."""
    base = settings.profile.kernel.base
    _bring_sources(settings, [base] if isinstance(base, Source) else [])


def core_packages(settings: Settings) -> None:
    """Bring the apt packages that the base root is made of."""
    _bring(settings, inputs.locked_packages(settings, settings.profile.core.packages))


def core_archives(settings: Settings) -> None:
    """Bring the archives that the core begins with."""
    _bring_sources(settings, settings.profile.core.archives)


def images(settings: Settings) -> None:
    """Bring the container images."""
    _bring_sources(settings, (image.source for image in settings.profile.images))


def recipe(settings: Settings, name: str) -> None:
    """Bring the apt packages of an extension, and the archives it is checked against."""
    origins = plan.recipe_of(settings.profile, name).origin
    packages = [package for origin in origins for package in origin.apt_packages()]
    _bring(settings, inputs.locked_packages(settings, packages) if packages else [])
    core_archives(settings)


def extension(settings: Settings, name: str) -> None:
    """Bring an upstream extension."""
    item = inputs.locked_extension(settings, name)
    if not _is_whole(settings, item):
        from_mirrors(settings, f"{settings.profile.tcz.strip('/')}/{name}.tcz", item)


def packages(settings: Settings) -> None:
    """Bring every locked apt package but the kernel's source."""
    kernel = settings.profile.kernel.source
    pattern = kernel.package if kernel.kind == "apt" else ""
    locked = inputs.used_lock(settings).package
    _bring(settings, (one for one in locked if not fnmatch.fnmatchcase(one.name, pattern)))


def from_mirrors(settings: Settings, path: str, entry: LockedFile | LockedExtension) -> None:
    """Bring a file of the profile's mirrors into the cache.  Raises `UserError` as `download` does."""
    from tasks.origins.http import download  # imports requests, and most runs need nothing

    download(
        [f"{mirror.rstrip('/')}/{path}" for mirror in settings.profile.mirrors],
        entry.cached_in(settings.cache),
        sha256=entry.sha256,
        offline=settings.offline,
        label=Path(path).name,
        redirects=settings.profile.redirects,
    )


def _bring_sources(settings: Settings, sources: Iterable[Source]) -> None:
    remote = [one for one in sources if one.kind != "file"]
    _bring(settings, [inputs.locked_source(settings, one) for one in remote])


def _bring(settings: Settings, entries: Iterable[LockedPackage | LockedFile]) -> None:
    """Bring those of `entries` that the cache does not hold whole."""
    missing = [entry for entry in entries if not _is_whole(settings, entry)]
    _bring_packages(settings, [entry for entry in missing if isinstance(entry, LockedPackage)])
    files = [(entry.path, entry) for entry in missing if isinstance(entry, LockedFile)]
    parallel.each(lambda one: from_mirrors(settings, *one), files)


def _bring_packages(settings: Settings, missing: list[LockedPackage]) -> None:
    try:
        apt.fetch_packages(
            [package.name for package in missing],
            pinned=Lock(tuple(missing)),
            frozen=True,
            offline=settings.offline,
            cache=settings.cache,
        )
    except UserError as error:
        other = "./doit lock takes what is offered now"
        hint = error.hint if settings.frozen or settings.offline else other
        raise UserError(error.message, hint, error.detail) from None


def _is_whole(settings: Settings, entry: LockedPackage | LockedFile | LockedExtension) -> bool:
    path = entry.cached_in(settings.cache)
    return path.is_file() and sha256_file(path) == entry.sha256

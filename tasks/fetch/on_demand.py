"""Fetched files, as a stage asks for them: those `fetch` has put off, those the cache has lost since."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tasks.config.settings import Settings
from tasks.origins import apt
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage
from tasks.util import parallel
from tasks.util.errors import UserError

_checked: set[tuple[Path, int, int]] = set()
"""Path, size and mtime of what `bring` has found whole in this run."""


def bring(settings: Settings, entries: Iterable[LockedPackage | LockedFile]) -> None:
    """Fetch, as they are locked, those of `entries` that the cache does not hold whole.

    With a shared cache task `fetch` leaves that to the stages; without one it has done so, and
    what was removed or damaged since is brought again.  Raises `UserError` as it does.
    """
    todo = [entry for entry in entries if _state(settings, entry) not in _checked]
    if not todo:
        return
    packages = [entry for entry in todo if isinstance(entry, LockedPackage)]
    try:
        apt.fetch_packages(
            [entry.name for entry in packages],
            pinned=Lock(tuple(packages)),
            frozen=True,
            offline=settings.offline,
            cache=settings.cache,
        )
    except UserError as error:
        other = "./doit lock takes what is offered now"
        hint = error.hint if settings.frozen or settings.offline else other
        raise UserError(error.message, hint, error.detail) from None
    remote = [(entry.path, entry) for entry in todo if isinstance(entry, LockedFile)]
    parallel.each(lambda one: from_mirrors(settings, *one), remote)
    _checked.update(_state(settings, entry) for entry in todo)


def _state(settings: Settings, entry: LockedPackage | LockedFile) -> tuple[Path, int, int]:
    path = entry.cached_in(settings.cache)
    with suppress(OSError):
        status = path.stat()
        return path, status.st_size, status.st_mtime_ns
    return path, -1, -1


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

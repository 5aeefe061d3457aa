"""What task `fetch` puts off while there is a shared cache, brought when a stage asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks import apt, parallel
from tasks.download import download
from tasks.errors import UserError
from tasks.profile import Lock, LockedExtension, LockedFile, LockedPackage, Settings
from tasks.run import say

_checked: set[tuple[str, str]] = set()
"""Name and sha256 of what `bring` has found whole in this run."""


def bring(settings: Settings, entries: Iterable[LockedPackage | LockedFile]) -> None:
    """Fetch, as they are locked, those of `entries` that the cache does not hold whole.

    Without a shared cache task `fetch` has done so.  Raises `UserError` as that does.
    """
    todo = [entry for entry in entries if (str(settings.cache), entry.sha256) not in _checked]
    if not settings.shared_cache or not todo:
        return
    packages = [entry for entry in todo if isinstance(entry, LockedPackage)]
    try:
        apt.fetch_packages(
            [entry.name for entry in packages],
            pinned=Lock(tuple(packages)),
            frozen=True,
            offline=settings.offline,
            cache=settings.cache,
            say=say,
        )
    except UserError as error:
        hint = (
            error.hint if settings.frozen or settings.offline else "./doit fetch cache= takes what is offered"
        )
        raise UserError(error.message, hint, error.detail) from None
    remote = [(entry.path, entry) for entry in todo if isinstance(entry, LockedFile)]
    parallel.each(lambda one: from_mirrors(settings, *one), remote)
    _checked.update((str(settings.cache), entry.sha256) for entry in todo)


def from_mirrors(settings: Settings, path: str, entry: LockedFile | LockedExtension) -> None:
    """Bring a file of the profile's mirrors into the cache.  Raises `UserError` as `download` does."""
    download(
        [f"{mirror.rstrip('/')}/{path}" for mirror in settings.profile.mirrors],
        entry.cached_in(settings.cache),
        sha256=entry.sha256,
        offline=settings.offline,
        label=Path(path).name,
        redirects=settings.profile.redirects,
    )

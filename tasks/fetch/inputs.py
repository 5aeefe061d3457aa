# SPDX-License-Identifier: MIT
"""The fetch stage: fetch the inputs of a profile into the cache and verify them.

It writes their exact versions and sha256 to the used lock (`artifacts/PROFILE/lock.toml`).
Later stages find their inputs by that lock only.  `tasks/fetch/stage_inputs.py` fetches what
the cache lacks when a stage begins.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from tasks.config import inputs, plan
from tasks.config.inputs import sources
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.fetch import stage_inputs
from tasks.origins import apt
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage, load_lock
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger


def fetch(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Fetch every input of the profile, and the apt packages `extra`, into the cache.

    Writes the used lock.  If the cache holds all files of the pinned lock, neither apt
    nor the network is asked.  With a shared cache, locked files are fetched only when a stage
    needs them.  Raises `UserError` if an input is not available or is not the locked one, or if the
    kernel cannot be built in the output folder.
    """
    settings.paths.require_plain_output()
    if settings.network.relock:
        raise UserError("relock=1 changes what is locked, and fetch never does", "./doit lock relock=1")
    pinned = load_lock(settings.paths.pinned_lock)
    locked = _lock_without_fetch(settings, pinned, extra) if settings.network.shared_cache else None
    if settings.network.offline and not settings.network.frozen:
        pinned = _prefer_cached(pinned, load_lock(settings.paths.used_lock), settings.paths.cache)
    used = locked or _fetch_all(settings, pinned, extra)
    write_if_changed(settings.paths.used_lock, used.to_toml())
    if locked:
        count = f"{len(used.package) + len(used.file)} packages and files"
        logger.info(f"fetch: {count} are locked; each is fetched when a stage needs it")
        return
    counts = {
        "packages": len(used.package),
        "files": len(used.file),
        "upstream extensions": len(used.extension),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    logger.info(f"fetched: {said or 'nothing'} ({settings.paths.used_lock})")


def lock(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Write the profile's pinned lock: the newest packages, and files that are not locked yet.

    Locked files and extensions of mirrors do not change.  With `relock`, they are replaced by
    what the mirrors serve now, and packages may get older.  Raises `UserError` as `fetch`
    does, and with `offline`.
    """
    if settings.network.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    from tasks.fetch import pin

    old = load_lock(settings.paths.pinned_lock)
    pinned = pin.pin_inputs(settings, old)
    newest = dataclasses.replace(settings, network=dataclasses.replace(settings.network, frozen=False))
    new = _fetch_all(newest, pinned, extra)
    if not settings.network.relock:
        _refuse_older(settings.profile, old, new)
    before = {package.name: package.version for package in old.package}
    for package in new.package:
        if before.get(package.name) != package.version:
            logger.info(f"lock: {package.name} {before.get(package.name, '(new)')} -> {package.version}")
    write_if_changed(settings.paths.used_lock, new.to_toml())
    write_if_changed(settings.paths.own_lock, new.to_toml())


def _refuse_older(profile: Profile, old: Lock, new: Lock) -> None:
    """Raise `UserError` if a package, or the match of a pattern, is older than the locked one."""
    before = {package.name: package for package in old.package}
    pairs = [(before.get(package.name), package) for package in new.package]
    for source in sources(profile):
        was, now = source.locked_in(old), source.locked_in(new)
        if isinstance(was, LockedPackage) and isinstance(now, LockedPackage):
            pairs.append((was, now))
    for locked, offered in pairs:
        if locked is not None:
            apt.refuse_older(offered.name, locked.version, offered.version)


def _fetch_all(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock:
    """Fetch everything and return it as a lock.  Refuses files that are not locked before any download."""
    access = inputs.access(settings)
    pinned_sources = [(one, one.pinned_in(pinned, access)) for one in sources(settings.profile)]
    files = [(source, entry) for source, entry in pinned_sources if isinstance(entry, LockedFile)]
    extensions = _pinned_extensions(settings.paths, settings.profile, pinned)
    names = [*settings.profile.core.packages, *extra]
    names += [name for source, _ in pinned_sources for name in source.packages(pinned, access)]
    packages = apt.fetch_packages(
        names,
        pinned=pinned,
        frozen=settings.network.frozen,
        offline=settings.network.offline,
        cache=settings.paths.cache,
    )
    remote = [
        functools.partial(source.fetch, entry, access) for source, entry in files if not source.is_local
    ]
    remote += [functools.partial(stage_inputs.download_extension, settings, item) for item in extensions]
    parallel.each(lambda fetch_one: fetch_one(), remote)
    known = {entry.path: entry for _, entry in files}
    return Lock(tuple(package for package, _ in packages), tuple(known.values()), extensions)


def _lock_without_fetch(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock | None:
    """Return the lock that `_fetch_all` would return, but fetch only packages that are not locked.

    Returns None if that lock depends on what is fetched.
    """
    access = inputs.access(settings)
    wanted = sources(settings.profile)
    if any(source.is_package and source.locked_in(pinned) is None for source in wanted):
        return None
    if plan.plan(settings.profile, pinned).of_kind("upstream"):
        return None
    entries = [source.pinned_in(pinned, access) for source in wanted]
    known = {entry.path: entry for entry in entries if isinstance(entry, LockedFile)}
    pins = {package.name: package for package in pinned.package}
    names = {*settings.profile.core.packages, *extra}
    packages = {entry.name: entry for entry in entries if isinstance(entry, LockedPackage)}
    packages |= {name: pins[name] for name in names if name in pins}
    unlocked = apt.fetch_packages(
        names - pins.keys(),
        pinned=pinned,
        frozen=settings.network.frozen,
        offline=settings.network.offline,
        cache=settings.paths.cache,
    )
    packages |= {package.name: package for package, _ in unlocked}
    return Lock(tuple(packages.values()), tuple(known.values()))


def _pinned_extensions(paths: Paths, profile: Profile, pinned: Lock) -> tuple[LockedExtension, ...]:
    """Return the lock entries of the profile's upstream extensions."""
    found = plan.plan(profile, pinned)
    for name, wanted_by in found.missing.items():
        message = f"no sha256 is locked for extension {name}, which {wanted_by} of {paths.name} needs"
        raise UserError(message, f"./doit lock profile={paths.name}")
    plan.log_loops(found)
    locked = {item.name: item for item in pinned.extension}
    return tuple(locked[name] for name in sorted(found.of_kind("upstream")))


def _prefer_cached(pinned: Lock, used: Lock, cache: Path) -> Lock:
    """Return `pinned`; packages that the cache lacks are replaced by those of the last fetch.

    So a fetch that could not take the pinned version can be repeated offline.
    """
    held = {package.name: package for package in used.package if apt.is_cached(package, cache)}
    kept = {package.name: package for package in pinned.package if apt.is_cached(package, cache)}
    return dataclasses.replace(pinned, package=tuple((held | kept).values()))

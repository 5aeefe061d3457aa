"""The fetch stage: the inputs of a profile come into the cache, verified.

What was used, byte for byte, is written to the used lock (`artifacts/PROFILE/lock.toml`), and
later stages find their inputs by that lock alone.  What the cache lacks when a stage begins,
`tasks/fetch/bring.py` brings.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tasks.config import plan
from tasks.config.inputs import find_file, local_file, match_package, sources
from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.config.sources import Source
from tasks.fetch import bring
from tasks.origins import apt
from tasks.origins.lock import Lock, LockedExtension, LockedFile, load_lock
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import sha256_file, write_if_changed
from tasks.util.log import logger


def fetch(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Bring every input of the profile, and the apt packages `extra`, into the cache.

    Writes the used lock.  With the pinned lock's files in the cache, neither apt
    nor the network is asked.  With a shared cache, what is locked is not fetched before a
    stage asks for it: perhaps none does.  Raises `UserError` if an input cannot be had or is
    not the locked one.
    """
    if settings.relock:
        raise UserError("relock=1 changes what is locked, and fetch never does", "./doit lock relock=1")
    pinned = load_lock(settings.pinned_lock)
    locked = _locked_already(settings, pinned, extra) if settings.shared_cache else None
    if settings.offline and not settings.frozen:
        pinned = _prefer_cached(pinned, load_lock(settings.used_lock), settings.cache)
    used = locked or _gather(settings, pinned, extra)
    write_if_changed(settings.used_lock, used.to_toml())
    if locked:
        count = f"{len(used.package) + len(used.file)} packages and files"
        logger.info(f"fetch: {count} are locked, and fetched when something must be made of them")
        return
    counts = {
        "packages": len(used.package),
        "files": len(used.file),
        "upstream extensions": len(used.extension),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    logger.info(f"fetched: {said or 'nothing'} ({settings.used_lock})")


def lock(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Make the newest packages, and what nobody has verified yet, the profile's pinned lock.

    Files and extensions below mirrors that are locked stay so; `relock` takes what the
    mirrors serve now, and packages older than the locked ones.  Raises `UserError` as
    `fetch` does, and with `offline`.
    """
    if settings.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    from tasks.fetch import pin

    old = load_lock(settings.pinned_lock)
    paths = [source.path for source in sources(settings.profile) if source.kind == "http"]
    learned = pin.learn(settings, paths, old)
    new = _gather(dataclasses.replace(settings, frozen=False), learned, extra)
    if not settings.relock:
        _refuse_older(settings.profile, old, new)
    before = {package.name: package.version for package in old.package}
    for package in new.package:
        if before.get(package.name) != package.version:
            logger.info(f"lock: {package.name} {before.get(package.name, '(new)')} -> {package.version}")
    write_if_changed(settings.used_lock, new.to_toml())
    write_if_changed(settings.own_lock, new.to_toml())


def _refuse_older(profile: Profile, old: Lock, new: Lock) -> None:
    """Raise `UserError` if a package, or what a pattern stands for, has gone backwards."""
    before = {package.name: package for package in old.package}
    pairs = [(before.get(package.name), package) for package in new.package]
    for source in sources(profile):
        if source.kind == "apt" and (found := match_package(source.package, new)):
            pairs.append((match_package(source.package, old), found))
    for locked, offered in pairs:
        if locked is not None:
            apt.refuse_older(offered.name, locked.version, offered.version)


def _gather(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock:
    """Fetch everything and return it as a lock.  What is not locked is refused before the first byte."""
    wanted = sources(settings.profile)
    files = [_pinned_file(settings, pinned, source) for source in wanted if source.kind == "http"]
    local = [_pinned_local(pinned, source) for source in wanted if source.kind == "file"]
    extensions = _pinned_extensions(settings, pinned)
    names = [*settings.profile.core.packages, *extra]
    names += [_resolve(settings, pinned, source.package) for source in wanted if source.kind == "apt"]
    packages = apt.fetch_packages(
        names,
        pinned=pinned,
        frozen=settings.frozen,
        offline=settings.offline,
        cache=settings.cache,
    )
    tcz = settings.profile.tcz.strip("/")
    remote: list[tuple[str, LockedFile | LockedExtension]] = [(file.path, file) for file in files]
    remote += [(f"{tcz}/{item.name}.tcz", item) for item in extensions]
    parallel.each(lambda one: bring.from_mirrors(settings, *one), remote)
    known = {file.path: file for file in [*files, *(file for file in local if file)]}
    return Lock(tuple(package for package, _ in packages), tuple(known.values()), extensions)


def _locked_already(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock | None:
    """Return the lock that fetching ends with if all that is pinned can be had, or None; fetch the rest."""
    wanted = sources(settings.profile)
    patterns = [source.package for source in wanted if source.kind == "apt"]
    sources_of = [match_package(pattern, pinned) for pattern in patterns]
    if None in sources_of or plan.plan(settings.profile, pinned).of_kind("upstream"):
        return None
    files = [_pinned_file(settings, pinned, source) for source in wanted if source.kind == "http"]
    local = [_pinned_local(pinned, source) for source in wanted if source.kind == "file"]
    known = {file.path: file for file in [*files, *(file for file in local if file)]}
    pins = {package.name: package for package in pinned.package}
    names = {*settings.profile.core.packages, *extra}
    packages = {entry.name: entry for entry in sources_of if entry}
    packages |= {name: pins[name] for name in names if name in pins}
    unlocked = apt.fetch_packages(
        names - pins.keys(),
        pinned=pinned,
        frozen=settings.frozen,
        offline=settings.offline,
        cache=settings.cache,
    )
    packages |= {package.name: package for package, _ in unlocked}
    return Lock(tuple(packages.values()), tuple(known.values()))


def _pinned_extensions(settings: Settings, pinned: Lock) -> tuple[LockedExtension, ...]:
    """Return the upstream extensions of the profile as locked."""
    found = plan.plan(settings.profile, pinned)
    for name, wanted_by in found.missing.items():
        message = f"no sha256 is locked for extension {name}, which {wanted_by} of {settings.name} wants"
        raise UserError(message, f"./doit lock profile={settings.name}")
    plan.tell_loops(found)
    locked = {item.name: item for item in pinned.extension}
    return tuple(locked[name] for name in sorted(found.of_kind("upstream")))


def _pinned_file(settings: Settings, pinned: Lock, source: Source) -> LockedFile:
    entry = find_file(source.path, pinned)
    if entry is None:
        hint = f"./doit lock profile={settings.name}"
        raise UserError(f"no sha256 is locked for {source.path} of profile {settings.name}", hint)
    return entry


def _pinned_local(pinned: Lock, source: Source) -> LockedFile | None:
    """Return the lock's entry for a file of this machine; None for a tree, which has no one hash."""
    path = local_file(source)
    if path.is_dir():
        return None
    entry = LockedFile(source.path, sha256_file(path))
    locked = find_file(source.path, pinned)
    if locked is not None and locked != entry:
        message = f"{path}: expected sha256 {locked.sha256}, got {entry.sha256}"
        raise UserError(message, "./doit lock takes it as it is now")
    return entry


def _resolve(settings: Settings, pinned: Lock, pattern: str) -> str:
    """Return the package a pattern stands for: the locked one while it can be had, else the newest."""
    locked = match_package(pattern, pinned)
    if locked is not None and (
        settings.frozen
        or settings.offline
        or apt.is_cached(locked, settings.cache)
        or apt.offered([locked.name])
    ):
        return locked.name
    if settings.frozen:
        raise UserError(f"frozen=1, but no version is locked for {pattern}", "./doit lock")
    if settings.offline:
        raise UserError(f"nothing in the cache is known to match {pattern}", "run once without offline=1")
    name, version = apt.newest(pattern)
    if locked is not None:
        apt.refuse_older(pattern, locked.version, version)
        text = f"{locked.name} {locked.version} -> {name} {version} (the locked package is no longer offered)"
        logger.info(text)
    return name


def _prefer_cached(pinned: Lock, used: Lock, cache: Path) -> Lock:
    """Return `pinned`, with what the last fetch used in place of packages the cache does not hold.

    A fetch that had to leave the pinned version can so be repeated offline.
    """
    held = {package.name: package for package in used.package if apt.is_cached(package, cache)}
    kept = {package.name: package for package in pinned.package if apt.is_cached(package, cache)}
    return dataclasses.replace(pinned, package=tuple((held | kept).values()))

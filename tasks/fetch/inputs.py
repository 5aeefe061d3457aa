# SPDX-License-Identifier: MIT
"""The fetch stage: fetch the inputs of a profile into the cache and verify them.

It writes their exact versions and sha256 to the used lock (`artifacts/PROFILE/lock.toml`), and
the entries that each task uses to a part of their own, so that a new entry of one task makes no
other one run.  Later stages find their inputs by these only.  `tasks/fetch/stage_inputs.py`
fetches what the cache lacks when a stage begins.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tasks.config import inputs, plan, recipe
from tasks.config.inputs import sources
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.fetch import stage_inputs
from tasks.origins import apt
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage, load_lock
from tasks.util import parallel
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

Packages = Mapping[str, tuple[str, ...]]
"""The apt packages that recipes take files from, by extension."""
NO_PACKAGES: Packages = MappingProxyType({})


def fetch(settings: Settings, packages: Packages = NO_PACKAGES) -> None:
    """Fetch every input of the profile, and the `packages` of its recipes, into the cache.

    Writes the used lock and its parts.  If the cache holds all files of the pinned lock, neither
    apt nor the network is asked.  With a shared cache, locked files are fetched only when a stage
    needs them.  Raises `UserError` if an input is not available or is not the locked one, or if the
    kernel cannot be built in the output folder.
    """
    settings.paths.require_plain_output()
    if settings.network.relock:
        raise UserError("relock=1 changes what is locked, and fetch never does", "./doit lock relock=1")
    pinned = load_lock(settings.paths.pinned_lock)
    locked = _lock_without_fetch(settings, pinned, packages) if settings.network.shared_cache else None
    used = locked or _fetch_all(settings, _available(settings, pinned, settings.paths.used_lock), packages)
    upstream = [item.name for item in used.extension]
    for user, part in inputs.lock_parts(used, settings.profile, packages, upstream).items():
        write_if_changed(settings.paths.lock_part(user), part.to_toml())
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


def fetch_packages_of(settings: Settings, name: str) -> None:
    """Fetch the apt packages of the recipe `name`, which the profile does not use, into the cache.

    Writes their lock entries: those of the pinned lock, or the newest that apt offers.  Raises
    `UserError` as `fetch` does.
    """
    packages = {name: recipe.packages({name: plan.recipe_of(settings.profile, name)})}
    part = settings.paths.extension_lock(name)
    pinned = _available(settings, load_lock(settings.paths.pinned_lock), part)
    used = _fetch_packages(settings, pinned, packages[name], packages)
    write_if_changed(part, Lock(tuple(used)).to_toml())
    logger.info(f"fetched: {len(used)} packages of {name} ({part})")


def lock(settings: Settings, packages: Packages = NO_PACKAGES) -> None:
    """Write the profile's pinned lock: the newest packages, and files that are not locked yet.

    packages: those of all recipes that the lock covers.  Locked files and extensions of mirrors do
    not change.  With `relock`, they are replaced by what the mirrors serve now, and packages may
    get older.  Raises `UserError` as `fetch` does, and with `offline`.
    """
    if settings.network.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    from tasks.fetch import pin

    old = load_lock(settings.paths.pinned_lock)
    pinned = pin.pin_inputs(settings, old)
    newest = dataclasses.replace(settings, network=dataclasses.replace(settings.network, frozen=False))
    new = _fetch_all(newest, pinned, packages)
    if not settings.network.relock:
        _refuse_older(settings.profile, old, new)
    before = {package.name: package.version for package in old.package}
    for package in new.package:
        if before.get(package.name) != package.version:
            logger.info(f"lock: {package.name} {before.get(package.name, '(new)')} -> {package.version}")
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


def _fetch_all(settings: Settings, pinned: Lock, extra: Packages) -> Lock:
    """Fetch everything and return it as a lock.  Refuses files that are not locked before any download."""
    access = inputs.access(settings)
    pinned_sources = [(one, one.pinned_in(pinned, access)) for one in sources(settings.profile)]
    files = [(source, entry) for source, entry in pinned_sources if isinstance(entry, LockedFile)]
    extensions = _pinned_extensions(settings.paths, settings.profile, pinned)
    names = [*settings.profile.core.packages, *_names(extra)]
    names += [name for source, _ in pinned_sources for name in source.packages(pinned, access)]
    packages = _fetch_packages(settings, pinned, names, extra)
    remote = [
        functools.partial(source.fetch, entry, access) for source, entry in files if not source.is_local
    ]
    remote += [functools.partial(stage_inputs.download_extension, settings, item) for item in extensions]
    parallel.each(lambda fetch_one: fetch_one(), remote)
    known = {entry.path: entry for _, entry in files}
    return Lock(tuple(packages), tuple(known.values()), extensions)


def _fetch_packages(
    settings: Settings, pinned: Lock, names: Iterable[str], by_recipe: Packages
) -> list[LockedPackage]:
    """Fetch the packages `names`, and return their lock entries.

    Raises `UserError` as `apt.fetch_packages` does; it names the file that asks for a package which
    apt does not offer.
    """
    with _name_file_in_errors(settings, by_recipe):
        found = apt.fetch_packages(
            names,
            pinned=pinned,
            frozen=settings.network.frozen,
            offline=settings.network.offline,
            cache=settings.paths.cache,
        )
    return [package for package, _ in found]


@contextmanager
def _name_file_in_errors(settings: Settings, by_recipe: Packages) -> Iterator[None]:
    try:
        yield
    except apt.NotOffered as error:
        files = [
            recipe.folder(name) / "recipe.toml" for name, has in by_recipe.items() if error.package in has
        ]
        if error.package in settings.profile.core.packages:
            files.insert(0, settings.paths.profile_file)
        where = ", ".join(CHECKOUT.name_of(path) for path in files)
        message = f"{where}: {error.message}" if where else error.message
        raise UserError(message, error.hint, error.detail) from None


def _names(packages: Packages) -> set[str]:
    return {name for names in packages.values() for name in names}


def _lock_without_fetch(settings: Settings, pinned: Lock, extra: Packages) -> Lock | None:
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
    names = {*settings.profile.core.packages, *_names(extra)}
    packages = {entry.name: entry for entry in entries if isinstance(entry, LockedPackage)}
    packages |= {name: pins[name] for name in names if name in pins}
    unlocked = _fetch_packages(settings, pinned, names - pins.keys(), extra)
    packages |= {package.name: package for package in unlocked}
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


def _available(settings: Settings, pinned: Lock, last: Path) -> Lock:
    """Return `pinned`; offline, packages that the cache lacks are replaced by those of the lock `last`.

    So a fetch that could not take the pinned version can be repeated offline.
    """
    if not settings.network.offline or settings.network.frozen:
        return pinned
    used, cache = load_lock(last), settings.paths.cache
    held = {package.name: package for package in used.package if apt.is_cached(package, cache)}
    kept = {package.name: package for package in pinned.package if apt.is_cached(package, cache)}
    return dataclasses.replace(pinned, package=tuple((held | kept).values()))

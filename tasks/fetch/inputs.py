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

from tasks.config import inputs, plan, recipe, release
from tasks.config.inputs import sources
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.fetch import packages, stage_inputs
from tasks.origins import suite
from tasks.origins.lock import (
    CORE,
    Lock,
    LockedCommit,
    LockedExtension,
    LockedFile,
    LockedPackage,
    readable_lock,
)
from tasks.origins.published import contradicted
from tasks.util import parallel
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

Packages = Mapping[str, tuple[str, ...]]
"""The packages that recipes name, by extension."""
SERVED = (LockedFile, LockedCommit)
"""The lock entries of sources that are no packages."""
NO_PACKAGES: Packages = MappingProxyType({})


def fetch(settings: Settings, named: Packages = NO_PACKAGES) -> None:
    """Fetch every input of the profile, and the packages that its recipes name, into the cache.

    Writes the used lock and its parts.  If the cache holds all files of the pinned lock, nothing is
    asked of the network, and a complete lock is fetched without apt.  With a shared cache that
    the caller named, locked files are fetched only when a stage needs them.  Raises `UserError` if an
    input is not available or is not the locked one, or if the kernel cannot be built in the output folder.
    """
    settings.paths.require_plain_output()
    if settings.network.relock:
        raise UserError("relock=1 changes what is locked, and fetch never does", "./doit lock relock=1")
    pinned = inputs.pinned_lock(settings.paths)
    # With `newest`, only the download tells what has left the mirrors.
    put_off = settings.network.fetch_on_demand and not settings.network.newest
    locked = _lock_without_fetch(settings, pinned, named) if put_off else None
    used = locked or _fetch_all(settings, _available(settings, pinned, settings.paths.used_lock), named)
    upstream = [item.name for item in used.extension]
    for user, part in inputs.lock_parts(used, settings.profile, named, upstream).items():
        write_if_changed(settings.paths.lock_part(user), part.to_toml())
    write_if_changed(settings.paths.used_lock, used.to_toml())
    for entry in used.file:
        if problem := contradicted(entry, release.published().get(entry.path)):
            logger.warning(f"{problem}; ./doit lock relock=1 takes the published one")
    if locked:
        count = f"{len(used.package) + len(used.file)} packages and files"
        logger.info(f"fetch: {count} are locked; each is fetched when a stage needs it")
        return
    counts = {
        "packages": len(used.package),
        "files": len(used.file),
        "commits": len(used.commit),
        "upstream extensions": len(used.extension),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    logger.info(f"fetched: {said or 'nothing'} ({settings.paths.used_lock})")


def fetch_packages_of(settings: Settings, name: str) -> None:
    """Fetch the packages of the recipe `name`, which the profile does not use, into the cache.

    Writes their lock entries: those of the pinned lock, or the newest of the suite.  Raises
    `UserError` as `fetch` does.
    """
    named = {name: recipe.packages({name: plan.recipe_of(settings.profile, name)})}
    part = settings.paths.extension_lock(name)
    pinned = _available(settings, inputs.pinned_lock(settings.paths), part)
    used = inputs.part_of(_with_packages(settings, pinned, named), name, named[name])
    write_if_changed(part, used.to_toml())
    logger.info(f"fetched: {len(used.package)} packages of {name} ({part})")


def lock(settings: Settings, named: Packages = NO_PACKAGES) -> None:
    """Write the profile's pinned lock: the newest packages, and files that are not locked yet.

    named: the packages of all recipes that the lock covers.  Locked files and extensions of mirrors do
    not change.  With `relock`, they are replaced by what the mirrors serve now, and packages may
    get older.  Raises `UserError` as `fetch` does, and with `offline`.
    """
    if settings.network.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    inputs.refuse_foreign(settings.paths.own_lock, f"profile {settings.paths.name}")
    from tasks.fetch import pin

    # A malformed lock is replaced only by `relock`: nobody knows which of its entries were to stay.
    relock = settings.network.relock
    old = readable_lock(settings.paths.pinned_lock) if relock else inputs.pinned_lock(settings.paths)
    pinned = pin.pin_inputs(settings, old)
    newest = dataclasses.replace(settings, network=dataclasses.replace(settings.network, frozen=False))
    new = _fetch_all(newest, pinned, named)
    if not relock:
        refuse_older(settings.profile, old, new)
    before = {package.name: package.version for package in old.package}
    for package in new.package:
        if before.get(package.name) != package.version:
            logger.info(f"lock: {package.name} {before.get(package.name, '(new)')} -> {package.version}")
    for line in inputs.told(settings.profile, new):
        logger.info(f"trust: {line}")
    write_if_changed(settings.paths.own_lock, new.to_toml())


def refuse_older(profile: Profile, old: Lock, new: Lock) -> None:
    """Raise `UserError` if a package, or the match of a pattern, is older than the locked one."""
    before = {package.name: package for package in old.package}
    pairs = [(before.get(package.name), package) for package in new.package]
    for source in sources(profile):
        was, now = source.locked_in(old), source.locked_in(new)
        if isinstance(was, LockedPackage) and isinstance(now, LockedPackage):
            pairs.append((was, now))
    for locked, offered in pairs:
        if locked is not None:
            packages.refuse_older(offered.name, locked.version, offered.version)


def _fetch_all(settings: Settings, pinned: Lock, extra: Packages) -> Lock:
    """Fetch everything and return it as a lock.  Refuses files that are not locked before any download."""
    access = inputs.access(settings)
    pinned_sources = [(one, one.pinned_in(pinned, access)) for one in sources(settings.profile)]
    files = [(source, entry) for source, entry in pinned_sources if isinstance(entry, SERVED)]
    extensions = _pinned_extensions(settings.paths, settings.profile, pinned)
    remote = [
        functools.partial(source.fetch, entry, access) for source, entry in files if not source.is_local
    ]
    remote += [functools.partial(stage_inputs.download_extension, settings, item) for item in extensions]
    parallel.each(lambda fetch_one: fetch_one(), remote)
    # The libraries of archives and of upstream extensions count, so these are fetched by now.
    found = _with_packages(
        settings, dataclasses.replace(pinned, extension=extensions), named_by_user(settings, extra)
    )
    return dataclasses.replace(_with_entries(found, (entry for _, entry in files)), extension=extensions)


def _with_entries(lock: Lock, entries: Iterable[object]) -> Lock:
    """Return a lock with these entries of files and commits, each once, in place of its own."""
    each = list(dict.fromkeys(entries))
    files = {entry.path: entry for entry in each if isinstance(entry, LockedFile)}
    commits = tuple(entry for entry in each if isinstance(entry, LockedCommit))
    return dataclasses.replace(lock, file=tuple(files.values()), commit=commits)


def _with_packages(settings: Settings, pinned: Lock, named: Packages) -> Lock:
    """Fetch the packages that `named` needs and those of sources; return `pinned` with only these.

    Raises `UserError` as `suite.fetch` does, and names locked packages that no server has any more, but
    with `newest`, and without `frozen`, takes the newest of them.
    """
    with _name_file_in_errors(settings, named):
        gone: list[LockedPackage] = []
        while True:
            kept = tuple(entry for entry in pinned.package if entry not in gone)
            try:
                # The search for libraries downloads, too: one package after the other.
                found = packages.choose(settings, dataclasses.replace(pinned, package=kept), named)
                download_packages(settings, found)
            except suite.Gone as error:
                replaced = settings.network.newest and not settings.network.frozen
                if not replaced or not set(kept).issuperset(error.packages):
                    raise packages.gone_error(error, settings.paths.name) from None
                gone += error.packages
            else:
                packages.log_replaced(gone, found)
                return found


def download_packages(settings: Settings, found: Lock) -> None:
    """Fetch the packages of a lock into the cache.  Raises `UserError` as `suite.fetch` does."""
    if found.package:
        access = inputs.access(settings)
        whole = access.packages_suite()
        suite.fetch(whole, found.package, access.cache, offline=access.offline, dates=found.archive)


def named_by_user(settings: Settings, extra: Packages) -> Packages:
    """Return the packages that each user names, by user: `core` and extensions."""
    core = settings.profile.core.packages
    return {**({CORE: core} if core else {}), **{name: names for name, names in extra.items() if names}}


@contextmanager
def _name_file_in_errors(settings: Settings, named: Packages) -> Iterator[None]:
    try:
        yield
    except suite.NotOffered as error:
        files = [
            settings.paths.profile_file if user == CORE else recipe.folder(user) / "recipe.toml"
            for user, names in named.items()
            if error.package in names
        ]
        where = ", ".join(CHECKOUT.name_of(path) for path in files)
        message = f"{where}: {error.message}" if where else error.message
        raise UserError(message, error.hint, error.detail) from None


def _lock_without_fetch(settings: Settings, pinned: Lock, extra: Packages) -> Lock | None:
    """Return the lock that `_fetch_all` would return, but fetch nothing.

    Returns None if that lock depends on what is fetched.
    """
    access = inputs.access(settings)
    wanted = sources(settings.profile)
    named = named_by_user(settings, extra)
    if any(source.is_package and source.locked_in(pinned) is None for source in wanted):
        return None
    if plan.plan(settings.profile, pinned).of_kind("upstream"):
        return None
    if packages.unlocked(pinned, named) or packages.outdated(settings.profile, pinned, named):
        return None
    entries = [source.pinned_in(pinned, access) for source in wanted]
    return _with_entries(packages.choose(settings, pinned, named), entries)


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
    used, cache = readable_lock(last), settings.paths.cache
    held = {package.name: package for package in used.package if suite.is_cached(package, cache)}
    kept = {package.name: package for package in pinned.package if suite.is_cached(package, cache)}
    return dataclasses.replace(pinned, package=tuple((held | kept).values()))

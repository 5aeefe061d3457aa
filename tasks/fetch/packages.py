# SPDX-License-Identifier: MIT
"""Choose the packages of a profile: those that the lock holds, and for the others the suite's newest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from tasks.config import inputs, taken
from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.fetch.needs import Finder
from tasks.formats import debian_control
from tasks.origins import distribution, suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedPackage
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger


def choose(settings: Settings, pinned: Lock, named: Mapping[str, tuple[str, ...]]) -> Lock:
    """Return `pinned` with the packages of the profile's sources, of `named`, and of what these need.

    named: the packages that each user (`core` or an extension) names.  What is locked stays; only if
    something is not locked, apt is asked, and packages are fetched to search libraries in them.
    Raises `UserError` if something is not locked and `frozen` is set, and `suite.NotOffered`.
    """
    access = inputs.access(settings)
    if pinned.archive:
        _refuse_other_suite(access.packages_suite(), pinned, settings.paths.name)
    fresh, edited = unlocked(pinned, named), outdated(settings.profile, pinned, named)
    if fresh and access.frozen:
        locked = {package.name for package in pinned.package}
        lacking = sorted({name for user in fresh for name in named[user]} - locked)
        what = f"no version is locked for {', '.join(lacking)}" if lacking else "libraries are not locked"
        raise UserError(f"frozen=1, but {what}", "./doit lock")
    if edited:
        said = f"the files that {', '.join(edited)} takes of packages are not those of the lock"
        if access.frozen:
            raise UserError(f"frozen=1, but {said}", "./doit lock")
        logger.info(f"{said}: the packages of libraries are searched again, and ./doit lock keeps them")
        fresh += edited
    sources = [item for one in inputs.sources(settings.profile) for item in one.packages(pinned, access)]
    pins = {package.name: package for package in pinned.package}
    needs = {entry.of: entry for entry in pinned.needs if entry.of in named and entry.of not in fresh}
    if fresh:
        whole = access.packages_suite()
        wanted = sorted({name for user in fresh for name in named[user]} - pins.keys())
        offered = suite.candidates(whole, wanted, access.cache, offline=access.offline) if wanted else {}
        for name in wanted:
            if name not in offered:
                raise suite.not_offered(whole, name)
        with scratch_folder(access.cache / "downloads", "needs", ignore_errors=True) as scratch:
            finder = Finder(settings, pinned, named, scratch, {**pins, **offered}, needs)
            for package in (name for user in fresh for name in named[user]):
                finder.tree(package)
            for user in fresh:
                finder.find(user)
        pins = finder.packages
    names = {name for user in named for name in (*named[user], *needs[user].packages)}
    chosen = {item.name: item for item in sources} | {name: pins[name] for name in names}
    dates = pinned.archive
    if not set(chosen.values()) <= set(pinned.package):
        now = suite.archives(access.packages_suite(), access.cache, offline=access.offline)
        dates = tuple(dict.fromkeys((*dates, *now)))
    return dataclasses.replace(
        pinned, package=tuple(chosen.values()), archive=dates if chosen else (), needs=tuple(needs.values())
    )


def _refuse_other_suite(chosen: Suite, pinned: Lock, profile: str) -> None:
    """Raise `UserError` if the lock has packages of another suite than the profile names."""
    known = {
        (archive.name, part)
        for archive in distribution.load(chosen.distribution).archive
        for part in archive.suites_of(chosen.name)
    }
    other = [entry.suite for entry in pinned.archive if (entry.name, entry.suite) not in known]
    if other:
        message = f"profile {profile} names {chosen}, and its lock has packages of {', '.join(other)}"
        raise UserError(message, f"./doit lock profile={profile}")


def unlocked(pinned: Lock, named: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the users whose packages, or what these need, the lock lacks."""
    locked = {package.name for package in pinned.package}
    found = []
    for user, names in named.items():
        needs = pinned.needs_of(user)
        if (
            needs is None
            or needs.named != tuple(sorted(names))
            or not locked.issuperset((*names, *needs.packages))
        ):
            found.append(user)
    return found


def outdated(profile: Profile, pinned: Lock, named: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the users that are locked, but take other files of their packages, or depend on others, now."""
    fresh = unlocked(pinned, named)
    locked = [needs for user in named if user not in fresh and (needs := pinned.needs_of(user))]
    return [needs.of for needs in locked if needs.takes not in ("", taken.digest(profile, needs.of))]


def refuse_older(name: str, locked: str, version: str) -> None:
    """Raise `UserError` if `version` of a package is older than the locked one.

    A mirror that offers an older version is outdated or replayed.  apt refuses lists whose
    Valid-Until has passed, but not every suite sets it.
    """
    if debian_control.version(version) < debian_control.version(locked):
        raise UserError(
            f"{name}: the suite has {version}, which is older than the locked {locked}",
            "try another mirror; if the older one is right: ./doit lock relock=1",
        )


def gone_error(error: suite.Gone, profile: str) -> UserError:
    """Return the error for locked packages that no server has any more, with what can be done."""
    hint = f"newest=1 takes their newest versions for once; ./doit lock profile={profile} pins those"
    return UserError(error.message, hint)


def log_replaced(gone: Iterable[LockedPackage], found: Lock) -> None:
    """Log which packages take the place of those that are gone.  Raises `UserError` for an older one."""
    now = {package.name: package for package in found.package}
    for package in gone:
        other = now.get(package.name)
        if other is None:
            logger.info(f"{package.name} {package.version} has left the mirrors, and is replaced by others")
        else:
            refuse_older(package.name, package.version, other.version)
            logger.info(f"{package.name}: {package.version} -> {other.version} (it has left the mirrors)")

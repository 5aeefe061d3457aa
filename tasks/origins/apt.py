# SPDX-License-Identifier: MIT
"""Packages from the machine's own apt sources, verified by apt's signatures and by a lock.

Only apt's configuration names the mirrors.  A lock holds names, versions and hashes, so it is
valid on every machine whose apt offers the same packages.  Formats: apt-cache(8),
deb-control(5).
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import debian_control
from tasks.origins.lock import Lock, LockedPackage
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file
from tasks.util.log import logger
from tasks.util.process import run


class NotOffered(UserError):
    """No apt source offers a package of the name `package`."""

    def __init__(self, package: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.package = package


@dataclass(frozen=True)
class Offer:
    """One version of a package as an apt source offers it; `size` in bytes."""

    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()

    def locked(self) -> LockedPackage:
        return LockedPackage(self.name, self.version, self.sha256)


def newest(pattern: str) -> tuple[str, str]:
    """Return name and version of the newest package that matches a shell pattern.

    Newest by Debian's version order.  A metapackage (one that depends on another
    match, as linux-source does on linux-source-6.1) is skipped.  Raises
    `UserError` if apt offers no match.
    """
    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    known = run(["apt-cache", "pkgnames", prefix]).stdout.split()
    matches = sorted(name for name in known if fnmatch.fnmatchcase(name, pattern))
    offers = candidates(matches)
    real = [offer for offer in offers.values() if not any(name in offers for name in offer.depends)]
    if not real:
        raise not_offered_error(pattern)
    best = max(real, key=lambda offer: (debian_control.version(offer.version), offer.name))
    return best.name, best.version


def available_versions(names: Iterable[str]) -> list[Offer]:
    """Return every version of `names` that apt can download, the newest of each name first."""
    wanted = sorted(set(names))
    if not wanted:
        return []
    # Exit status 100 means that a name is unknown; the result lacks that name.
    shown = run(["apt-cache", "--all-versions", "show", *wanted], check=False).stdout
    return parse_offers(shown, _architecture())


def candidates(names: Iterable[str]) -> dict[str, Offer]:
    """Return the version of each of `names` that apt would install (apt_preferences(5) decides)."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    shown = run(["apt-cache", "--no-all-versions", "show", *wanted], check=False).stdout
    found: dict[str, Offer] = {}
    for offer in parse_offers(shown, _architecture()):
        found.setdefault(offer.name, offer)
    return found


def parse_offers(text: str, architecture: str) -> list[Offer]:
    """Return the downloadable packages in the output of `apt-cache show`, in its order.

    A record without Filename or SHA256 belongs to an installed package that no source offers.
    """
    offers = []
    for fields in debian_control.stanzas(text):
        if not {"Package", "Version", "Filename", "SHA256"} <= fields.keys():
            continue
        if fields.get("Architecture") not in (architecture, "all"):
            continue
        offers.append(
            Offer(
                name=fields["Package"],
                version=fields["Version"],
                sha256=fields["SHA256"],
                size=int(fields.get("Size", "0")),
                depends=tuple(debian_control.related_packages(fields.get("Depends", ""))),
            )
        )
    return offers


def fetch_packages(
    names: Iterable[str],
    *,
    pinned: Lock,
    frozen: bool,
    offline: bool,
    cache: Path,
) -> list[tuple[LockedPackage, Path]]:
    """Fetch the packages `names` into `cache`; return each with its .deb, sorted by name.

    The version of `pinned` is taken.  If no source offers it any more, the newest is taken,
    unless `frozen` is set.  If every pinned .deb is in the cache, apt is not asked.  Raises
    `UserError` if a package is not offered, if it is not in the cache while `offline` is set,
    and if a .deb is not the pinned one.
    """
    wanted = sorted(set(names))
    pins = {package.name: package for package in pinned.package}
    if frozen and (unpinned := [name for name in wanted if name not in pins]):
        raise UserError(f"frozen=1, but no version is locked for {', '.join(unpinned)}", "./doit lock")
    chosen = {name: pins[name] for name in wanted if name in pins and is_cached(pins[name], cache)}
    missing = [name for name in wanted if name not in chosen]
    if missing and offline:
        raise UserError(
            f"not in the cache, and offline=1 forbids to fetch: {', '.join(missing)}",
            "run once without offline=1",
        )
    if missing:
        offers = available_versions(missing)
        preferred = candidates(missing)
        picks = [_pick(name, offers, preferred.get(name), pins.get(name), frozen) for name in missing]
        _download([pick for pick in picks if not is_cached(pick.locked(), cache)], cache)
        chosen |= {pick.name: pick.locked() for pick in picks}
    return [(chosen[name], chosen[name].cached_in(cache)) for name in wanted]


def fetch_locked(packages: Iterable[LockedPackage], *, offline: bool, frozen: bool, cache: Path) -> None:
    """Fetch exactly these packages into `cache`.  Raises `UserError` as `fetch_packages` does.

    frozen: whether the user gave `frozen=1`; the hint of an error depends on it.
    """
    wanted = tuple(packages)
    names = [package.name for package in wanted]
    try:
        fetch_packages(names, pinned=Lock(wanted), frozen=True, offline=offline, cache=cache)
    except UserError as error:
        hint = error.hint if frozen or offline else "./doit lock takes what is offered now"
        raise UserError(error.message, hint, error.detail) from None


def is_cached(package: LockedPackage, cache: Path) -> bool:
    """Tell whether `cache` holds exactly this .deb."""
    deb = package.cached_in(cache)
    return deb.is_file() and sha256_file(deb) == package.sha256


def refuse_older(name: str, locked: str, version: str) -> None:
    """Raise `UserError` if `version` of a package is older than the locked one.

    A source that offers an older version is outdated or replayed.  apt refuses lists whose
    Valid-Until has passed, but not every source sets it.
    """
    if debian_control.version(version) < debian_control.version(locked):
        raise UserError(
            f"{name}: apt offers {version}, which is older than the locked {locked}",
            "apt-get update; if the older one is right: ./doit lock relock=1",
        )


def not_offered_error(what: str, locked: str = "") -> UserError:
    """Return the error for a package that apt does not offer, or for an apt without package lists."""
    lists = run(["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"], check=False)
    if not lists.stdout.strip():
        return UserError("apt has no package lists yet", "apt-get update")
    if locked:
        message = f"apt offers no package {what} (locked: {locked})"
        return NotOffered(what, message, "./doit lock takes the newest versions")
    hint = "check the name; if the lists are old: apt-get update"
    return NotOffered(what, f"apt offers no package {what}", hint)


def _pick(
    name: str,
    offers: Sequence[Offer],
    preferred: Offer | None,
    pin: LockedPackage | None,
    frozen: bool,
) -> Offer:
    """Return the pinned version if it is offered, else apt's preferred one."""
    mine = [offer for offer in offers if offer.name == name]
    if not mine:
        raise not_offered_error(name, pin.version if pin else "")
    latest = preferred or mine[0]
    if pin is None:
        return latest
    same = [offer for offer in mine if offer.version == pin.version]
    if not same:
        if frozen:
            raise UserError(
                f"{name} {pin.version} is locked, but apt offers only {latest.version}",
                "./doit lock takes the newest versions, or leave out frozen=1",
            )
        refuse_older(name, pin.version, latest.version)
        logger.info(f"{name}: {pin.version} -> {latest.version} (the locked version is no longer offered)")
        return latest
    exact = [offer for offer in same if offer.sha256 == pin.sha256]
    if not exact:
        raise UserError(
            f"{name} {pin.version}: apt offers sha256 {same[0].sha256}, the lock says {pin.sha256}",
            "one version must not have two contents; find out which source changed it, then lock again",
        )
    return exact[0]


def _download(offers: Sequence[Offer], cache: Path) -> None:
    if not offers:
        return
    logger.info(
        f"apt: downloading {len(offers)} packages, {sum(offer.size for offer in offers) / 1e6:.1f} MB"
    )
    options = ["--quiet"]
    if os.geteuid() == 0:
        # apt's unprivileged user cannot write to root's cache folder.  Without this, apt
        # warns and downloads as root anyway.
        options += ["-o", "APT::Sandbox::User=root"]
    with scratch_folder(cache / "downloads", "apt") as scratch:
        run(
            ["apt-get", *options, "download", *(f"{offer.name}={offer.version}" for offer in offers)],
            cwd=scratch,
            hint="check the network; if a version is gone from the mirror: apt-get update",
        )
        for offer in offers:
            _store(offer, scratch, cache)


def _store(offer: Offer, scratch: Path, cache: Path) -> None:
    arrived = sorted(scratch.glob(f"{offer.name}_*.deb"))
    if not arrived:
        raise UserError(f"apt-get downloaded no {offer.name}", "apt-get update, then run again")
    found = sha256_file(arrived[0])
    if found != offer.sha256:
        raise UserError(
            f"{offer.name} {offer.version}: expected sha256 {offer.sha256}, got {found}",
            "apt-get update, then run again",
        )
    final = offer.locked().cached_in(cache)
    final.parent.mkdir(parents=True, exist_ok=True)
    arrived[0].chmod(0o644)
    os.replace(arrived[0], final)


def _architecture() -> str:
    return run(["dpkg", "--print-architecture"]).stdout.strip()

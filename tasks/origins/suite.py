# SPDX-License-Identifier: MIT
"""Packages of a suite: apt resolves and verifies them, whatever this machine's own suite is.

apt works in a state folder of ours in the cache (apt.conf(5): Dir::State, Dir::Etc, Dir::Cache).
It sees the suite's archives and keys there, and no installed package.  The machine's settings of
apt count only as far as they say how to reach the network.  A locked package is fetched by its
address and sha256, without apt.  Formats: apt-cache(8), apt-get(8), deb-control(5).
"""

from __future__ import annotations

import email.utils
import fnmatch
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

from tasks.formats import debian_control
from tasks.origins import distribution
from tasks.origins.distribution import Suite
from tasks.origins.lock import DATE, LockedArchive, LockedPackage
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import locked, sha256_file, write_if_changed
from tasks.util.log import logger
from tasks.util.process import CREDENTIALS, CommandFailed, run

# What the machine's apt is told about reaching the network, and where it keeps passwords.
NETWORK_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Retries")
SETTINGS = """\
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Solver "internal";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
Dir::Etc "{folder}/etc";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
"""
FOLDERS = ("state/lists/partial", "cache/archives/partial", "log", "etc/sources.list.d")
EMPTY_FOLDERS = ("etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d")
URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+_\S+_\S+\.deb) (?P<size>\d+)(?: \S+)?")


class NotOffered(UserError):
    """The suite has no package of the name `package`."""

    def __init__(self, package: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.package = package


class Gone(UserError):
    """Locked packages that neither a mirror nor a snapshot archive has any more."""

    def __init__(self, packages: Sequence[LockedPackage], message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.packages = tuple(packages)


@dataclass(frozen=True)
class Offer:
    """One version of a package in a suite; `size` in bytes.

    depends, provides: names of packages; alternatives are included, versions are not.
    """

    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


# --- what a suite offers ----------------------------------------------------


def resolve(
    suite: Suite, names: Iterable[str], cache: Path, *, offline: bool = False
) -> tuple[LockedPackage, ...]:
    """Return `names` and all packages they depend on, sorted by name, as apt would install them.

    apt begins with an empty system and takes Depends and Pre-Depends, no Recommends.
    names: each a package, or NAME=VERSION for another version than the newest.
    Packages that are essential are among them only if something names them: `?essential` does.
    Raises `NotOffered` for a name that the suite lacks, and `UserError` if apt finds no solution or
    does not reach the mirror.
    """
    wanted = sorted(set(names))
    if not wanted:
        return ()
    with _apt(suite, cache, offline=offline) as env:
        plain = [name.partition("=")[0] for name in wanted if not name.startswith("?")]
        _refuse_unknown(suite, plain, env)
        said = _apt_get(env, "install", "--yes", *wanted, hint=f"apt finds no solution in {suite}")
        return _located(suite, said, env)


def candidates(
    suite: Suite, names: Iterable[str], cache: Path, *, offline: bool = False
) -> dict[str, LockedPackage]:
    """Return the version of each of `names` that apt would install; a name the suite lacks is left out."""
    with _apt(suite, cache, offline=offline) as env:
        found = _shown(sorted(set(names)), env, every=False)
        if not found:
            return {}
        said = _apt_get(env, "download", *sorted({f"{offer.name}={offer.version}" for offer in found}))
        return {package.name: package for package in _located(suite, said, env)}


def versions(
    suite: Suite, names: Iterable[str], cache: Path, *, offline: bool = False
) -> tuple[LockedPackage, ...]:
    """Return every version of `names` that the suite has."""
    with _apt(suite, cache, offline=offline) as env:
        found = _shown(sorted(set(names)), env, every=True)
        if not found:
            return ()
        said = _apt_get(env, "download", *sorted({f"{offer.name}={offer.version}" for offer in found}))
        return _located(suite, said, env)


def offers(suite: Suite, names: Iterable[str], cache: Path, *, offline: bool = False) -> dict[str, Offer]:
    """Return what the suite says about the version of each of `names` that apt would install."""
    with _apt(suite, cache, offline=offline) as env:
        return {offer.name: offer for offer in _shown(sorted(set(names)), env, every=False)}


def newest(suite: Suite, pattern: str, cache: Path, *, offline: bool = False) -> LockedPackage:
    """Return the newest package that matches a shell pattern, by Debian's version order.

    A metapackage (one that depends on another match, as linux-source does on
    linux-source-6.1) is skipped.  Raises `NotOffered` if the suite has no match.
    """
    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    with _apt(suite, cache, offline=offline) as env:
        known = run(["apt-cache", "pkgnames", prefix], env=env).stdout.split()
        found = _shown([name for name in known if fnmatch.fnmatchcase(name, pattern)], env, every=False)
    matches = {offer.name for offer in found}
    real = [offer for offer in found if not matches.intersection(offer.depends)]
    if not real:
        raise not_offered(suite, pattern)
    best = max(real, key=lambda offer: (debian_control.version(offer.version), offer.name))
    return candidates(suite, [best.name], cache, offline=offline)[best.name]


def archives(suite: Suite, cache: Path, *, offline: bool = False) -> tuple[LockedArchive, ...]:
    """Return the parts of the suite with the dates of their Release files."""
    found = []
    with _apt(suite, cache, offline=offline):
        lists = _folder(suite, cache) / "state/lists"
        for archive in distribution.load(suite.distribution).archive:
            for part in archive.suites_of(suite.name):
                files = [*lists.glob(f"*_dists_{part}_InRelease"), *lists.glob(f"*_dists_{part}_Release")]
                if files:
                    text = files[0].read_text(errors="replace")
                    found.append(LockedArchive(archive.name, part, release_date(text, files[0].name)))
    return tuple(found)


def release_date(text: str, what: str) -> str:
    """Return the date of a Release file as 20260711T101637Z.  Raises `UserError`, which names `what`."""
    line = re.search(r"^Date: *(.+)$", text, re.MULTILINE)
    try:
        date = email.utils.parsedate_to_datetime(line[1] if line else "")
    except ValueError:
        raise UserError(f"{what} has no date", "try again, or name another mirror") from None
    return date.astimezone(UTC).strftime(DATE)


def not_offered(suite: Suite, what: str) -> NotOffered:
    """Return the error for a package that the suite lacks."""
    return NotOffered(what, f"{suite} has no package {what}", "check the name, and the profile's suite")


# --- fetching ------------------------------------------------------------------------


def fetch(
    suite: Suite,
    packages: Iterable[LockedPackage],
    cache: Path,
    *,
    offline: bool = False,
    dates: Iterable[LockedArchive] = (),
) -> None:
    """Fetch exactly these packages into `cache`: from a mirror, or from a snapshot of one of `dates`.

    Packages in the cache need no network.  Raises `Gone` for packages that no server has any more, and
    `UserError` if one is not in the cache while `offline` is set, and as `http.download` does.
    """
    missing = [package for package in packages if not is_cached(package, cache)]
    if not missing:
        return
    if offline:
        names = ", ".join(sorted(package.name for package in missing))
        message = f"not in the cache, and offline=1 forbids to fetch: {names}"
        raise UserError(message, "run once without offline=1")
    logger.info(f"{suite}: downloading {len(missing)} packages")
    addresses = _addresses(suite, dates)
    results = parallel.each(lambda package: _download(package, addresses, cache), missing)
    gone = [package for package in results if package]
    if gone:
        listing = ", ".join(sorted(f"{package.name} {package.version}" for package in gone))
        message = f"no mirror and no snapshot archive of {suite} has any more: {listing}"
        raise Gone(gone, message, "newest=1 takes their newest versions for once; ./doit lock pins those")


def is_cached(package: LockedPackage, cache: Path) -> bool:
    """Tell whether `cache` holds exactly this .deb."""
    deb = package.cached_in(cache)
    return deb.is_file() and sha256_file(deb) == package.sha256


def _addresses(suite: Suite, dates: Iterable[LockedArchive]) -> dict[str, list[str]]:
    """Return the addresses of each archive: mirrors, then snapshots, the latest date first.

    A snapshot archive answers with its last import before the date.  It imports a release hours after
    the date of the Release file, so the day after is asked for first.
    """
    found = distribution.mirrors(suite)
    for part in sorted(dates, key=lambda part: part.date, reverse=True):
        day_after = datetime.strptime(part.date, DATE) + timedelta(days=1)
        for date in (day_after.strftime(DATE), part.date):
            found.setdefault(part.name, []).extend(distribution.snapshots(suite, part.name, date))
    return {name: list(dict.fromkeys(addresses)) for name, addresses in found.items()}


def _download(
    package: LockedPackage, addresses: Mapping[str, Sequence[str]], cache: Path
) -> LockedPackage | None:
    """Download a package; return it if the first mirror has it no more and no other server delivers it."""
    # It imports requests, which most runs do not need.
    from tasks.origins.http import NotDelivered, NotFound, download

    if not package.path or package.archive not in addresses:
        message = f"the lock has no address of {package.name} {package.version}"
        raise UserError(message, "lock again: ./doit lock")
    urls = [f"{address}/{quote(package.path)}" for address in addresses[package.archive]]
    final = package.cached_in(cache)
    try:
        download(urls, final, sha256=package.sha256, offline=False, label=final.name)
    except NotFound:
        return package
    except NotDelivered as error:
        if urls[0] in error.absent:  # a snapshot archive that does not answer changes nothing
            return package
        raise
    return None


# --- apt ------------------------------------------------------------------------------


def parse_uris(text: str) -> list[tuple[str, str, str]]:
    """Return name, version and address of each package in the output of `apt-get --print-uris`."""
    found = []
    for line in text.splitlines():
        match = URI_LINE.fullmatch(line.strip())
        if match:
            # The file's name is that of a .deb in apt's cache: an epoch's colon is written %3a.
            name, version, _ = match["file"].rsplit("_", 2)
            found.append((name, unquote(version), match["uri"]))
    return found


def parse_offers(text: str) -> list[Offer]:
    """Return the downloadable packages in the output of `apt-cache show`, in its order."""
    found = []
    for fields in debian_control.stanzas(text):
        if not {"Package", "Version", "Filename", "SHA256"} <= fields.keys():
            continue
        relations = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
        found.append(
            Offer(
                name=fields["Package"],
                version=fields["Version"],
                sha256=fields["SHA256"],
                size=int(fields.get("Size", "0")),
                depends=tuple(debian_control.related_packages(relations)),
                provides=tuple(debian_control.related_packages(fields.get("Provides", ""))),
            )
        )
    return found


def _located(suite: Suite, said: str, env: Mapping[str, str]) -> tuple[LockedPackage, ...]:
    """Return the packages in the output of `apt-get --print-uris`, sorted."""
    uris = parse_uris(said)
    shown = _shown([f"{name}={version}" for name, version, _ in uris], env, every=True)
    known = {(offer.name, offer.version): offer for offer in shown}
    places = [(one, name) for name, addresses in distribution.mirrors(suite).items() for one in addresses]
    places.sort(key=lambda place: len(place[0]), reverse=True)  # one archive may lie below another
    found = []
    for name, version, uri in sorted(uris):
        place = next(((one, archive) for one, archive in places if uri.startswith(f"{one}/")), None)
        if place is None or (name, version) not in known:
            raise UserError(f"apt found {name} {version} at {uri}, which is no address of {suite}")
        address, archive = place
        path = unquote(uri.removeprefix(f"{address}/"))
        found.append(LockedPackage(name, version, known[name, version].sha256, archive, path))
    return tuple(found)


def _shown(names: Sequence[str], env: Mapping[str, str], *, every: bool) -> list[Offer]:
    """Return the packages of these names (or NAME=VERSION), one version of each unless `every`."""
    if not names:
        return []
    which = "--all-versions" if every else "--no-all-versions"
    # Exit status 100 means that a name is unknown; the result lacks that name.
    text = run(["apt-cache", which, "show", *names], env=env, check=False).stdout
    found: dict[tuple[str, str], Offer] = {}
    for offer in parse_offers(text):
        found.setdefault((offer.name, offer.version if every else ""), offer)
    return list(found.values())


def _refuse_unknown(suite: Suite, names: Sequence[str], env: Mapping[str, str]) -> None:
    known = {offer.name for offer in _shown(names, env, every=False)}
    for name in names:
        if name not in known:
            raise not_offered(suite, name)


def _apt_get(env: Mapping[str, str], *words: str, hint: str = "") -> str:
    """Return the addresses that `apt-get --print-uris` prints for a command."""
    try:
        return run(["apt-get", "--quiet=2", "--print-uris", *words], env=env, hint=hint).stdout
    except CommandFailed as error:
        # What depends on what is not there, apt says on stdout, and only if it is less quiet.
        said = run(["apt-get", "--quiet=1", "--print-uris", *words], env=env, check=False).stdout
        raise error.reworded(error.message, detail=f"{error.detail}\n{said}") from None


@contextmanager
def _apt(suite: Suite, cache: Path, *, offline: bool) -> Iterator[dict[str, str]]:
    """Yield the environment of an apt that knows the suite alone, with lists of this run.

    One process at a time works in a state folder.  With `offline`, the lists of the last run serve.
    Raises `UserError` if there are none or the mirror is not reached.
    """
    folder = _folder(suite, cache)
    with locked(folder.parent / f".{folder.name}.lock"):
        _write_state(suite, folder)
        env = {"APT_CONFIG": str(folder / "apt.conf")}
        _update(suite, folder, env, offline=offline)
        yield env


UPDATED: set[Path] = set()
"""The state folders whose lists this process has brought up to date."""


def _update(suite: Suite, folder: Path, env: Mapping[str, str], *, offline: bool) -> None:
    marker = folder / "updated"
    if offline:
        if not marker.exists():
            message = f"the lists of {suite} are not in the cache, and offline=1 forbids to fetch them"
            raise UserError(message, "run once without offline=1")
        return
    if folder in UPDATED:
        return
    logger.info(f"{suite}: asking {', '.join(_first_mirrors(suite))}")
    try:
        run(["apt-get", "update"], env=env)
    except CommandFailed as error:
        message = f"the package lists of {suite} could not be fetched or verified"
        hint = f"check the network, the clock and the mirror ({', '.join(_first_mirrors(suite))})"
        raise error.reworded(message, hint) from None
    marker.touch()
    UPDATED.add(folder)


def _write_state(suite: Suite, folder: Path) -> None:
    """Make a state folder; files that are as they should be are not written again."""
    for name in (*FOLDERS, *EMPTY_FOLDERS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    whole = distribution.load(suite.distribution)
    settings = SETTINGS.format(folder=folder, architecture=suite.architecture or whole.architecture)
    write_if_changed(folder / "apt.conf", settings + _network_settings())
    write_if_changed(folder / "etc/sources.list.d/suite.sources", _sources(suite))
    write_if_changed(folder / "status", "")


def _sources(suite: Suite) -> str:
    """Return the suite's archives and keys as a file of sources.list(5), in its deb822 style."""
    chosen = distribution.mirrors(suite)
    # The keys themselves, because apt takes no path with a space.
    keys = [f" {line or '.'}" for line in distribution.keyring(suite).read_text().splitlines()]
    parts = []
    for archive in distribution.load(suite.distribution).archive:
        lines = {
            "Types": "deb",
            "URIs": chosen[archive.name][0],
            "Suites": " ".join(archive.suites_of(suite.name)),
            "Components": " ".join(archive.components),
            "Signed-By": "\n".join(("", *keys)),
        }
        parts.append("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return "\n".join(parts)


def _first_mirrors(suite: Suite) -> list[str]:
    """Return the mirrors that apt asks, for messages: without a user and password."""
    found = distribution.mirrors(suite).values()
    return [CREDENTIALS.sub("://***@", addresses[0]) for addresses in found]


def _folder(suite: Suite, cache: Path) -> Path:
    """Return the state folder of the suite: its name tells suites, mirrors and keys apart."""
    digest = hashlib.sha256(_sources(suite).encode()).hexdigest()[:12]
    names = filter(None, (suite.distribution, suite.name, suite.architecture))
    return cache.absolute() / "suites" / "-".join((*names, digest))


@functools.cache
def _network_settings() -> str:
    """Return the machine's settings of apt for reaching a mirror, as a proxy."""
    dump = ["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n']
    return run([*dump, *NETWORK_SETTINGS]).stdout

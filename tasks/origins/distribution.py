# SPDX-License-Identifier: MIT
"""Distributions and their suites: archives, mirrors, keys and snapshots.

`distributions/NAME.toml` describes a distribution.  A suite is one release of it, as it is named
below `dists/` on a mirror.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.process import clean_env, run

FOLDER = Path(__file__).with_name("distributions")
NAME = re.compile(r"[a-z][a-z0-9.-]*")
ADDRESS = re.compile(r"https?://[^\s/]\S*")
ARCHIVE = "{archive}"
"""In the address of a mirror: stands for the name of an archive."""


@dataclass(frozen=True)
class Archive:
    """A tree of packages, with `dists/` and `pool/` below one address.

    name: its name in locks and in the addresses of snapshots.
    label: the label in its Release files.
    suites: the folders of `dists/` that make up a suite; `{name}` stands for the suite's name.
    mirror: the address of the mirror that everybody can use.
    components: the components that packages are taken from.
    """

    name: str
    label: str
    suites: tuple[str, ...]
    mirror: str
    components: tuple[str, ...] = ("main",)

    def suites_of(self, name: str) -> list[str]:
        """Return the folders below `dists/` of the suite `name`."""
        return [suite.replace("{name}", name) for suite in self.suites]


@dataclass(frozen=True)
class Distribution:
    """A distribution: one file of tasks/origins/distributions/.

    description: its name for people.
    origin: the origin in its Release files.
    mirror_variable: the environment variable that names a mirror.
    keyring: the file beside this one with the public keys that sign the Release files.
    keys: the fingerprints of all keys in it.
    archive: its archives, the main one first.
    snapshots: addresses of what the archives were at a date; `{archive}` and `{date}`, as
    20260711T101637Z, are replaced.
    architecture: the architecture of packages, unless a suite names another.
    """

    description: str
    origin: str
    mirror_variable: str
    keyring: str
    keys: tuple[str, ...]
    archive: tuple[Archive, ...]
    snapshots: tuple[str, ...] = ()
    architecture: str = "amd64"

    def __post_init__(self) -> None:
        if not self.archive:
            raise ValueError("archive: expected at least one")


@dataclass(frozen=True)
class Suite:
    """The release of a distribution that packages are taken from.

    distribution: the name of a file in tasks/origins/distributions/.
    name: the release's code name, as bookworm.
    mirror: the address of a mirror; `{archive}` in it stands for the name of an archive, as debian
    and debian-security.  Without `{archive}`, it is a mirror of the main archive alone.
    Empty for the machine's own mirror of that distribution.
    architecture: Debian's name of the packages' architecture; empty for the distribution's default.
    A profile's packages have the architecture of the profile.
    """

    distribution: str
    name: str
    mirror: str = ""
    architecture: str = ""

    def __post_init__(self) -> None:
        for key in ("distribution", "name", "architecture"):
            value = getattr(self, key)
            if not NAME.fullmatch(value) and not (key == "architecture" and not value):
                raise ValueError(f"{key}: expected a name like debian, got {value!r}")
        if self.mirror and not ADDRESS.fullmatch(self.mirror):
            raise ValueError(f"mirror: expected an address http:// or https://, got {self.mirror!r}")

    def __str__(self) -> str:
        return " ".join(filter(None, (self.distribution, self.name, self.architecture)))


def names() -> list[str]:
    """Return the names of all distributions."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str) -> Distribution:
    """Return the distribution `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        raise UserError(f"unknown distribution {name!r}", f"distributions: {', '.join(names())}")
    return _load(FOLDER / f"{name}.toml")


@functools.cache
def _load(path: Path) -> Distribution:
    return toml_schema.load(path, Distribution)


def keyring(suite: Suite) -> Path:
    """Return the file with the keys of the suite's distribution."""
    return FOLDER / load(suite.distribution).keyring


def mirrors(suite: Suite) -> dict[str, list[str]]:
    """Return the mirrors of the suite's archives, the first to ask first.

    A mirror that the profile or the distribution's variable names is the only one of its archive.
    Otherwise it is the machine's own, if its apt has one, and then the distribution's.
    Raises `UserError` if the variable's value is no address.
    """
    whole = load(suite.distribution)
    named = suite.mirror or os.environ.get(whole.mirror_variable, "")
    if named and not ADDRESS.fullmatch(named):
        message = f"{whole.mirror_variable}: expected an address http:// or https://, got {named!r}"
        raise UserError(message, f"{whole.mirror_variable}={whole.archive[0].mirror}, for example")
    found = {}
    for archive in whole.archive:
        if ARCHIVE in named or (named and archive is whole.archive[0]):
            found[archive.name] = [named.replace(ARCHIVE, archive.name).rstrip("/")]
        else:
            own = _machine_mirrors().get((whole.origin, archive.label))
            found[archive.name] = list(dict.fromkeys(filter(None, (own, archive.mirror.rstrip("/")))))
    return found


def snapshots(suite: Suite, archive: str, date: str) -> list[str]:
    """Return the addresses of an archive as it was at `date` (20260711T101637Z)."""
    templates = load(suite.distribution).snapshots
    return [one.replace(ARCHIVE, archive).replace("{date}", date).rstrip("/") for one in templates]


@functools.cache
def _machine_mirrors() -> dict[tuple[str, str], str]:
    """Return the http mirrors in the configuration of the machine's apt by origin and label."""
    if shutil.which("apt-get", path=clean_env()["PATH"]) is None:
        return {}
    fields = "$(REPO_URI) $(COMPONENT) $(ORIGIN)\t$(LABEL)"
    said = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], check=False).stdout
    return parse_mirrors(said)


def parse_mirrors(targets: str) -> dict[tuple[str, str], str]:
    """Return the mirrors in lines `URI COMPONENT ORIGIN<TAB>LABEL` by origin and label, the first of each.

    Origin and label are empty until apt has fetched its lists.  Mirrors that are no http server are
    left out.
    """
    found: dict[tuple[str, str], str] = {}
    for line in targets.splitlines():
        address, _, rest = line.partition(" ")
        component, _, names_of = rest.partition(" ")
        origin, _, label = names_of.partition("\t")
        if address.startswith(("http://", "https://")) and component == "main" and origin and label:
            found.setdefault((origin, label), address.rstrip("/"))
    return found

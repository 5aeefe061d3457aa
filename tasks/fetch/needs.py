# SPDX-License-Identifier: MIT
"""Find the packages of the shared libraries that named packages need.

A profile and its recipes name programs.  What these need is searched among the packages that the
named ones depend on, as apt resolves them: a package counts if its .deb has the library (its soname)
that the files which are taken lack.  The lock holds the result, so that a build searches nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.config import inputs, plan, recipe, rootfs_rules, taken
from tasks.config.settings import Settings
from tasks.formats import initramfs_file, libraries
from tasks.formats.libraries import Files
from tasks.formats.squashfs import squashfs_members
from tasks.origins import suite
from tasks.origins.lock import CORE, Lock, LockedNeeds, LockedPackage
from tasks.origins.suite import Offer


@dataclass
class Finder:
    """Finds what the users of packages need.  `packages` and `needs` grow while it searches.

    settings: of the run; lock: what is locked already, with the profile's upstream extensions; named: the
    packages that each user names, by user: `core` or an extension; scratch: a folder on the cache's
    file system.
    """

    settings: Settings
    lock: Lock
    named: Mapping[str, tuple[str, ...]]
    scratch: Path
    packages: dict[str, LockedPackage] = field(default_factory=dict)
    needs: dict[str, LockedNeeds] = field(default_factory=dict)
    _files: dict[str, Files] = field(default_factory=dict)
    _trees: dict[str, Files] = field(default_factory=dict)

    def find(self, user: str) -> LockedNeeds:
        """Return what `user` needs.  Raises `UserError` if the suite or a package is not available."""
        self._of(user)
        return self.needs[user]

    def _of(self, user: str) -> Files:
        """Return the files of a user with its libraries: those that ld.so looks at."""
        if user not in self._files:
            below: dict[str, Path] = {}
            # A container has no base: its image holds all that its programs need.
            if user != CORE and not recipe.is_image(user):
                found = plan.plan(self.settings.profile, self.lock, also=[user])
                for other in [*reversed(found.closure([user])), CORE]:
                    if other != user:
                        below = {**self._of_other(other, found), **below}
            self._files[user] = self._complete(user, below)
        return self._files[user]

    def _of_other(self, name: str, found: plan.Plan) -> Files:
        if name != CORE and found.nodes[name].kind == "upstream":
            tcz = next(item for item in self.lock.extension if item.name == name)
            path = tcz.cached_in(self.settings.paths.cache)
            return libraries.extract(squashfs_members(path), self.scratch / "tcz" / name)
        return self._of(name) if name == CORE or found.nodes[name].kind == "recipe" else {}

    def _complete(self, user: str, below: Files) -> Files:
        named = self.named.get(user, ())
        rules = rootfs_rules.load()
        if user == CORE:
            below = self._archives()
        known = self.needs.get(user)
        before = inputs.needed_packages(self.lock, user)
        search = _Search(self, named, known, [name for name in before if name in self.packages])
        own = dict(self._own(user, named, rules))
        wanted = rules.libraries if user == CORE and self.settings.profile.core.rootfs else ()
        search.owners |= {path: package for path, (package, _) in own.items()}
        files = {path: file for path, (_, file) in own.items()}
        if files:
            files |= libraries.complete(files, below, search.find, wanted)
        if known is None:
            takes = taken.digest(self.settings.profile, user)
            self.needs[user] = LockedNeeds(user, tuple(sorted(named)), tuple(sorted(search.used)), takes)
        return {**below, **files} if user == CORE else files

    def _own(
        self, user: str, named: Iterable[str], rules: rootfs_rules.Rules
    ) -> Iterator[tuple[str, tuple[str, Path]]]:
        """Yield the files that are taken of the named packages: path, (package, file)."""
        if user == CORE:
            for package in named:
                for path, file in self.tree(package).items():
                    if rootfs_rules.is_included(rules, package, path.lstrip("/")):
                        yield path, (package, file)
            return
        for origin in plan.recipe_of(self.settings.profile, user).origin:
            for package in origin.apt_packages():
                for path, file in self.tree(package).items():
                    if origin.takes(path.lstrip("/")):
                        yield f"/{origin.renamed(path.lstrip('/'))}", (package, file)

    def _archives(self) -> dict[str, Path]:
        """Return the libraries of the ready-made archives that the core begins with."""
        access = inputs.access(self.settings)
        found: dict[str, Path] = {}
        for number, source in enumerate(self.settings.profile.core.archives):
            entry = source.locked_in(self.lock)
            path = source.local_file() if source.is_local or entry is None else entry.cached_in(access.cache)
            members = initramfs_file.unpacked(initramfs_file.read_core(path)).members().values()
            found |= libraries.extract(members, self.scratch / "archives" / str(number))
        return found

    def tree(self, package: str) -> Files:
        """Return the files of a package, which is fetched and unpacked if need be."""
        if package not in self._trees:
            access = inputs.access(self.settings)
            whole = access.packages_suite()
            entry = self.packages[package]
            suite.fetch(whole, [entry], access.cache, offline=access.offline, dates=access.dates)
            folder = self.scratch / "packages" / package
            self._trees[package] = libraries.unpacked(entry.cached_in(access.cache), folder)
        return self._trees[package]


class _Search:
    """The search for the libraries of one user: among the packages of `known`, else among all it depends on.

    before: the packages of an outdated lock, which are looked at first, because that asks nobody.
    owners: the package of each file, by path; used: the packages that files were taken from.
    """

    def __init__(
        self, finder: Finder, named: tuple[str, ...], known: LockedNeeds | None, before: list[str]
    ) -> None:
        self.finder = finder
        self.before = before
        self.named = named
        self.known = known
        self.owners: dict[str, str] = {}
        self.used: set[str] = set()
        self._offers: dict[str, Offer] | None = None

    def find(self, name: str, path: str) -> dict[str, Path]:
        """Return the files that provide a library or match a pattern, as `libraries.complete` asks."""
        owner = self.owners.get(path, "")
        if self.known is not None:
            candidates: Iterable[str] = self.known.packages
        else:
            # What a library uses beside what it links may lie in its own package.
            own = [owner] if owner and "/" in name else []
            others = self._depended_on(owner, name)
            first = [*own, *sorted(self.used), *self.before]
            candidates = itertools.chain(first, self._of_one_source(owner, name), others)
        for package in candidates:
            found = libraries.provided(self.finder.tree(package), name)
            if found:
                self.used |= {package}
                self.owners |= dict.fromkeys(found, package)
                return found
        return {}

    def _of_one_source(self, owner: str, name: str) -> list[str]:
        """Return the packages that are named like `owner`, as libpam-modules and libpam0g, for a pattern."""
        stem = owner.rstrip("0123456789.-")
        return sorted(one for one in self._resolved() if one.startswith(stem)) if stem and "/" in name else []

    def _depended_on(self, owner: str, name: str) -> Iterator[str]:
        """Yield what `owner` depends on, then all else, the nearest first; likely names before others."""
        offers = self._resolved()
        providers: dict[str, list[str]] = {}
        for offer in offers.values():
            for provided in (offer.name, *offer.provides):
                providers.setdefault(provided, []).append(offer.name)
        seen: set[str] = set()
        for start in ([owner] if owner in offers else []), list(self.named):
            level = start
            while level:
                depends = [dep for package in level for dep in offers[package].depends]
                found = [package for dep in depends for package in providers.get(dep, ())]
                level = [package for package in dict.fromkeys(found) if package not in seen]
                seen |= {*level}
                yield from sorted(level, key=lambda package: (not _is_likely(package, name), package))

    def _resolved(self) -> dict[str, Offer]:
        """Return the packages that apt would install for the named ones, by name."""
        if self._offers is None:
            access = inputs.access(self.finder.settings)
            whole, offline = access.packages_suite(), access.offline
            closure = suite.resolve(whole, self.named, access.cache, offline=offline)
            for package in closure:
                self.finder.packages.setdefault(package.name, package)
            names = [package.name for package in closure]
            self._offers = suite.offers(whole, names, access.cache, offline=offline)
        return self._offers


def _is_likely(package: str, name: str) -> bool:
    """Tell whether a package has a library by its name, or, of a pattern, may have it."""
    if "/" in name:
        return package.startswith("lib")
    return package.removesuffix("t64") == libraries.package_name(name)

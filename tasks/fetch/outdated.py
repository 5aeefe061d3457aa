# SPDX-License-Identifier: MIT
"""`./doit outdated`: what is locked, beside the newest that is offered now.

Everybody is asked once: the profile's suite, its mirrors, kernel.org, the Go module proxy, the registries
of recipes.  Nothing is written but the package lists in the cache.  `./doit update NAME` takes the newest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tasks.config import inputs, plan, recipe, recipe_lock
from tasks.config.settings import Settings
from tasks.fetch import recipe_inputs
from tasks.fetch.inputs import NO_PACKAGES, Packages, named_by_user
from tasks.formats import debian_control
from tasks.origins import suite
from tasks.origins.kinds.base import LockedOrigin
from tasks.origins.lock import CORE, Lock, LockedExtension, LockedPackage
from tasks.origins.sources.base import Access, Source
from tasks.toolchain import build_root
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.text import printable

ROOTFS = "rootfs"
TOOLCHAIN = "toolchain:"
HEAD = ("name", "what", "locked", "newest", "where from")


@dataclass(frozen=True)
class Row:
    """One thing that is locked.

    name: what `./doit update` takes; what: the package, the origin, the file; locked, newest: versions,
    or hashes; where: who offers the newest.
    """

    name: str
    what: str
    locked: str
    newest: str
    where: str

    @property
    def outdated(self) -> bool:
        """Whether there is a newer one."""
        return self.locked != self.newest


@dataclass(frozen=True)
class Question:
    """What is asked about one thing.

    names: those that the answer is about; what: is asked about; ask: returns the answer, or raises
    `UserError`.
    """

    names: tuple[str, ...]
    what: str
    ask: Callable[[], Sequence[Row]]


@dataclass(frozen=True)
class Unasked:
    """A question without an answer; why: one line."""

    name: str
    what: str
    why: str


def tell(settings: Settings, extra: Packages = NO_PACKAGES, names: Sequence[str] = ()) -> None:
    """Print what is outdated; of `names` all that is locked.  What could not be asked is one line.

    extra: the packages that recipes name, by extension.  Raises `UserError` for an unknown name, and for
    a malformed lock.
    """
    asked = questions(settings, extra, names)
    if settings.network.offline:
        why = "offline=1 forbids to ask"
        rows: list[Row] = []
        unasked = [Unasked(", ".join(one.names), one.what, why) for one in asked]
    else:
        rows, unasked = answers(asked)
    rows = [row for row in rows if not names or row.name in names]
    print("\n".join(_lines(rows, unasked, bool(names))))


def answers(asked: Sequence[Question]) -> tuple[list[Row], list[Unasked]]:
    """Ask, several at a time; return what is known, and what could not be asked."""

    def answer(question: Question) -> Sequence[Row] | Unasked:
        try:
            return question.ask()
        except UserError as error:
            return Unasked(", ".join(question.names), question.what, error.message.partition("\n")[0])

    found = parallel.each(answer, asked)
    rows = [row for one in found if not isinstance(one, Unasked) for row in one]
    return rows, [one for one in found if isinstance(one, Unasked)]


def questions(settings: Settings, extra: Packages, names: Sequence[str] = ()) -> list[Question]:
    """Return what to ask about the profile, all recipes and the toolchains; or about `names` alone.

    Raises `UserError` for an unknown name, and for a malformed lock.
    """
    settings = replace(settings, network=replace(settings.network, frozen=False))
    lock, access = inputs.pinned_lock(settings.paths), inputs.access(settings)
    found = [
        *_of_sources(settings, lock, access),
        *_of_packages(settings, lock, access, named_by_user(settings, extra), names),
        *_of_recipes(settings),
        *_of_extensions(settings, lock, access),
        *_of_toolchains(settings, names),
    ]
    known = {name for question in found for name in question.names}
    for name in names:
        if name not in known:
            raise UserError(f"nothing of {name!r} is locked", f"one of: {', '.join(sorted(known))}")
    return [question for question in found if not names or set(names) & set(question.names)]


def _of_sources(settings: Settings, lock: Lock, access: Access) -> Iterator[Question]:
    """Yield the questions about the kernel, its base config, archives, images and the backup."""

    def ask(name: str, source: Source) -> list[Row]:
        states = source.states(lock, access)
        return [Row(name, source.label(), *states)] if states else []

    for name, sources in inputs.by_user(settings.profile).items():
        for source in sources:
            if source.is_fetched and source.locked_in(lock) is not None:
                yield Question((name,), source.label(), partial(ask, name, source))


def _of_packages(
    settings: Settings, lock: Lock, access: Access, named: Packages, wanted: Sequence[str]
) -> Iterator[Question]:
    """Yield the question about all packages of the suite, but those of sources.

    wanted: the things that are asked about, all if empty.  A package of several is told of the first.
    """
    users = {
        ROOTFS if user == CORE else user: user
        for user in sorted(named, key=lambda user: (user != CORE, user))
    }
    owners: dict[str, str] = {}
    for name, user in users.items():
        if not wanted or name in wanted:
            for package in (*named[user], *inputs.needed_packages(lock, user)):
                owners.setdefault(package, name)

    def ask() -> list[Row]:
        whole = access.packages_suite()
        return _rows(owners, lock.package, suite.candidates(whole, owners, access.cache), str(whole))

    if users:
        yield Question(tuple(users), f"packages of {settings.profile.packages_suite}", ask)


def _rows(
    owners: Mapping[str, str],
    locked: Sequence[LockedPackage],
    offered: Mapping[str, LockedPackage],
    where: str,
) -> list[Row]:
    rows = []
    for package in locked:
        if package.name in owners:
            now = offered.get(package.name)
            newer = now and debian_control.version(now.version) > debian_control.version(package.version)
            newest = now.version if now and newer else package.version
            said = where if now else f"{where} has it no more"
            rows.append(Row(owners[package.name], package.name, package.version, newest, said))
    return sorted(rows, key=lambda row: (row.name != ROOTFS, row.name, row.what))


def _of_recipes(settings: Settings) -> Iterator[Question]:
    """Yield the questions about the origins of all recipes, as the profile takes them."""

    def ask(name: str, origin: LockedOrigin) -> list[Row]:
        files = recipe_lock.committed_lock(name).of(origin.identity())
        newest = origin.newest(recipe_inputs.resources(settings, name), files)
        if not newest:
            raise UserError("nothing lists its versions")
        return [Row(name, origin.label(), origin.stated_version(), newest, f"origin {origin.kind}")]

    for name in [*recipe.names(), *recipe.image_names()]:
        with contextlib.suppress(UserError):  # what uses a malformed recipe says what is wrong with it
            for origin in recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name)):
                yield Question((name,), origin.identity(), partial(ask, name, origin))


def _of_extensions(settings: Settings, lock: Lock, access: Access) -> Iterator[Question]:
    """Yield the questions about the extensions of the mirrors."""
    folder = settings.profile.tcz.strip("/")

    def ask(item: LockedExtension) -> list[Row]:
        md5 = access.mirrors.published_md5(f"{folder}/{item.name}.tcz")
        if md5 is None:
            raise UserError("no mirror publishes its md5")
        return [Row(item.name, f"{item.name}.tcz", f"md5 {item.md5}", f"md5 {md5}", f"mirrors: {folder}")]

    for item in lock.extension:
        if not settings.profile.is_imported(item.name):
            yield Question((item.name,), f"{item.name}.tcz", partial(ask, item))


def _of_toolchains(settings: Settings, names: Sequence[str]) -> Iterator[Question]:
    """Yield the questions about the profile's toolchains, those of recipes and the guests' programs.

    names: of things, which may name further toolchains.
    """
    made = recipe.readable().values()
    used = {*settings.profile.toolchains, *(name for one in made for name in recipe.toolchains(one))}
    used |= {f"guest-{settings.profile.arch}"} & {*build_root.names()}
    used |= {name.removeprefix(TOOLCHAIN) for name in names if name.startswith(TOOLCHAIN)}

    def ask(name: str, root: build_root.BuildRoot) -> list[Row]:
        offered = suite.resolve(root.suite, root.wanted, settings.paths.cache)
        locked = build_root.lock(name).package
        owners = dict.fromkeys((package.name for package in locked), TOOLCHAIN + name)
        return _rows(owners, locked, {package.name: package for package in offered}, str(root.suite))

    for name in sorted(used & {*build_root.names()}):
        if root := build_root.load(name).root:
            yield Question((TOOLCHAIN + name,), f"packages of {root.suite}", partial(ask, name, root))


def _lines(rows: Sequence[Row], unasked: Sequence[Unasked], every: bool) -> Iterator[str]:
    shown = [row for row in rows if every or row.outdated]
    table = [HEAD, *((row.name, row.what, row.locked, row.newest, row.where) for row in shown)]
    if shown:
        widths = [max(len(line[column]) for line in table) for column in range(len(HEAD) - 1)]
        for line in table:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
            yield printable("  ".join((*cells, line[-1])))
    for one in unasked:
        yield printable(f"not asked: {one.name}: {one.what}: {one.why}")
    newer = sum(row.outdated for row in rows)
    if newer:
        yield f"{newer} of {len(rows)} are outdated; ./doit update NAME takes the newest of one name"
    elif rows:
        yield f"{len(rows)} were asked about, and none is outdated"

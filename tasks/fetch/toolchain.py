# SPDX-License-Identifier: MIT
"""Lock and fetch the packages of build roots."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.config.settings import Settings
from tasks.origins import suite
from tasks.origins.lock import Lock
from tasks.toolchain import build_root, entry
from tasks.toolchain.build_root import BuildRoot
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger


def fetch(settings: Settings, names: Sequence[str] = (), *, read_all: bool = False) -> None:
    """Fetch the packages of the build roots that are needed on this machine: the profile's, or `names`.

    A root that is whole needs none.  read_all: as in `build_root.faults`.
    Raises `UserError` if one is not in the cache while `offline` is set, or is gone.
    """
    cache = settings.paths.cache
    for name in names or settings.profile.toolchains:
        root = build_root.load(name).root
        if root is None or not entry.root_needed(name):
            continue
        if build_root.is_whole(cache, name, read_all=read_all):
            continue
        try:
            fetch_root(settings, name, root, f"toolchain {name}")
        except suite.Gone:
            raise
        except UserError as error:
            hint = f"{error.hint}, or use this machine's programs: toolchain=host"
            raise error.reworded(f"toolchain {name}: {error.message}", hint) from None


def fetch_root(settings: Settings, name: str, root: BuildRoot, label: str) -> None:
    """Fetch the locked packages of the build root `name`.

    label: what a message begins with if a package is gone (`suite.Gone`).  Raises `UserError` as
    `suite.fetch` does.
    """
    locked = build_root.lock(name)
    offline, cache = settings.network.offline, settings.paths.cache
    try:
        suite.fetch(root.suite, locked.package, cache, offline=offline, dates=locked.archive)
    except suite.Gone as error:
        raise error.reworded(f"{label}: {error.message}", f"./doit toolchain:lock {name}") from None


def fetch_alone(settings: Settings, name: str, use: str = "") -> None:
    """Fetch the packages of a build root that no profile names, unless it is whole.

    use: the word for a message, by default the root's name.  Raises `UserError` as `fetch_root` does.
    """
    if build_root.is_whole(settings.paths.cache, name):
        return
    root = build_root.load(name).root
    assert root is not None
    fetch_root(settings, name, root, use or name)


def refetch(settings: Settings) -> None:
    """Fetch as `fetch` does, after a look at each file of the build roots."""
    fetch(settings, read_all=True)


def lock(settings: Settings, names: list[str]) -> None:
    """Lock the newest packages for build roots: of the toolchains `names`, or of all.

    Raises `UserError` for a toolchain without a root, with `offline`, and as `suite.resolve` does.
    """
    if settings.network.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    for name in names or build_root.names():
        CHECKOUT.refuse_installed(build_root.lock_path(name), f"the lock of toolchain {name}")
        root = build_root.load(name).root
        if root is None:
            if names:
                raise UserError(f"toolchain {name} has no build root, so nothing is locked")
            continue
        found = suite.resolve(root.suite, root.wanted, settings.paths.cache)
        archives = suite.archives(root.suite, settings.paths.cache)
        write_atomic(build_root.lock_path(name), Lock(package=found, archive=archives).to_toml())
        logger.info(f"{build_root.lock_path(name).name}: {len(found)} packages of {root.suite}")


def make_roots(settings: Settings, names: Sequence[str]) -> None:
    """Fetch and make the build roots of toolchains that a recipe needs beside the profile's.

    Raises `UserError` as `fetch` does.
    """
    fetch(settings, names)
    for name in names:
        if entry.root_needed(name):
            build_root.ensure(settings.paths.cache, name)


def program(settings: Settings, toolchain: str, name: str) -> list[str]:
    """Return the words that start a program of a toolchain outside its build root, where it has the network.

    The root is fetched and made first.  Raises `UserError` as `fetch` does.
    """
    make_roots(settings, [toolchain])
    return entry.of_toolchain(settings.paths.cache, toolchain).outside(name)

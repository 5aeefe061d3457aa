# SPDX-License-Identifier: MIT
"""Tasks that restore their results from the shared cache, or build them and store them there.

`shared` wraps a task of dodo.py.  The key of its entry is the sha256 of everything that the
results depend on, and of nothing else: no path of this machine, no time.  Two checkouts have
the same key if and only if they would make the same bytes.

A fault of the cache never fails a build: tcbuild prints one line and builds without the cache.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.cache.store import Refused, Store, Unreachable, is_folder, open_store
from tasks.config.profile import Profile
from tasks.config.settings import Network, Paths, Settings
from tasks.engine import code
from tasks.engine.database import SavedValues, folder_stamps, saved_values
from tasks.engine.task import Task, action
from tasks.toolchain import build_root
from tasks.util import host
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import Stamp, sha256_file, stamp
from tasks.util.log import logger
from tasks.util.process import PASSED_VARIABLES, PATH, clean_env, run

# Part of every key.  Raise it when older entries must not be used any more.
FORMAT = 1
# Bytes of this user's own cache, which nobody else prunes.
OWN_LIMIT = 2 << 30
# Values that identify compilers by path and time on one machine; keys have versions instead.
LOCAL_KEYS = ("tools",)
KERNEL_TREE_TASKS = ("kconfig:base", "kconfig", "kernel")
FIELDS = ("db:Status-Status", "Package", "Architecture", "Version", "Pre-Depends", "Depends", "Provides")
QUERY = "\\t".join(f"${{{field}}}" for field in FIELDS) + "\\n"


@dataclass
class SharedCache:
    """The shared cache of one run.

    address: "" for none; offline: whether only a folder may be used; limit: the size in bytes which
    the cache is kept below, None for any; unusable: why the rest of this run does not use the cache;
    read_only: why the rest of this run stores nothing in it ("" if it does).
    """

    address: str
    offline: bool
    limit: int | None = None
    unusable: str = ""
    read_only: str = ""

    @classmethod
    def of(cls, network: Network) -> SharedCache:
        """Return the shared cache that the command line chose."""
        return cls(network.shared_cache, network.offline, OWN_LIMIT if network.own_cache else None)

    def store(self) -> Store | None:
        """Return the store of the entries, None if it cannot be used."""
        if self.unusable:
            return None
        if self.offline and not is_folder(self.address):
            self.unusable = "offline=1"
            logger.info("shared cache: not used, because offline=1 forbids it")
            return None
        try:
            tools()
        except UserError as error:
            self.unusable = str(error)
            text = f"no shared cache: {error.message}, so the versions of tools are unknown"
            logger.warning(text)
            return None
        return open_store(self.address)

    def disable(self, store: Store, why: str) -> None:
        """Do not use the cache in the rest of this run."""
        self.unusable = why
        logger.warning(f"shared cache {store.display_name} cannot be used ({why}); building without it")


def shared(
    cache: SharedCache,
    settings: Settings,
    task: Task,
    *,
    made: Sequence[Path] = (),
) -> Task:
    """Return `task` so that its actions run only if the shared cache does not hold their results.

    made: all files and folders that the task makes, by default its targets.  Returns `task`
    unchanged without a shared cache, and if the kernel's source has no digest.
    """
    name = ":".join(filter(None, (task.get("basename"), task.get("name"))))
    if not cache.address or (name in KERNEL_TREE_TASKS and not has_one_source(settings.profile)):
        return task
    outputs = [Path(path) for path in made or task["targets"]]
    actions = task["actions"]
    checks = saved_values(task.get("uptodate", ()))
    modules = code.modules_of(actions, task.get("uptodate", ()), task.get("meta", {}).get("before_fork", ()))

    @functools.cache
    def task_key() -> str:
        saved = {key: value for check in checks for key, value in check.values.items()}
        return key(settings, name, task["file_dep"], saved, code.here().digests(modules, name))

    def key_now() -> str:
        # They may have changed while the task ran.
        machine.cache_clear()
        tools.cache_clear()
        saved = {key: value for check in checks for key, value in check.now().items()}
        return key(settings, name, task["file_dep"], saved, code.read_again().digests(modules, name))

    def run_or_restore() -> Any:
        before = _stamps(settings.paths, task["file_dep"], checks)
        if restore(cache, settings.paths.output, name, task_key, outputs):
            return {"from_cache": True}  # for the run's record
        for function, arguments in actions:
            result = function(*arguments)
            if result is not None and not isinstance(result, dict):
                return result  # doit's failure
        if cache.store() is None or cache.read_only:
            return None
        # An edit that was undone meanwhile leaves the key as it was, but not the stamps.
        changed = before != _stamps(settings.paths, task["file_dep"], checks)
        if changed or code.here().edited(modules, name) or key_now() != task_key():
            logger.warning(f"{name}: not stored in the shared cache, because an input changed meanwhile")
            return None
        upload(cache, settings.paths.output, name, task_key, outputs)
        return None

    wrapped = action(run_or_restore)
    wrapped.in_shared_cache = lambda: has_entry(cache, task_key)  # type: ignore[attr-defined]
    wrapped.modules = modules  # type: ignore[attr-defined]
    # Reading files beforehand helps a build; a restore from the cache would only wait for it.
    meta = {what: value for what, value in task.get("meta", {}).items() if what != "before_fork"}
    return {**task, "actions": [(wrapped, [])], "meta": meta}


def _stamps(paths: Paths, inputs: Iterable[str], checks: Iterable[SavedValues]) -> dict[str, Stamp | None]:
    """Return the stamps of those `inputs` that no task writes, and of the folders of trees."""
    files = (path for path in inputs if not Path(path).is_relative_to(paths.output))
    return {**folder_stamps(checks), **{path: stamp(path) for path in files}}


def has_one_source(profile: Profile) -> bool:
    """Return whether the kernel's source has a digest; a tree edited in place has none."""
    return all(source.tree() is None for source in profile.kernel.sources)


# --- restore and upload ------------------------------------------------------


def restore(
    cache: SharedCache, output: Path, name: str, task_key: Callable[[], str], made: Sequence[Path]
) -> bool:
    """Restore the results of task `name` below `output` from the shared cache.

    Returns whether that worked: whether there is an entry, and it is valid.
    """
    from tasks.cache import entry

    store = cache.store()
    if store is None:
        return False
    try:
        found = entry.get(store, task_key(), output, made, entry.signing_secret())
    except entry.BadEntry as error:
        logger.warning(f"shared cache: the entry of {name} is refused: {error}; building it")
        entry.discard(store, error.names)
        return False
    except Unreachable as error:
        cache.disable(store, str(error))
        return False
    if found is None:
        return False
    logger.info(f"{name}: from the shared cache ({found.size:,} bytes, key {found.key[:12]})")
    return True


def upload(
    cache: SharedCache, output: Path, name: str, task_key: Callable[[], str], made: Sequence[Path]
) -> None:
    """Store the results of task `name` in the shared cache."""
    from tasks.cache import entry

    store = cache.store()
    if store is None or cache.read_only:
        return
    try:
        size = entry.put(store, task_key(), name, output, made, entry.signing_secret())
    except (Refused, OSError) as error:  # OSError: of the output folder, as a full disk
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        cache.read_only = why
        logger.warning(
            f"shared cache {store.display_name} cannot be written to ({why}); tcbuild only reads it"
        )
    except Unreachable as error:
        cache.disable(store, str(error))
    else:
        logger.info(f"{name}: stored in the shared cache ({size:,} bytes, key {task_key()[:12]})")
        if cache.limit is not None:
            _keep_below(store, cache.limit)


def _keep_below(store: Store, limit: int) -> None:
    from tasks.cache import entry

    try:
        entry.keep_below(store, limit)
    except UserError as error:
        logger.warning(error.message)


def has_entry(cache: SharedCache, task_key: Callable[[], str]) -> bool:
    """Return whether the shared cache has the entry, without a check of its files."""
    from tasks.cache import entry

    store = cache.store()
    if store is None:
        return False
    try:
        return entry.has(store, task_key(), entry.signing_secret())
    except Unreachable as error:
        cache.disable(store, str(error))
        return False


# --- keys --------------------------------------------------------------------


def key(
    settings: Settings,
    name: str,
    inputs: Iterable[str],
    values: Mapping[str, str],
    digests: Mapping[str, str],
) -> str:
    """Return the cache key of task `name` with the files `inputs` and the values `values`.

    values: those of its `SavedValues`; digests: of its code.  Raises `OSError` if an input cannot be read.
    """
    kernel = settings.profile.kernel
    facts = {
        "format": FORMAT,
        "task": name,
        "files": sorted(_file(settings.paths, Path(path)) for path in inputs),
        "values": {key: value for key, value in values.items() if key.split(".")[0] not in LOCAL_KEYS},
        "release": kernel.release,
        "toolchains": [build_root.digest(name) for name in settings.profile.toolchains],
        "machine": machine(tools_count=build_root.HOST in settings.profile.toolchains),
        "code": digests,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _file(paths: Paths, path: Path) -> tuple[str, bool, str]:
    """Return what a key contains of an input: a path without machine folders, executable bit, sha256."""
    if path.is_relative_to(paths.output):
        label = f"output/{path.relative_to(paths.output)}"
    elif CHECKOUT.root_of(path):
        label = f"checkout/{CHECKOUT.label_of(path)}"  # of a tree, too: no result names the tree
    else:
        label = str(path)  # diff.txt names a fragment outside the checkout by this path
    return label, bool(path.stat().st_mode & stat.S_IXUSR), sha256_file(path)


@functools.cache
def machine(*, tools_count: bool) -> dict[str, Any]:
    """Return what every result depends on besides its inputs and code: tools, environment, processor.

    tools_count: whether programs of this machine write results; those of a pinned toolchain do not depend
    on it.
    """
    return {
        "tools": tools() if tools_count else {},
        "architecture": platform.machine(),
        "environment": {
            name: value for name, value in clean_env().items() if not PASSED_VARIABLES.match(name)
        }
        | {"PATH": PATH},  # without folders of this user
    }


@functools.cache
def tools() -> dict[str, str]:
    """Return the versions of the tools that host.toml names for building, and of their dependencies.

    Maps a Debian package to its version, and a program outside Debian's folders to its sha256.
    Raises `UserError` on a machine without dpkg.
    """
    groups = host.groups()
    wanted = groups["host"] | groups["build"] | groups["compile"]
    listing = run(["dpkg-query", "--show", "--showformat", QUERY]).stdout
    found = closure(listing, wanted.values())
    for tool in wanted:
        path = shutil.which(tool, path=clean_env()["PATH"]) if "/" not in tool else None
        if path and not path.startswith(("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/")):
            found[tool] = sha256_file(Path(path))
    return found


def closure(listing: str, names: Iterable[str]) -> dict[str, str]:
    """Return name -> version of the installed packages `names` and of all their dependencies.

    listing: lines in the format `QUERY` (dpkg-query(1)).  Of alternatives, and of packages that
    provide another one, all installed ones count.
    """
    # Imported here: a run with nothing to do does not need it.
    from tasks.formats.debian_control import related_packages

    versions: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    providers: dict[str, set[str]] = {}
    for line in sorted(listing.splitlines()):
        state, name, architecture, version, before, depends, provides = line.split("\t")
        if state != "installed":
            continue
        label = f"{version}:{architecture}"
        versions[name] = f"{versions[name]} {label}" if name in versions else label
        needs.setdefault(name, set()).update(related_packages(before), related_packages(depends))
        for provided in related_packages(provides):
            providers.setdefault(provided, set()).add(name)
    found: dict[str, str] = {}
    todo = set(names)
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        seen.add(name)
        if name in versions:
            found[name] = versions[name]
        todo |= (needs.get(name, set()) | providers.get(name, set())) - seen
    return found

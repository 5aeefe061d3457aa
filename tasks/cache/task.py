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
from tasks.config.settings import Paths, Settings
from tasks.engine import code
from tasks.engine.database import SavedValues, folder_stamps, saved_values
from tasks.engine.task import Task, action
from tasks.toolchain import build_root
from tasks.util import host
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import Stamp, sha256_file, stamp
from tasks.util.log import logger
from tasks.util.note import Note
from tasks.util.process import PASSED_VARIABLES, PATH, clean_env, run

# Part of every key.  Raise it when older entries must not be used any more.
FORMAT = 2
# Bytes of this user's own cache, which nobody else prunes.
OWN_LIMIT = 2 << 30
# Values that identify compilers by path and time on one machine.  Keys for other machines have versions
# instead, which do not change if somebody replaces a program by hand.
LOCAL_KEYS = ("tools",)
# The code that reads the commands of an entry from logs: with other code, an entry would hold others.
TELLING = ("tasks.provenance.commands", "tasks.provenance.redaction")
KERNEL_TREE_TASKS = ("kconfig:base", "kconfig", "kernel")
FIELDS = ("db:Status-Status", "Package", "Architecture", "Version", "Pre-Depends", "Depends", "Provides")
QUERY = "\\t".join(f"${{{field}}}" for field in FIELDS) + "\\n"


class SharedCache:
    """The shared cache of one run.  All its processes see why it is not used, and one of them says so."""

    def __init__(self, address: str, *, offline: bool, own: bool = False, tools_count: bool = True) -> None:
        """address: "" for none; offline: whether only a folder may be used; own: whether it is that of this
        user, which is kept below `OWN_LIMIT` bytes; tools_count: as of `machine`.
        """
        self.address, self.own = address, own
        self._offline, self._tools_count = offline, tools_count
        self.called = "your own cache" if own else "the shared cache"
        self.takes = True
        """Whether tasks take their results from it; they store them in any case."""
        self._unusable, self._read_only = Note(), Note()

    @classmethod
    def of(cls, settings: Settings) -> SharedCache:
        """Return the shared cache that the command line chose."""
        network, tools_count = settings.network, build_root.HOST in settings.profile.toolchains
        address, own = network.shared_cache, network.own_cache
        return cls(address, offline=network.offline, own=own, tools_count=tools_count)

    @property
    def is_read_only(self) -> bool:
        """Whether the rest of this run stores nothing in it."""
        return not self.address or bool(self._read_only.text)

    def take_nothing(self) -> None:
        """Let all tasks of this run do their work."""
        self.takes = False

    def store(self) -> Store | None:
        """Return the store of the entries, None if it cannot be used."""
        if not self.address or self._unusable.text:
            return None
        if self._offline and not is_folder(self.address):
            if self._unusable.write_first("offline=1"):
                logger.info("shared cache: not used, because offline=1 forbids it")
            return None
        try:
            if self._tools_count:
                tools()
        except UserError as error:
            if self._unusable.write_first(error.message):
                text = f"no shared cache: {error.message}, so the versions of tools are unknown"
                logger.warning(text)
            return None
        return open_store(self.address)

    def disable(self, store: Store, why: str) -> None:
        """Do not use the cache in the rest of this run."""
        if self._unusable.write_first(why):
            logger.warning(f"shared cache {store.display_name} cannot be used ({why}); building without it")

    def only_read(self, store: Store, why: str) -> None:
        """Store nothing in the cache in the rest of this run."""
        if self._read_only.write_first(why):
            where = f"shared cache {store.display_name}"
            logger.warning(f"{where} cannot be written to ({why}); tcbuild only reads it")


@dataclass(frozen=True)
class Results:
    """What a task makes, and where the cache has it.

    name: of the task; key: returns that of its entry; made: its files and folders.
    """

    cache: SharedCache
    settings: Settings
    name: str
    key: Callable[[], str]
    made: Sequence[Path]

    @functools.cached_property
    def logs(self) -> list[str]:
        """The names of the logs from which a manifest has the task's commands."""
        from tasks.provenance import commands

        return commands.logs_of(self.settings.profile, self.name, self.made)


def shared(cache: SharedCache, settings: Settings, task: Task, *, made: Sequence[Path] = ()) -> Task:
    """Return `task` so that its actions run only if the shared cache does not hold their results.

    made: all files and folders that the task makes, by default its targets.  Returns `task`
    unchanged without a shared cache, and if the kernel's source has no digest.
    """
    name = ":".join(filter(None, (task.get("basename"), task.get("name"))))
    of_tree = _reads_tree(settings.paths, name, task)
    if not cache.address or (of_tree and not has_one_source(settings.profile)):
        return task
    outputs = [Path(path) for path in made or task["targets"]]
    actions = task["actions"]
    checks = saved_values(task.get("uptodate", ()))
    modules = code.modules_of(actions, task.get("uptodate", ()), task.get("meta", {}).get("before_fork", ()))

    @functools.cache
    def task_key() -> str:
        saved = {key: value for check in checks for key, value in check.values.items()}
        return key(settings, name, task["file_dep"], saved, _digests(code.here(), modules, name))

    def key_now() -> str:
        # They may have changed while the task ran.
        machine.cache_clear()
        tools.cache_clear()
        saved = {key: value for check in checks for key, value in check.now().items()}
        return key(settings, name, task["file_dep"], saved, _digests(code.read_again(), modules, name))

    results = Results(cache, settings, name, task_key, outputs)

    def run_or_restore() -> Any:
        before = _stamps(settings.paths, task["file_dep"], checks)
        if cache.takes and restore(results):
            return {"from_cache": True}  # for the run's record
        for function, arguments in actions:
            result = function(*arguments)
            if result is not None and not isinstance(result, dict):
                return result  # doit's failure
        if cache.store() is None or cache.is_read_only:
            return None
        # An edit that was undone meanwhile leaves the key as it was, but not the stamps.
        changed = before != _stamps(settings.paths, task["file_dep"], checks)
        if changed or code.here().edited(modules, name) or key_now() != task_key():
            why = "an input changed meanwhile"
        else:
            why = _private(settings.paths, name) if of_tree else ""
        _keep(results, why)
        return None

    wrapped = action(run_or_restore)
    wrapped.cached_in = lambda: has_entry(results)  # type: ignore[attr-defined]
    wrapped.take_nothing = cache.take_nothing  # type: ignore[attr-defined]
    wrapped.modules = modules  # type: ignore[attr-defined]
    # Reading files beforehand helps a build; a restore from the cache would only wait for it.
    meta = {what: value for what, value in task.get("meta", {}).items() if what != "before_fork"}
    return {**task, "actions": [(wrapped, [])], "meta": meta}


def _reads_tree(paths: Paths, name: str, task: Task) -> bool:
    """Tell whether a task reads the kernel's tree, as extensions with modules from elsewhere do, too."""
    tree = f"{paths.linux}/"
    return name in KERNEL_TREE_TASKS or any(path.startswith(tree) for path in task["file_dep"])


def _keep(results: Results, why: str) -> None:
    """Store the results of a task.  why: the reason not to, "" for none."""
    if why:
        logger.warning(f"{results.name}: not stored in {results.cache.called}, because {why}")
    else:
        upload(results)


def _digests(read: code.Code, modules: Iterable[str], name: str) -> dict[str, str]:
    """Return the digests of the code that makes the results of a task, and of that which tells how."""
    return {**read.digests(modules, name), "commands": read.digest_of(*TELLING)}


def _stamps(paths: Paths, inputs: Iterable[str], checks: Iterable[SavedValues]) -> dict[str, Stamp | None]:
    """Return the stamps of those `inputs` that no task writes, and of the folders of trees."""
    files = (path for path in inputs if not Path(path).is_relative_to(paths.output))
    return {**folder_stamps(checks), **{path: stamp(path) for path in files}}


def has_one_source(profile: Profile) -> bool:
    """Return whether the kernel's source has a digest; a tree edited in place has none."""
    return all(source.tree() is None for source in profile.kernel.sources)


def _private(paths: Paths, name: str) -> str:
    """Return why what a task has made of the kernel's tree is of this output folder alone, "" if it is not.

    No key could tell of it.
    """
    from tasks.kernel import build, tree_state

    is_config = name.startswith("kconfig")  # no object of the build folder gets into a configuration
    if not (tree_state.is_as_unpacked(paths.linux) if is_config else build.is_untouched(paths)):
        return f"{paths.linux} or what was made of it may have been edited; remove it to unpack it"
    chance = "" if is_config else build.drawn(paths)
    return f"its build draws {chance} by chance" if chance else ""


# --- restore and upload ------------------------------------------------------


def restore(results: Results) -> bool:
    """Restore the results of a task from the shared cache, and lay down the commands that made them.

    Returns whether that worked: whether there is an entry, and it is valid.
    """
    from tasks.cache import entry
    from tasks.provenance import commands

    cache, paths = results.cache, results.settings.paths
    store = cache.store()
    if store is None:
        return False
    try:
        found = entry.get(store, results.key(), paths.output, results.made, entry.signing_secret())
    except entry.BadEntry as error:
        logger.warning(f"shared cache: the entry of {results.name} is refused: {error}; building it")
        entry.discard(store, error.names)
        return False
    except Unreachable as error:
        cache.disable(store, str(error))
        return False
    if found is None:
        return False
    commands.lay_down(paths, results.logs, found.commands)
    logger.info(f"{results.name}: from {cache.called} ({found.size:,} bytes, key {found.key[:12]})")
    return True


def upload(results: Results) -> None:
    """Store the results of a task in the shared cache, with the commands that made them."""
    from tasks.cache import entry
    from tasks.provenance import commands

    cache, paths = results.cache, results.settings.paths
    store = cache.store()
    if store is None or cache.is_read_only:
        return
    how = commands.logged(paths, results.logs)
    try:
        size = entry.put(
            store, results.key(), results.name, paths.output, results.made, entry.signing_secret(), how
        )
        if cache.own:
            entry.keep_below(store, OWN_LIMIT)
        else:  # nobody asked for one's own
            said = f"({size:,} bytes, key {results.key()[:12]})"
            logger.info(f"{results.name}: stored in the shared cache {said}")
    except (Refused, OSError) as error:  # OSError: of the output folder, as a full disk
        cache.only_read(store, (error.strerror if isinstance(error, OSError) else None) or str(error))
    except Unreachable as error:
        cache.disable(store, str(error))
    except UserError as error:
        cache.only_read(store, error.message)


def has_entry(results: Results) -> str:
    """Return what the cache is called if it has the entry, without a check of its files; "" if not."""
    from tasks.cache import entry

    cache = results.cache
    store = cache.store()
    if store is None:
        return ""
    try:
        return cache.called if entry.has(store, results.key(), entry.signing_secret()) else ""
    except Unreachable as error:
        cache.disable(store, str(error))
        return ""


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
    tools_count = build_root.HOST in settings.profile.toolchains
    left_out = () if settings.network.own_cache and tools_count else LOCAL_KEYS
    facts = {
        "format": FORMAT,
        "task": name,
        "files": sorted(_file(settings.paths, Path(path)) for path in inputs),
        "values": {key: value for key, value in values.items() if key.split(".")[0] not in left_out},
        "release": kernel.release,
        "toolchains": [build_root.digest(name) for name in settings.profile.toolchains],
        "machine": machine(tools_count=tools_count),
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

# SPDX-License-Identifier: MIT
"""Find and print why tasks would run: `./doit explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.engine.code import UnchangedCode
from tasks.engine.database import HIDDEN, SavedValues
from tasks.engine.reason import SECRET_CHANGE, Kind, Reason
from tasks.engine.targets import UnchangedTargets
from tasks.util.checkout import CHECKOUT
from tasks.util.secret_patterns import is_secret

SHOWN = 5
WIDTH = 60


def explain(manager: Any, tasks: Mapping[str, Any], names: Sequence[str]) -> None:
    """Print for each task that the tasks `names` need whether it would run, and why.

    Of those that are up to date, print which came from a shared cache.  Nothing is run.
    manager: doit's dependency manager; tasks: all tasks, by name.
    """
    writers = {target: task.name for task in tasks.values() for target in task.targets}
    stale: dict[str, list[object]] = {}
    taken = []
    for task in dependency_order(tasks, writers, names):
        # A task in `task_dep` only comes first: what it does makes no other task run.
        after = [name for name in read_from(task, writers) if name in stale]
        found: list[object] = [
            *reasons(manager, task, tasks),
            *([f"after {', '.join(after)}"] if after else []),
        ]
        place = cached_in(task) if found and task.actions and not after else ""
        if place:
            found.append(f"it would come from {place}")
        if found and task.actions:
            stale[task.name] = found
        elif not found and manager.get_values(task.name).get("from_cache"):
            taken.append(task.name)
    for name, found in stale.items():
        print(f"{name} would run:", *found, sep="\n  ")
    if not stale:
        print("everything is up to date")
    if taken:
        print(f"from a cache: {', '.join(taken)}")


def cached_in(task: Any) -> str:
    """Return what the cache is called that has the targets of `task`; "" if none has, or inputs are missing.

    Its action tells, by an attribute of this name.
    """
    asks = (getattr(getattr(act, "py_callable", None), "cached_in", None) for act in task.actions)
    if not all(Path(path).is_file() for path in task.file_dep):
        return ""
    return next((place for ask in asks if ask and (place := ask())), "")


def dependency_order(
    tasks: Mapping[str, Any], writers: Mapping[str, str], names: Iterable[str]
) -> Iterator[Any]:
    """Yield the tasks `names` and all tasks they need, each once, after the tasks it needs."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[Any]:
        if name in seen:
            return
        seen.add(name)
        for other in needs(tasks[name], writers):
            yield from visit(other)
        yield tasks[name]

    for name in names:
        yield from visit(name)


def needed(tasks: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the tasks with actions among `names` and all that they need, each after those it needs."""
    writers = {target: task.name for task in tasks.values() for target in task.targets}
    return [task.name for task in dependency_order(tasks, writers, names) if task.actions]


def needs(task: Any, writers: Mapping[str, str]) -> list[str]:
    """Return the tasks that run before `task`: its `task_dep`, and the writers of the files it reads.

    writers: target -> name of the task that writes it.
    """
    return list(dict.fromkeys([*task.task_dep, *read_from(task, writers)]))


def read_from(task: Any, writers: Mapping[str, str]) -> list[str]:
    """Return the tasks whose targets `task` reads; writers: target -> name of the task that writes it."""
    return list(dict.fromkeys(writers[path] for path in sorted(task.file_dep) if path in writers))


def reasons(manager: Any, task: Any, tasks: Mapping[str, Any]) -> list[Reason]:
    """Return why `task` would run, apart from the tasks it needs; empty if it is up to date."""
    status = manager.get_status(task, tasks, get_log=True)
    return [] if status.status == "up-to-date" else status_reasons(manager, task, status)


def status_reasons(manager: Any, task: Any, status: Any) -> list[Reason]:
    """Return the reasons in `status`, which doit gave for `task` (with `get_log`)."""
    if manager.backend.get(task.name, "checker:") is None and task.file_dep:
        missing = status.reasons.get("missing_target", [])
        return [Reason(Kind.NOT_DONE if missing else Kind.NO_RECORD)]
    found: list[Reason] = []
    for check, _, _ in status.reasons.get("uptodate_false", []):
        if isinstance(check, SavedValues):
            changes = check.differences(manager.get_values(task.name))
            listed = [*status.reasons.get("added_file_dep", []), *status.reasons.get("removed_file_dep", [])]
            told = {CHECKOUT.label_of(Path(path)) for path in listed}
            texts = [
                _change(key, *pair) for key, pair in changes.items() if key.partition(".")[2] not in told
            ]
            found += [Reason(Kind.VALUE, text=text) for text in texts]
        elif isinstance(check, UnchangedCode):
            inputs = {CHECKOUT.name_of(Path(path)) for path in task.file_dep}  # doit itself reports these
            changed = check.changed_files(manager.get_values(task.name))
            found += _of_files(Kind.CODE, (path for path in changed if path not in inputs))
        elif isinstance(check, UnchangedTargets):
            lost = check.changed_files(task, manager.get_values(task.name))
            found += _of_files(Kind.DAMAGED, lost)
        else:
            found.append(Reason(Kind.EVERY_TIME))
    kinds = {
        "missing_target": Kind.MISSING,
        "changed_file_dep": Kind.CHANGED,
        "missing_file_dep": Kind.MISSING_INPUT,
        "added_file_dep": Kind.NEW_INPUT,
        "removed_file_dep": Kind.FORMER_INPUT,
    }
    added = status.reasons.get("added_file_dep", [])
    for reason, kind in kinds.items():
        paths = status.reasons.get(reason, [])
        # doit calls a new input also changed, because it has no record.
        found += _of_files(kind, (path for path in paths if kind != Kind.CHANGED or path not in added))
    return found


def _of_files(kind: Kind, paths: Iterable[str]) -> list[Reason]:
    """Return reasons of one kind for the first `SHOWN` of `paths`, and one with the number of the others."""
    names = [CHECKOUT.name_of(path) for path in map(Path, paths)]
    names.sort()
    more = len(names) - SHOWN
    found = [Reason(kind, name) for name in names[:SHOWN]]
    return [*found, *([Reason(kind, more=more)] if more > 0 else [])]


def _change(key: str, old: str, new: str) -> str:
    """Return a changed value as a line, without the values if one is secret."""
    if any(text.startswith(HIDDEN) or is_secret(text) for text in (old, new)):
        return f"{key}: {SECRET_CHANGE}"
    return f"{key}: {_short(old)} -> {_short(new)}"


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."

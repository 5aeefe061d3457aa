"""What each run of doit did, task by task: `runs/TIME.jsonl` beside doit's database.

A record is JSON Lines: a line when the run starts its first task, one when a task begins,
one when it ends, one when the run ends.  Each is appended in one write, so that a run
which is killed leaves all it has finished, and a run of a thousand tasks costs a thousand
short lines.  A run that has nothing to do leaves no record, and neither do commands
(tasks that make nothing).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.engine import reason
from tasks.engine.reason import Reason

VERSION = 1
MAX_RECORDS = 20
NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z\.jsonl")
OK, FAILED, FROM_CACHE, CUT = "ok", "failed", "from cache", "cut"


@dataclass(frozen=True)
class TaskRun:
    """A task in a run.

    start: seconds since the epoch; seconds: wall time, None if it never ended; cpu: processor
    seconds with those of its programs, None where they cannot be told from another task's;
    outcome: `ok`, `failed`, `from cache` or `cut`; reasons: why it ran;
    sizes: path below the output folder -> bytes, of what it made.
    """

    name: str
    start: float
    seconds: float | None = None
    cpu: float | None = None
    outcome: str = CUT
    reasons: tuple[Reason, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run that did something.

    name: of the record, which sorts by time; started: seconds since the epoch; seconds: wall
    time from its first task on, up to the last thing known of it; outcome: `ok`, `failed`, or
    `cut` if it did not come to its end; asked: the tasks of the command line; up_to_date:
    tasks there was nothing to do for.
    """

    name: str
    started: float
    seconds: float
    outcome: str
    asked: tuple[str, ...]
    tasks: tuple[TaskRun, ...]
    up_to_date: tuple[str, ...] = ()


# --- writing ---------------------------------------------------------------


@dataclass
class _RunningTask:
    """A task that has begun: processor seconds used up to then, None if it is not alone."""

    cpu: float | None


class Recorder:
    """Writes the record of this run.  A record is a help: no fault in writing it ends a build."""

    def __init__(self, output: Path, asked: Sequence[str]) -> None:
        """output: the folder to keep records in; asked: the tasks of the command line."""
        self._output = output.absolute()
        self._asked = list(asked)
        self._file: int | None = None
        self._disabled = False
        self._running: dict[str, _RunningTask] = {}
        self._up_to_date: list[str] = []
        self._failed = False
        self._lock = threading.RLock()
        self._clock = time.time() - time.monotonic()  # a clock set anew must not bend times

    def skip(self, task: Any) -> None:
        """Note that there was nothing to do for a task."""
        if task.targets:
            self._up_to_date.append(task.name)

    def begin(self, task: Any, reasons: Sequence[Reason] = ()) -> None:
        """Note that a task begins, and why."""
        if not task.targets or self._disabled:
            return
        with self._lock:
            alone = not self._running and not multiprocessing.active_children()
            if not alone:
                self._drop_cpu_times()
            self._running[task.name] = _RunningTask(_cpu() if alone else None)
            self._append("begin", task=task.name, reasons=list(reasons))

    def end(self, task: Any, outcome: str) -> None:
        """Note how a task that has begun ended.

        An action that took all of the task's targets from a cache says so by returning
        `{"from_cache": True}`.
        """
        self._failed |= outcome == FAILED
        with self._lock:
            begun = self._running.pop(task.name, None)
            if begun is None:
                return
            if outcome == OK and task.values.get("from_cache") is True:
                outcome = FROM_CACHE
            facts: dict[str, Any] = {"task": task.name, "outcome": outcome}
            if begun.cpu is not None:
                facts["cpu"] = round(_cpu() - begun.cpu, 3)
            if outcome != FAILED:
                more = (task.meta or {}).get("sizes", [])
                facts["sizes"] = dict(sizes_of([*task.targets, *more], self._output))
            self._append("end", **facts)

    def finish(self) -> None:
        """Note that the run has come to its end, if it did anything."""
        if self._file is None:
            return
        outcome = FAILED if self._failed else CUT if self._running else OK
        self._append("finish", outcome=outcome, up_to_date=self._up_to_date)
        os.close(self._file)
        self._file, self._disabled = None, True

    def _drop_cpu_times(self) -> None:
        """Give up on processor seconds: they cannot be told apart any more."""
        for begun in self._running.values():
            begun.cpu = None

    def _append(self, event: str, **facts: Any) -> None:
        if self._disabled:
            return
        now = round(self._clock + time.monotonic(), 3)
        try:
            if self._file is None:
                self._file = _create(self._output / "runs", now)
                head = {"event": "run", "version": VERSION, "at": now, "asked": self._asked}
                os.write(self._file, _line(head))
            os.write(self._file, _line({"event": event, "at": now, **facts}))
        except OSError as error:
            self._disabled = True
            print(f"warning: no record of this run: {error.strerror}: {error.filename}", file=sys.stderr)


def _line(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, separators=(",", ":"), default=Reason.record).encode() + b"\n"


def _create(folder: Path, now: float) -> int:
    """Open a new record, and drop the oldest of more than are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            handle = os.open(folder / f"{stamp}.{int(now * 1000) % 1000:03d}Z.jsonl", flags, 0o644)
            break
        except FileExistsError:
            now += 0.001
    for old in _records(folder)[:-MAX_RECORDS]:
        old.unlink(missing_ok=True)
    return handle


def _cpu() -> float:
    """Return the processor seconds of this process and of all programs it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def sizes_of(paths: Collection[str], output: Path) -> Iterator[tuple[str, int]]:
    """Yield (path below `output`, bytes) of files, and of all files below folders, that are there."""
    for path in paths:
        for folder, _, names in os.walk(path):
            for name in names:
                yield from sizes_of([os.path.join(folder, name)], output)
        if os.path.isfile(path) and not os.path.islink(path):
            yield os.path.relpath(path, output), os.path.getsize(path)


# --- reading ---------------------------------------------------------------


def _records(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if NAME.fullmatch(path.name))


def load(output: Path) -> tuple[list[Run], list[str]]:
    """Return the runs recorded for an output folder, oldest first, and a line for each bad record."""
    runs, faults = [], []
    for path in _records(output / "runs"):
        try:
            runs.append(read(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{path.name} is damaged and left out: {type(error).__name__}: {error}")
    return runs, faults


def read(path: Path) -> Run:
    """Return the run a record tells of.

    Raises `OSError`, or `ValueError`, `KeyError`, `TypeError`, `AttributeError` for what is no record.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")  # a kill may have cut the last line
    events = [json.loads(line) for line in whole.split(b"\n")]
    head = events[0]
    if head["event"] != "run" or head["version"] != VERSION:
        raise ValueError("not a record of this version")
    tasks: dict[str, TaskRun] = {}
    outcome, up_to_date, last = CUT, tuple[str, ...](), _seconds(head["at"])
    for event in events[1:]:
        last = max(last, _seconds(event["at"]))
        if event["event"] == "begin":
            name = _text(event["task"])
            reasons = tuple(map(reason.read, event["reasons"]))
            tasks[name] = TaskRun(name, _seconds(event["at"]), reasons=reasons)
        elif event["event"] == "end":
            begun = tasks[event["task"]]
            tasks[begun.name] = TaskRun(
                begun.name,
                begun.start,
                max(0.0, _seconds(event["at"]) - begun.start),
                _seconds(event["cpu"]) if "cpu" in event else None,
                _text(event["outcome"]),
                begun.reasons,
                {_text(name): int(size) for name, size in event.get("sizes", {}).items()},
            )
        elif event["event"] == "finish":
            outcome, up_to_date = _text(event["outcome"]), _texts(event["up_to_date"])
    started = _seconds(head["at"])
    asked = _texts(head["asked"])
    return Run(
        path.stem, started, max(0.0, last - started), outcome, asked, tuple(tasks.values()), up_to_date
    )


def _seconds(value: Any) -> float:
    # Infinity and what is beyond a calendar would break what is drawn of it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError(f"no number of seconds: {value!r}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)

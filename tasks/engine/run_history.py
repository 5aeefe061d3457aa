# SPDX-License-Identifier: MIT
"""Records of runs, task by task: `runs/TIME.jsonl` beside doit's database.

A record has the events (tasks.engine.events) of the tasks that make files: one line when the run
starts its first task, one when a task begins, one when it ends, one when the run ends.  Each line is
appended in one write, so that the record of a killed run has all its finished tasks.  A run that has
nothing to do writes no record, and neither do commands (tasks without targets).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.engine import events, reason
from tasks.engine.events import VERSION, Listener, Outcome, Stream
from tasks.engine.reason import Reason
from tasks.util import dated_records
from tasks.util.checkout import CHECKOUT
from tasks.util.secret_patterns import publishable

ENDING = "jsonl"
OK: Outcome = "ok"
FAILED: Outcome = "failed"
FROM_CACHE: Outcome = "from cache"
CUT: Outcome = "cut"
NOT_RUN: Outcome = "not run"


@dataclass(frozen=True)
class TaskRun:
    """A task in a run.

    start: seconds since the epoch; seconds: wall time, None if it did not end; cpu: processor
    seconds of the task and its programs, None if another task ran at the same time;
    outcome: `ok`, `failed`, `from cache` or `cut` (it did not end); reasons: why it ran;
    sizes: path below the output folder -> bytes, of the files it made.
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
    """A run that started at least one task.

    name: of the record, which sorts by time; started: seconds since the epoch; seconds: wall
    time from its first task to the last line of its record; outcome: `ok`, `failed`, or `cut` if
    it did not end; asked: the tasks of the command line; up_to_date: the tasks that were up to date.
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
    """A running task.

    start: seconds since the epoch; cpu: processor seconds of this process at its begin, None if other
    tasks ran, too.
    """

    start: float
    cpu: float | None


class Recorder:
    """Writes the record of this run.  If that fails, it prints a warning and the build goes on.

    A stream, if there is one, gets the same events, and those that a record does not keep.
    """

    def __init__(
        self, output: Path, asked: Sequence[str], needed: Sequence[str] = (), stream: Stream | None = None
    ) -> None:
        """output: the folder to keep records in; asked, needed: as in `events.RunBegins`."""
        self._output = output.absolute()
        self._asked = tuple(asked)
        self._stream = stream
        self._file: int | None = None
        self._disabled = False
        self._running: dict[str, _RunningTask] = {}
        self._up_to_date: list[str] = []
        self._failed = False
        self._lock = threading.RLock()
        self._clock = (
            time.time() - time.monotonic()
        )  # so that setting the clock during a run does not change durations
        self._started = self._now()
        folder = CHECKOUT.name_of(self._output)
        self._tell(events.RunBegins(self._started, self._asked, tuple(needed), folder))

    def skip(self, task: Any, *, ignored: bool = False) -> None:
        """Note that a task is up to date, or that it is ignored."""
        if task.targets and not ignored:
            self._up_to_date.append(task.name)
        if task.actions:
            self._tell(events.TaskSkipped(self._now(), task.name, "ignored" if ignored else "up to date"))

    def begin(self, task: Any, reasons: Sequence[Reason] = ()) -> None:
        """Note that a task begins, and why."""
        with self._lock:
            alone = not self._running and not multiprocessing.active_children()
            if not alone:
                self._drop_cpu_times()
            begun = _RunningTask(self._now(), _cpu() if alone else None)
            self._running[task.name] = begun
            self._keep(task, events.TaskBegins(begun.start, task.name, tuple(reasons)))

    def listener(self, task: Any) -> Listener | None:
        """Return what takes the progress of a task; None if there is no stream."""
        return Listener(self._stream, self._now, task.name) if self._stream else None

    def end(self, task: Any, outcome: Outcome, error: str = "") -> None:
        """Note how a task ended.  error: the message of a failure.

        An action that takes all targets of its task from a cache returns `{"from_cache": True}`.
        """
        self._failed |= outcome == FAILED
        with self._lock:
            now, error = self._now(), publishable(error) if error else ""
            begun = self._running.pop(task.name, None)
            if begun is None:
                if task.actions:
                    self._tell(events.TaskEnds(now, task.name, outcome, error=error))
                return
            if outcome == OK and task.values.get("from_cache") is True:
                outcome = FROM_CACHE
            cpu = None if begun.cpu is None else round(_cpu() - begun.cpu, 3)
            more = [*task.targets, *(task.meta or {}).get("sizes", [])] if outcome != FAILED else []
            sizes = dict(sizes_of(more, self._output))
            seconds = round(now - begun.start, 3)
            self._keep(task, events.TaskEnds(now, task.name, outcome, seconds, cpu, sizes, error))

    def finish(self, *, interrupted: bool = False) -> None:
        """Note that the run has ended."""
        now = self._now()
        for name in self._running:
            self._tell(events.TaskEnds(now, name, CUT, round(now - self._running[name].start, 3)))
        outcome = FAILED if self._failed else CUT if self._running or interrupted else OK
        ends = events.RunEnds(now, outcome, round(now - self._started, 3), tuple(self._up_to_date))
        self._tell(ends)
        if self._file is None:
            return
        self._record(ends)
        os.close(self._file)
        self._file, self._disabled = None, True

    def _drop_cpu_times(self) -> None:
        """Drop the processor seconds of the running tasks, because they cannot be separated."""
        for begun in self._running.values():
            begun.cpu = None

    def _now(self) -> float:
        return round(self._clock + time.monotonic(), 3)

    def _keep(self, task: Any, event: events.Event) -> None:
        """Write an event of a task that began: to the stream, and to the record if the task makes files."""
        self._tell(event)
        if task.targets:
            self._record(event)

    def _tell(self, event: events.Event) -> None:
        if self._stream:
            self._stream.write(event)

    def _record(self, event: events.Event) -> None:
        if self._disabled:
            return
        try:
            if self._file is None:
                self._file = _create(self._output / "runs", event.at)
                os.write(self._file, events.line(events.RunBegins(event.at, self._asked)))
            os.write(self._file, events.line(event))
        except OSError as error:
            self._disabled = True
            print(f"warning: no record of this run: {error.strerror}: {error.filename}", file=sys.stderr)


def _create(folder: Path, now: float) -> int:
    """Create a new record, and remove the oldest records (dated_records)."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            handle = os.open(folder / dated_records.name(now, ENDING), flags, 0o644)
            break
        except FileExistsError:
            now += 0.001
    dated_records.remove_oldest(folder, ENDING)
    return handle


def _cpu() -> float:
    """Return the processor seconds of this process and of all programs it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def sizes_of(paths: Collection[str], output: Path) -> Iterator[tuple[str, int]]:
    """Yield (path below `output`, bytes) of the existing files among `paths` and in their folders."""
    for path in paths:
        for folder, _, names in os.walk(path):
            for name in names:
                yield from sizes_of([os.path.join(folder, name)], output)
        if os.path.isfile(path) and not os.path.islink(path):
            yield os.path.relpath(path, output), os.path.getsize(path)


# --- reading ---------------------------------------------------------------


def load(output: Path) -> tuple[list[Run], list[str]]:
    """Return the runs of an output folder, oldest first, and a message for each damaged record."""
    runs, faults = [], []
    for path in dated_records.paths(output / "runs", ENDING):
        try:
            runs.append(read(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{path.name} is damaged and left out: {type(error).__name__}: {error}")
    return runs, faults


def read(path: Path) -> Run:
    """Return the run of a record.

    Raises `OSError`, or `ValueError`, `KeyError`, `TypeError`, `AttributeError` for a damaged record.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")  # a kill may have cut the last line
    head, *others = [json.loads(line) for line in whole.split(b"\n")]
    if head["event"] != "run" or head["version"] != VERSION:
        raise ValueError("not a record of this version")
    tasks: dict[str, TaskRun] = {}
    outcome: str = CUT
    up_to_date, last = tuple[str, ...](), _seconds(head["at"])
    for event in others:
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
    # The report cannot draw infinity, or dates beyond the calendar.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError(f"no number of seconds: {value!r}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)

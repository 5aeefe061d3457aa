# SPDX-License-Identifier: MIT
"""Runs tasks in parallel, at most as many as `-n` allows and the jobserver has slots.

The `run` command uses this runner in place of doit's parallel runners.  Those mix the output of
tasks, do not record which tasks have begun, and leave workers behind when they are killed.
A task without targets (`./doit qemu`) runs alone in this process, and so does a task while no
other is ready.  All others run in a fork (tasks.engine.worker), and their output is shown as
one block when they end.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit import runner
from doit.exceptions import TaskFailed, UnmetDependency

from tasks.engine import code, events, explain, run_history
from tasks.engine.dependencies import Dependencies
from tasks.engine.run_history import Recorder
from tasks.engine.run_lock import RunLock
from tasks.util import jobserver
from tasks.util.text import shortened

if TYPE_CHECKING:  # imported when the first task runs beside another one
    from tasks.engine.status import Status
    from tasks.engine.worker import Outcome, Worker

END_SECONDS = 30.0
SHOWN = 5


class Runner(runner.Runner):  # type: ignore[misc]
    """doit's runner for `-n N`.  It owns the lock of the output folder, and writes the run's record.

    Each running task has a slot of the jobserver: the first task has the slot of this process,
    each further task a token.  The slot of a finished task goes to the next task before a make
    can take it.  Otherwise a long make could keep all slots.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        reporter: Any,
        continue_: bool,
        always: bool,
        stream: Any,
        count: int,
        event_stream: events.Stream | None = None,
    ) -> None:
        """count: how many tasks run in parallel; event_stream: what gets the events of the run.

        The other parameters are those of doit's runner.
        """
        super().__init__(dependencies, reporter, continue_, always, stream)
        self._event_stream = event_stream
        self._interrupted = False
        self.num_process = max(1, count)
        self._folder = Path(dependencies.name).absolute().parent
        self._lock = RunLock(self._folder / ".doit.lock")
        dependencies.wait = self._lock.hold
        self._writing: set[str] = set()
        """Names of the running tasks with targets."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run the tasks in parallel.  On any exception the workers are ended first."""
        self.task_dispatcher, self.tasks = task_dispatcher, task_dispatcher.tasks
        self._ended: deque[Any] = deque()
        """Nodes that have ended, but that doit's dispatcher does not know of yet."""
        self._ready: deque[Any] = deque()
        self._exclusive: deque[Any] = deque()
        self._chain_lengths: dict[str, int] = {}
        self._running: dict[Worker, Any] = {}
        self._tokens: list[bytes] = []
        self._status: Status | None = None
        try:
            while self._step():
                pass
        except BaseException:
            self._interrupted = self.reporter.interrupted = True
            self._end_workers()
            raise
        finally:
            self._clear_status()
            self._return_tokens(len(self._tokens))

    def run_all(self, task_dispatcher: Any) -> Any:
        """Run the tasks of `task_dispatcher`, and write the run's record.  Returns doit's exit code."""
        asked = task_dispatcher.selected_tasks
        needed = explain.needed(task_dispatcher.tasks, asked) if self._event_stream else []
        self._history = Recorder(self._folder, asked, needed, self._event_stream)
        return super().run_all(task_dispatcher)

    def finish(self) -> Any:
        """End the run's record, close the database, and report how the run ended."""
        self._history.finish(interrupted=self._interrupted)
        code.here().keep()
        return super().finish()

    def execute_task(self, task: Any) -> Any:
        """Run a task in this process.  Returns doit's failure or None."""
        if task.teardown:
            self.teardown_list.append(task)
        failure = self._begin(task) if task.actions else None  # it may wait for another run
        self.reporter.execute_task(task)
        with events.listening(self._history.listener(task)):
            return failure or task.execute(self.stream)

    def process_task_result(self, node: Any, base_fail: Any) -> None:
        """Record how a task has ended.  It fails if one of its inputs has changed meanwhile."""
        if base_fail is None and (names := self.dep_manager.changed_inputs(node.task)):
            base_fail = _changed(names, "changed while the task ran")
        try:
            super().process_task_result(node, base_fail)
        finally:
            if node.run_status == "successful":
                self._end(node.task, run_history.OK)

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        outcome = run_history.NOT_RUN if isinstance(base_fail, UnmetDependency) else run_history.FAILED
        self._end(node.task, outcome, base_fail.get_msg().strip())
        super()._handle_task_error(node, base_fail)

    def _begin(self, task: Any) -> TaskFailed | None:
        """Remove the record of a task's last success, because the task writes its targets again.

        Otherwise a killed task would look done once its inputs are as they were before.
        A task with targets waits for other runs in this output folder.
        Returns a failure if an input has changed since dodo.py was loaded, which has read it.
        """
        if task.targets:
            self._lock.hold()
            self._writing.add(task.name)
        elif not self._writing:
            self._lock.release()  # `./doit qemu` may take hours
        late = self.dep_manager.begin(task)
        self._history.begin(task, self.dep_manager.reasons.get(task.name, ()))
        return _changed(late, "changed since this run began") if late else None

    def _end(self, task: Any, outcome: events.Outcome, error: str = "") -> None:
        self._writing.discard(task.name)
        self._history.end(task, outcome, error)

    def _step(self) -> bool:
        """Start the tasks that can start, and wait until one ends.  Returns False if none is left."""
        self._collect_ready()
        if not self._running and not self._stop_running and len(self._ready) + len(self._exclusive) > 0:
            self._return_tokens(len(self._tokens))
            jobserver.renew()
            if self._exclusive or len(self._ready) == 1:
                self._run_in_process((self._exclusive or self._ready).popleft())
                return True
        self._start_workers()
        self._return_tokens(len(self._tokens) - max(0, len(self._running) - 1))
        if self._running:
            self._wait()
        return bool(self._running or (self._ended and not self._stop_running))

    def _collect_ready(self) -> None:
        """Report ended tasks to the dispatcher, and collect all tasks that can run now."""
        while not self._stop_running:
            ended = self._ended.popleft() if self._ended else None
            try:
                node = self.task_dispatcher.generator.send(ended)
            except StopIteration:
                self._ended.clear()
                return
            if node == "hold on":
                if self._ended:
                    continue
                return
            if not self.select_task(node, self.tasks):
                if node.run_status in ("up-to-date", "ignore"):
                    self._history.skip(node.task, ignored=node.run_status == "ignore")
                self._ended.append(node)
            elif not node.task.actions:
                self._run_in_process(node)
            elif self.num_process > 1 and can_run_in_worker(node.task):
                self._ready.append(node)
            else:
                self._exclusive.append(node)

    def _run_in_process(self, node: Any) -> None:
        self.process_task_result(node, self.execute_task(node.task))
        self._ended.append(node)

    def _start_workers(self) -> None:
        server = jobserver.current()  # created before the first fork, so that all workers share it
        while self._ready and not self._stop_running and len(self._running) < self.num_process:
            if len(self._running) > len(self._tokens):
                token = server.take()
                if not token:
                    return
                self._tokens.append(token)
            from tasks.engine.worker import Worker

            # The task with the longest chain of waiting tasks is first: the kernel before extensions.
            node = max(self._ready, key=lambda node: chain_length(node, self._chain_lengths))
            self._ready.remove(node)
            failure = self._begin(node.task)
            getattr(self.reporter, "begin", self.reporter.execute_task)(node.task)
            if failure:
                self.process_task_result(node, failure)
                self._ended.append(node)
                continue
            # Data that many tasks read is read once here, so that each fork has it.
            for function, arguments in (node.task.meta or {}).get("before_fork", ()):
                function(*arguments)
            listener = self._history.listener(node.task)
            self._running[Worker(node.task, self.stream, listener)] = node

    def _return_tokens(self, count: int) -> None:
        for _ in range(count):
            jobserver.current().give(self._tokens.pop())

    def _wait(self) -> None:
        """Wait until a task ends, or another can be started."""
        may_start = self._ready and not self._stop_running and len(self._running) < self.num_process
        with selectors.DefaultSelector() as selector:
            for worker in self._running:
                selector.register(worker, selectors.EVENT_READ)
            if may_start:
                selector.register(jobserver.current(), selectors.EVENT_READ)
            if self._status is None:
                from tasks.engine.status import Status

                self._status = Status()
            while not (found := selector.select(self._status.seconds)):
                self._status.show([(one.task.name, one.seconds, one.doing) for one in self._running])
        for key, _ in found:
            if key.fileobj in self._running:
                ended: Any = key.fileobj
                node = self._running.pop(ended)
                self._record_outcome(ended, node, ended.wait())
                self._ended.append(node)

    def _record_outcome(self, worker: Worker, node: Any, outcome: Outcome) -> None:
        self._show_output(worker)
        outcome.apply_to(node.task)
        self.process_task_result(node, outcome.failure)

    def _show_output(self, worker: Worker) -> None:
        self._clear_status()
        getattr(self.reporter, "block", self._write)(worker.task, worker.output)

    def _clear_status(self) -> None:
        if self._status is not None:
            self._status.clear()

    def _write(self, task: Any, text: str) -> None:
        self.reporter.outstream.write(text)

    def _end_workers(self) -> None:
        """End all workers and wait for them.  A task that was done by then is recorded as done."""
        for worker in self._running:
            worker.terminate()
        until = time.monotonic() + END_SECONDS
        ended = []
        for worker, node in self._running.items():
            with selectors.DefaultSelector() as selector:
                selector.register(worker, selectors.EVENT_READ)
                if not selector.select(max(0.0, until - time.monotonic())):
                    worker.kill()
            ended.append((worker, node, worker.wait()))
        self._running.clear()
        for worker, node, outcome in ended:
            if outcome.killed:
                self._show_output(worker)
            else:
                self._record_outcome(worker, node, outcome)


def _changed(names: Sequence[str], what: str) -> TaskFailed:
    """Return doit's failure of a task whose inputs `names` have changed.  what: what they did, and when."""
    text = f"{shortened(sorted(names), SHOWN)} {what}, so the task is not done"
    return TaskFailed(f"{text}\n  hint: run the same command again")


def chain_length(node: Any, known: dict[str, int]) -> int:
    """Return the length of the longest chain of tasks that wait for doit's node `node`.

    known: lengths found before, by task.
    """
    name = node.task.name
    if name not in known:
        known[name] = max((1 + chain_length(later, known) for later in node.waiting_me), default=0)
    return known[name]


def can_run_in_worker(task: Any) -> bool:
    """Tell whether a task may run in a worker: it makes files, and does not need the terminal."""
    return bool(task.targets and task.io.capture and not task.teardown)

"""Runs tasks side by side, at most as many as `-n` says and the jobserver has slots.

doit's own parallel runners mix the output of tasks, forget which tasks have begun, and
leave workers behind when they are killed; this one takes their place (doit has no option
for that).  What can only run alone runs in this process, as in a run one after the other:
what makes nothing (`./doit qemu`), and any task while no other is ready.  All others are
forked (tasks.engine.worker), and their output is shown as one block each when they end.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from doit import cmd_run
from doit.runner import MRunner

from tasks.util import jobserver

if TYPE_CHECKING:  # imported when the first task runs beside another one
    from tasks.engine.status import Status
    from tasks.engine.worker import Outcome, Worker

END_SECONDS = 30.0


def install() -> None:
    """Make doit run tasks side by side with this runner."""
    cmd_run.MRunner = cmd_run.MThreadRunner = Runner


class Runner(MRunner):  # type: ignore[misc]
    """doit's runner for `-n N`.

    Each running task has a slot of the jobserver: the first one this process's own, each
    further one a token.  A slot that a task leaves goes to the next task before any make
    gets it: else a long make could keep all of them.
    """

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run all that `task_dispatcher` says.  On any exception the workers are ended first."""
        self.task_dispatcher, self.tasks = task_dispatcher, task_dispatcher.tasks
        self._ended: deque[Any] = deque()
        """Nodes whose end doit's dispatcher has not been told yet."""
        self._ready: deque[Any] = deque()
        self._alone: deque[Any] = deque()
        self._chains: dict[str, int] = {}
        self._running: dict[Worker, Any] = {}
        self._held: list[bytes] = []
        self._status: Status | None = None
        try:
            while self._step():
                pass
        except BaseException:
            self._end_workers()
            raise
        finally:
            self._clear()
            self._give_back(len(self._held))

    def _step(self) -> bool:
        """Start what can be started, and wait until something ends.  False if nothing is left."""
        self._take_ready()
        if not self._running and not self._stop_running and len(self._ready) + len(self._alone) > 0:
            self._give_back(len(self._held))
            jobserver.renew()
            if self._alone or len(self._ready) == 1:
                self._run_here((self._alone or self._ready).popleft())
                return True
        self._start()
        self._give_back(len(self._held) - max(0, len(self._running) - 1))
        if self._running:
            self._wait()
        return bool(self._running or (self._ended and not self._stop_running))

    def _take_ready(self) -> None:
        """Tell the dispatcher what has ended, and take all tasks that can run now."""
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
                self._ended.append(node)
            elif not node.task.actions:
                self._run_here(node)
            elif self.num_process > 1 and can_be_apart(node.task):
                self._ready.append(node)
            else:
                self._alone.append(node)

    def _run_here(self, node: Any) -> None:
        self.process_task_result(node, self.execute_task(node.task))
        self._ended.append(node)

    def _start(self) -> None:
        server = jobserver.current()  # all workers share it: it must be there before the first one
        while self._ready and not self._stop_running and len(self._running) < self.num_process:
            if len(self._running) > len(self._held):
                token = server.take()
                if not token:
                    return
                self._held.append(token)
            from tasks.engine.worker import Worker

            # What most others wait for, one after the other, goes first: the kernel before extensions.
            node = max(self._ready, key=lambda node: chain(node, self._chains))
            self._ready.remove(node)
            getattr(self.reporter, "begin", self.reporter.execute_task)(node.task)
            # What many tasks read is read once, here: each fork has it then.  If it fails, the task says so.
            for function, arguments in (node.task.meta or {}).get("beforehand", ()):
                function(*arguments)
            self._running[Worker(node.task, self.stream)] = node

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            jobserver.current().give(self._held.pop())

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
                self._record(ended, node, ended.wait())
                self._ended.append(node)

    def _record(self, worker: Worker, node: Any, outcome: Outcome) -> None:
        self._show(worker)
        outcome.tell(node.task)
        self.process_task_result(node, outcome.failure)

    def _show(self, worker: Worker) -> None:
        self._clear()
        getattr(self.reporter, "block", self._write)(worker.task, worker.said)

    def _clear(self) -> None:
        if self._status is not None:
            self._status.clear()

    def _write(self, task: Any, text: str) -> None:
        self.reporter.outstream.write(text)

    def _end_workers(self) -> None:
        """End all workers and wait for them; what was done all the same is recorded as done."""
        for worker in self._running:
            worker.end()
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
            if outcome.cut:
                self._show(worker)
            else:
                self._record(worker, node, outcome)


def chain(node: Any, known: dict[str, int]) -> int:
    """Return how many tasks must run one after the other once doit's node `node` has.

    known: lengths found before, by task.
    """
    name = node.task.name
    if name not in known:
        known[name] = max((1 + chain(later, known) for later in node.waiting_me), default=0)
    return known[name]


def can_be_apart(task: Any) -> bool:
    """Tell whether a task may run beside others: it makes files, and does not need the terminal."""
    return bool(task.targets and task.io.capture and not task.teardown)

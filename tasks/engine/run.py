# SPDX-License-Identifier: MIT
"""The `run` command, which doit also uses if the first word is no command: `./doit iso`."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from doit import cmd_run, reporter
from doit.action import PythonAction
from doit.cmdparse import CmdParse
from doit.control import TaskControl
from doit.globals import Globals
from doit.task import Stream

from tasks.engine import words
from tasks.engine.command import TaskCommand
from tasks.engine.dependencies import Dependencies
from tasks.engine.events import opened
from tasks.engine.reporter import QuietReporter, Reporter
from tasks.engine.runner import Runner

REPORTERS: dict[str, type[Any]] = {
    "console": Reporter,
    "quiet": QuietReporter,
    "executed-only": reporter.ExecutedOnlyReporter,
    "json": reporter.JsonReporter,
    "zero": reporter.ZeroReporter,
    "error-only": reporter.ErrorOnlyReporter,
}
REPORTER_OPTION = {**cmd_run.opt_reporter, "choices": tuple((name, "") for name in REPORTERS)}
EVENTS_OPTION = {
    "name": "events",
    "long": "events",
    "type": str,
    "default": "",
    "help": "write the events of the run to this file, as JSON Lines for programs; - is stdout",
}
HIDDEN_OPTIONS = (cmd_run.opt_parallel_type, cmd_run.opt_auto_delayed_regex)  # our runner and tasks have none


class Run(TaskCommand, cmd_run.Run):  # type: ignore[misc]
    """`./doit run`: doit's command with our runner, reporter and database."""

    doc_purpose = "run tasks, and all they need"
    doc_usage = "[TASK [OPTIONS] ...]"
    cmd_options = (
        *(
            REPORTER_OPTION if option is cmd_run.opt_reporter else option
            for option in cmd_run.Run.cmd_options
            if option not in HIDDEN_OPTIONS
        ),
        EVENTS_OPTION,
    )

    def get_reporters(self) -> dict[str, type[Any]]:
        """Return the reporter of tcbuild and those of doit, by name."""
        return REPORTERS

    def options_first(self, in_args: Sequence[str]) -> list[str]:
        """Check the options before the first task, and return the words unchanged.

        `_parse_tasks` reads the options after it, because they depend on the task.
        """
        words.split(self.cmdparser.options, in_args, self.name, interleaved=False)
        return list(in_args)

    def show_help(self, in_args: Sequence[str]) -> int:
        """Print the help text of the first task, or that of `run`."""
        given = [word for word in in_args if word not in words.HELP]
        _, names = words.split(self.cmdparser.options, given, self.name, interleaved=False)
        if not names:
            return super().show_help(in_args)
        helper = self.cmds.get_plugin("help")(**self.init_arguments)
        return int(helper.parse_execute(names[:1]))

    def _execute(
        self,
        outfile: Any,
        verbosity: int | None = None,
        always: bool = False,
        continue_: bool = False,
        reporter: Any = "console",
        num_process: int = 0,
        single: bool = False,
        force_verbosity: bool = False,
        failure_verbosity: int = 0,
        pdb: bool = False,
        events: str = "",
    ) -> Any:
        PythonAction.pm_pdb = pdb
        self.control = TaskControl(self.task_list)
        selected, run_options = self._parse_tasks(list(self.sel_tasks or ()))
        self.control.process(selected or None)  # None: all tasks
        if run_options.get("single", single):
            for name in self.control.selected_tasks:
                self._drop_dependencies(self.control.tasks[name])
        always = run_options.get("always", always)
        if always:
            self._take_nothing()
        # It replaces the manager of doit, which has not opened the database yet.
        checker = type(self.dep_manager.checker)
        self.dep_manager = Globals.dep_manager = Dependencies(self.dep_manager.name, checker)
        reporter = run_options.get("reporter", reporter)
        made = self.reporters[reporter] if isinstance(reporter, str) else reporter
        outfile = run_options.get("outfile", outfile)
        with ExitStack() as stack:
            stream = stack.enter_context(opened(run_options.get("events", events)))
            self.outstream = outfile
            if isinstance(outfile, str):
                self.outstream = stack.enter_context(Path(outfile).open("w"))
            failure_verbosity = run_options.get("failure_verbosity", failure_verbosity)
            runner = Runner(
                self.dep_manager,
                made(self.outstream, {"failure_verbosity": failure_verbosity}),
                run_options.get("continue", continue_),
                always,
                Stream(
                    run_options.get("verbosity", verbosity), force_verbosity or "verbosity" in run_options
                ),
                run_options.get("num_process", num_process),
                stream,
            )
            return runner.run_all(self.control.task_dispatcher())

    def _take_nothing(self) -> None:
        """Let tasks do their work that could take their results from a cache, as their actions tell."""
        actions = (act for task in self.control.tasks.values() for act in task.actions)
        asks = (getattr(getattr(act, "py_callable", None), "take_nothing", None) for act in actions)
        for ask in asks:
            if ask:
                ask()

    def _parse_tasks(self, rest: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Return the tasks with their options, as doit reads them, and the options of `run` after a task.

        Raises `UsageError` for a word that is neither a task, a target nor a pattern, and for a task that
        must run alone.
        """
        own = words.cmd_options(self.cmd_options)
        selected: list[str] = []
        alone: dict[str, bool] = {}
        run_options: list[str] = []
        while rest:
            name = rest.pop(0)
            task = self.control.tasks.get(name)
            matches = fnmatch.filter(self.control.tasks, name) if "*" in name else []
            if task is None and name not in self.control.targets and not matches:
                raise words.unknown(name, self.control.tasks, self.cmds)
            takes_names = bool(task and task.pos_arg)
            options = words.cmd_options(task.params) if task else []
            found, rest = words.split([*options, *own], rest, name, interleaved=takes_names)
            here = CmdParse(options)
            for_task = [pair for pair in found if here.get_option(pair[0])[0]]
            run_options += words.join([pair for pair in found if pair not in for_task], own)
            meta = (task.meta or {}) if task else {}
            alone[name] = meta.get("alone", False)
            if "check" in meta:  # before the tasks that it needs are run
                meta["check"](for_task, rest if takes_names else [])
            # A group has no action that could read its options; one can name another task instead.
            instead = meta.get("instead", {})
            others = [instead[given] for given, _ in for_task if given in instead]
            selected += others or [name, *words.join(for_task, options)]
            if takes_names:
                selected += ["--", *rest]
                rest = []
        _refuse_others(alone)
        return selected, CmdParse(own).parse_only(run_options)[0]

    def _drop_dependencies(self, task: Any) -> None:
        if task.has_subtask:
            for name in task.task_dep:
                self.control.tasks[name].task_dep = []
        else:
            task.task_dep = []


def _refuse_others(alone: Mapping[str, bool]) -> None:
    """Raise `UsageError` for other tasks beside one that must run alone, because it writes what dodo.py read.

    alone: the task's name -> whether it must.
    """
    single = [name for name in alone if alone[name]]
    others = [name for name in alone if not alone[name]]
    if single and others:
        first = " ".join(single)
        then = f"run ./doit {first} && ./doit {' '.join(others)}"
        raise words.UsageError(f"{first} changes what the other tasks are planned by; {then}")

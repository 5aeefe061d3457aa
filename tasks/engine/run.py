"""The `run` command, which doit also takes when the first word is no command: `./doit iso`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
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
from tasks.engine.reporter import Reporter
from tasks.engine.runner import Runner

LEFT_OUT = (cmd_run.opt_parallel_type, cmd_run.opt_auto_delayed_regex)  # our runner and tasks have none


class Run(TaskCommand, cmd_run.Run):  # type: ignore[misc]
    """`./doit run`: doit's command with our runner, reporter and database."""

    doc_purpose = "run tasks, and all they need"
    doc_usage = "[TASK [OPTIONS] ...]"
    cmd_options = tuple(option for option in cmd_run.Run.cmd_options if option not in LEFT_OUT)

    def get_reporters(self) -> dict[str, type[Any]]:
        """Return our reporter and doit's others, by name."""
        reporters = {
            "console": Reporter,
            "executed-only": reporter.ExecutedOnlyReporter,
            "json": reporter.JsonReporter,
            "zero": reporter.ZeroReporter,
            "error-only": reporter.ErrorOnlyReporter,
        }
        self.cmdparser["reporter"].choices = dict.fromkeys(reporters, "")
        return reporters

    def arranged(self, in_args: Sequence[str]) -> list[str]:
        """Return the words; what comes after the first task is for `_for_tasks`, which knows the tasks."""
        words.split(self.cmdparser.options, in_args, self.name, names_between=False)
        return list(in_args)

    def show_help(self, in_args: Sequence[str]) -> int:
        """Print the help text of the first task, or that of `run`."""
        names = [word for word in in_args if not word.startswith("-")]
        if not names:
            return super().show_help(in_args)
        helper = self.cmds.get_plugin("help")(**self.made_with)
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
    ) -> Any:
        PythonAction.pm_pdb = pdb
        self.control = TaskControl(self.task_list)
        selected, late = self._for_tasks(list(self.sel_tasks or ()))
        self.control.process(selected or None)  # None: all tasks
        if late.get("single", single):
            for name in self.control.selected_tasks:
                self._without_needs(self.control.tasks[name])
        # doit's own manager has opened nothing yet.
        checker = type(self.dep_manager.checker)
        self.dep_manager = Globals.dep_manager = Dependencies(self.dep_manager.name, checker)
        reporter = late.get("reporter", reporter)
        made = self.reporters[reporter] if isinstance(reporter, str) else reporter
        outfile = late.get("outfile", outfile)
        with Path(outfile).open("w") if isinstance(outfile, str) else nullcontext(outfile) as self.outstream:
            failure_verbosity = late.get("failure_verbosity", failure_verbosity)
            runner = Runner(
                self.dep_manager,
                made(self.outstream, {"failure_verbosity": failure_verbosity}),
                late.get("continue", continue_),
                late.get("always", always),
                Stream(late.get("verbosity", verbosity), force_verbosity or "verbosity" in late),
                late.get("num_process", num_process),
            )
            return runner.run_all(self.control.task_dispatcher())

    def _for_tasks(self, rest: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Return the tasks with their options, as doit reads them, and options of `run` among them.

        Raises `UsageError` for a word that is neither a task, a target nor a pattern.
        """
        own = words.declared(self.cmd_options)
        selected: list[str] = []
        late: list[str] = []
        while rest:
            name = rest.pop(0)
            task = self.control.tasks.get(name)
            if task is None and name not in self.control.targets and "*" not in name:
                raise words.unknown(name, self.control.tasks, self.cmds)
            takes_names = bool(task and task.pos_arg)
            options = words.declared(task.params) if task else []
            found, rest = words.split([*options, *own], rest, name, names_between=takes_names)
            here = CmdParse(options)
            for_task = [pair for pair in found if here.get_option(pair[0])[0]]
            late += words.joined([pair for pair in found if pair not in for_task], own)
            selected += [name, *words.joined(for_task, options)]
            if takes_names:
                selected += ["--", *rest]
                rest = []
        return selected, CmdParse(own).parse_only(late)[0]

    def _without_needs(self, task: Any) -> None:
        if task.has_subtask:
            for name in task.task_dep:
                self.control.tasks[name].task_dep = []
        else:
            task.task_dep = []

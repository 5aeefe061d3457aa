# SPDX-License-Identifier: MIT
"""doit's main program with our commands: `python -m tasks.engine.main` in a folder with a dodo.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from doit.cmd_base import DodoTaskLoader
from doit.doit_cmd import DoitMain
from doit.plugin import PluginDict

from tasks.engine import code, command, words
from tasks.engine.command import report_errors
from tasks.engine.run import Run
from tasks.engine.standard_files import closed_stdout, open_standard_files
from tasks.engine.words import HELP, UsageError
from tasks.util.errors import EXIT_FAILED, install_signal_handlers


class Loader(DodoTaskLoader):  # type: ignore[misc]
    """doit's loader.  It adds to each task that makes files a check of the code that the task stands on."""

    def load_tasks(self, cmd: Any, pos_args: Sequence[str]) -> list[Any]:
        """Return the tasks of dodo.py."""
        tasks: list[Any] = super().load_tasks(cmd=cmd, pos_args=pos_args)
        for task in tasks:
            checks = [check for check, _, _ in task.uptodate]
            before_fork = (task.meta or {}).get("before_fork", ())
            functions = [getattr(action, "py_callable", None) for action in task.actions]
            modules = code.modules_of(functions, checks, before_fork)
            if task.targets and modules:
                task.uptodate.append((code.UnchangedCode(modules, task.name), [], {}))
        return tasks


class Main(DoitMain):  # type: ignore[misc]
    """doit's main program with the commands of this package, and with errors as one line."""

    BIN_NAME = "./doit"
    DOIT_CMDS: tuple[type[Any], ...] = (
        command.Help,
        Run,
        command.List,
        command.Info,
        command.Clean,
        command.Forget,
        command.Ignore,
        command.ResetDep,
        command.Explain,
    )

    def __init__(self) -> None:
        super().__init__(task_loader=Loader(), config_filenames=())

    def get_cmds(self) -> PluginDict:
        """Return the commands by name.  Configuration files and packages add none."""
        return PluginDict({made.get_name(): made for made in self.DOIT_CMDS})

    def run(self, all_args: Sequence[str]) -> Any:
        """Run the words of the command line.  Returns an exit code, or raises `SystemExit` with one."""
        open_standard_files()
        install_signal_handlers()
        if fault := closed_stdout():
            print(f"error: {fault}", file=sys.stderr)
            return EXIT_FAILED
        given = list(all_args)
        # Variables may stand before it.
        first = next((number for number, word in enumerate(given) if not words.is_variable(word)), 0)
        if given[first : first + 1] and given[first] in HELP:
            given[first] = "help"
        with report_errors():
            if "" in words.own(given):
                raise UsageError("an empty word is neither a task nor a command")
            return super().run(given)


def main() -> Any:
    """Run the words of the command line.  Returns an exit code."""
    return Main().run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

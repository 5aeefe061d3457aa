# SPDX-License-Identifier: MIT
"""The base class of all commands of `./doit`, and doit's own commands made with it.

`BaseCommand` adds to doit's `Command` and `DoitCmdBase`: options before and after names,
`--help`, and errors as one line with an exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NoReturn

from doit import cmd_base, cmd_clean, cmd_forget, cmd_ignore, cmd_info, cmd_list, cmd_resetdep
from doit.cmd_base import Command, DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.control import TaskControl
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from tasks.engine import explain, words
from tasks.engine.database import Backend
from tasks.engine.input_states import InputChecker
from tasks.engine.standard_files import discard_stdout, stdout_fault
from tasks.engine.words import EXIT_USAGE, UsageError
from tasks.util.errors import EXIT_FAILED, EXIT_NO_READER, UserError, from_os_error

BACKEND = {**cmd_base.opt_backend, "long": "", "default": "sqlite3"}
CHECKER = {**cmd_base.opt_check_file_uptodate, "long": ""}


class BaseCommand(Command):  # type: ignore[misc]
    """A command whose errors become one line on stderr and an exit code."""

    takes_files = False
    """Whether its arguments are files, so that a shell completes file names."""

    def __init__(self, **init_arguments: Any) -> None:
        super().__init__(**init_arguments)
        self.init_arguments = init_arguments
        self.cmds: Any = init_arguments.get("cmds") or {}

    def parse_execute(self, in_args: Sequence[str]) -> Any:
        """Run the command with the words after its name.  Returns an exit code."""
        with report_errors():
            if any(word in words.HELP for word in words.own(in_args)):
                return self.show_help(in_args)
            try:
                return super().parse_execute(self.options_first(in_args))
            except InvalidCommand as error:
                self.check_names(in_args)
                raise UsageError(" ".join(str(error).split())) from None

    def options_first(self, in_args: Sequence[str]) -> list[str]:
        """Return the words with all options first, because doit reads no option after a name.

        Raises `UsageError` for an unknown option, and for a name if the command takes none.
        """
        options = self.cmdparser.options
        found, names = words.split(options, in_args, self.name, interleaved=True)
        if names and not self.doc_usage:
            raise UsageError(f"{self.name} takes no names, and got {names[0]!r}; ./doit help {self.name}")
        return [*words.join(found, options), "--", *names]

    def check_names(self, in_args: Sequence[str]) -> None:
        """Raise `UsageError` for the first word that is no task, if the tasks are known."""
        tasks = {task.name for task in getattr(self, "task_list", ())}
        for word in in_args:
            if tasks and not word.startswith("-") and word not in tasks:
                # A command is no answer where a task is asked for.
                raise words.unknown(word, tasks, self.cmds if word in self.cmds else ())

    def show_help(self, in_args: Sequence[str]) -> int:
        """Print the help text.  Returns the exit code."""
        print(self.help())
        return 0

    def help(self) -> str:
        """Return the help text, without doit's options for its database and its loader."""
        about = self.doc_purpose
        return words.usage(self.name, self.doc_usage, about, words.cmd_options(self.cmd_options))


class TaskCommand(BaseCommand, DoitCmdBase):  # type: ignore[misc]
    """A command that loads all tasks.  That makes neither a file nor a folder."""

    dep_manager: Any
    base_options = (cmd_base.opt_depfile, BACKEND, cmd_base.opt_codec, CHECKER)

    def get_backends(self) -> dict[str, type[Any]]:
        """Return the only database backend."""
        return {"sqlite3": Backend}

    def get_checker_cls(self, check_file_uptodate: Any) -> type[Any]:
        """Return the only checker of inputs."""
        return InputChecker

    def tasks(self) -> dict[str, Any]:
        """Return all tasks by name, with their dependencies resolved."""
        known: dict[str, Any] = TaskControl(self.task_list).tasks
        return known


class List(TaskCommand, cmd_list.List):  # type: ignore[misc]
    """`./doit list`."""

    doc_purpose = "list the tasks"


class Info(TaskCommand, cmd_info.Info):  # type: ignore[misc]
    """`./doit info`."""

    doc_purpose = "print what a task declares"
    doc_usage = "TASK"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> Any:
        self.check_names(pos_args)
        return super()._execute(pos_args, hide_status)


class Clean(TaskCommand, cmd_clean.Clean):  # type: ignore[misc]
    """`./doit clean`."""

    doc_purpose = "remove the targets of tasks"


class Forget(TaskCommand, cmd_forget.Forget):  # type: ignore[misc]
    """`./doit forget`."""

    doc_purpose = "make tasks run again, even if they are up to date"


class Ignore(TaskCommand, cmd_ignore.Ignore):  # type: ignore[misc]
    """`./doit ignore`."""

    doc_purpose = "skip tasks in runs, until `./doit forget` names them"

    def _execute(self, pos_args: list[str]) -> Any:
        if not pos_args:
            raise UsageError("ignore needs a task; ./doit list shows them")
        return super()._execute(pos_args)


class ResetDep(TaskCommand, cmd_resetdep.ResetDep):  # type: ignore[misc]
    """`./doit reset-dep`."""

    doc_purpose = "record tasks as done with their files as they are"


class Explain(TaskCommand):
    """`./doit explain`."""

    name = "explain"
    doc_purpose = "say which of the tasks that NAME (default: iso) needs would run, and why"
    doc_usage = "[NAME ...]"

    def _execute(self) -> int:
        tasks = self.tasks()
        names = self.sel_tasks or list(tasks)
        for name in names:
            if name not in tasks:
                raise words.unknown(name, tasks)
        explain.explain(self.dep_manager, tasks, names)
        return 0


class Help(TaskCommand):
    """`./doit help`, and `--help` after a task or a command."""

    name = "help"
    doc_purpose = "print what a task or command does, and its options"
    doc_usage = "[TASK|COMMAND]"
    variables: Mapping[str, str] = MappingProxyType({})
    """Name -> description of the `name=value` words that a command line may have."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print the help text of a command or a task, or an overview of all commands."""
        if not args:
            print("\n".join(self._overview()))
        elif args[0] in self.cmds:
            print(self.cmds.get_plugin(args[0])(**self.init_arguments).help())
        else:
            super().execute(params, args)
        return 0

    def _execute(self, pos_args: list[str]) -> int:
        tasks = self.tasks()
        name = pos_args[0]
        if name not in tasks:
            raise words.unknown(name, tasks, self.cmds)
        print(task_help(tasks[name]))
        return 0

    def _overview(self) -> Iterator[str]:
        yield "usage: ./doit [NAME=VALUE ...] TASK [OPTIONS] [TASK ...]"
        yield "       ./doit [NAME=VALUE ...] COMMAND [OPTIONS] [NAME ...]"
        yield "\ncommands:"
        for name, command in sorted(self.cmds.to_dict().items()):
            yield from words.row(name, command.doc_purpose)
        if self.variables:
            yield "\nvariables:"
            for name, about in self.variables.items():
                yield from words.row(f"{name}=", about)
        yield "\n./doit list shows the tasks; ./doit help NAME describes a task or a command"


def task_help(task: Any) -> str:
    """Return the help text of a task."""
    names = f"[{task.pos_arg.upper()} ...]" if task.pos_arg else ""
    needs = [name for name in task.task_dep if not name.startswith(f"{task.name}:")]
    more = [f"it runs after: {', '.join(needs)}"] if needs else []
    return words.usage(task.name, names, task.doc or "", words.cmd_options(task.params), more)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn an error of a command into one line on stderr and an exit code.

    If the reader of stdout has closed it, exit with code 141 and no message, as SIGPIPE would.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        raise SystemExit(EXIT_NO_READER) from None
    except UsageError as error:
        _fail(str(error), EXIT_USAGE)
    except UserError as error:
        _fail(str(error), EXIT_FAILED)
    except (CmdParseError, InvalidCommand, InvalidDodoFile, InvalidTask) as error:
        _fail(" ".join(str(error).split()), EXIT_USAGE)
    except OSError as error:
        broken = None if error.filename else stdout_fault()
        _fail(f"standard output: {broken.strerror}" if broken else str(from_os_error(error)), EXIT_FAILED)


def _fail(text: str, code: int) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code)

# SPDX-License-Identifier: MIT
"""The one entry: `./doit`, `doit` and `python -m doit` in a checkout all run `main`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from doit.cmd_base import DodoTaskLoader

from tasks.cli import commands, trees, variables
from tasks.engine import main as engine
from tasks.engine import words


class Main(engine.Main):
    """The engine's main program with the commands and the variables of tcbuild."""

    DOIT_CMDS = (*engine.Main.DOIT_CMDS, *commands.COMMANDS)

    def run(self, all_args: Sequence[str]) -> Any:
        """Run the words of the command line; without any, list the tasks."""
        return super().run(all_args or ["list"])

    def process_args(self, cmd_args: Sequence[str]) -> list[str]:
        """Store `name=value` words for `doit.get_var`, and return the others.

        What stands after `--` is no variable.  Raises `UsageError` for an unknown name.
        """
        own = words.own(cmd_args)
        rest = cmd_args[len(own) :]
        others: list[str] = super().process_args(own)
        variables.check(word.partition("=")[0] for word in own if word not in others)
        trees.use(word.partition("=")[2] for word in own if word.startswith("tree="))
        return [*others, *rest]


class Handover(DodoTaskLoader):  # type: ignore[misc]
    """The loader that pyproject.toml names: doit's own main program starts it, and it runs ours instead."""

    def __init__(self) -> None:
        raise SystemExit(main())


def main() -> Any:
    """Run the words of the command line.  Returns an exit code."""
    return Main().run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

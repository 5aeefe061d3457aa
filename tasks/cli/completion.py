# SPDX-License-Identifier: MIT
"""Completion of `./doit` in bash and zsh: the scripts, and the list of words that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.cli import variables
from tasks.config import profile
from tasks.kernel import fragments
from tasks.util.errors import UserError

SHELLS = ("bash", "zsh")


def print_for(words: Sequence[str], tasks: Mapping[str, Any], commands: Mapping[str, Any]) -> None:
    """Print the script for a shell, or, for the argument `words`, the list that the scripts read.

    Raises `UserError` for any other shell.
    """
    asked = list(words)
    if asked == ["words"]:
        print("\n".join("\t".join(line) for line in lines(tasks, commands)))
    elif len(asked) == 1 and asked[0] in SHELLS:
        print(Path(__file__).with_name(f"completion.{asked[0]}").read_text(), end="")
    else:
        given = " ".join(asked) or "none"
        raise UserError(f"completion is for bash and zsh, not {given}", "source <(./doit completion bash)")


def lines(tasks: Mapping[str, Any], commands: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what the command line accepts, as tasks and commands declare it.

    ("task", NAME, about), ("variable", NAME, about), ("option", TASK, --NAME, about),
    ("value", VARIABLE or --OPTION, value), ("values", VARIABLE, one of several), ("files", TASK).
    """
    for name, task in sorted(tasks.items()):
        yield from _of_one(name, task.doc or "", task.params)
    for name, command in sorted(commands.items()):
        yield from _of_one(name, command.doc_purpose, command.cmd_options)
        if command.takes_files:
            yield "files", name
    for name, about in variables.VARIABLES.items():
        yield "variable", name, about
    for name in ("auto", *profile.names()):
        yield "value", "profile", name
    for name in variables.FLAGS:
        yield "value", name, "1"
    for name in fragments.known_fragments():
        yield "values", "fragments", name


def _of_one(name: str, about: str, options: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a task or command, its options, and the values they may have."""
    yield "task", name, _one_line(about)
    for option in options:
        if not option.get("long"):
            continue
        yield "option", name, f"--{option['long']}", _one_line(option.get("help", ""))
        for value, _ in option.get("choices", ()):
            yield "value", f"--{option['long']}", value


def _one_line(text: str) -> str:
    """Return the first line of a text, with spaces for tabs, which separate fields."""
    return text.strip().partition("\n")[0].replace("\t", " ")

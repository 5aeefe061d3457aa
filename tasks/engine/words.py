# SPDX-License-Identifier: MIT
"""The words of the command line: options before and after names, unknown names, help texts."""

from __future__ import annotations

import getopt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from doit.cmdparse import CmdOption, CmdParse, CmdParseError

from tasks.util.errors import UserError
from tasks.util.text import did_you_mean

EXIT_USAGE = 2
COLUMN = 26
HELP = ("-h", "--help")


class UsageError(UserError):
    """A mistake on the command line: exit code 2."""


def own(given: Sequence[str]) -> Sequence[str]:
    """Return the words before `--`.  What follows it is data, and may be another program's options."""
    return given[: given.index("--")] if "--" in given else given


def is_variable(word: str) -> bool:
    """Tell whether a word of the command line is a variable, NAME=VALUE."""
    return "=" in word and not word.startswith("-")


def unknown(name: str, tasks: Iterable[str], commands: Collection[str] = ()) -> UsageError:
    """Return the error for a name that is no task."""
    if name in commands:
        return UsageError(f"{name} is a command, no task; run it by itself: ./doit {name}")
    hint = did_you_mean(name, [*tasks, *commands], str) or "./doit list --all shows them"
    return UsageError(f"unknown task {name!r}; {hint}")


def split(options: Sequence[CmdOption], words: Sequence[str], name: str, interleaved: bool) -> Any:
    """Return the options among `words` as ((--NAME, value) ...), and the other words.

    interleaved: whether options may come after names.  name: the task or command, for messages.
    Raises `UsageError` for an unknown option or a value that is not of its type.
    """
    parser = CmdParse(options)
    parse = getopt.gnu_getopt if interleaved else getopt.getopt
    try:
        found, names = parse(list(words), parser.get_short(), parser.get_long())
    except getopt.GetoptError as error:
        known = [option.long for option in options if option.long]
        # An option that exists lacks its value, or has one too many.
        near = "" if error.opt in known else did_you_mean(error.opt, known, "--{}".format)
        hint = near or f"./doit help {name}"
        raise UsageError(f"{name}: {error}; {hint}") from None
    for given, value in found:
        option, _ = parser.get_option(given)
        if option.type is not bool:
            _check_value(option, given, value)
    return found, names


def _check_value(option: Any, given: str, value: str) -> None:
    try:
        option.str2type(value)
    except CmdParseError:
        expected = _one_of([*option.choices]) if option.choices else "a number"
        raise UsageError(f"{given} {value}: expected {expected}") from None


def _one_of(names: Sequence[str]) -> str:
    """Return `names` as "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def join(found: Iterable[tuple[str, str]], options: Sequence[CmdOption]) -> list[str]:
    """Return options that `split` found as words of a command line."""
    parser = CmdParse(options)
    words: list[str] = []
    for given, value in found:
        words += [given] if parser.get_option(given)[0].type is bool else [given, value]
    return words


def cmd_options(options: Iterable[Mapping[str, Any]]) -> list[CmdOption]:
    """Return doit's objects for declared options, without those that have no name on the command line."""
    return [CmdOption(option) for option in options if option.get("long") or option.get("short")]


def usage(name: str, words: str, about: str, options: Sequence[CmdOption], more: Iterable[str] = ()) -> str:
    """Return the help text of a task or command."""
    head = " ".join(filter(None, ("./doit", name, "[OPTIONS]" if options else "", words)))
    lines = [f"usage: {head}", "", f"  {about}", *(f"  {line}" for line in more)]
    if options:
        lines += ["", "options:", *(line for option in options for line in _lines(option))]
    return "\n".join(lines)


def row(left: str, right: str) -> list[str]:
    """Return the lines of a row of a table with two columns."""
    first, *rest = right.splitlines() or [""]
    head = [f"  {left:<{COLUMN}}{first}"] if len(left) < COLUMN else [f"  {left}", f"  {'':<{COLUMN}}{first}"]
    return [line.rstrip() for line in (*head, *(f"  {'':<{COLUMN}}{line.strip()}" for line in rest))]


def _lines(option: Any) -> list[str]:
    value = "" if option.type is bool else f" {'|'.join(option.choices) or 'VALUE'}"
    words = [f"-{option.short}" if option.short else "", f"--{option.long}{value}" if option.long else ""]
    text = option.help % {"default": option.default} if "%(default)" in option.help else option.help
    if option.default not in (None, "", False, []) and "default" not in option.help:
        text += f" (default: {option.default})"
    return row(", ".join(filter(None, words)), text)

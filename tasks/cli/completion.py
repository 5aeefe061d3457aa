"""Completion of `./doit` in bash and zsh: the scripts, and the list of words they look into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.cli import variables
from tasks.config import profile
from tasks.engine.explain import AllTasks
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError

SHELLS = ("bash", "zsh")
# doit's own commands that people need here.
COMMANDS = {
    "list": "list the tasks",
    "help": "say what a task or command does",
    "info": "print all that is declared of a task",
    "clean": "remove what tasks made",
    "forget": "make tasks run again, whatever they depend on",
}
VARIABLES = {
    "profile": "what is built",
    "fragments": "these fragments instead of the profile's",
    "out": "results there instead of in artifacts/",
    "frozen": "1: fail if an input is not the locked one",
    "offline": "1: open no connection",
    "relock": "1: lock takes what the mirrors serve now",
    "jobs": "how many jobs all makes and tools may run at once",
    "sign": "a key file: provenance signs with it",
    "cache": "a shared cache: a folder or an address",
    "launcher": "what starts the compiler: ccache, sccache, distcc, icecc or none",
    "hosts": "of a compile farm: HOST/SLOTS, separated by commas",
    "scheduler": "of an icecc farm",
    "remote_storage": "where ccache shares its entries: http://… or redis://…",
}
TAKES_FILES = ("check", "size")


def print_for(known: AllTasks, words: Sequence[str]) -> None:
    """Print the script for a shell; for `words`, the list that the scripts read.

    Raises `UserError` for any other shell.
    """
    asked = list(words)
    if asked == ["words"]:
        print("\n".join("\t".join(line) for line in lines(known.tasks_dict)))
    elif len(asked) == 1 and asked[0] in SHELLS:
        print(Path(__file__).with_name(f"completion.{asked[0]}").read_text(), end="")
    else:
        given = " ".join(asked) or "none"
        raise UserError(f"completion is for bash and zsh, not {given}", "source <(./doit completion bash)")


def lines(tasks: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what may be said on the command line.

    ("task", NAME, about), ("variable", NAME, about), ("option", TASK, --NAME, about),
    ("value", VARIABLE, value), ("values", VARIABLE, one of several), ("files", TASK).
    """
    for name, task in sorted(tasks.items()):
        yield "task", name, _one_line(task.doc or "")
        for param in task.params:
            if param.get("long"):
                yield "option", name, f"--{param['long']}", _one_line(param.get("help", ""))
    for name, about in COMMANDS.items():
        yield "task", name, about
    for name in variables.VARIABLES:
        yield "variable", name, VARIABLES.get(name, "")
    for name in ("auto", *profile.names()):
        yield "value", "profile", name
    for name in ("frozen", "offline", "relock"):
        yield "value", name, "1"
    for path in sorted((ROOT / "kconfig").glob("*.config")):
        if not path.name.startswith("base-"):
            yield "values", "fragments", path.stem
    for option in (variables.GRAPH, variables.FIRMWARE):
        for value in str(option["help"]).replace(" or ", ", ").split("(")[0].split(","):
            if value.strip():
                yield "value", f"--{option['long']}", value.strip()
    for name in TAKES_FILES:
        yield "files", name


def _one_line(text: str) -> str:
    """Return the first line of a text, without what would end a field."""
    return text.strip().partition("\n")[0].replace("\t", " ")

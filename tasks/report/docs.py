# SPDX-License-Identifier: MIT
"""The generated parts of the documents: a diagram of the pipeline and a table of the commands.

The diagram shows the tasks and the files that pass between them.  The table lists all commands
with their options.  `./doit docs` writes both, then checks all documents.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from doit import loader

from tasks.report import docs_check, schemas
from tasks.report.docs_check import FAMILIES, options
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

DIAGRAM, COMMANDS = "pipeline", "commands"
# The pages with the generated parts.
DIAGRAM_PAGE, COMMANDS_PAGE = "docs/architecture.md", "docs/reference.md"
# Tasks with one sub-task an extension -> how the diagram labels the files they make.
FAMILY_FILES = {"tcz": "*.tcz", "fetch": "origins/*.toml", "image": "images/*.tar"}


def declared() -> list[Any]:
    """Return all tasks of dodo.py as doit's Task objects."""
    tasks: list[Any] = loader.load_tasks(vars(importlib.import_module("dodo")))
    return tasks


def _node_label(name: str) -> str:
    """Return the label of a task in the diagram: all tcz:NAME are `tcz`, all fetch:NAME are `fetch`."""
    stage, _, sub = name.partition(":")
    return stage if sub and stage in FAMILY_FILES else name


def edges(tasks: list[Any]) -> list[tuple[str, str, str]]:
    """Return (source, task, file name) for every file that passes between tasks or into one.

    The source is a task, a folder of the checkout (with a trailing slash) or a file at the top
    of the checkout.  Sub-tasks count as their task.
    """
    makers = {target: task.name for task in tasks for target in task.targets}
    found = set()
    for task in tasks:
        for dep in task.file_dep:
            to = _node_label(task.subtask_of or task.name)
            path = Path(dep)
            if dep in makers:
                maker = _node_label(makers[dep])
                name = path.name if maker == makers[dep] else FAMILY_FILES[maker]
                found.add((maker, to, name))
            elif path.is_relative_to(CHECKOUT.root):
                top, *rest = path.relative_to(CHECKOUT.root).parts
                if top not in ("artifacts", "tasks"):
                    found.add((f"{top}/" if rest else top, to, ""))
    return sorted(found)


def mermaid(tasks: list[Any]) -> str:
    """Return the pipeline as a mermaid flowchart, for a Markdown file."""
    return f"```mermaid\n{flowchart(tasks)}\n```"


def flowchart(tasks: list[Any]) -> str:
    """Return the pipeline as a mermaid flowchart."""
    through: dict[tuple[str, str], list[str]] = {}
    for source, to, name in edges(tasks):
        through.setdefault((source, to), []).append(name)
    nodes = sorted({node for pair in through for node in pair})
    lines = ["flowchart LR"]
    for node in nodes:
        shape = f'[/"{node}"/]' if is_file(node) else f'["{node}"]'
        lines.append(f"    {_id(node)}{shape}")
    for (source, to), names in sorted(through.items()):
        label = "|" + ", ".join(sorted(filter(None, names))[:3]) + "|" if any(names) else ""
        lines.append(f"    {_id(source)} -->{label} {_id(to)}")
    return "\n".join(lines)


def is_file(node: str) -> bool:
    """Return whether a node of the diagram is a file or folder of the checkout, not a task."""
    return node.endswith("/") or "." in node


def _id(node: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", node)


def command_table(tasks: list[Any]) -> str:
    """Return a Markdown table of all commands with their options; `NAME` stands for an extension."""
    rows: dict[str, str] = {}
    for task in tasks:
        stage, _, sub = task.name.partition(":")
        if sub and stage in FAMILIES and task.name != "tcz:tree":
            rows[f"{stage}:NAME"] = FAMILIES[stage]
            continue
        more = "".join(f"<br>`--{name}`: {about}" for name, about in options(task).items())
        rows[task.name] = f"{task.doc}{more}"
    lines = [f"| `./doit {name}` | {text} |" for name, text in sorted(rows.items())]
    return "\n".join(["| command | what it does |", "|---|---|", *lines])


def generated(tasks: list[Any]) -> dict[Path, str]:
    """Return path -> up-to-date content of the pages with generated parts."""
    parts: dict[str, tuple[str, Callable[[list[Any]], str]]] = {
        DIAGRAM: (DIAGRAM_PAGE, mermaid),
        COMMANDS: (COMMANDS_PAGE, command_table),
    }
    pages: dict[Path, str] = {}
    for name, (page, make) in parts.items():
        path = CHECKOUT.root / page
        pages[path] = update(pages.get(path) or path.read_text(), name, make(tasks), page)
    return pages


def update(text: str, name: str, content: str, page: str = "the page") -> str:
    """Return `text` with `content` between the markers of the generated part `name`.

    Raises `UserError` unless each marker occurs exactly once, in the right order.
    """
    begin, end = f"<!-- {name}: generated by `./doit docs` -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(
            f"{page} lacks the markers of the generated part {name}", f"put back {begin} and {end}"
        )
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def write_docs(variables: Collection[str], commands: Sequence[Any]) -> None:
    """Update the generated parts of the documents and the JSON Schemas, then check all documents.

    variables: the names of the variables on the command line; commands: the commands that are no
    tasks of dodo.py, as doit's Task objects.  Raises `UserError` that names each mistake by page
    and line.
    """
    CHECKOUT.refuse_installed(CHECKOUT.root / "docs", "the folder of documents")
    tasks = [*declared(), *commands]
    for path, text in generated(tasks).items():
        changed = write_if_changed(path, text)
        logger.info(f"{path.relative_to(CHECKOUT.root)} {'updated' if changed else 'is up to date'}")
    schemas.write_schemas()
    texts = {path: path.read_text() for path in docs_check.pages()}
    found = docs_check.mistakes(texts, tasks, variables)
    if found:
        raise UserError(f"{len(found)} mistakes in the documents", "correct each line", "\n".join(found))
    logger.info(f"{len(texts)} pages checked: links, commands, variables, paths, code blocks")

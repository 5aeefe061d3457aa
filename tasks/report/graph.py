# SPDX-License-Identifier: MIT
"""`./doit graph`: the graph of the tasks; its edges are the files that pass between them.

Formats: `dot` (Graphviz), `mermaid` (as in the documents), `svg` (laid out by Graphviz).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from tasks.engine import explain, words
from tasks.report import docs
from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.util.text import shortened

SVG = "http://www.w3.org/2000/svg"
# The elements and attributes that the report takes over from Graphviz' SVG.
ELEMENTS = {"svg", "g", "title", "path", "polygon", "polyline", "ellipse", "text"}
ATTRIBUTES = {
    *("viewBox", "class", "transform", "d", "points", "x", "y", "cx", "cy", "rx", "ry"),
    *("text-anchor", "font-size", "stroke-dasharray"),
}
FORMATS = ("dot", "mermaid", "svg")
MAX_NAMES = 3


def selected(tasks: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return the tasks `names` and their dependencies, or all tasks if there are no names.

    Raises `UserError` for a task that does not exist.
    """
    for name in names:
        if name not in tasks:
            raise words.unknown(name, tasks)
    if not names:
        return list(tasks.values())
    writers = {target: task.name for task in tasks.values() for target in task.targets}
    return list(explain.dependency_order(tasks, writers, names))


def files_by_edge(tasks: Sequence[Any]) -> dict[tuple[str, str], list[str]]:
    """Return (source, task) -> sorted names of the files that pass; no names for files of the checkout."""
    through: dict[tuple[str, str], list[str]] = {}
    for source, to, name in docs.edges(list(tasks)):
        through.setdefault((source, to), []).extend([name] if name else [])
    return through


def dot(tasks: Sequence[Any], marked: Collection[str] = ()) -> str:
    """Return the graph in Graphviz' DOT language; `marked` tasks get the class `ran`."""
    through = files_by_edge(tasks)
    lines = [
        "digraph tcbuild {",
        "    rankdir=LR;",
        '    node [shape=box, fontname="sans-serif", fontsize=12];',
        '    edge [fontname="sans-serif", fontsize=10];',
    ]
    for node in sorted({node for pair in through for node in pair}):
        shape = ", shape=note" if docs.is_file(node) else ""
        kind = "file" if shape else "ran" if node in marked else "task"
        lines.append(f'    {_quoted(node)} [class="{kind}"{shape}];')
    for (source, to), names in sorted(through.items()):
        label = f" [label={_quoted(files_text(names))}]" if names else ""
        lines.append(f"    {_quoted(source)} -> {_quoted(to)}{label};")
    return "\n".join([*lines, "}", ""])


def files_text(names: Sequence[str]) -> str:
    """Return the first `MAX_NAMES` names and the number of further names, as text."""
    return shortened(names, MAX_NAMES)


def _quoted(text: str) -> str:
    # A backslash begins an escape in a label.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def svg(tasks: Sequence[Any], marked: Collection[str] = ()) -> str:
    """Return the graph as an SVG element with classes instead of colours; the page styles it.

    Raises `UserError` if Graphviz is not installed.
    """
    said = run(["dot", "-Tsvg"], stdin=dot(tasks, marked).encode()).stdout
    return _sanitized(ElementTree.fromstring(said))


def _sanitized(root: ElementTree.Element) -> str:
    """Return an SVG reduced to shapes and text."""
    ElementTree.register_namespace("", SVG)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(f"{{{SVG}}}") not in ELEMENTS:
                parent.remove(child)
    size = re.match(r"[\d.]+", root.get("width", ""))
    for element in root.iter():
        for name in set(element.attrib) - ATTRIBUTES:
            del element.attrib[name]
    if size:
        root.set("width", f"{float(size[0]):.0f}pt")
    return ElementTree.tostring(root, encoding="unicode")


def standalone(tasks: Sequence[Any]) -> str:
    """Return the graph as an SVG file, as Graphviz writes it.  Raises `UserError` without Graphviz."""
    return run(["dot", "-Tsvg"], stdin=dot(tasks).encode()).stdout.rstrip("\n")


def print_graph(tasks: Mapping[str, Any], names: Sequence[str], format: str) -> None:
    """Print the graph of the tasks `names` and their dependencies, or of all tasks, in a format.

    Raises `UserError` for an unknown task or format, or if Graphviz is needed and not installed.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}", "choose dot, mermaid or svg")
    chosen = selected(tasks, names)
    if format == "svg":
        print(standalone(chosen))
    elif format == "mermaid":
        print(docs.flowchart(chosen))
    else:
        print(dot(chosen), end="")

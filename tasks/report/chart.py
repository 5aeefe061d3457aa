"""Tables and small pictures of a report, as HTML and SVG with classes for a page to style.

Sizes inside a picture are per cents or its own units, never style attributes: the page's
policy forbids those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.engine.run_history import TaskRun
from tasks.util.html import escape

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
MOST_TICKS = 8
THINNEST = 0.15  # per cent: a bar must be seen


@dataclass(frozen=True)
class Cell:
    """A cell of a table: HTML, and what it is sorted by if that is not its text."""

    html: str
    key: float | str | None = None
    number: bool = False


def text(value: str) -> Cell:
    """Return a cell with plain text."""
    return Cell(escape(value))


def number(value: float | None, shown: str) -> Cell:
    """Return a cell with a number, or with nothing."""
    return Cell("" if value is None else escape(shown), -1 if value is None else value, number=True)


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, plain: bool = False) -> str:
    """Return a table whose first column heads its rows; one may sort it unless it is `plain`."""
    numbers = [bool(rows) and rows[0][column].number for column in range(len(heads))]
    head = "".join(
        f'<th scope="col"{_class("number", is_number)}>{escape(name)}</th>'
        for name, is_number in zip(heads, numbers, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(cell, first=not column) for column, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    kind = "" if plain else ' class="sortable"'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table{kind}>'
        f'<caption class="hidden">{escape(label)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, first: bool) -> str:
    tag = 'th scope="row"' if first else "td"
    key = "" if cell.key is None else f' data-key="{escape(str(cell.key))}"'
    return f"<{tag}{_class('number', cell.number)}{key}>{cell.html}</{tag.partition(' ')[0]}>"


def _class(name: str, wanted: bool) -> str:
    return f' class="{name}"' if wanted else ""


def seconds_text(seconds: float) -> str:
    """Return a time for people: 0.4 s, 12 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def waterfall(tasks: Sequence[TaskRun], start: float, seconds: float) -> str:
    """Return a row for each task with a bar from its begin to its end, in the order of their begin.

    start: of the run, seconds since the epoch; seconds: how long it took.
    """
    whole = max(seconds, 0.001)
    ticks = _ticks(whole)
    lines = "".join(f'<line x1="{_part(at, whole)}" x2="{_part(at, whole)}" y2="100%"/>' for at in ticks)
    marks = "".join(
        f'<text x="{_part(at, whole)}" y="14" text-anchor="{"start" if not at else "middle"}">'
        f"{escape(seconds_text(at) if at else '0')}</text>"
        for at in ticks
        if at < whole * 0.96
    )
    rows = [f'<div class="row axis"><span></span><svg height="18">{marks}</svg><span></span></div>']
    for task in sorted(tasks, key=lambda item: item.start):
        begin = min(max(task.start - start, 0.0), whole)
        took = whole - begin if task.seconds is None else min(task.seconds, whole - begin)
        said = f"{task.name}: {_took(task)}, {task.outcome}"
        bar = (
            f'<rect class="bar {escape(task.outcome.replace(" ", "-"))}" x="{_part(begin, whole)}"'
            f' y="3" height="14" rx="2" width="{max(100 * took / whole, THINNEST):.3f}%">'
            f"<title>{escape(said)}</title></rect>"
        )
        rows.append(
            f'<div class="row"><span class="name">{escape(task.name)}</span>'
            f'<svg height="20">{lines}{bar}</svg><span class="number">{escape(_took(task))}</span></div>'
        )
    return f'<div class="waterfall" aria-hidden="true">{"".join(rows)}</div>'


def _took(task: TaskRun) -> str:
    return "not ended" if task.seconds is None else seconds_text(task.seconds)


def _part(value: float, whole: float) -> str:
    return f"{100 * value / whole:.3f}%"


def _ticks(whole: float) -> list[float]:
    step = next((step for step in TICKS if whole / step <= MOST_TICKS), whole / MOST_TICKS)
    return [number * step for number in range(int(whole / step) + 1)]


def bars(label: str, heads: tuple[str, str], rows: Sequence[tuple[str, int, str]]) -> str:
    """Return a table of (name, value, value for people) with a bar in each row."""
    most = max((value for _, value, _ in rows), default=0) or 1
    cells = [
        (
            text(name),
            number(value, shown),
            Cell(
                '<svg class="meter" height="12" aria-hidden="true"><rect class="bar" height="12" rx="2" '
                f'width="{max(100 * value / most, THINNEST):.2f}%"/></svg>',
                value,
            ),
        )
        for name, value, shown in rows
    ]
    return table(label, (*heads, ""), cells)


def sparkline(values: Sequence[int]) -> str:
    """Return a line through the values, oldest first; nothing for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = 92 / (len(values) - 1)
    points = [
        (4 + index * step, 10 if high == low else 17 - 14 * (value - low) / (high - low))
        for index, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    said = ", ".join(f"{value:,}" for value in values)
    return (
        f'<svg class="spark" width="100" height="20" role="img" aria-label="{escape(said)} bytes">'
        f'<title>{escape(said)}</title><polyline points="{line}"/>'
        f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2.5"/></svg>'
    )

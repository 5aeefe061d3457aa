# SPDX-License-Identifier: MIT
"""Tables and small charts of the report, as HTML and SVG with classes that the page styles.

Sizes in a chart are per cents or SVG units, never style attributes: the page's content security
policy forbids those.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tasks.engine.run_history import TaskRun
from tasks.util.html import templates

MACROS = Path(__file__).with_name("chart.html")
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
MAX_TICKS = 8
MIN_WIDTH = 0.15  # per cent: a narrower bar could not be seen


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    content: text or HTML; key: the value to sort by, None for the text itself; number: whether
    the cell is aligned as a number.
    """

    content: str | Markup
    key: float | str | None = None
    number: bool = False


def number(value: float | None, shown: str) -> Cell:
    """Return a cell with a number, or an empty cell for None."""
    return Cell("" if value is None else shown, -1 if value is None else value, number=True)


def css_class(outcome: str) -> str:
    """Return the CSS class of an outcome."""
    return outcome.replace(" ", "-")


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Markup:
    """Return a sortable table; the first cell of each row is its heading."""
    return _render_macro("table", label, heads, rows)


def _render_macro(macro: str, *arguments: object) -> Markup:
    """Return the output of a macro of chart.html."""
    made = getattr(templates(MACROS.parent).get_template(MACROS.name).module, macro)(*arguments)
    return Markup(made)


def seconds_text(seconds: float) -> str:
    """Return a duration as text for people: 0.4 s, 12 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_tag(at: float) -> Markup:
    """Return a time, in seconds since the epoch, as an element that people and programs can read."""
    when = time.gmtime(at)
    exact, shown = (time.strftime(form, when) for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC"))
    return Markup('<time datetime="{}">{}</time>').format(exact, shown)


def outcome(said: str) -> Markup:
    """Return how a task or a test ended, with a class for its colour."""
    return Markup('<span class="{}">{}</span>').format(css_class(said), said)


@dataclass(frozen=True)
class Tick:
    """A mark on the time axis; x: position in per cent; label: "" if there is no room for it."""

    x: str
    label: str


@dataclass(frozen=True)
class Bar:
    """A task on the time axis; took: duration as text; x, width: in per cent."""

    name: str
    took: str
    outcome: str
    kind: str
    x: str
    width: str


def waterfall(tasks: Sequence[TaskRun], start: float, seconds: float) -> Markup:
    """Return a waterfall chart: a row for each task, sorted by start, with a bar from start to end.

    start: of the run, seconds since the epoch; seconds: duration of the run.
    """
    whole = max(seconds, 0.001)
    ticks = [
        Tick(_percent(at, whole), "" if at >= whole * 0.96 else seconds_text(at) if at else "0")
        for at in _ticks(whole)
    ]
    bars = []
    for task in sorted(tasks, key=lambda item: item.start):
        begin = min(max(task.start - start, 0.0), whole)
        took = whole - begin if task.seconds is None else min(task.seconds, whole - begin)
        width = f"{max(100 * took / whole, MIN_WIDTH):.3f}%"
        bars.append(
            Bar(
                task.name,
                _duration_text(task),
                task.outcome,
                css_class(task.outcome),
                _percent(begin, whole),
                width,
            )
        )
    return _render_macro("waterfall", ticks, bars)


def _duration_text(task: TaskRun) -> str:
    return "not ended" if task.seconds is None else seconds_text(task.seconds)


def _percent(value: float, whole: float) -> str:
    return f"{100 * value / whole:.3f}%"


def _ticks(whole: float) -> list[float]:
    step = next((step for step in TICKS if whole / step <= MAX_TICKS), whole / MAX_TICKS)
    return [number * step for number in range(int(whole / step) + 1)]


def bars(label: str, heads: tuple[str, str], rows: Sequence[tuple[str, int, str]]) -> Markup:
    """Return a table with a bar in each row; rows: (name, value, value as text)."""
    most = max((value for _, value, _ in rows), default=0) or 1
    cells = [
        (
            Cell(name),
            number(value, shown),
            Cell(_render_macro("meter", f"{max(100 * value / most, MIN_WIDTH):.2f}%"), value),
        )
        for name, value, shown in rows
    ]
    return table(label, (*heads, ""), cells)


def sparkline(values: Sequence[int]) -> Markup:
    """Return a line chart of the values, oldest first; empty for fewer than two values."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    step = 92 / (len(values) - 1)
    points = [
        (f"{4 + index * step:.1f}", f"{10 if high == low else 17 - 14 * (value - low) / (high - low):.1f}")
        for index, value in enumerate(values)
    ]
    return _render_macro("sparkline", values, points)

"""`./doit report`: one HTML page about what was built: times, reasons, sizes, configuration, tasks.

All of it comes from the records of runs (tasks/engine/run_history.py), the files that are there, and
the tasks themselves; the same records and files give the same page.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.settings import Settings
from tasks.engine import explain, run_history
from tasks.engine.explain import AllTasks
from tasks.engine.run_history import Run, TaskRun
from tasks.report import chart, graph, sizes
from tasks.report.chart import Cell
from tasks.report.sizes import Part, Size
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.html import count, escape, fill, size_text
from tasks.util.process import say

TEMPLATE = Path(__file__).with_name("report.html")
PATH_REASON = re.compile(
    r"(?:changed|missing|missing input|new input|no longer as it was made): (?P<path>.+)"
)
# A line of kconfig/diff.txt (tasks/kernel/kconfig.py).
VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^\s"]+)'
CHANGE = re.compile(
    rf"(?P<sign>[+~-]) CONFIG_(?P<symbol>\w+)=(?P<value>{VALUE}(?: -> {VALUE})?)(?:  \((?P<where>.+)\))?"
)
SHOWN_CAUSES = 4
SHOWN_MODULES = 100
SHOWN_OBJECTS = 50
SHOWN_FOLDERS = 20


def build(settings: Settings, known: AllTasks) -> None:
    """Write artifacts/PROFILE/report.html and print its path.

    Raises `UserError` if nothing has been built yet.
    """
    runs, faults = run_history.load(settings.output)
    for fault in faults:
        say(f"warning: record {fault}")
    found = sizes.collect(settings, runs)
    if not runs and not found:
        raise UserError("there is nothing to report: nothing is built yet", "./doit iso")
    parts = sizes.objects(settings) if sizes.has_objects(settings) else []
    tasks = graph.selected(known.tasks_dict, [])
    path = settings.output / "report.html"
    write_atomic(path, page(settings, runs, found, parts, tasks))
    say(str(path))


def page(
    settings: Settings,
    runs: Sequence[Run],
    found: Sequence[Size],
    parts: Sequence[Part],
    tasks: Sequence[Any],
) -> bytes:
    """Return the page.  runs: oldest first; parts: the kernel's objects, if known."""
    last = runs[-1] if runs else None
    diff = settings.config.with_name("diff.txt")
    release = settings.kernel / "release"
    values = {
        "PROFILE": escape(settings.name),
        "DESCRIPTION": escape(settings.profile.description),
        "FACTS": _facts(release.read_text().strip() if release.is_file() else "", last, found),
        "WATERFALL": _waterfall(last),
        "WHY": _why(settings, last),
        "RUNS": _runs(settings, runs),
        "SIZES": _sizes(found),
        "MODULES": _modules(found),
        "KERNEL": _kernel(parts),
        "CONFIG": _config(diff.read_text() if diff.is_file() else ""),
        "GRAPH": _graph(tasks, {task.name.partition(":")[0] for task in last.tasks} if last else set()),
    }
    return fill(TEMPLATE, values)


# --- the last run ----------------------------------------------------------


def causes(settings: Settings, one: Run) -> list[str]:
    """Return why a run had something to do: what did not come out of the run itself, a line each."""
    made = {str(settings.output / path) for task in one.tasks for path in task.sizes}
    roots: dict[str, None] = {}
    fresh = []
    for task in one.tasks:
        if explain.NOT_DONE in task.reasons or explain.NOT_KNOWN in task.reasons:
            fresh.append(task.name)
            continue
        for reason in task.reasons:
            path = _path(reason)
            if path is None or str(path) not in made:
                roots[reason] = None
    if fresh and not one.up_to_date and not roots:
        return ["built from scratch"]
    return [*roots, *([f"not built before: {_some(fresh)}"] if fresh else [])]


def _path(reason: str) -> Path | None:
    """Return the file that a reason names, if it names one."""
    match = PATH_REASON.fullmatch(reason)
    return ROOT / match["path"] if match else None


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - SHOWN_CAUSES
    return between.join(names[:SHOWN_CAUSES]) + (f"{between}and {more} more" if more > 0 else "")


def _cause(settings: Settings, one: Run) -> str:
    return _some(causes(settings, one), "; ") or "nothing is known of why"


def _facts(release: str, last: Run | None, found: Sequence[Size]) -> str:
    facts = [("Kernel", escape(release) or "not built")]
    iso = next((size for size in found if size.group == "image"), None)
    if iso:
        facts.append((escape(iso.name), f"{size_text(iso.bytes)} {_change(iso)}"))
    core = next((size for size in found if size.key == sizes.CORE), None)
    if core:
        facts.append((escape(core.name), f"{size_text(core.bytes)} {_change(core)}"))
    if last:
        cpu = total_cpu(last)
        used = f" <small>{escape(chart.seconds_text(cpu))} of processor</small>" if cpu is not None else ""
        facts.append(("Last build", f"{escape(chart.seconds_text(last.seconds))}{used}"))
        facts.append(("Outcome", f'<span class="{_kind(last.outcome)}">{escape(last.outcome)}</span>'))
    return "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in facts)


def total_cpu(one: Run) -> float | None:
    """Return the processor seconds of a run's tasks, None unless those of each are known."""
    used = [task.cpu for task in one.tasks]
    return None if None in used else sum(value for value in used if value is not None)


def _kind(outcome: str) -> str:
    return escape(outcome.replace(" ", "-"))


def _waterfall(last: Run | None) -> str:
    if last is None:
        return "<p>No build is recorded yet.</p>"
    asked = f"<code>./doit {escape(' '.join(last.asked))}</code>, {_when(last)}: "
    said = f"{count(len(last.tasks), 'task')} ran, {len(last.up_to_date)} had nothing to do."
    return f"<p>{asked}{said}</p>{chart.waterfall(last.tasks, last.started, last.seconds)}"


def _when(one: Run) -> str:
    at = time.gmtime(one.started)
    return f'<time datetime="{time.strftime("%Y-%m-%dT%H:%M:%SZ", at)}">{_day(one)}</time>'


def _day(one: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one.started))


def _why(settings: Settings, last: Run | None) -> str:
    if last is None:
        return ""
    makers = {str(settings.output / path): task.name for task in last.tasks for path in task.sizes}
    rows = [_task_row(task, last, makers) for task in last.tasks]
    heads = ("Task", "Why it ran", "Began", "Took", "Processor", "Outcome")
    rest = f"<p>Nothing to do: {escape(', '.join(last.up_to_date))}.</p>" if last.up_to_date else ""
    table = chart.table("What was rebuilt, and why", heads, rows)
    return f"<p>{escape(_cause(settings, last))}</p>{table}{rest}"


def _task_row(task: TaskRun, one: Run, makers: Mapping[str, str]) -> list[Cell]:
    lines = []
    for reason in task.reasons:
        path = _path(reason)
        maker = makers.get(str(path), "") if path else ""
        by = f" <small>by {escape(maker)}</small>" if maker and maker != task.name else ""
        lines.append(f"<li>{escape(reason)}{by}</li>")
    took = "" if task.seconds is None else chart.seconds_text(task.seconds)
    cpu = "" if task.cpu is None else chart.seconds_text(task.cpu)
    return [
        chart.text(task.name),
        Cell(f"<ul>{''.join(lines)}</ul>" if lines else "<small>not recorded</small>"),
        chart.number(task.start - one.started, f"+{chart.seconds_text(max(0.0, task.start - one.started))}"),
        chart.number(task.seconds, took),
        chart.number(task.cpu, cpu),
        Cell(f'<span class="{_kind(task.outcome)}">{escape(task.outcome)}</span>'),
    ]


def _runs(settings: Settings, runs: Sequence[Run]) -> str:
    rows = [
        [
            Cell(_when(one), one.name),
            chart.text(_cause(settings, one)),
            chart.number(len(one.tasks), str(len(one.tasks))),
            chart.number(one.seconds, chart.seconds_text(one.seconds)),
            chart.number(cpu := total_cpu(one), "" if cpu is None else chart.seconds_text(cpu)),
            Cell(f'<span class="{_kind(one.outcome)}">{escape(one.outcome)}</span>'),
        ]
        for one in reversed(runs)
    ]
    heads = ("Build", "Cause", "Tasks", "Took", "Processor", "Outcome")
    return chart.table("Builds", heads, rows) if rows else "<p>No build is recorded yet.</p>"


# --- sizes -----------------------------------------------------------------


def _change(size: Size) -> str:
    if size.change is None:
        return ""
    by, percent = sizes.change_text(size)
    kind = "grew" if size.change > 0 else "shrank"
    return f'<small class="{kind}">{escape(f"{by} bytes {percent}".strip())}</small>'


def _size_row(size: Size) -> list[Cell]:
    by, percent = sizes.change_text(size)
    kind = "" if size.change is None else "grew" if size.change > 0 else "shrank"
    share = size.change / size.before if size.change is not None and size.before else 0.0
    indent = "&emsp;" if size.label != size.name else ""
    return [
        Cell(indent + escape(size.name), size.name),
        Cell(f"<small>{escape(size_text(size.bytes))}</small> {size.bytes:,}", size.bytes, number=True),
        Cell(f'<span class="{kind}">{escape(by)}</span>', size.change or 0, number=True),
        Cell(f'<span class="{kind}">{escape(percent)}</span>', share, number=True),
        Cell(chart.sparkline(size.history)),
    ]


SIZE_HEADS = ("", "Bytes", "Change", "%", "Builds")


def _sizes(found: Sequence[Size]) -> str:
    shown = [size for size in found if not size.key.startswith(sizes.MODULE_KEY)]
    if not shown:
        return "<p>Nothing is built yet.</p>"
    heads = ("What", *SIZE_HEADS[1:])
    return chart.table("Sizes", heads, [_size_row(size) for size in shown])


def _modules(found: Sequence[Size]) -> str:
    modules = [size for size in found if size.key.startswith(sizes.MODULE_KEY)]
    if not modules:
        return "<p>No kernel modules are installed.</p>"
    sums: dict[str, int] = {}
    for size in modules:
        folder = "/".join(size.name.split("/")[:-1][:2]) or "."
        sums[folder] = sums.get(folder, 0) + size.bytes
    folders = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    shown = modules[:SHOWN_MODULES]
    rest = modules[SHOWN_MODULES:]
    more = f"<p>And {count(len(rest), 'smaller module')}: {sum(size.bytes for size in rest):,} bytes.</p>"
    return (
        f"<p>{count(len(modules), 'module')}, {sum(sums.values()):,} bytes as installed.</p>"
        + chart.bars("Modules by folder", ("Folder", "Bytes"), [(*item, f"{item[1]:,}") for item in folders])
        + f"<details><summary>{'The largest' if rest else 'All'} {count(len(shown), 'module')}</summary>"
        + chart.table("Modules", ("Module", *SIZE_HEADS[1:]), [_size_row(size) for size in shown])
        + f"{more if rest else ''}</details>"
    )


def _kernel(parts: Sequence[Part]) -> str:
    if not parts:
        return "<p>No objects of a kernel are here: it was not built in this folder.</p>"
    found = sizes.subsystems(parts)
    total = sum(part.total for part in parts)
    heads = ("Object", "Text", "Data", "BSS", "In memory")
    rows = [
        [
            chart.text(part.name),
            *(chart.number(size, f"{size:,}") for size in (part.text, part.data, part.bss, part.total)),
        ]
        for part in parts[:SHOWN_OBJECTS]
    ]
    folders = [(part.name, part.total, f"{part.total:,}") for part in found[:SHOWN_FOLDERS]]
    rest = found[SHOWN_FOLDERS:]
    more = f"<p>And {count(len(rest), 'smaller folder')}: {sum(part.total for part in rest):,} bytes.</p>"
    return (
        f"<p>{count(len(parts), 'object')}, {total:,} bytes in memory before compression.</p>"
        + chart.bars("Kernel by folder", ("Folder", "Bytes in memory"), folders)
        + (more if rest else "")
        + f"<details><summary>The largest {count(len(rows), 'object')}</summary>"
        + f"{chart.table('Objects', heads, rows)}</details>"
    )


# --- configuration and graph -----------------------------------------------


@dataclass(frozen=True)
class Change:
    """A symbol that differs from the base config; where: FILE:LINE that asks for it, if one does."""

    sign: str
    symbol: str
    value: str
    where: str = ""


def read_diff(content: str) -> dict[str, list[Change]]:
    """Return the changes of kconfig/diff.txt by the fragment that asks for them, else by its headings."""
    groups: dict[str, list[Change]] = {}
    heading = ""
    for line in content.splitlines():
        if line.startswith("# "):
            heading = line[2:]
        elif match := CHANGE.fullmatch(line):
            change = Change(match["sign"], match["symbol"], match["value"], match["where"] or "")
            fragment = change.where.rpartition(":")[0] or change.where.partition(",")[0]
            groups.setdefault(fragment or heading, []).append(change)
    return groups


def _config(content: str) -> str:
    groups = read_diff(content)
    if not groups:
        return "<p>No difference is recorded: the configuration has not been made yet.</p>"
    words = {"+": "on", "-": "off", "~": "changed"}
    blocks = []
    for name, changes in groups.items():
        rows = [
            [
                Cell(f"<code>{escape(change.symbol)}</code>", change.symbol),
                chart.text(words[change.sign]),
                Cell(f"<code>{escape(change.value)}</code>", change.value),
                chart.text(change.where),
            ]
            for change in changes
        ]
        is_open = " open" if changes[0].where else ""
        blocks.append(
            f"<details{is_open}><summary>{escape(name)} <small>{count(len(changes), 'symbol')}</small>"
            f"</summary>{chart.table(name, ('Symbol', 'Is', 'Value', 'Asked for at'), rows)}</details>"
        )
    return "\n".join(blocks)


def _graph(tasks: Sequence[Any], ran: set[str]) -> str:
    try:
        picture = graph.svg(tasks, ran)
    except UserError as error:
        picture = f"<p>No picture: {escape(f'{error.message}; {error.hint}')}</p>"
    rows = [
        [chart.text(source), chart.text(to), chart.text(", ".join(names))]
        for (source, to), names in sorted(graph.grouped(tasks).items())
    ]
    return (
        '<div class="scroll graph" tabindex="0" role="region" aria-label="Picture of the tasks">'
        f"{picture}</div>"
        "<details><summary>The same as a table</summary>"
        f"{chart.table('Tasks and files', ('From', 'To', 'Files'), rows)}</details>"
    )

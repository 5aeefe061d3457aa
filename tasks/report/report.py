# SPDX-License-Identifier: MIT
"""`./doit report`: one HTML page about the build: times, reasons, sizes, configuration, tasks, tests.

Its sources are the records of runs (tasks/engine/run_history.py) and of tests in guests
(tasks/vm/results.py), the files in the output folder, and the tasks.  The same records and files give
the same page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tasks.checks import secrets
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.engine import run_history
from tasks.engine.reason import Kind, Reason
from tasks.engine.run_history import Run, TaskRun
from tasks.report import chart, graph, guest_tests, sizes
from tasks.report.chart import Cell
from tasks.report.sizes import CodeSize, Size
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.html import render, size_text
from tasks.util.log import logger
from tasks.vm import results
from tasks.vm.results import Record

TEMPLATE = Path(__file__).with_name("report.html")
# The kinds of reasons that another task of the same run may have caused when it wrote the file.
FILE_KINDS = (Kind.CHANGED, Kind.MISSING, Kind.MISSING_INPUT, Kind.NEW_INPUT, Kind.DAMAGED)
# A line of kconfig/diff.txt (tasks/kernel/kconfig_diff.py).
VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^\s"]+)'
CHANGE = re.compile(
    rf"(?P<sign>[+~-]) CONFIG_(?P<symbol>\w+)=(?P<value>{VALUE}(?: -> {VALUE})?)(?:  \((?P<where>.+)\))?"
)
SHOWN_CAUSES = 4
SHOWN_MODULES = 100
SHOWN_OBJECTS = 50
SHOWN_FOLDERS = 20


def build(paths: Paths, profile: Profile, tasks: Sequence[Any]) -> None:
    """Write artifacts/PROFILE/report.html and print its path.  tasks: all there are.

    Raises `UserError` if nothing has been built yet, or for a secret in what the page would show.
    """
    secrets.refuse_in_table(f"profile {paths.name}", {"description": profile.description})
    runs, faults = run_history.load(paths.output)
    records, damaged = results.load(paths.output)
    for fault in (*faults, *damaged):
        logger.warning(f"record {fault}")
    found = sizes.collect(paths, runs)
    if not runs and not found:
        raise UserError("there is nothing to report: nothing is built yet", "./doit iso")
    parts = sizes.objects(paths) if sizes.has_objects(paths) else []
    path = paths.output / "report.html"
    text = page(paths, profile, runs, found, parts, tasks, records)
    secrets.refuse_in_text("the report", {path.name: text})
    write_atomic(path, text)
    logger.info(str(path))


def page(
    paths: Paths,
    profile: Profile,
    runs: Sequence[Run],
    found: Sequence[Size],
    parts: Sequence[CodeSize],
    tasks: Sequence[Any],
    records: Sequence[Record] = (),
) -> bytes:
    """Return the page as HTML.

    runs: oldest first; parts: the kernel's objects, if known; records: of tests in guests, oldest first.
    """
    last = runs[-1] if runs else None
    diff = paths.config.with_name("diff.txt")
    release = paths.kernel / "release"
    return render(
        TEMPLATE,
        profile=paths.name,
        description=profile.description,
        facts=_facts(paths, release.read_text().strip() if release.is_file() else "", last, found),
        last=last,
        when=chart.time_tag(last.started) if last else "",
        waterfall=chart.waterfall(last.tasks, last.started, last.seconds) if last else "",
        cause=_cause(paths, last) if last else "",
        task_table=_task_table(paths, last) if last else "",
        run_table=_run_table(paths, runs),
        size_table=_size_table(found),
        modules=_modules(found),
        kernel=_kernel(parts),
        changes=_changes(diff.read_text() if diff.is_file() else ""),
        tests=guest_tests.of(paths.output, records),
        graph=_graph(tasks, {task.name.partition(":")[0] for task in last.tasks} if last else set()),
    )


# --- the last run ----------------------------------------------------------


def causes(paths: Paths, one: Run) -> list[str]:
    """Return the causes of a run, a line each: all reasons except files that the run itself wrote."""
    made = {str(paths.output / path) for task in one.tasks for path in task.sizes}
    root_causes: dict[str, None] = {}
    never_built = []
    for task in one.tasks:
        if any(reason.kind in (Kind.NOT_DONE, Kind.NO_RECORD) for reason in task.reasons):
            never_built.append(task.name)
            continue
        for reason in task.reasons:
            path = _changed_file(reason)
            if path is None or str(path) not in made:
                root_causes[str(reason)] = None
    if never_built and not one.up_to_date and not root_causes:
        return ["built from scratch"]
    return [*root_causes, *([f"not built before: {_shortened(never_built)}"] if never_built else [])]


def _changed_file(reason: Reason) -> Path | None:
    """Return the file whose change is the reason, None for other reasons."""
    return CHECKOUT.root / reason.path if reason.path and reason.kind in FILE_KINDS else None


def _shortened(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - SHOWN_CAUSES
    return between.join(names[:SHOWN_CAUSES]) + (f"{between}and {more} more" if more > 0 else "")


def _cause(paths: Paths, one: Run) -> str:
    return _shortened(causes(paths, one), "; ") or "not recorded"


def _facts(paths: Paths, release: str, last: Run | None, found: Sequence[Size]) -> list[tuple[str, str]]:
    """Return (label, text or HTML) of the facts at the top of the page."""
    facts = [("Kernel", release or "not built")]
    iso = next((size for size in found if size.group == "image"), None)
    core = next((size for size in found if size.key == paths.core.name), None)
    for size in (iso, core):
        if size:
            facts.append((size.name, Markup("{} {}").format(size_text(size.bytes), _change(size))))
    if last:
        cpu = total_cpu(last)
        used = (
            "" if cpu is None else Markup(" <small>{} of processor</small>").format(chart.seconds_text(cpu))
        )
        facts.append(("Last build", Markup("{}{}").format(chart.seconds_text(last.seconds), used)))
        facts.append(("Outcome", chart.outcome(last.outcome)))
    return facts


def total_cpu(one: Run) -> float | None:
    """Return the processor seconds of a run's tasks, None if those of any task are unknown."""
    used = [task.cpu for task in one.tasks]
    return None if None in used else sum(value for value in used if value is not None)


def _task_table(paths: Paths, last: Run) -> Markup:
    makers = {str(paths.output / path): task.name for task in last.tasks for path in task.sizes}
    rows = [_task_row(task, last, makers) for task in last.tasks]
    heads = ("Task", "Why it ran", "Began", "Took", "Processor", "Outcome")
    return chart.table("What was rebuilt, and why", heads, rows)


def _task_row(task: TaskRun, one: Run, makers: Mapping[str, str]) -> list[Cell]:
    lines = []
    for reason in task.reasons:
        path = _changed_file(reason)
        maker = makers.get(str(path), "") if path else ""
        by = Markup(" <small>by {}</small>").format(maker) if maker and maker != task.name else ""
        lines.append(Markup("<li>{}{}</li>").format(str(reason), by))
    reasons = Markup("<ul>{}</ul>").format(Markup("").join(lines))
    took = "" if task.seconds is None else chart.seconds_text(task.seconds)
    cpu = "" if task.cpu is None else chart.seconds_text(task.cpu)
    return [
        Cell(task.name),
        Cell(reasons if lines else Markup("<small>not recorded</small>")),
        chart.number(task.start - one.started, f"+{chart.seconds_text(max(0.0, task.start - one.started))}"),
        chart.number(task.seconds, took),
        chart.number(task.cpu, cpu),
        Cell(chart.outcome(task.outcome)),
    ]


def _run_table(paths: Paths, runs: Sequence[Run]) -> Markup:
    rows = [
        [
            Cell(chart.time_tag(one.started), one.name),
            Cell(_cause(paths, one)),
            chart.number(len(one.tasks), str(len(one.tasks))),
            chart.number(one.seconds, chart.seconds_text(one.seconds)),
            chart.number(cpu := total_cpu(one), "" if cpu is None else chart.seconds_text(cpu)),
            Cell(chart.outcome(one.outcome)),
        ]
        for one in reversed(runs)
    ]
    return chart.table("Builds", ("Build", "Cause", "Tasks", "Took", "Processor", "Outcome"), rows)


# --- sizes -----------------------------------------------------------------


def _change(size: Size) -> Markup:
    if size.change is None:
        return Markup("")
    by, percent = sizes.change_text(size)
    kind = "grew" if size.change > 0 else "shrank"
    return Markup('<small class="{}">{}</small>').format(kind, f"{by} bytes {percent}".strip())


def _size_row(size: Size) -> list[Cell]:
    by, percent = sizes.change_text(size)
    kind = "" if size.change is None else "grew" if size.change > 0 else "shrank"
    change = Markup('<span class="{}">{}</span>')
    share = size.change / size.before if size.change is not None and size.before else 0.0
    in_bytes = Markup("<small>{}</small> {:,}").format(size_text(size.bytes), size.bytes)
    return [
        Cell(Markup("&emsp;{}").format(size.name) if size.label != size.name else size.name, size.name),
        Cell(in_bytes, size.bytes, number=True),
        Cell(change.format(kind, by), size.change or 0, number=True),
        Cell(change.format(kind, percent), share, number=True),
        Cell(chart.sparkline(size.history)),
    ]


SIZE_HEADS = ("", "Bytes", "Change", "%", "Builds")


def _size_table(found: Sequence[Size]) -> Markup | None:
    """Return the table of all but kernel modules, None if nothing is built yet."""
    shown = [size for size in found if not size.key.startswith(sizes.MODULE_KEY)]
    heads = ("What", *SIZE_HEADS[1:])
    return chart.table("Sizes", heads, [_size_row(size) for size in shown]) if shown else None


@dataclass(frozen=True)
class Overview:
    """Sizes of many parts: by folder, and of the largest parts.  Sizes in bytes.

    count, total: number and sum of all parts; folders, largest: tables; shown: number of parts
    in `largest`; rest, rest_total: number and sum of the parts that the shortened table leaves
    out.
    """

    count: int
    total: int
    folders: Markup
    largest: Markup
    shown: int
    rest: int
    rest_total: int


def _modules(found: Sequence[Size]) -> Overview | None:
    """Return the overview of the kernel's modules, None if none are installed."""
    modules = [size for size in found if size.key.startswith(sizes.MODULE_KEY)]
    if not modules:
        return None
    sums: dict[str, int] = {}
    for size in modules:
        folder = "/".join(size.name.split("/")[:-1][:2]) or "."
        sums[folder] = sums.get(folder, 0) + size.bytes
    folders = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    rows = [(*item, f"{item[1]:,}") for item in folders]
    shown, rest = modules[:SHOWN_MODULES], modules[SHOWN_MODULES:]
    return Overview(
        count=len(modules),
        total=sum(sums.values()),
        folders=chart.bars("Modules by folder", ("Folder", "Bytes"), rows),
        largest=chart.table("Modules", ("Module", *SIZE_HEADS[1:]), [_size_row(size) for size in shown]),
        shown=len(shown),
        rest=len(rest),
        rest_total=sum(size.bytes for size in rest),
    )


def _kernel(parts: Sequence[CodeSize]) -> Overview | None:
    """Return the overview of the kernel's objects, None if the kernel was not built here."""
    if not parts:
        return None
    found = sizes.subsystems(parts)
    heads = ("Object", "Text", "Data", "BSS", "In memory")
    rows = [
        [
            Cell(part.name),
            *(chart.number(size, f"{size:,}") for size in (part.text, part.data, part.bss, part.total)),
        ]
        for part in parts[:SHOWN_OBJECTS]
    ]
    folders = [(part.name, part.total, f"{part.total:,}") for part in found[:SHOWN_FOLDERS]]
    rest = found[SHOWN_FOLDERS:]
    return Overview(
        count=len(parts),
        total=sum(part.total for part in parts),
        folders=chart.bars("Kernel by folder", ("Folder", "Bytes in memory"), folders),
        largest=chart.table("Objects", heads, rows),
        shown=len(rows),
        rest=len(rest),
        rest_total=sum(part.total for part in rest),
    )


# --- configuration and graph -----------------------------------------------


@dataclass(frozen=True)
class Change:
    """A symbol that differs from the base config; where: FILE:LINE that sets it, "" if none does."""

    sign: str
    symbol: str
    value: str
    where: str = ""


def read_diff(content: str) -> dict[str, list[Change]]:
    """Return the changes of kconfig/diff.txt, by fragment, or by heading without a fragment."""
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


@dataclass(frozen=True)
class ChangeGroup:
    """The changes of one fragment, or below one heading of diff.txt."""

    name: str
    count: int
    is_asked_for: bool
    table: Markup


def _changes(content: str) -> list[ChangeGroup]:
    words = {"+": "on", "-": "off", "~": "changed"}
    code = Markup("<code>{}</code>")
    found = []
    for name, changes in read_diff(content).items():
        rows = [
            [
                Cell(code.format(change.symbol), change.symbol),
                Cell(words[change.sign]),
                Cell(code.format(change.value), change.value),
                Cell(change.where),
            ]
            for change in changes
        ]
        table = chart.table(name, ("Symbol", "Is", "Value", "Asked for at"), rows)
        found.append(ChangeGroup(name, len(changes), bool(changes[0].where), table))
    return found


@dataclass(frozen=True)
class TaskGraph:
    """The graph of tasks as a picture (or the reason why there is none) and as a table."""

    picture: Markup
    table: Markup


def _graph(tasks: Sequence[Any], ran: set[str]) -> TaskGraph:
    try:
        picture = Markup(graph.svg(tasks, ran))  # safe: only shapes and escaped text
    except UserError as error:
        picture = Markup("<p>No picture: {}; {}</p>").format(error.message, error.hint)
    rows = [
        [Cell(source), Cell(to), Cell(", ".join(names))]
        for (source, to), names in sorted(graph.files_by_edge(tasks).items())
    ]
    return TaskGraph(picture, chart.table("Tasks and files", ("From", "To", "Files"), rows))

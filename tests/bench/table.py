# SPDX-License-Identifier: MIT
"""The table: ratios first, then medians with their spread, then the targets."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tests.bench.growth import Growth
from tests.bench.measure import METRICS, OURS, Outcome, Target

HEAD = ("", "against", "CPU", "wall", "memory", "size", "CPU s", "wall s", "MiB", "target")
MIB = 1 << 20


def comparison(outcomes: Iterable[Outcome]) -> str:
    """Return one line a peer: our medians over the peer's, then both medians."""
    lines: list[Sequence[str]] = [HEAD]
    for outcome in outcomes:
        for case in outcome.row.cases[1:]:
            lines.append(_line(outcome, case.who))
        if len(outcome.row.cases) == 1:
            lines.append(_line(outcome, ""))
    return aligned(lines) if len(lines) > 1 else ""


def _line(outcome: Outcome, peer: str) -> Sequence[str]:
    name = outcome.row.name
    if peer in outcome.absent:
        return (name, f"{peer}: {outcome.absent[peer]}")
    ratios = [_ratio(outcome.ratio(peer, metric)) for metric in METRICS]
    pairs = [
        both(outcome.values(OURS, metric), outcome.values(peer, metric), unit)
        for metric, unit in (("cpu", 1.0), ("wall", 1.0), ("peak", float(MIB)))
    ]
    verdicts = [verdict(outcome, target) for target in outcome.row.targets if target.peer == peer]
    return (name, peer or "-", *ratios, *pairs, "; ".join(verdicts))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x" if value >= 0.1 else f"{value:.3f}x"


def both(ours: Sequence[float], theirs: Sequence[float], unit: float) -> str:
    """Return our median (smallest-largest) and the peer's."""
    return " | ".join(spread([value / unit for value in values]) for values in (ours, theirs) if values)


def spread(values: Sequence[float]) -> str:
    """Return the median of several runs, and their range where it shows."""
    low, middle, high = (f"{value:.3g}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def verdict(outcome: Outcome, target: Target) -> str:
    """Return a target and whether it is met."""
    found = outcome.ratio(target.peer, target.metric)
    if found is None:
        return f"{target.metric} <= {target.limit:.3g}x: not measured"
    return f"{target.metric} <= {target.limit:.3g}x: {'met' if found <= target.limit else 'MISSED'}"


def growth(found: Iterable[Growth]) -> str:
    """Return one line a step: CPU seconds for each number of extensions, and how they grow."""
    lines: list[Sequence[str]] = []
    for item in found:
        counts = sorted(item.samples)
        if not lines:
            grows = [f"x{many // few}" for few, many in itertools.pairwise(counts)]
            each = [f"ms each, {few}-{many}" for few, many in itertools.pairwise(counts)]
            wall = f"wall s, {counts[-1]}"
            lines.append(("", *grows, *each, *(f"CPU s, {count}" for count in counts), wall, "target"))
        cells = [f"{item.times(few, many):.2f}x" for few, many in item.steps]
        cells += [f"{item.each(few, many) * 1000:.1f}" for few, many in item.steps]
        cells += [spread([sample.cpu for sample in item.samples[count]]) for count in counts]
        cells.append(spread([sample.wall for sample in item.samples[counts[-1]]]))
        lines.append((item.name, *cells, f"linear: {'met' if item.linear else 'MISSED'}"))
    return aligned(lines) if lines else ""


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as columns; a line's last cell may be of any length."""
    count = max(map(len, lines))
    widths = [max((len(line[at]) for line in lines if at < len(line) - 1), default=0) for at in range(count)]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) for line in lines
    ]
    return "\n".join(text.rstrip() for text in texts)


def as_json(outcomes: Iterable[Outcome], grown: Iterable[Growth]) -> dict[str, Any]:
    """Return every sample and ratio, to be written as JSON."""
    return {
        "rows": [
            {
                "name": outcome.row.name,
                "note": outcome.row.note,
                "samples": {
                    who: [vars(sample) for sample in list_] for who, list_ in outcome.samples.items()
                },
                "absent": outcome.absent,
                "ratios": {
                    peer: {metric: outcome.ratio(peer, metric) for metric in METRICS}
                    for peer in outcome.samples
                    if peer != OURS
                },
                "targets": [f"{target.peer}: {verdict(outcome, target)}" for target in outcome.row.targets],
            }
            for outcome in outcomes
        ],
        "growth": [
            {
                "name": item.name,
                "samples": {n: [vars(sample) for sample in list_] for n, list_ in item.samples.items()},
                "linear": item.linear,
            }
            for item in grown
        ],
    }

# SPDX-License-Identifier: MIT
"""The chart of a run."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tasks.engine.run_history import TaskRun
from tasks.report import chart


def test_bars_lie_where_and_as_long_as_the_tasks_ran() -> None:
    tasks = [
        TaskRun("one", 1000.0, 5.0, None, "ok"),
        TaskRun("two", 1002.5, 5.0, None, "failed"),
        TaskRun("three", 1007.5, None, None, "cut"),
    ]
    page = ElementTree.fromstring(chart.waterfall(tasks, 1000.0, 10.0))
    bars = page.findall(".//rect")
    assert [(bar.get("x"), bar.get("width"), bar.get("class")) for bar in bars] == [
        ("0.000%", "50.000%", "bar ok"),
        ("25.000%", "50.000%", "bar failed"),
        ("75.000%", "25.000%", "bar cut"),
    ]


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_times_for_people(seconds: float, says: str) -> None:
    assert chart.seconds_text(seconds) == says

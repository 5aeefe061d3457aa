# SPDX-License-Identifier: MIT
"""Records of runs: what a real run of doit leaves, also when it is killed; bad records; sharing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.engine import run_history
from tasks.engine.reason import Kind, Reason
from tasks.engine.run_history import Recorder, Run
from tasks.util.checkout import CHECKOUT
from tasks.util.dated_records import MAX_RECORDS
from tests.unit.engine.test_database import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def runs(folder: Path) -> list[Run]:
    found, faults = run_history.load(folder)
    assert faults == []
    return found


def outcomes(one: Run) -> dict[str, str]:
    return {task.name: task.outcome for task in one.tasks}


def test_a_run_leaves_a_record_of_what_ran_why_and_what_it_made(project: Project) -> None:
    project.doit()
    (project.folder / "zero").write_text("longer")
    (project.folder / "three").unlink()
    project.doit("first", "third")
    first, second = runs(project.folder)
    assert (first.outcome, first.asked, first.up_to_date) == ("ok", ("third",), ())
    assert outcomes(first) == {"first": "ok", "second": "ok", "third": "ok"}
    assert {task.reasons for task in first.tasks} == {(Reason(Kind.NOT_DONE),)}
    assert second.asked == ("first", "third")
    assert [(task.name, task.reasons, dict(task.sizes)) for task in second.tasks] == [
        ("first", (Reason(Kind.CHANGED, _shown(project.folder / "zero")),), {"one": 6}),
        ("second", (Reason(Kind.CHANGED, _shown(project.folder / "one")),), {"two": 6}),
        (
            "third",
            (
                Reason(Kind.MISSING, _shown(project.folder / "three")),
                Reason(Kind.CHANGED, _shown(project.folder / "two")),
            ),
            {"three": 6},
        ),
    ]
    for one in (first, second):
        assert one.seconds >= sum(task.seconds or 0 for task in one.tasks)
        begun = [task.start for task in one.tasks]
        assert begun == sorted(begun)
        assert begun[0] >= one.started
        assert all(task.seconds is not None and task.cpu is not None for task in one.tasks)


def _shown(path: Path) -> str:
    # doit names files as the dodo file does: relative to its folder.
    return path.name


def test_the_key_that_changed_is_in_the_record(project: Project) -> None:
    project.doit()
    (project.folder / "keys").write_text("{'level': 2}")
    project.doit()
    (task,) = runs(project.folder)[-1].tasks
    assert (task.name, task.reasons) == ("second", (Reason(Kind.VALUE, text="level: 1 -> 2"),))
    assert runs(project.folder)[-1].up_to_date == ("first", "third")


def test_a_run_with_nothing_to_do_and_a_command_leave_none(project: Project) -> None:
    project.doit()
    (before,) = (project.folder / "runs").iterdir()
    content = before.read_bytes()
    project.doit()
    project.doit("explain")
    assert [path.name for path in (project.folder / "runs").iterdir()] == [before.name]
    assert before.read_bytes() == content


def test_a_killed_run_leaves_what_it_had_finished(project: Project) -> None:
    project.kill_in_second()
    project.doit()
    killed, next_one = runs(project.folder)
    assert (killed.outcome, outcomes(killed)) == ("cut", {"first": "ok", "second": "cut"})
    assert killed.tasks[0].sizes == {"one": 1}
    assert killed.tasks[1].seconds is None
    assert (next_one.outcome, outcomes(next_one)) == ("ok", {"second": "ok", "third": "ok"})
    assert next_one.up_to_date == ("first",)


def test_a_failure_is_recorded(project: Project) -> None:
    (project.folder / "fail-two").touch()
    project.doit(status=2)
    (one,) = runs(project.folder)
    assert (one.outcome, outcomes(one)) == ("failed", {"first": "ok", "second": "failed"})
    assert one.tasks[1].sizes == {}


def test_the_oldest_records_go(project: Project) -> None:
    folder = project.folder / "runs"
    folder.mkdir()
    old = [folder / f"20200101T0000{second:02d}.000Z.jsonl" for second in range(25)]
    for path in (*old, folder / "notes.txt"):
        path.touch()
    project.doit()
    left = sorted(path.name for path in folder.glob("*.jsonl"))
    assert len(left) == MAX_RECORDS
    assert left[:-1] == [path.name for path in old[-(MAX_RECORDS - 1) :]]
    assert (folder / "notes.txt").exists(), "nothing but records is removed"


def test_a_record_that_cannot_be_written_ends_no_build(project: Project) -> None:
    (project.folder / "runs").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tasks.engine.main"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.count("warning: no record of this run") == 1
    assert (project.folder / "three").read_text() == "0"


HEAD = '{"event":"run","version":1,"at":10.5,"asked":["iso"]}\n'
BEGIN = '{"event":"begin","at":11,"task":"a","reasons":[]}\n'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json\n",
        "[1]\n",
        "null\n",
        HEAD.replace('"version":1', '"version":2'),
        HEAD.replace("10.5", "Infinity"),
        HEAD.replace("10.5", '"now"'),
        HEAD + BEGIN.replace('"a"', "7"),
        HEAD + '{"event":"end","at":12,"task":"never begun","outcome":"ok"}\n',
        HEAD + BEGIN + '{"event":"end","at":12,"task":"a","outcome":"ok","sizes":{"f":"large"}}\n',
        HEAD + "\x00\x01\n" + BEGIN,
    ],
)
def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/20260101T000000.000Z.jsonl").write_text(content)
    (tmp_path / "runs/20260101T000001.000Z.jsonl").write_text(HEAD + BEGIN)
    found, faults = run_history.load(tmp_path)
    assert [one.name for one in found] == ["20260101T000001.000Z"]
    assert len(faults) == 1
    assert "20260101T000000.000Z.jsonl is damaged" in faults[0]


def test_a_record_of_an_earlier_version_has_its_reasons_as_text(tmp_path: Path) -> None:
    path = tmp_path / "20260101T000000.000Z.jsonl"
    path.write_text(HEAD + BEGIN.replace("[]", '["changed: boot/x","it has not been done yet"]'))
    (task,) = run_history.read(path).tasks
    assert [str(reason) for reason in task.reasons] == ["changed: boot/x", "it has not been done yet"]


@pytest.mark.parametrize("reasons", ["[7]", '[{"kind":"mood"}]', '[{"kind":"changed","path":7}]', "[{}]"])
def test_reasons_that_are_none_make_a_damaged_record(tmp_path: Path, reasons: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/20260101T000000.000Z.jsonl").write_text(HEAD + BEGIN.replace("[]", reasons))
    found, faults = run_history.load(tmp_path)
    assert (found, len(faults)) == ([], 1)


@pytest.mark.parametrize("cut", range(1, len(BEGIN)))
def test_a_last_line_cut_anywhere_costs_that_line_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "20260101T000000.000Z.jsonl"
    path.write_text(HEAD + BEGIN + BEGIN.replace('"a"', '"b"')[:cut])
    one = run_history.read(path)
    assert outcomes(one) == {"a": "cut"} if cut < len(BEGIN) else {}
    assert (one.outcome, one.seconds) == ("cut", 0.5)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, ["x"])


def task(name: str, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"name": name, "targets": [name], "meta": None, "values": {}, **more})


def test_processor_time_is_left_out_where_tasks_overlap(tmp_path: Path, recorder: Recorder) -> None:
    alone, one, other = task("alone"), task("one"), task("other")
    recorder.begin(alone)
    recorder.end(alone, "ok")
    recorder.begin(one)
    recorder.begin(other)
    recorder.end(one, "ok")
    recorder.end(other, "ok")
    recorder.finish()
    (found,) = runs(tmp_path)
    assert [item.cpu is None for item in found.tasks] == [False, True, True]
    first, second = found.tasks[1:]
    assert first.seconds is not None
    assert second.start <= first.start + first.seconds, "they overlap"


def test_what_came_from_a_cache_says_so(tmp_path: Path, recorder: Recorder) -> None:
    cached = task("cached", values={"from_cache": True})
    recorder.begin(cached)
    recorder.end(cached, "ok")
    failed = task("failed", values={"from_cache": True})
    recorder.begin(failed)
    recorder.end(failed, "failed")
    recorder.finish()
    assert outcomes(runs(tmp_path)[0]) == {"cached": "from cache", "failed": "failed"}


def test_sizes_of_more_than_targets(tmp_path: Path, recorder: Recorder) -> None:
    (tmp_path / "modules/net").mkdir(parents=True)
    (tmp_path / "modules/net/a.ko").write_bytes(bytes(7))
    (tmp_path / "modules/link.ko").symlink_to("net/a.ko")
    (tmp_path / "image").write_bytes(bytes(3))
    made = task("kernel", targets=[str(tmp_path / "image")], meta={"sizes": [str(tmp_path / "modules")]})
    recorder.begin(made)
    recorder.end(made, "ok")
    recorder.finish()
    assert runs(tmp_path)[0].tasks[0].sizes == {"image": 3, "modules/net/a.ko": 7}


def test_two_records_never_share_a_name(tmp_path: Path) -> None:
    for _ in range(3):
        run_history._create(tmp_path, 1234567890.5)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"20090213T233130.50{number}Z.jsonl" for number in range(3)]


DODO = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path

def meet(own, other):
    Path(own).touch()
    while not Path(other).exists():
        time.sleep(0.01)

def task_one():
    return {{"actions": [(meet, ["a", "b"])], "targets": ["a"]}}

def task_two():
    return {{"actions": [(meet, ["b", "a"])], "targets": ["b"]}}
"""


def test_tasks_side_by_side_overlap_in_the_record(tmp_path: Path) -> None:
    """By doit's own -n: each task waits for the other to have begun."""
    (tmp_path / "dodo.py").write_text(DODO.format(root=str(CHECKOUT.root)))
    command = [sys.executable, "-B", "-m", "tasks.engine.main", "-n", "2"]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT.root)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    (one,) = runs(tmp_path)
    assert outcomes(one) == {"one": "ok", "two": "ok"}
    first, second = one.tasks
    assert first.seconds is not None
    assert second.start < first.start + first.seconds
    assert [item.cpu for item in one.tasks] == [None, None], "it cannot be told whose it was"


def test_each_line_is_one_event(project: Project) -> None:
    project.doit()
    (path,) = (project.folder / "runs").iterdir()
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["run", *["begin", "end"] * 3, "finish"]

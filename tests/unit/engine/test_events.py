# SPDX-License-Identifier: MIT
"""Streams of events: what real runs write, side by side, failed, killed, to files, pipes and a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tasks.engine import events, run_history
from tasks.engine.events import Stream, TaskProgresses
from tasks.engine.reason import Kind, Reason
from tasks.util import progress
from tasks.util.checkout import CHECKOUT
from tests.support.secrets import token
from tests.support.sidebyside import Project, interrupt, soon

SCHEMA = Draft7Validator(json.loads((CHECKOUT.root / "tasks/config/schemas/events.schema.json").read_text()))
PIPE_BUF = 4096  # what a pipe takes in one piece (pipe(7))


def read(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream that ends in a whole line; each of them fits the schema."""
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert [error.message for error in SCHEMA.iter_errors(event)] == [], event
    return found


def told(found: list[dict[str, Any]], *kinds: str) -> list[tuple[str, str, str]]:
    """Return (event, task, outcome) of the events of some kinds."""
    some = [event for event in found if event["event"] in kinds]
    return [(event["event"], event.get("task", ""), event.get("outcome", "")) for event in some]


BODY = """
from tasks.util import progress

def work(name):
    done(f"began-{name}")
    if name == "one":
        wait_for("began-two")
        progress.LISTENER_SECONDS = 0.0
        with progress.Progress("copying", "files", 3) as bar:
            for number in range(3):
                bar.advance()
    else:
        progress.announce("looking around")
    if os.path.exists(f"fail-{name}"):
        raise UserError(Path(f"fail-{name}").read_text(), "mend it")
    done(name)
one = two = work

def show():
    progress.announce("shown")
    print("to be read by a person")

def task_show():
    return {"actions": [show], "uptodate": [False]}

def task_group():
    return {"actions": None, "task_dep": ["last", "show"]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, BODY, "one two")


def run(project: Project, *words: str, status: int = 0) -> list[dict[str, Any]]:
    """Run doit with a stream, and return its events."""
    project.doit(*words, "--events", "stream", status=status)
    return read((project.folder / "stream").read_text())


def test_a_stream_tells_what_ran_side_by_side_why_and_how_far_it_was(project: Project) -> None:
    found = run(project, "group", "-n", "2")
    first, *middle, last = found
    assert first["event"] == "run"
    assert (first["version"], first["asked"]) == (1, ["group"])
    assert sorted(first["needed"]) == ["last", "one", "show", "two"]
    assert first["needed"].index("one") < first["needed"].index("last")
    assert first["folder"] == str(project.folder)
    steps = [step for step in told(middle, "begin", "end") if step[1] in ("one", "two")]
    assert sorted(steps[:2]) == [("begin", "one", ""), ("begin", "two", "")]
    assert sorted(steps[2:]) == [("end", "one", "ok"), ("end", "two", "ok")]
    others = [step for step in told(middle, "begin", "end") if step[1] == "last"]
    assert others == [("begin", "last", ""), ("end", "last", "ok")]
    reasons = {event["task"]: event["reasons"] for event in middle if event["event"] == "begin"}
    assert reasons == {
        **{name: [{"kind": "not-done"}] for name in ("one", "two", "last")},
        "show": [{"kind": "every-time"}],
    }
    ends = {event["task"]: event for event in middle if event["event"] == "end"}
    assert ends["one"]["sizes"] == {"one": 3}
    assert all(event["seconds"] >= 0 for event in ends.values())
    told_by_one = [event for event in middle if event["event"] == "progress" and event["task"] == "one"]
    assert [event["done"] for event in told_by_one] == [1, 2, 3, 3]
    assert {(step["text"], step["total"], step["unit"]) for step in told_by_one} == {("copying", 3, "files")}
    texts = {event["task"]: event["text"] for event in middle if event["event"] == "progress"}
    assert texts == {"one": "copying", "two": "looking around", "show": "shown"}
    assert (last["event"], last["outcome"], last["up_to_date"]) == ("finish", "ok", [])
    assert last["seconds"] >= 0


def test_a_run_with_nothing_to_do_says_so_and_replaces_the_stream_before(project: Project) -> None:
    run(project, "last")
    found = run(project, "last")
    skipped = told(found, "begin", "end", "skip")
    assert sorted(skipped) == [("skip", name, "up to date") for name in ("last", "one", "two")]
    assert skipped[-1][1] == "last"
    assert told(found, "finish") == [("finish", "", "ok")]
    assert sorted(found[-1]["up_to_date"]) == ["last", "one", "two"]
    assert len(list((project.folder / "runs").iterdir())) == 1, "of such a run no record is kept"


def test_a_task_that_is_ignored_is_told(project: Project) -> None:
    project.doit("ignore", "two")
    assert ("skip", "two", "ignored") in told(run(project, "two"), "skip")


def test_a_failure_is_told_with_its_message_but_no_secret(project: Project) -> None:
    secret = token()
    (project.folder / "fail-one").write_text(f"no answer of https://ann:{secret}@host.lan")
    (project.folder / "fail-two").write_text(f"it got {secret}")
    found = run(project, "last", "--continue", "-n", "2", status=2)
    ends = {event["task"]: event for event in found if event["event"] == "end"}
    assert {name: event["outcome"] for name, event in ends.items()} == {
        "one": "failed",
        "two": "failed",
        "last": "not run",
    }
    assert ends["one"]["error"] == "no answer of https://***@host.lan\n  hint: mend it"
    assert ends["two"]["error"] == "***"
    assert "seconds" not in ends["last"], "it did not begin"
    assert (found[-1]["event"], found[-1]["outcome"]) == ("finish", "failed")
    written = [path.read_text() for path in (project.folder / "stream", *project.folder.glob("runs/*"))]
    assert len(written) == 2
    assert not [text for text in written if secret in text]


def test_a_failure_before_a_task_begins_is_told(project: Project) -> None:
    project.doit("last")
    (project.folder / "dodo.py").write_text(
        (project.folder / "dodo.py").read_text()
        + '\ndef task_blind():\n    return {"actions": [show], "file_dep": ["nowhere"]}\n'
    )
    project_status = 2  # doit's for what it calls an error
    found = run(project, "blind", status=project_status)
    (end,) = [event for event in found if event["event"] == "end"]
    assert (end["task"], end["outcome"]) == ("blind", "failed")
    assert "nowhere" in end["error"]
    assert found[-1]["outcome"] == "failed"


HANGING = """
from tasks.util import progress

def one(name):
    done("began")
    progress.LISTENER_SECONDS = 0.0
    with progress.Progress("x" * 3000, "steps") as bar:
        while True:
            bar.advance()
two = one
"""


def hanging(folder: Path) -> subprocess.Popen[str]:
    """Start two tasks side by side that tell their progress for ever, in long lines."""
    project = Project(folder, HANGING, "one two")
    process = project.start("-n", "2", "--events", "stream")
    project.wait_for("began", "stream")
    soon(lambda: all(f'"task":"{name}","text"' in (folder / "stream").read_text() for name in ("one", "two")))
    return process


def test_a_killed_run_leaves_whole_lines_and_no_end(tmp_path: Path) -> None:
    process = hanging(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    whole, _, _ = (tmp_path / "stream").read_text().rpartition("\n")
    found = read(f"{whole}\n")
    assert {event["task"] for event in found if event["event"] == "progress"} == {"one", "two"}
    assert told(found, "end", "finish") == []


def test_an_interrupted_run_tells_that_it_was_cut(tmp_path: Path) -> None:
    process = hanging(tmp_path)
    interrupt(process)
    assert process.returncode == 130
    found = read((tmp_path / "stream").read_text())
    assert sorted(told(found, "end")) == [("end", "one", "cut"), ("end", "two", "cut")]
    assert told(found, "finish") == [("finish", "", "cut")]
    assert found[-1]["event"] == "finish"


def start(project: Project, *words: str, **more: Any) -> subprocess.Popen[str]:
    """Start doit with stdout and stderr apart."""
    return subprocess.Popen(
        [sys.executable, "-B", "-m", "tasks.engine.main", *words],
        cwd=project.folder,
        env={**os.environ, "CI": "1", "PYTHONPATH": str(CHECKOUT.root)},
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_a_stream_on_stdout_has_it_alone(project: Project) -> None:
    process = start(project, "group", "--events", "-", stdout=subprocess.PIPE)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told(read(out), "finish") == [("finish", "", "ok")]
    assert "=> show\n" in said
    assert "to be read by a person\n" in said


def test_a_reader_that_leaves_ends_no_run(project: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(project, "group", "--events", "-", stdout=writer)
    os.close(writer)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("warning: no more events of this run: Broken pipe") >= 1
    assert (project.folder / "last").exists()


def test_a_stream_lies_in_the_folder_of_the_caller(project: Project) -> None:
    there = project.folder / "there"
    there.mkdir()
    project.doit("two", "--events", "stream", env={"TCBUILD_CWD": str(there)})
    assert read((there / "stream").read_text())


def test_a_stream_that_cannot_be_opened_is_said_before_anything_runs(project: Project) -> None:
    said = project.doit("last", "--events", "no/stream", status=1)
    assert said == "error: No such file or directory: no/stream\n"
    assert not (project.folder / "one").exists()


def test_a_full_disk_leaves_whole_lines_and_ends_no_run(project: Project) -> None:
    """RLIMIT_FSIZE stops the file in the middle of a line; SQLite's database stays below it."""
    words = ["--events", "stream", "last"]
    (project.folder / "dodo.py").write_text(
        (project.folder / "dodo.py").read_text().replace('"copying"', '"x" * 100_000')
    )
    limited = f"ulimit -f 200; exec {sys.executable} -B -m tasks.engine.main {' '.join(words)}"
    done = subprocess.run(
        ["bash", "-c", limited],
        cwd=project.folder,
        env={**os.environ, "CI": "1", "PYTHONPATH": str(CHECKOUT.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: no more events of this run: File too large" in done.stdout
    found = read((project.folder / "stream").read_text())
    assert found[0]["event"] == "run"


def test_lines_of_many_writers_do_not_mix_in_a_pipe(tmp_path: Path) -> None:
    """A pipe takes no more than 4,096 bytes in one piece, so the writers must take turns."""
    texts = {name: name * (2 * PIPE_BUF) for name in "abcd"}
    reader, writer = os.pipe()
    with (tmp_path / "turn").open("wb") as turn, os.fdopen(reader, "rb") as out:
        stream = Stream(writer, turn)
        children = []
        for name, text in texts.items():
            if (pid := os.fork()) == 0:
                for _ in range(50):
                    stream.write(TaskProgresses(1.0, name, text))
                os._exit(0)
            children.append(pid)
        os.close(writer)
        lines: list[bytes] = []
        collecting = threading.Thread(target=lambda: lines.extend(out))
        collecting.start()
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        collecting.join()
    found = [json.loads(line) for line in lines]
    assert len(found) == 4 * 50
    assert all(event["text"] == texts[event["task"]] for event in found)


def test_a_line_leaves_out_what_has_its_default() -> None:
    assert events.line(TaskProgresses(1.5, "one", "", done=2)) == (
        b'{"event":"progress","at":1.5,"task":"one","text":"","done":2}\n'
    )
    reason = Reason(Kind.CHANGED, "docs/ü.md")
    (event,) = read(events.line(events.TaskBegins(1.0, "one", (reason,))).decode())
    assert event["reasons"] == [{"kind": "changed", "path": "docs/ü.md"}]


def test_the_schema_refuses_what_no_run_writes() -> None:
    good = {"event": "end", "at": 1.0, "task": "one", "outcome": "ok"}
    assert SCHEMA.is_valid(good)
    for bad in (
        {**good, "outcome": "fine"},
        {**good, "more": 1},
        {**good, "event": "stop"},
        {"event": "end"},
    ):
        assert not SCHEMA.is_valid(bad), bad


def test_a_record_has_the_events_of_the_tasks_that_make_files(project: Project) -> None:
    found = run(project, "group")
    (record,) = (project.folder / "runs").iterdir()
    kept = read(record.read_text())
    assert [event for event in kept if event["event"] in ("begin", "end")] == [
        event for event in found if event["event"] in ("begin", "end") and event["task"] != "show"
    ]
    assert run_history.read(record).outcome == "ok"


def test_nobody_listens_after_a_task() -> None:
    heard: list[str] = []

    class Heard(events.Listener):
        def __init__(self) -> None:
            pass

        def __call__(self, text: str, done: int = 0, total: int = 0, unit: str = "") -> None:
            heard.append(text)

    with events.listening(Heard()):
        progress.announce("now")
    progress.announce("later")
    assert heard == ["now"]

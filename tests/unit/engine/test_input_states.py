# SPDX-License-Identifier: MIT
"""Inputs that change while their task runs: the task is not done, and the next run does it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.engine import input_states, runner
from tasks.engine.input_states import InputChecker
from tests.support.sidebyside import Folder, soon

DODO = """
import sys, time
from pathlib import Path
from tasks.engine.task import changed
from tasks.util import toml_schema
from tasks.util.trees import Tree

DOIT_CONFIG = {"default_tasks": ["last"], "verbosity": 2, "dep_file": "out/.doit.sqlite", "num_process": 2}
HERE = Path(__file__).parent
LEVEL = toml_schema.read_toml(HERE / "loaded.toml")["level"]
TREE = sorted(path for path in (HERE / "tree").rglob("*") if path.is_file() and not path.is_symlink())

def make(name, *inputs):
    out = Path("out", name)
    texts = [Path(path).read_text() for path in inputs]
    if name in Path("hang").read_text():
        Path("reached").touch()
        while Path("hang").read_text():
            time.sleep(0.005)
    out.write_text("".join([*texts, str(LEVEL)]))

def made(name, *inputs, **more):
    return {"actions": [(make, [name, *map(str, inputs)])], "file_dep": [*map(str, inputs)],
            "targets": [f"out/{name}"], "uptodate": changed(**more)}

def task_early():
    return made("early", HERE / "other")

def task_first():
    return made("first", HERE / "input", *TREE, layout=Tree(HERE / "tree"))

def task_beside():
    return made("beside", HERE / "other")

def task_loaded():
    return made("loaded", "out/early", HERE / "loaded.toml")

def task_last():
    return made("last", "out/first", "out/beside")
"""


class Project(Folder):
    """A folder with the dodo file; a task named in the file `hang` waits after it has read its inputs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "dodo.py").write_text(DODO)
        (folder / "tree/empty").mkdir(parents=True)
        for name, text in {
            "input": "one", "other": "other", "tree/file": "file", "loaded.toml": "level = 1\n", "hang": "",
        }.items():  # fmt: skip
            (folder / name).write_text(text)

    def during(self, name: str, change: Callable[[Path], None], *words: str) -> tuple[int, str]:
        """Run doit, make the change in the middle of task `name`; return the exit status and all output."""
        (self.folder / "hang").write_text(name)
        process = self.start(*words)
        soon((self.folder / "reached").exists)
        change(self.folder)
        (self.folder / "hang").write_text("")
        (self.folder / "reached").unlink()
        said, _ = process.communicate(timeout=60)
        return process.returncode, said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def append(top: Path) -> None:
    with (top / "input").open("a") as stream:
        stream.write("more")


def with_the_old_time_and_size(top: Path) -> None:
    before = (top / "input").stat()
    (top / "input").write_text("two")
    os.utime(top / "input", ns=(before.st_atime_ns, before.st_mtime_ns))


def and_back_again(top: Path) -> None:
    old = (top / "input").read_text()
    (top / "input").write_text("in between")
    (top / "input").write_text(old)


def replace(top: Path) -> None:
    (top / "new").write_text("two")
    (top / "new").rename(top / "input")


def new_file(top: Path) -> None:
    (top / "tree/new").write_text("new")


def new_file_and_gone(top: Path) -> None:
    (top / "tree/new").touch()
    (top / "tree/new").unlink()


def removed_file(top: Path) -> None:
    (top / "tree/file").unlink()


def new_folder(top: Path) -> None:
    (top / "tree/folder").mkdir()


def new_link(top: Path) -> None:
    (top / "tree/link").symlink_to("file")


def executable(top: Path) -> None:
    (top / "tree/file").chmod(0o755)


@pytest.mark.parametrize(
    ("change", "name", "count"),  # with one at a time, the task runs in the process itself
    [
        (append, "input", "1"),
        (append, "input", "2"),
        (with_the_old_time_and_size, "input", "2"),
        (and_back_again, "input", "2"),
        (replace, "input", "1"),
        (new_file, "tree/new", "1"),
        (new_file, "tree/new", "2"),
        (new_file_and_gone, "tree", "2"),
        (removed_file, "tree/file", "2"),
        (new_folder, "tree/folder", "2"),
        (new_link, "tree/link", "2"),
        (executable, "tree/file", "2"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_input_that_changes_while_its_task_runs_is_not_recorded_as_built(
    project: Project, change: Callable[[Path], None], name: str, count: str
) -> None:
    status, said = project.during("first", change, "-n", count)
    told = f"error: first: {project.folder}/{name} changed while the task ran, so the task is not done"
    assert said.count(f"{told}\n  hint: run the same command again\n") == said.count("error: ") == 1, said
    assert status == 1
    assert {"first", "last"} <= set(project.ran())
    content = "".join(path.read_text() for path in (project.folder / "input", project.folder / "tree/file")
                      if path.exists())  # fmt: skip
    assert (project.folder / "out/first").read_text().startswith(content)
    assert project.doit("explain") == "everything is up to date\n"


def test_a_task_beside_it_is_recorded(project: Project) -> None:
    project.during("first", append, "-n", "2")
    assert project.ran("beside") == []


def test_what_loading_has_read_fails_a_task_that_begins_later(project: Project) -> None:
    """The task would be recorded with the new file, but the values of the old one are used."""

    def another(top: Path) -> None:
        (top / "loaded.toml").write_text("level = 2\n")

    status, said = project.during("early", another, "loaded", "-n", "1")
    told = f"error: loaded: {project.folder}/loaded.toml changed since this run began"
    assert (status, said.count(told), said.count("error: ")) == (1, 1, 1), said
    assert not (project.folder / "out/loaded").exists()
    assert project.ran("loaded") == ["loaded"]
    assert (project.folder / "out/loaded").read_text() == "other1level = 2\n2"


def test_a_file_of_the_output_folder_may_be_written_again_with_the_same_content(project: Project) -> None:
    project.doit("first", "beside")

    def again(top: Path) -> None:
        (top / "out/new").write_text((top / "out/first").read_text())
        (top / "out/new").rename(top / "out/first")

    assert project.during("last", again)[0] == 0
    assert project.ran() == []

    (project.folder / "out/last").unlink()

    def otherwise(top: Path) -> None:
        (top / "out/first").write_text("x")

    status, said = project.during("last", otherwise)
    assert (status, "error: last: out/first changed while the task ran" in said) == (1, True), said
    assert project.ran() == ["first", "last"]


@pytest.mark.parametrize("size", ["same", "another size"])
def test_an_edit_between_runs_that_keeps_the_time_is_seen(project: Project, size: str) -> None:
    project.doit()
    path = project.folder / "input"
    before = path.stat()
    path.write_text("two" if size == "same" else "twofold")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert project.ran() == ["first", "last"]


def test_modes_links_and_empty_folders_of_a_tree_are_inputs(project: Project) -> None:
    project.doit()
    executable(project.folder)
    said = project.doit("explain", "first").splitlines()
    assert said == ["first would run:", f"  layout.{project.folder}/tree/file: 'a file' -> 'executable'"]
    assert project.ran() == ["first"]
    new_file(project.folder)
    said = project.doit("explain", "first").splitlines()
    assert said == ["first would run:", f"  new input: {project.folder}/tree/new"]
    (project.folder / "tree/new").unlink()
    shutil.rmtree(project.folder / "tree/empty")
    assert project.ran() == ["first"]
    assert project.ran() == []


def test_a_time_alone_is_no_change(project: Project) -> None:
    project.doit()
    for name in ("input", "tree/file", "out/first"):
        os.utime(project.folder / name)
    shutil.copytree(project.folder, project.folder.parent / "copy")
    assert project.ran() == []


def test_the_stamp_of_a_file_just_written_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    fresh = input_states.take(str(path))
    assert fresh is not None
    assert not fresh.settled
    assert fresh.record[1:4] == [0, 0, 0]
    assert not InputChecker().check_modified(str(path), path.stat(), fresh.record)
    stamp = list(fresh.stamp)
    assert not InputChecker().check_modified(str(path), path.stat(), [*stamp, "of another content"])
    assert InputChecker().check_modified(str(path), path.stat(), [*fresh.record[:4], "of another content"])


def test_a_file_that_is_gone_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    before = {str(path): input_states.take(str(path)), str(tmp_path / "none"): None}
    path.unlink()
    assert input_states.changed(before, tmp_path) == [str(path), str(tmp_path / "none")]


def test_of_many_names_the_first_are_told() -> None:
    told = runner._changed("badcfe" + "g", "changed").get_msg()
    assert "a, b, c, d, e and 2 more changed, so the task is not done" in told

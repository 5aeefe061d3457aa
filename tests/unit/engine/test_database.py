# SPDX-License-Identifier: MIT
"""doit's memory task by task, and `explain`: a small dodo file, run as a person would."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from doit.dependency import JSONCodec

from tasks.config.system import System, User
from tasks.engine import database, explain
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.secrets import token

DODO = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tasks.engine.targets import UnchangedTargets
from tasks.engine.database import SavedValues

DOIT_CONFIG = {{"default_tasks": ["third"], "verbosity": 2}}
CHECKS = [SavedValues(eval(Path("keys").read_text())), UnchangedTargets([Path("folder")])]

def copy(before, after):
    Path(after).write_text(Path(before).read_text())
    Path("folder").mkdir(exist_ok=True)
    Path("folder", "inside").write_text("as made")
    while after == "two" and Path("hang").exists():
        pass
    assert not Path(f"fail-{{after}}").exists()

def task_all():
    for name, before, after in map(str.split, ("first zero one", "second one two", "third two three")):
        yield {{"basename": name, "actions": [(copy, [before, after])], "file_dep": [before],
               "targets": [after], "uptodate": CHECKS if name == "second" else []}}
"""


class Project:
    """A folder with the dodo file: first, second and third copy a file on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dodo.py").write_text(DODO.format(root=str(CHECKOUT.root)))
        (folder / "zero").write_text("0")
        (folder / "keys").write_text("{'level': 1}")

    def start(self, *words: str) -> subprocess.Popen[str]:
        # Without bytecode files: two runs may be closer together than a second.
        command = [sys.executable, "-B", "-m", "tasks.engine.main", *words]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT.root)}
        return subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def doit(self, *words: str, status: int = 0) -> str:
        process = self.start(*words)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == status, said
        return said

    def ran(self, *words: str) -> list[str]:
        return [line[3:] for line in self.doit(*words).splitlines() if line.startswith("=> ")]

    def why(self, *names: str) -> list[str]:
        return self.doit("explain", *names).splitlines()

    def hang_in_second(self) -> subprocess.Popen[str]:
        """Start a run that stays in `second` while there is a file `hang`."""
        (self.folder / "hang").touch()
        (self.folder / "two").unlink(missing_ok=True)
        process = self.start()
        while not (self.folder / "two").exists():
            assert process.poll() is None
            time.sleep(0.01)
        return process

    def kill_in_second(self) -> None:
        process = self.hang_in_second()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        (self.folder / "hang").unlink()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_what_a_killed_run_finished_stays_finished(project: Project) -> None:
    project.kill_in_second()
    assert project.ran() == ["second", "third"]
    assert project.ran() == []


def test_what_a_killed_run_left_half_done_is_removed(project: Project) -> None:
    left = [".two.abcd_123.part", "folder/.two.abcd_123.old", ".linux.abcd_123.part"]
    kept = [".config.old", "folder/two.part", ".two.part"]
    (project.folder / "folder").mkdir()
    for name in (*left, *kept):
        (project.folder / name).touch()
    (project.folder / left[0]).unlink()
    (project.folder / left[0] / "full").mkdir(parents=True)
    project.doit()
    assert not [name for name in left if (project.folder / name).exists()]
    assert not [name for name in kept if not (project.folder / name).exists()]


def test_a_task_killed_in_the_middle_is_not_done_though_its_inputs_are_as_before(project: Project) -> None:
    project.doit()
    (project.folder / "zero").write_text("other")
    project.kill_in_second()
    (project.folder / "zero").write_text("0")
    (project.folder / "two").write_text("half")
    assert project.ran() == ["first", "second"]
    assert (project.folder / "two").read_text() == "0"


def test_a_failed_task_is_not_done_and_those_before_it_are(project: Project) -> None:
    (project.folder / "fail-two").touch()
    project.doit(status=2)
    (project.folder / "fail-two").unlink()
    assert project.ran() == ["second", "third"]


def test_a_second_run_waits_for_the_first(project: Project) -> None:
    first = project.hang_in_second()
    second = project.start()
    assert second.stdout is not None
    waiting = f"waiting for another run here (process {first.pid})\n"
    assert second.stdout.readline() == waiting
    assert second.poll() is None
    (project.folder / "hang").unlink()
    said, _ = first.communicate(timeout=60)
    assert (first.returncode, said.count("=> ")) == (0, 3)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "=> " not in said, "the first run has made all of it"
    assert project.ran() == []


@pytest.mark.parametrize("name", ["two", "folder/inside"])
def test_what_was_changed_after_it_was_made_is_made_again(project: Project, name: str) -> None:
    project.doit()
    path = project.folder / name
    made = path.read_text()
    path.write_text("x" * len(made))
    assert project.why() == [
        *("second would run:", f"  no longer as it was made: {name}"),
        *("third would run:", *(["  changed: two"] if name == "two" else []), "  after second"),
    ]
    assert project.ran() == ["second"]
    assert path.read_text() == made
    os.utime(path)
    assert project.ran() == [], "a new time alone is no change"
    path.unlink()
    assert project.ran() == ["second"]
    assert project.ran() == []


def test_explain_names_what_changed(project: Project) -> None:
    assert project.why() == [
        *("first would run:", "  it has not been done yet"),
        *("second would run:", "  it has not been done yet", "  after first"),
        *("third would run:", "  it has not been done yet", "  after second"),
    ]
    project.doit()
    assert project.why() == ["everything is up to date"]
    (project.folder / "keys").write_text("{'level': 2, 'more': 'x'}")
    assert project.why() == [
        *("second would run:", "  level: 1 -> 2", "  more: nothing -> 'x'"),
        *("third would run:", "  after second"),
    ]
    assert project.why("first") == ["everything is up to date"]
    assert project.ran() == ["second"]  # which wrote the same: `after` says what may follow
    (project.folder / "zero").write_text("other")
    (project.folder / "three").unlink()
    assert project.why() == [
        *("first would run:", "  changed: zero"),
        *("second would run:", "  after first"),
        *("third would run:", "  missing: three", "  after second"),
    ]


def test_a_secret_that_changes_is_told_and_stored_nowhere(project: Project) -> None:
    """The values are those of a user, an address, a shell line and a text with a token."""
    hashes = ["$6$salt$" + letter * 86 for letter in "ab"]
    tokens = [token(), token()]
    for number in range(2):
        values = {
            "address": f"https://me:hush{number}@host.example/",
            "lines": (f"PASSWORD=hunter{number} start",),
            "text": f"see {tokens[number]}",
            "level": number,
        }
        module = "__import__('tasks.config.system').config.system"
        users = f"{module}.System(users=({module}.User('tc', {hashes[number]!r}),))"
        (project.folder / "keys").write_text(f"{{'system': {users}, **{values!r}}}")
        if number:
            assert project.why("second") == [
                "second would run:",
                "  address: changed",
                "  level: 0 -> 1",
                "  lines: changed",
                "  system.users.tc.password: changed",
                "  text: changed",
            ]
        project.doit()
        assert project.ran() == [], "a secret that stays is no change"
    (project.folder / "keys").write_text("{'level': 1}")
    assert "  system.users.tc.password: changed" in project.why("second")
    project.doit()
    written = [path for path in project.folder.rglob("*") if path.is_file()]
    assert {".doit.db", "runs"} <= {path.relative_to(project.folder).parts[0] for path in written}
    for path in written:
        for secret in (*hashes, *tokens, "hush0", "hush1", "hunter0", "hunter1"):
            assert secret.encode() not in path.read_bytes(), path


def test_explain_shows_no_secret_that_an_earlier_version_stored() -> None:
    check = database.SavedValues({"password": "x", "level": 1})
    before = {"keys": {"password": "'$6$salt$" + "a" * 86 + "'", "level": "0"}}
    changes = check.differences(before)
    assert [explain._change(key, *pair) for key, pair in changes.items()] == [
        "level: 0 -> 1",
        "password: changed",
    ]


def test_a_digest_of_a_secret_is_the_same_everywhere_and_slow_to_make() -> None:
    values = database.flatten({"system": System(users=(User("tc", "*"), User("ann", "!")))})
    kept = [values[f"system.users.{name}.password"] for name in ("tc", "ann")]
    assert all(one.startswith(database.HIDDEN) for one in kept)
    assert len(set(kept)) == 2
    assert kept == [
        database.HIDDEN
        + hashlib.scrypt(repr(word).encode(), salt=b"tcbuild", n=1 << 14, r=8, p=1, dklen=16).hex()
        for word in "*!"
    ]


def test_explain_runs_nothing_and_forgets_nothing(project: Project) -> None:
    project.doit()
    (project.folder / "zero").write_text("other")
    project.why()
    assert (project.folder / "one").read_text() == "0"
    (project.folder / "zero").write_text("0")
    assert project.ran() == []


def test_an_unknown_task_is_one_line(project: Project) -> None:
    process = project.start("explain", "fourth")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == "error: unknown task 'fourth'; ./doit list --all shows them\n"


def test_records_of_another_format_are_dropped_and_one_line_says_so(project: Project) -> None:
    project.doit()
    with closing(sqlite3.connect(project.folder / ".doit.db")) as records:
        records.execute("pragma user_version = 0")
    line = "the records are of another version of tcbuild: every task runs once more"
    said = project.doit().splitlines()
    assert said.count(line) == 1
    assert [word for word in said if word.startswith("=> ")] == ["=> first", "=> second", "=> third"]
    assert "everything is up to date" in project.doit()


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        (f"{CHECKOUT.root}/kconfig/a.config", "${CHECKOUT}/kconfig/a.config"),
        (f"{CHECKOUT.root}-other/a.config", f"{CHECKOUT.root}-other/a.config"),
        ("/usr/bin/gcc", "/usr/bin/gcc"),
        ("zero", "zero"),
        ("deps:", "deps:"),
    ],
)
def test_records_hold_no_path_of_the_checkout(path: str, stored: str) -> None:
    assert database.stored_path(path) == stored
    assert database.full_path(stored) == path


def test_values_hold_no_path_of_the_checkout() -> None:
    found = database.flatten(
        {"file": CHECKOUT.root / "kconfig/a.config", "files": (str(CHECKOUT.root / "a"),)}
    )
    assert found == {"file": "PosixPath('${CHECKOUT}/kconfig/a.config')", "files": "('${CHECKOUT}/a',)"}


def test_a_moved_checkout_finds_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(top: Path) -> database.Backend:
        monkeypatch.setattr(CHECKOUT, "root", top)
        return database.Backend(str(tmp_path / "records"), JSONCodec())

    one = records(Path("/one"))
    one.set("iso", "deps:", ("/one/a", "/usr/b"))
    one.set("iso", "/one/a", (1.0, 2, "md5"))
    one.dump()
    other = records(Path("/other"))
    assert other.get("iso", "deps:") == ["/other/a", "/usr/b"]
    assert other.get("iso", "/other/a") == [1.0, 2, "md5"]
    assert other.get("iso", "/one/a") is None
    other.dump()


def test_a_moved_tree_finds_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records(*trees: str) -> database.Backend:
        monkeypatch.setattr(CHECKOUT, "trees", tuple(map(Path, trees)))
        return database.Backend(str(tmp_path / "records"), JSONCodec())

    # The checkout may lie in a tree.
    one = records("/one", str(CHECKOUT.root.parent))
    inside, around = f"{CHECKOUT.root}/a", f"{CHECKOUT.root.parent}/a"
    one.set("iso", "deps:", ("/one/a", inside, around))
    one.set("iso", "/one/a", (1.0, 2, "md5"))
    one.dump()
    other = records("/elsewhere/two", "/elsewhere/around")
    assert other.get("iso", "deps:") == ["/elsewhere/two/a", inside, "/elsewhere/around/a"]
    assert other.get("iso", "/elsewhere/two/a") == [1.0, 2, "md5"]
    assert database.flatten({"file": "/elsewhere/two/a"}) == {"file": "'${TREE1}/a'"}
    other.dump()


@dataclass(frozen=True)
class Part:
    name: str
    size: int


@dataclass(frozen=True)
class Whole:
    level: str
    parts: tuple[Part, ...] = ()


def test_values_are_taken_apart_to_the_key_that_changes() -> None:
    before = database.flatten({"kernel": Whole("a", (Part("x", 1), Part("y", 2))), "epoch": 3})
    assert before == {
        "kernel.level": "'a'",
        "kernel.parts": "['x', 'y']",
        "kernel.parts.x.name": "'x'",
        "kernel.parts.x.size": "1",
        "kernel.parts.y.name": "'y'",
        "kernel.parts.y.size": "2",
        "epoch": "3",
    }
    now = database.SavedValues({"kernel": Whole("a", (Part("y", 9), Part("x", 1))), "epoch": 3})
    assert now.differences({"keys": before}) == {
        "kernel.parts": ("['x', 'y']", "['y', 'x']"),
        "kernel.parts.y.size": ("2", "9"),
    }
    assert now.differences({})["epoch"] == ("nothing", "3")


def test_a_folder_with_too_long_a_path_is_a_line(tmp_path: Path) -> None:
    """SQLite takes 512 bytes.  Up to there it works."""
    fits, too_long = tmp_path, tmp_path
    while len(str(fits)) < 300:
        fits /= "x" * 40
    fits /= "x" * (database.MAX_PATH - len(str(fits)) - len("/.doit.sqlite") - 1)
    while len(str(too_long)) < 620:
        too_long /= "x" * 60
    for folder in (fits, too_long):
        backend = database.Backend(str(folder / ".doit.sqlite"), JSONCodec())
        backend.set("task", "key", "value")
        if folder == fits:
            backend.dump()
            assert (folder / ".doit.sqlite").is_file()
            continue
        with pytest.raises(UserError, match=r"SQLite takes no path of \d+ bytes, at most 504") as caught:
            backend.dump()
        assert "out=DIR" in caught.value.hint

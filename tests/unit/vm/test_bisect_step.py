# SPDX-License-Identifier: MIT
"""What the end of a build, and of a check in the guest, says of a commit.

A script stands in for `./doit` here, so that it ends in every way; tests/vm/test_bisect.py has the real one.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.config import inheritance, inputs
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.origins import git_clone
from tasks.origins.lock import load_lock
from tasks.origins.sources.git import GitSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import Interrupted, UserError
from tasks.util.toml_schema import read_toml
from tasks.vm import bisect_step
from tasks.vm.bisect import Commit
from tests.support.gitrepo import GitRepository
from tests.support.settings import with_values

DOIT = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> calls
case " $* " in
*" qemu:run "*) cat guest; exit "$(cat guest-status)" ;;
esac
while [ "$1" != --events ]; do shift; done
cp events "$2"
cat build
exit "$(cat build-status)"
"""
ASKED = ("--firmware=direct", "--", "true")


@dataclasses.dataclass
class Place:
    folder: Path
    builder: bisect_step.Builder
    commit: Commit

    def build(self, status: int, said: str = "", **failed: str) -> None:
        """Let the next build end so; failed: task -> its error."""
        events = [
            {"event": "end", "task": task.replace("_", ":"), "outcome": "failed", "error": error}
            for task, error in failed.items()
        ]
        self._write({"build-status": str(status), "build": said})
        (self.folder / "events").write_text("".join(f"{json.dumps(one)}\n" for one in events))

    def guest(self, status: int, said: str = "") -> None:
        self._write({"guest-status": str(status), "guest": said})

    def _write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def judge(self) -> tuple[str, str]:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        step = self.builder(self.commit, logs)
        assert (step.commit, step.subject) == (self.commit.id, self.commit.subject)
        return step.verdict, step.why


@pytest.fixture
def place(make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    settings = make_settings()
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "doit").write_text(DOIT)
    (folder / "doit").chmod(0o755)
    monkeypatch.setattr(CHECKOUT, "root", folder)
    repository = GitRepository(tmp_path / "linux")
    (found,) = repository.import_commits([("one", "text")], "file")
    clone = git_clone.of(tmp_path / "cache", repository.url)
    clone.complete()
    top = tmp_path / "out/bisect"
    builder = bisect_step.Builder(settings, clone, top, ("offline=1",), ASKED)
    made = Place(folder, builder, Commit(found, "n", "2023", "one"))
    made.build(0)
    made.guest(0)
    return made


def test_the_profile_of_the_tree_has_the_commit_and_the_other_locks(place: Place) -> None:
    assert place.judge() == ("good", "the check ends with 0")
    top, name = place.builder.top, place.builder.settings.paths.name
    given = ["offline=1", f"profile={name}", f"out={top}/build", f"tree={top}/tree"]
    calls = (place.folder / "calls").read_text().splitlines()
    events = place.folder / "logs/events.jsonl"
    assert calls == [
        shlex.join([*given, "run", "--events", str(events), "core"]),
        shlex.join([*given, "qemu:run", *ASKED]),
    ]
    file = top / "tree/profiles" / f"{name}.toml"
    table = inheritance.merged({}, read_toml(file))
    assert table["inherit"] == name
    source = GitSource(**table["kernel"]["source"])
    lock = load_lock(inheritance.lock_of(file))
    entry = source.locked_in(lock)
    assert entry and (entry.commit, entry.ref) == (place.commit.id, place.commit.id)
    before = inputs.pinned_lock(place.builder.settings.paths)
    assert dataclasses.replace(lock, commit=()) == dataclasses.replace(
        load_lock(inheritance.lock_of(file)), commit=()
    )
    assert {one.name for one in lock.package} == {one.name for one in before.package}


@pytest.mark.parametrize(
    ("status", "said", "verdict"),
    [
        (0, "", ("good", "the check ends with 0")),
        (1, "", ("bad", "the check ends with 1")),
        (121, "", ("bad", "the guest's kernel panicked")),
        (122, "", ("bad", "the guest ended")),
        (123, "", ("bad", "the guest did not come up")),
        (124, "", ("bad", "the check did not end in time")),
        (125, "cannot tell\n", ("skip", "the check ends with 125")),
        (139, "", ("bad", "the check ends with 139")),
    ],
)
def test_how_the_check_ends_is_the_verdict(
    place: Place, status: int, said: str, verdict: tuple[str, str]
) -> None:
    place.guest(status, said)
    assert place.judge() == verdict


@pytest.mark.parametrize("task", ["linux", "kconfig", "kconfig_base", "kernel"])
def test_what_cannot_be_built_is_skipped_and_not_booted(place: Place, task: str) -> None:
    place.build(1, **{task: "make failed: a.c:1: error: broken\n  | more"})
    assert place.judge() == ("skip", "cannot be built: make failed: a.c:1: error: broken")
    assert len((place.folder / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("failed", "said", "message"),
    [
        ({"rootfs": "no such package"}, "", "rootfs: no such package"),
        ({"kernel": "make: the disk is full"}, "", "kernel: make: the disk is full"),
        ({"kernel": "make was ended by signal 9"}, "", "was ended by signal 9"),
        ({"kernel": "a.c: error", "rootfs": "broken"}, "", "rootfs: broken"),
        ({}, "error: unknown profile\n", "unknown profile"),
        ({}, "", "./doit core fails"),
    ],
)
def test_what_the_commit_is_not_at_fault_for_ends_the_run(
    place: Place, failed: dict[str, str], said: str, message: str
) -> None:
    place.build(1, said, **failed)
    with pytest.raises(UserError, match=message):
        place.judge()


def test_a_guest_that_cannot_be_started_ends_the_run(place: Place) -> None:
    place.guest(125, "error: qemu-system-x86_64 is not installed\n")
    with pytest.raises(UserError, match="qemu-system-x86_64 is not installed"):
        place.judge()


def test_ctrl_c_ends_the_run(place: Place) -> None:
    place.build(130)
    with pytest.raises(Interrupted):
        place.judge()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"good": ""}, "--good is missing"),
        ({"bad": ""}, "--bad is missing"),
        ({"timeout": 0}, "0 seconds: expected at least 1"),
        ({"words": []}, "no command is given"),
        ({"scripts": ["/no/such/file"]}, "--script /no/such/file: no such file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_fetched(
    make_settings: Callable[..., Settings], given: dict[str, Any], message: str
) -> None:
    settings = make_settings()
    options: dict[str, Any] = {
        "good": "a",
        "bad": "b",
        "timeout": 300,
        "boot": 240,
        "scripts": [],
        "root": False,
    }
    options |= {"firmware": "direct", "medium": "cd", "memory": 1024}
    words = given.pop("words", ["true"])
    with pytest.raises(UserError, match="the kernel of profile apt is not from git"):
        bisect_step.bisect(settings, (), words, **options)
    kernel = Kernel(GitSource(url="file:///no/such", ref="main"), "base.config")
    mine = with_values(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))
    with pytest.raises(UserError, match=message):
        bisect_step.bisect(mine, (), words, **(options | given))
    with pytest.raises(UserError, match="file:///no/such: "):
        bisect_step.bisect(mine, (), ["true"], **options)
    assert not (mine.paths.output / "bisect").exists()

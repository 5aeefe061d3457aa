# SPDX-License-Identifier: MIT
"""The search for a fault, by the real git and programs compiled by the real compiler; no kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.origins import git_clone
from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.vm.bisect import Bisect, Commit, Found, Question, Step, Verdict, resolve, text
from tests.support.gitrepo import GitRepository

PROGRAM = "int main(void) {{ return {value}; }} /* {number} */\n"
COMMITS, FAULT = 16, 11


@dataclass
class Project:
    """A repository of 17 commits of a C program; from number 11 on it ends with 1; some do not compile."""

    folder: Path
    broken: Sequence[int]
    judged: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = repository = GitRepository(self.folder / "program")
        versions = []
        for number in range(COMMITS + 1):
            source = PROGRAM.format(value=int(number >= FAULT), number=number)
            source += "int broken(\n" if number in self.broken else ""
            versions.append((f"change {number}", source))
        self.ids = repository.import_commits(versions, "main.c")
        repository.git("tag", "first", self.ids[0])
        self.clone = git_clone.of(self.folder / "cache", repository.url)

    def judge(self, commit: Commit, folder: Path) -> Step:
        """Compile the commit's program and run it, as a step does with a kernel."""
        self.judged.append(commit.subject)
        self.clone.export(commit.id, folder)
        program = folder / "program"
        if run(["gcc", "-o", program, folder / "main.c"], check=False).status:
            return Step(commit.id, commit.subject, "skip", "cannot be built")
        status = run([program], check=False).status
        return Step(commit.id, commit.subject, "bad" if status else "good", f"ends with {status}", built=1)

    def bisect(
        self, good: str = "first", bad: str = "main", asked: tuple[str, ...] = ("--", "check")
    ) -> Bisect:
        found = resolve(self.clone, [good, bad], offline=False)
        question = Question(self.clone.label, found[0], found[1], asked)
        return Bisect(self.folder / "out/bisect", self.clone, question)

    def find(self, judge: Callable[[Commit, Path], Step] | None = None) -> Found:
        return self.bisect().find(judge or self.judge)


def test_the_first_bad_commit_is_found_in_as_many_steps_as_its_logarithm(tmp_path: Path) -> None:
    project = Project(tmp_path, ())
    found = project.find()
    assert found.sure
    assert [(one.id, one.subject) for one in found.commits] == [(project.ids[FAULT], f"change {FAULT}")]
    assert len(found.steps) == 4
    top = tmp_path / "out/bisect"
    assert {path.name for path in top.iterdir()} == {
        *("git", "steps", "steps.json", "report.json", "report.txt", "bisect.log")
    }
    assert {path.name for path in (top / "git").iterdir()} == {".git"}  # no file is checked out
    known = json.loads((top / "report.json").read_text())
    assert known["commits"][0]["id"] == project.ids[FAULT]
    assert [step["verdict"] for step in known["steps"]].count("bad") >= 1
    assert all((top / step["log"] / "main.c").is_file() for step in known["steps"])
    report = (top / "report.txt").read_text()
    assert report == text(found)
    assert report.startswith(
        f"first bad commit: {project.ids[FAULT]}\n  change {FAULT}\n  n <n@invalid>, 2023-"
    )
    assert "4 steps:\n   1 " in report and " (1 objects, " in report
    assert f"# first bad commit: [{project.ids[FAULT]}]" in (top / "bisect.log").read_text()


@pytest.mark.parametrize("broken", [(8, 12), (9, 10), (12, 13)])
def test_what_does_not_compile_is_skipped(tmp_path: Path, broken: tuple[int, int]) -> None:
    project = Project(tmp_path, broken)
    found = project.find()
    assert len([step for step in found.steps if step.verdict == "skip"]) <= 2
    if FAULT - 1 in broken:
        assert not found.sure
        assert {one.id for one in found.commits} == {*project.ids[9:12]}
        assert "is one of these, of which some could not be judged:\n  " in text(found)
    else:
        assert found.sure and found.commits[0].id == project.ids[FAULT]
    assert len(project.judged) == len(set(project.judged)) <= 6


class Killed(BaseException):
    """Stands for a kill: nothing after it is done."""


@pytest.mark.parametrize("when", ["while a commit is built", "before git is told"])
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, (8,))

    def killed(commit: Commit, folder: Path) -> Step:
        if len(project.judged) == 2:
            (folder / "half").touch()
            raise Killed
        return project.judge(commit, folder)

    if when == "before git is told":
        real = Bisect._advance

        def advance(self: Bisect, *words: str) -> None:
            if len(project.judged) == 2:
                raise Killed
            real(self, *words)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Bisect, "_advance", advance)
            project.find()
    else:
        with pytest.raises(Killed):
            project.find(killed)
    assert len(project.judged) == 2
    before = list(project.judged)
    capsys.readouterr()
    found = project.find()
    assert "bisect: goes on after 2 steps\n" in capsys.readouterr().out
    assert found.sure and found.commits[0].id == project.ids[FAULT]
    assert project.judged[:2] == before
    assert len(project.judged) == len(set(project.judged)) == len(found.steps)
    assert not list((tmp_path / "out").rglob("half"))
    # The whole once more asks nobody.
    assert project.find() == found
    assert len(project.judged) == len(found.steps)


def test_a_fault_of_the_machine_is_no_verdict(tmp_path: Path) -> None:
    project = Project(tmp_path, ())

    def failing(commit: Commit, folder: Path) -> Step:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        project.find(failing)
    assert project.find().commits[0].id == project.ids[FAULT]


def test_another_question_begins_anew_and_keeps_what_was_built(tmp_path: Path) -> None:
    project = Project(tmp_path, ())
    project.find()
    built = tmp_path / "out/bisect/build/object"
    built.parent.mkdir()
    built.touch()
    asked = len(project.judged)
    found = project.bisect(good=project.ids[9]).find(project.judge)
    assert found.commits[0].id == project.ids[FAULT]
    assert 0 < len(project.judged) - asked == len(found.steps) < 4
    assert built.is_file()


def test_a_branch_that_has_moved_is_where_it_is_now(tmp_path: Path) -> None:
    project = Project(tmp_path, ())
    names = ["first", "main"]
    assert resolve(project.clone, names, offline=False) == [project.ids[0], project.ids[-1]]
    project.repository.git("update-ref", "refs/heads/main", project.ids[FAULT])
    assert resolve(project.clone, names, offline=True) == [project.ids[0], project.ids[-1]]
    assert resolve(project.clone, names, offline=False) == [project.ids[0], project.ids[FAULT]]


def test_good_and_bad_that_do_not_fit_are_told(tmp_path: Path) -> None:
    project = Project(tmp_path, ())

    def always(verdict: Verdict) -> Callable[[Commit, Path], Step]:
        return lambda commit, folder: Step(commit.id, commit.subject, verdict, "says so")

    with pytest.raises(UserError, match=r"has no commit 'nosuch'"):
        project.bisect(good="nosuch")
    with pytest.raises(UserError, match=r"git bisect start: "):
        project.bisect(good="main", bad="first").find(always("good"))
    with pytest.raises(UserError, match="the history is not in the cache, and offline=1 forbids"):
        resolve(git_clone.of(tmp_path / "empty", project.clone.url), ["first", "main"], offline=True)
    # Where all is good, the last one is what was called bad.
    assert project.find(always("good")).commits[0].id == project.ids[-1]

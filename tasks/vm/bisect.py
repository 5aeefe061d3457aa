# SPDX-License-Identifier: MIT
"""`./doit bisect`: find the commit of the kernel that brought a fault, by git's own bisect.

git keeps the state (git-bisect(1)): in a work tree without files, `artifacts/PROFILE/bisect/git`, of the
clone in the cache.  So a run that was killed goes on where it was.  What has become of each commit stands in
`steps.json` there, and the report in `report.txt` and `report.json`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tasks.origins.git_clone import PLAIN, Clone
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import CommandFailed, Result, run

Verdict = Literal["good", "bad", "skip"]

FIRST_BAD = re.compile(r"^# first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)
POSSIBLE = re.compile(r"^# possible first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)
ROUGHLY = re.compile(r"\(roughly (\d+) steps?\)")
FIELDS = "%H%x00%an <%ae>%x00%aI%x00%s"
SHORT = 12


@dataclass(frozen=True)
class Commit:
    """A commit; author: name and address; date: as in ISO 8601."""

    id: str
    author: str
    date: str
    subject: str

    def __str__(self) -> str:
        return f"{self.id[:SHORT]} {self.subject}"


@dataclass(frozen=True)
class Step:
    """What has become of one commit.

    why: one line; log: the folder of its logs, below the bisect's; built: of how many C files objects were
    made; seconds: wall time.
    """

    commit: str
    subject: str
    verdict: Verdict
    why: str
    log: str = ""
    built: int = 0
    seconds: float = 0.0


Judge = Callable[[Commit, Path], Step]
"""Judges a commit, with a folder for its logs.  Raises `UserError` if something else than the commit is at
fault: then the same commit is judged by the next run."""


@dataclass(frozen=True)
class Question:
    """What is searched: url, good, bad: ids of commits of a repository; asked: the words of the check."""

    url: str
    good: str
    bad: str
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The result: the first bad commit, or those that it may be if all between are skipped."""

    question: Question
    commits: tuple[Commit, ...]
    steps: tuple[Step, ...]
    log: str

    @property
    def sure(self) -> bool:
        """Whether it is one commit."""
        return len(self.commits) == 1


class Bisect:
    """A bisect in the folder `top`, with the clone that has all commits."""

    def __init__(self, top: Path, clone: Clone, question: Question) -> None:
        self.top, self.clone, self.question = top, clone, question
        self.tree, self.record = top / "git", top / "steps.json"
        self.steps: list[Step] = []

    def find(self, judge: Judge) -> Found:
        """Judge one commit after another, until git knows the first bad one; write the report.

        Raises `UserError` as `judge` does, and if the good commit is no ancestor of the bad one, and bad.
        """
        self._begin()
        while not (found := self._found()):
            commit = self._commit(self._git("rev-parse", "--verify", "BISECT_HEAD"))
            if not (self.steps and self.steps[-1].commit == commit.id):
                self._judge(commit, judge)
            # A run that was killed here has not told git.
            self._advance(self.steps[-1].verdict, commit.id)
        return self._report(found)

    def _begin(self) -> None:
        """Take up the bisect of an earlier run if it asks the same, else start one."""
        if self._is_begun():
            logger.info(f"bisect: goes on after {len(self.steps)} steps")
            return
        for name in ("git", "steps", "steps.json", "report.json", "report.txt", "bisect.log"):
            remove_tree(self.top / name)  # what was built stays
        self.top.mkdir(parents=True, exist_ok=True)
        git = ["git", f"--git-dir={self.clone.top}", "worktree"]
        run([*git, "prune"], env=PLAIN)
        run([*git, "add", "--quiet", "--no-checkout", "--detach", self.tree, self.question.bad], env=PLAIN)
        self._record()
        self._advance("start", "--no-checkout", self.question.bad, self.question.good)

    def _is_begun(self) -> bool:
        try:
            known = json.loads(self.record.read_text())
            asked = tuple(known["question"].pop("asked"))
            same = Question(**known["question"], asked=asked) == self.question
            self.steps = [Step(**step) for step in known["steps"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            same = False
        if same and self.tree.is_dir() and self._run("bisect", "log", check=False).status == 0:
            return True
        self.steps = []
        return False

    def _judge(self, commit: Commit, judge: Judge) -> None:
        number = len(self.steps) + 1
        folder = self.top / "steps" / f"{number:02}-{commit.id[:SHORT]}"
        remove_tree(folder)  # of a run that was killed
        folder.mkdir(parents=True)
        logger.info(f"bisect: step {number}: {commit}")
        started = time.monotonic()
        step = judge(commit, folder)
        seconds = round(time.monotonic() - started, 1)
        step = dataclasses.replace(step, log=str(folder.relative_to(self.top)), seconds=seconds)
        logger.info(f"bisect: {step.verdict}: {step.why}")
        self.steps.append(step)
        self._record()

    def _advance(self, *words: str) -> None:
        """Tell git a verdict.  Raises `UserError` if it cannot go on."""
        done = self._run("bisect", *words, check=False)
        if left := ROUGHLY.search(done.stdout):
            logger.info(f"bisect: about {int(left[1]) + 1} steps are left")
        if done.status and not self._found():
            why = done.stdout.strip().splitlines()
            raise UserError(
                f"git bisect {words[0]}: {' '.join(why[-3:]) or 'failed'}", "check --good and --bad"
            )

    def _found(self) -> list[str]:
        """Return the ids of the commits that git has found, none before that."""
        log = self._run("bisect", "log", check=False).stdout
        return FIRST_BAD.findall(log)[-1:] or POSSIBLE.findall(log)

    def _commit(self, found: str) -> Commit:
        said = self._git("show", "--no-patch", f"--format={FIELDS}", f"{found}^{{commit}}")
        return Commit(*said.split("\0"))

    def _record(self) -> None:
        state = {"question": asdict(self.question), "steps": [asdict(step) for step in self.steps]}
        write_atomic(self.record, json.dumps(state, indent=2) + "\n")

    def _report(self, found: Sequence[str]) -> Found:
        commits = tuple(self._commit(one) for one in found)
        result = Found(self.question, commits, tuple(self.steps), self._git("bisect", "log"))
        write_atomic(self.top / "report.json", json.dumps(asdict(result), indent=2) + "\n")
        write_atomic(self.top / "report.txt", text(result))
        write_atomic(self.top / "bisect.log", f"{result.log}\n")
        return result

    def _git(self, *words: str) -> str:
        return self._run(*words).stdout.strip()

    def _run(self, *words: str, check: bool = True) -> Result:
        return run(["git", "-C", self.tree, *words], env=PLAIN, check=check)


def text(found: Found) -> str:
    """Return a report for a person."""
    asked = found.question
    lines = []
    if found.sure:
        (commit,) = found.commits
        lines += [
            f"first bad commit: {commit.id}",
            f"  {commit.subject}",
            f"  {commit.author}, {commit.date}",
        ]
    else:
        lines.append("the first bad commit is one of these, of which some could not be judged:")
        lines += [f"  {commit}" for commit in found.commits]
    lines += ["", f"repository: {asked.url}", f"good: {asked.good}", f"bad: {asked.bad}"]
    lines += [f"check: {' '.join(asked.asked)}", "", f"{len(found.steps)} steps:"]
    for number, step in enumerate(found.steps, 1):
        built = f"{step.built} objects, " if step.built else ""
        lines.append(f"  {number:2} {step.verdict:4} {step.commit[:SHORT]} {step.subject}")
        lines.append(f"          {step.why} ({built}{step.seconds:.0f} s; {step.log})")
    return "\n".join(lines) + "\n"


def resolve(clone: Clone, names: Sequence[str], *, offline: bool) -> list[str]:
    """Return the ids of the commits that tags, branches or ids name, with their history in the clone.

    A branch may have moved since, so it is asked for again, unless `offline`.
    Raises `UserError` for an unknown name, and if the history is not in the cache while `offline` is set.
    """
    whole = clone.is_whole
    found = [_id(clone, name) if whole else "" for name in names]
    moving = whole and not offline and any(_id(clone, f"refs/heads/{name}") for name in names)
    if moving or not all(found):
        if offline:
            raise UserError("the history is not in the cache, and offline=1 forbids to fetch it")
        clone.complete()
        found = [_id(clone, name) for name in names]
    for name, one in zip(names, found, strict=True):
        if not one:
            raise UserError(f"{clone.label} has no commit {name!r}", "name a tag, a branch or an id")
    return found


def _id(clone: Clone, name: str) -> str:
    try:
        return clone.text("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    except CommandFailed:
        return ""

# SPDX-License-Identifier: MIT
"""One step of `./doit bisect`: build the kernel of a commit, boot it, and run the check in the guest.

A tree of ours (`tree=`) has the profile with that commit as its kernel's source, and `./doit` builds and
boots it as any other profile.  All steps share one output folder, so that make compiles what differs.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tasks.config import inheritance, inputs
from tasks.config.settings import Settings
from tasks.origins.git_clone import Clone
from tasks.origins.lock import Lock, LockedCommit
from tasks.origins.sources.git import GitSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import EXIT_INTERRUPTED, Interrupted, UserError
from tasks.util.files import write_if_changed
from tasks.util.process import run
from tasks.vm import run as vm_run
from tasks.vm.bisect import Bisect, Commit, Question, Step, Verdict, resolve, text
from tasks.vm.run import SEPARATOR

OF_COMMIT = ("linux", "kconfig", "kernel")
"""The tasks that fail if a commit cannot be built."""
ELSEWHERE = re.compile(
    r"disk is full|larger than this shell allows|is not installed|forbids to fetch|not in the cache|"
    r"could not be downloaded|was ended by signal"
)
"""In the error of such a task: the machine or the network is at fault, and not the commit."""
OBJECT = re.compile(r"^\s+CC\s", re.MULTILINE)
WHY = {
    vm_run.EXIT_PANICKED: "the guest's kernel panicked",
    vm_run.EXIT_ENDED: "the guest ended",
    vm_run.EXIT_NO_PROMPT: "the guest did not come up",
    vm_run.EXIT_TIMED_OUT: "the check did not end in time",
}
"""Exit status of `./doit qemu:run` -> what that means."""
ERROR = re.compile(r"^error: (.*)", re.MULTILINE)


@dataclass(frozen=True)
class Builder:
    """Judges commits: a `bisect.Judge`.

    settings: of the profile; top: the bisect's folder; variables: further words NAME=VALUE for `./doit`;
    asked: what `./doit qemu:run` gets: options, `--`, and the check's words.
    """

    settings: Settings
    clone: Clone
    top: Path
    variables: tuple[str, ...]
    asked: tuple[str, ...]

    def __call__(self, commit: Commit, folder: Path) -> Step:
        """Build and ask.  Raises `UserError` if something else than the commit is at fault."""
        self._write_tree(commit)
        kernel_log = self.top / "build/logs/kernel.log"
        kernel_log.unlink(missing_ok=True)
        why = self._build(folder)
        built = len(OBJECT.findall(kernel_log.read_text(errors="replace"))) if kernel_log.is_file() else 0
        if kernel_log.is_file():
            (folder / "kernel.log").write_bytes(kernel_log.read_bytes())
        if why:
            return Step(commit.id, commit.subject, "skip", f"cannot be built: {why}", built=built)
        return Step(commit.id, commit.subject, *self._ask(folder), built=built)

    def _write_tree(self, commit: Commit) -> None:
        """Write the tree whose profile has the commit as its kernel."""
        name = self.settings.paths.name
        source = {"kind": "git", "url": self.clone.url, "ref": commit.id}
        table = {"inherit": name, "kernel": {"source": source}}
        file = self.top / "tree/profiles" / f"{name}.toml"
        write_if_changed(file, f"# Written by `./doit bisect`.\n{tomli_w.dumps(table)}")
        tree = self.clone.text("rev-parse", f"{commit.id}^{{tree}}")
        locked = (LockedCommit(self.clone.url, commit.id, commit.id, tree),)
        write_if_changed(inheritance.lock_of(file), self._lock(locked).to_toml())

    def _lock(self, commit: tuple[LockedCommit, ...]) -> Lock:
        return dataclasses.replace(inputs.pinned_lock(self.settings.paths), commit=commit)

    def _doit(self, words: Sequence[str], log: Path) -> int:
        """Run `./doit` for the tree's profile; return its exit status."""
        trees = [*CHECKOUT.trees, self.top / "tree"]
        given = [*self.variables, f"profile={self.settings.paths.name}", f"out={self.top / 'build'}"]
        given += [f"tree={tree}" for tree in trees]
        status = run([CHECKOUT.root / "doit", *given, *words], log=log, check=False).status
        if status == EXIT_INTERRUPTED:
            raise Interrupted
        return status

    def _build(self, folder: Path) -> str:
        """Build kernel and core; return why the commit cannot be built, "" if it can."""
        events, log = folder / "events.jsonl", folder / "build.log"
        if not self._doit(["run", "--events", str(events), "core"], log):
            return ""
        failed: list[tuple[str, str]] = []
        for line in events.read_text().splitlines() if events.is_file() else []:
            event = json.loads(line)
            if event["event"] == "end" and event["outcome"] == "failed":
                failed.append((event["task"].partition(":")[0], event.get("error", "")))
        for task, error in failed:
            if task not in OF_COMMIT or ELSEWHERE.search(error):
                raise UserError(f"{task}: {error}", "the same command goes on with this commit")
        if not failed:
            said = ERROR.findall(log.read_text(errors="replace"))
            message = said[-1] if said else "./doit core fails"
            raise UserError(message, "the same command goes on with this commit", f"  log: {log}")
        return failed[0][1].partition("\n")[0]

    def _ask(self, folder: Path) -> tuple[Verdict, str]:
        log = folder / "check.log"
        status = self._doit(["qemu:run", *self.asked], log)
        if status == 0:
            return "good", "the check ends with 0"
        if status == vm_run.EXIT_FAILED:
            # So may the check, as `git bisect run` has it; then tcbuild says no error.
            if said := ERROR.findall(log.read_text(errors="replace")):
                raise UserError(said[-1], "the same command goes on with this commit", f"  log: {log}")
            return "skip", f"the check ends with {status}"
        return "bad", WHY.get(status, f"the check ends with {status}")


def bisect(settings: Settings, variables: Sequence[str], words: Sequence[str], **options: Any) -> str:
    """Do what the options of `./doit bisect` ask for; return the report.

    variables: words NAME=VALUE for `./doit`; words: of the check, as `run.programs` reads them.
    Raises `UserError` for a kernel that is not from git, and as `Bisect.find` does.
    """
    source = settings.profile.kernel.source
    if not isinstance(source, GitSource):
        message = f"the kernel of profile {settings.paths.name} is not from git"
        raise UserError(message, 'its source must be { kind = "git", url = ..., ref = ... }')
    for name in ("good", "bad"):
        if not options[name]:
            raise UserError(f"--{name} is missing", "./doit bisect --good v6.1 --bad v6.2 -- COMMAND")
    for seconds in (options["timeout"], options["boot"]):
        vm_run.check_seconds(seconds)
    vm_run.programs(words, [Path(script) for script in options["scripts"]])  # there must be one
    settings.paths.require_plain_output()
    clone, top = source.clone(settings.paths.cache), settings.paths.output.absolute() / "bisect"
    names = (options.pop("good"), options.pop("bad"))
    good, bad = resolve(clone, names, offline=settings.network.offline)
    asked = (*_as_words(options), SEPARATOR, *words)
    question = Question(clone.label, good, bad, asked)
    builder = Builder(settings, clone, top, tuple(variables), asked)
    return text(Bisect(top, clone, question).find(builder))


def _as_words(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words for `./doit qemu:run` that mean these options of it."""
    for script in options["scripts"]:
        yield f"--script={script}"
    if options["root"]:
        yield "--root"
    given = {"firmware": "firmware", "medium": "media", "memory": "memory", "timeout": "timeout"}
    for name, word in (given | {"boot": "boot-timeout"}).items():
        yield f"--{word}={options[name]}"

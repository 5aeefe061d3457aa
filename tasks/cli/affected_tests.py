# SPDX-License-Identifier: MIT
"""Which files of tests a change touches, for `./doit test:affected`; docs/contributing.md has the rules.

A file of tests stands on the names that it uses, on what these use, and on the files that they name
(tasks/cli/name_graph.py).  One that starts `./doit` stands on what every run loads, on the tasks that it
names, and on all tasks that these need: their actions and the files that they read.
"""

from __future__ import annotations

import ast
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.cli import name_graph, test_tasks, testing
from tasks.cli.commands import COMMANDS, Run
from tasks.cli.name_graph import Names, node
from tasks.engine import code, explain
from tasks.report import docs
from tasks.util.checkout import CHECKOUT, KINDS
from tasks.util.errors import UserError
from tasks.util.process import run, spawn

TESTS, CODE = "tests/", "tasks/"
WHOLE = "tests/unit"
"""Files of tests that stand in this folder itself look at all of the checkout."""
TIERS = ("tests/unit", "tests/tools", "tests/vm")
CONFTEST = "conftest.py"
RUN = "any run of ./doit"
STARTS_RUN = {"./doit", "tasks.cli.main"}
RUN_BY = ("doit", "requirements.lock", "dodo.py::*", "tasks/bootstrap.py::*", "tasks/cli/main.py::*")
IMAGE = ("iso", "disk")
"""Tasks that make what a test finds in artifacts/ by one of the names of BUILT."""
BUILT_BY, BUILT, COPY = "tests/support/built.py", ("built", "compiled", "with_source"), "copy_checkout"


@dataclass
class Chosen:
    """reasons: file of tests -> why it is chosen; unknown: changed file that no test stands on -> its tier.

    need_image: whether some of them find the built image in artifacts/.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    need_image: bool = False

    def paths(self) -> list[str]:
        """Return the tiers that run whole, and the files of tests outside these."""
        tiers = sorted(set(self.unknown.values()))
        inside = tuple(f"{tier}/" for tier in tiers)
        return [*tiers, *(test for test in self.reasons if not test.startswith(inside))]


def files(root: Path) -> list[str]:
    """Return the files of the checkout that git knows or does not ignore, sorted."""
    listed = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    return sorted({name for name in listed.split("\0") if name and (root / name).is_file()})


def changed(root: Path, since: str) -> dict[str, set[str] | None]:
    """Return file -> the names that a Python file binds otherwise than in the commit `since`.

    None stands for all of a file.  Files that git does not know yet are among them.
    since: "" for the commit at which the branch left `main`, or HEAD if there is no `main`.
    Raises `UserError` if `root` is no checkout of git's or has no such commit.
    """
    base = since or _left_main(root)
    listed = _git(root, "diff", "--name-only", "--no-renames", "-z", base, "--")
    found: dict[str, set[str] | None] = {}
    for name in filter(None, listed.split("\0")):
        found[name] = None
        old = run(["git", "-C", root, "show", f"{base}:{name}"], check=False)
        if name.endswith(name_graph.PYTHON) and old.status == 0 and (root / name).is_file():
            with suppress(SyntaxError):
                found[name] = name_graph.differing(old.stdout, (root / name).read_text())
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return found | dict.fromkeys(filter(None, new.split("\0")))


def _left_main(root: Path) -> str:
    for name in ("main", "origin/main"):
        found = run(["git", "-C", root, "merge-base", "HEAD", name], check=False)
        if found.status == 0:
            return found.stdout.strip()
    return "HEAD"


def _git(root: Path, *words: str) -> str:
    return run(["git", "-C", root, *words], hint="--since=COMMIT names a commit of this checkout").stdout


class Graph:
    """What stands on what, in one checkout; tasks: those of dodo.py, as doit has them."""

    def __init__(self, root: Path, known: Iterable[str], tasks: Iterable[Any]) -> None:
        self.names = Names(root, set(known))
        self._root = root
        self._tasks: Mapping[str, Any] = {task.name: task for task in tasks}
        self._named_ones = {*self._tasks, *(command.get_name() for command in COMMANDS)}
        self._users: defaultdict[str, dict[str, None]] = defaultdict(dict)
        own = [path for path in self.names.trees if path.startswith(TESTS)]
        self.tests = [path for path in own if Path(path).name.startswith("test_")]
        for path in self.names.trees:
            for user, used in self.names.edges(path):
                self._users[used][user] = None
        for path in own:
            self._read_tests(path)
        for used in RUN_BY:
            self._users[used][RUN] = None
        for command in set(COMMANDS) - {Run}:  # no run has them all
            made = node("tasks/cli/commands.py", command.__name__)
            self._users[made].pop(node("tasks/cli/commands.py", "COMMANDS"), None)
            self._users[made].pop(node("tasks/cli/commands.py"), None)
            self._users[made][f"task {command.get_name()}"] = None
        self._read_tasks()
        self._read_named_tasks()
        self._users.update({used: dict.fromkeys(sorted(users)) for used, users in self._users.items()})

    def _read_tests(self, path: str) -> None:
        """Add what files of tests have beside their names: fixtures, and runs of `./doit`."""
        for line in self.names.trees[path].body:
            for name in name_graph.bound(line) or [""]:
                user, texts = node(path, name), self._texts(line)
                words = {word.arg for word in self.names.insides[line] if isinstance(word, ast.arg)} | texts
                for above in PurePosixPath(path).parents:
                    fixtures = f"{above}/{CONFTEST}"
                    for word in words & self.names.names.get(fixtures, set()):
                        self._users[node(fixtures, word)][user] = None
                    if fixtures in self.names.trees:  # hooks, and fixtures that are used unnamed
                        self._users[node(fixtures, "")][user] = None
                for word in words & self.names.names[path]:
                    self._users[node(path, word)][user] = None
                if texts & STARTS_RUN or (path, name) == (BUILT_BY, COPY):
                    self._users[RUN][user] = None
                if path == BUILT_BY and name in BUILT:
                    for task in IMAGE:
                        self._users[f"task {task}"][user] = None

    def _read_tasks(self) -> None:
        writers = {target: task.name for task in self._tasks.values() for target in task.targets}
        for task in self._tasks.values():
            user = f"task {task.name}"
            used = {f"task {other}" for other in explain.needs(task, writers)} | {RUN}
            functions = [getattr(action, "py_callable", None) for action in task.actions]
            before = (task.meta or {}).get("before_fork", ())
            for function in functions:  # do() names the module and the function
                used |= self.names.of(f"tasks.{getattr(function, '__name__', '')}")
            for module in code.modules_of((), [check for check, _, _ in task.uptodate], before):
                used |= self.names.of(module)
            for path in map(Path, task.file_dep):
                if path.is_relative_to(self._root):
                    used.add(self.names.existing(str(path.relative_to(self._root))))
            for one in used - {""}:
                self._users[one][user] = None

    def _read_named_tasks(self) -> None:
        """Let what starts `./doit` or takes what was built stand on the tasks that its text names."""
        starts = self.users([RUN])
        for path, tree in self.names.trees.items():
            if path.startswith(TESTS) and path != BUILT_BY:
                for line in tree.body:
                    for name in name_graph.bound(line) or [""]:
                        if node(path, name) in starts:
                            for task in self._named(line):
                                self._users[f"task {task}"][node(path, name)] = None

    def _texts(self, line: ast.stmt) -> set[str]:
        values = {word.value for word in self.names.insides[line] if isinstance(word, ast.Constant)}
        return {value for value in values if isinstance(value, str)}

    def _named(self, line: ast.stmt) -> Iterator[str]:
        """Yield the tasks that a text names: as a word, in `./doit WORDS`, and as the file NAME.tcz."""
        for text in self._texts(line):
            for word in text.split() if text.startswith("./doit ") else [text]:
                name = word.removesuffix(".tcz")
                yield from (one for one in (name, f"tcz:{name}") if one in self._named_ones)
                if word.endswith(":"):  # f"tcz:{name}"
                    yield from (one for one in self._named_ones if one.startswith(word))

    def users(self, changes: Iterable[str], *, of_runs: bool = True) -> dict[str, str]:
        """Return what stands on the nodes `changes`, nearest first, each with the node between or "".

        of_runs: whether what every run of `./doit` stands on counts for each.
        """
        found = dict.fromkeys(changes, "")
        todo = deque(found)
        while todo:
            used = todo.popleft()
            above = [f"{folder}/" for folder in PurePosixPath(used).parents] if "::" not in used else []
            for user in (one for name in (used, *above) for one in self._users.get(name, ())):
                if user not in found and (of_runs or user != RUN):
                    found[user] = used
                    todo.append(user)
        return found

    def nodes(self, path: str, names: Iterable[str] | None) -> list[str]:
        """Return the nodes of a changed file; names: those of its names that differ, None for all."""
        if path not in self.names.trees:
            return [path, node(path)]
        every = self.names.names[path] | {""}
        differ = set(every if names is None else names)
        if Path(path).name == CONFTEST:  # a fixture may be used unnamed
            differ.add("")
        return [path, node(path), *(node(path, name) for name in sorted(differ))]

    def affected(self, path: str, names: Iterable[str] | None = None) -> dict[str, str]:
        """Return the files of tests that stand on a file, each with the node between or "".

        names: those of a Python file's names that differ; None for all of it.
        """
        found = dict.fromkeys(_room(path, self.tests), "")
        # A run reads all profiles and recipes; those of its tasks count.
        of_runs = PurePosixPath(path).parts[0] not in KINDS
        for user, by in self.users(self.nodes(path, names), of_runs=of_runs).items():
            test = user.partition("::")[0]
            if test not in found:
                found[test] = "" if by.partition("::")[0] in ("", path, test) else by
        return {test: found[test] for test in self.tests if test in found}


def choose(root: Path, changes: Mapping[str, set[str] | None], tasks: Iterable[Any]) -> Chosen:
    """Return the files of tests that stand on `changes`, as `changed` returns them.

    tasks: those of dodo.py, as doit has them.  Raises `UserError` for a Python file with a syntax error.
    """
    if not changes:
        return Chosen()
    graph = Graph(root, {*files(root), *changes}, tasks)
    chosen = Chosen()
    for path, names in changes.items():
        if names is not None and not names:
            continue  # comments and docstrings
        hit = graph.affected(path, names)
        for test, by in hit.items():
            chosen.reasons.setdefault(test, f"{path}, by {by}" if by else path)
        if not hit and (root / path).is_file():
            chosen.unknown[path] = next((tier for tier in TIERS if path.startswith(f"{tier}/")), WHOLE)
    for test in graph.tests:
        if str(PurePosixPath(test).parent) == WHOLE:
            chosen.reasons.setdefault(test, "looks at the whole checkout")
    standing = {one.partition("::")[0] for one in graph.users(f"task {name}" for name in IMAGE)}
    chosen.need_image = any(test in standing for test in chosen.reasons if not test.startswith(f"{WHOLE}/"))
    return chosen


def run_chosen(since: str) -> None:
    """Run the tests that stand on what differs from the commit `since`, and say which and why.

    since: as `changed` takes it.  If they need the image, it is built first.
    Raises `UserError` if a test or the build fails.
    """
    CHECKOUT.refuse_installed(CHECKOUT.root / "tests", "tcbuild's own code")
    changes = changed(CHECKOUT.root, since)
    chosen = choose(CHECKOUT.root, changes, docs.declared())
    for test, why in chosen.reasons.items():
        print(f"{test}: {why}")
    for path, tier in chosen.unknown.items():
        print(f"{tier}: no test is known to stand on {path}")
    paths = chosen.paths()
    if not paths:
        print("no test is affected")
        return
    print(f"{len(changes)} changed files affect {len(paths)} files or folders of tests", flush=True)
    command = [f"{CHECKOUT.root}/doit", *test_tasks.IMAGE]
    if chosen.need_image and spawn(command, pipes=False, env=os.environ).wait() != 0:
        raise UserError("the image that these tests need was not built")
    testing.pytest(*paths)


def _room(path: str, tests: Iterable[str]) -> list[str]:
    """Return the files of tests that have the name of a module, in its package's room."""
    if not path.startswith(CODE):
        return []
    package, name = str(PurePosixPath(path).parent).removeprefix(CODE), Path(path).stem
    rooms = [f"{tier}/{package}/test_{name}" for tier in TIERS]
    return [test for test in tests for room in rooms if test == f"{room}.py" or test.startswith(f"{room}_")]

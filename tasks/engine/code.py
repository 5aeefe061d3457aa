# SPDX-License-Identifier: MIT
"""tcbuild's own code as an input of a task: the modules that the task stands on, and their digests.

A task stands on its declaration in dodo.py, on the modules of its actions and checks, and on all
modules that these import (imports inside functions and for type checks count).  It stands on the data
files that these modules read from their own folder by `Path(__file__).with_name("NAME")`, and on the
pinned version of each Python package that one of these modules imports.

The digest of a module is that of its syntax tree without docstrings.  So comments, docstrings and
layout do not count.  Modules that only fetch do not count for other tasks: the sha256 in a lock
names what they bring.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import tasks
from tasks.util.files import Stamp, is_settled, sha256_file, stamp, write_atomic

KEY = "code"
PACKAGE = "tasks"
ROOT = Path(tasks.__file__).parent.parent
FETCHERS = (
    "tasks.config.release",  # what it gives is in the profile's values
    "tasks.fetch",
    "tasks.origins.distribution",
    "tasks.origins.http",
    "tasks.origins.http_session",
    "tasks.origins.mirrors",
    "tasks.origins.published",
    "tasks.origins.suite",
)
DODO = "dodo.py"
RECORD = ".code.json"  # in artifacts/: digests of earlier runs
VERSION = 3
EMPTY_TEXT = "Constant(value='')"
LENGTH = 16  # hex digits of a digest
# A module that was edited after the first import may have been imported before the edit.
# File systems take the time from a clock that is some milliseconds late.
STARTED = tasks.IMPORTED - 20_000_000


@dataclass(frozen=True)
class Facts:
    """What is known of one file: its digest; for a module also what it imports and reads.

    imports: names as written, of modules of tcbuild or of what they hold; packages: top modules of
    Python packages; data: names of files and folders beside it; of the lock, its pins NAME==VERSION;
    of dodo.py, FUNCTION=DIGEST for each function that declares tasks, and =DIGEST for the rest.
    """

    digest: str
    imports: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


class Code:
    """The code of one checkout.  A file is read once; its facts are then kept for the whole process."""

    def __init__(self, root: Path, record: Path) -> None:
        """root: the checkout; record: a file with the facts of earlier runs, which need not exist."""
        self.root = root
        self._record = record
        self._known: dict[str, Any] = {}
        self._facts: dict[str, Facts] = {}
        self._stamps: dict[str, Stamp] = {}
        self._closures: dict[frozenset[str], dict[str, str]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(record.read_text())
            self._known = dict(kept["files"]) if kept["version"] == VERSION else {}
        self._is_new = False

    def digests(self, modules: Iterable[str], task: str = "") -> dict[str, str]:
        """Return the digest of each file that `modules` (`tasks.PACKAGE.MODULE`) stand on.

        Keys are paths below the checkout; for the pin of a Python package, `requirements.lock (NAME)`.
        task: the name of the task whose declaration in dodo.py counts, too; "" for none.
        """
        wanted = frozenset(modules)
        if wanted not in self._closures:
            self._closures[wanted] = dict(sorted(self._find(wanted)))
        return {**self._closures[wanted], **self._declaration(task)}

    def edited(self, modules: Iterable[str], task: str = "") -> list[str]:
        """Return those files of `digests` that have changed since they were read."""
        names = {name.partition(" (")[0] for name in self.digests(modules, task)}
        return sorted(name for name in names if stamp(f"{self.root}/{name}") != self._stamps[name])

    def _declaration(self, task: str) -> dict[str, str]:
        """Return the digest of what dodo.py says of a task: its function, and all that declares no other."""
        if not task or not (self.root / DODO).is_file():
            return {}
        facts = self._facts_of(DODO)
        parts = dict(part.partition("=")[::2] for part in facts.data)
        own = parts.get(f"task_{task.partition(':')[0]}", "")
        return {DODO: f"{own}{parts['']}{facts.digest[LENGTH:]}"}

    def digest_of(self, *modules: str) -> str:
        """Return one digest of `modules` alone, without what they import."""
        return _short(" ".join(self._facts_of(self._paths[module]).digest for module in modules).encode())

    def _find(self, wanted: frozenset[str]) -> Iterator[tuple[str, str]]:
        fetches = any(_is_in(module, ("tasks.fetch",)) for module in wanted)
        todo, seen, packages = list(wanted), set[str](), set[str]()
        while todo:
            module = todo.pop()
            path = self._paths.get(module)
            if module in seen or path is None or (not fetches and _is_in(module, FETCHERS)):
                continue
            seen.add(module)
            facts = self._facts_of(path)
            yield path, facts.digest
            for name in facts.data:
                yield from self._data(os.path.join(os.path.dirname(path), name))
            # Importing a module also runs the packages that it is in.
            todo += [*facts.imports, *_packages_of(module)]
            packages |= {*facts.packages}
        if packages:
            yield from self._pins(packages)

    def _data(self, path: str) -> Iterator[tuple[str, str]]:
        here = self.root / path
        inside = sorted(here.rglob("*")) if here.is_dir() else [here]
        for file in inside:
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(self.root))
                yield name, self._facts_of(name).digest

    def _pins(self, packages: Iterable[str]) -> Iterator[tuple[str, str]]:
        from tasks.util import python_packages

        pins = self._facts_of(python_packages.LOCK).data
        known = dict(pin.split("==", 1) for pin in pins)
        for package in packages:
            name = python_packages.normalized(package)
            # The distribution of `debian` is python-debian, that of `elftools` pyelftools.
            names = (name, f"python-{name}", f"py{name}", f"{name}-python")
            for found in [one for one in names if one in known] or sorted(known):
                yield f"{python_packages.LOCK} ({found})", known[found]

    @functools.cached_property
    def _paths(self) -> dict[str, str]:
        """The files of all modules, by the module's name."""
        found = {}
        for folder, _, names in os.walk(self.root / PACKAGE):
            below = os.path.relpath(folder, self.root)
            for name in names:
                if name.endswith(".py"):
                    module = below if name == "__init__.py" else f"{below}/{name.removesuffix('.py')}"
                    found[module.replace("/", ".")] = f"{below}/{name}"
        return found

    def _facts_of(self, path: str) -> Facts:
        if path not in self._facts:
            file = f"{self.root}/{path}"
            now = Stamp.of(os.stat(file))
            known = self._known.get(path)
            if known and known["stamp"] == list(now):
                facts = Facts(*map(_frozen, known["facts"]))
            else:
                facts = read(Path(file))
                if is_settled(now.ctime):
                    self._known[path] = {"stamp": list(now), "facts": astuple(facts)}
                    self._is_new = True
            if now.ctime > STARTED:
                facts = replace(facts, digest=f"{facts.digest} edited at {now.ctime}")
            self._facts[path], self._stamps[path] = facts, now
        return self._facts[path]

    def keep(self) -> None:
        """Keep the facts for later runs, if there is a folder for them.

        Only a run that builds does so: commands that only look write nothing.
        """
        if self._is_new and self._record.parent.is_dir():
            with suppress(OSError):
                write_atomic(self._record, json.dumps({"version": VERSION, "files": self._known}))
            self._is_new = False


def here() -> Code:
    """Return the code that runs."""
    return _code_of(ROOT)


def read_again() -> Code:
    """Return the code of this checkout as it is now; `here` keeps what it was at the first look."""
    return Code(ROOT, ROOT / "artifacts" / RECORD)


@functools.cache
def _code_of(root: Path) -> Code:
    return Code(root, root / "artifacts" / RECORD)


def digest(*modules: str) -> str:
    """Return one digest of all that `modules` (`tasks.PACKAGE.MODULE`) stand on, for the key of a cache.

    For what is kept between runs apart from a task's targets.
    """
    return _short(json.dumps(here().digests(modules)).encode())


class UnchangedCode:
    """An `uptodate` check: false if the code of a task has changed since the task's last success."""

    def __init__(self, modules: Iterable[str], task: str) -> None:
        """modules: those of the actions and checks of the task named `task`."""
        self.modules = frozenset(modules)
        self.task = task

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Tell doit whether the code is that of the last success of `task`."""
        task.value_savers.append(lambda: {KEY: here().digests(self.modules, self.task)})
        return bool(values.get(KEY) == here().digests(self.modules, self.task))

    def edited(self) -> list[str]:
        """Return the files that have changed since the check, as paths below the checkout."""
        return here().edited(self.modules, self.task)

    def changed_files(self, before: Mapping[str, Any]) -> list[str]:
        """Return the files that changed, came or went since the last success, as paths below the checkout.

        before: the task's saved values.
        """
        old, new = before.get(KEY) or {}, here().digests(self.modules, self.task)
        return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def modules_of(actions: Iterable[Any], checks: Iterable[Any], before_fork: Iterable[Any] = ()) -> set[str]:
    """Return the modules of a task's actions and checks; without those of the engine itself.

    Each of them is a function, or a tuple that begins with one.
    """
    found: set[str] = set()
    for item in (*actions, *before_fork):
        function = item[0] if isinstance(item, tuple) else item
        found.update(getattr(function, "modules", ()))
    for item in checks:
        module = getattr(item[0] if isinstance(item, tuple) else item, "__module__", None) or ""
        if _is_in(module, (PACKAGE,)) and not _is_in(module, ("tasks.engine",)):
            found.add(module)
    return found


def read(path: Path) -> Facts:
    """Return the facts of a file: a module, the lock of the Python packages, or data."""
    if path.suffix != ".py":
        from tasks.util import python_packages

        pins = python_packages.pins(path.parent) if path.name == python_packages.LOCK else []
        versions = tuple(f"{pin.name}=={pin.version}" for pin in pins)
        mode = "x" if os.access(path, os.X_OK) else "-"
        return Facts(_short(f"{mode} {sha256_file(path)}".encode()), data=versions)
    tree = ast.parse(path.read_bytes())
    if path.name == DODO:
        return _declarations(tree)
    imports, packages, data = set[str](), set[str](), set[str]()
    for node in ast.walk(tree):
        for name in imported(node):
            top = name.partition(".")[0]
            if top == PACKAGE:
                imports.add(name)
            elif top not in sys.stdlib_module_names:
                packages.add(top)
        data.update(_read_beside(node))
        drop_docstring(node)
    digest = _short(dumped(tree).encode())
    return Facts(digest, tuple(sorted(imports)), tuple(sorted(packages)), tuple(sorted(data)))


def _declarations(tree: ast.Module) -> Facts:
    """Return the facts of dodo.py: a digest of each function that declares tasks, and of the rest."""
    for node in ast.walk(tree):
        drop_docstring(node)
    texts: dict[str, list[str]] = {"": []}
    for node in tree.body:
        name = node.name if isinstance(node, ast.FunctionDef) else ""
        texts.setdefault(name if name.startswith("task_") else "", []).append(dumped(node))
    parts = [f"{name}={_short(chr(10).join(lines).encode())}" for name, lines in sorted(texts.items())]
    return Facts(_short(chr(10).join(parts).encode()), data=tuple(parts))


def dumped(value: object) -> str:
    """Return a syntax tree as text, the same in every Python, so that all share one cache.

    ast.dump shows fields without a value in some versions, and newer versions have more of these.
    Python 3.12 adds empty text to some f-strings.
    """
    if isinstance(value, ast.JoinedStr):
        return f"JoinedStr({', '.join(text for text in map(dumped, value.values) if text != EMPTY_TEXT)})"
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields)
        shown = (f"{name}={dumped(field)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({', '.join(shown)})"
    if isinstance(value, list):
        return f"[{', '.join(map(dumped, value))}]"
    return repr(value)


def imported(node: ast.AST) -> list[str]:
    """Return the names that an import statement may mean: a module, or a member of a package or module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _read_beside(node: ast.AST) -> list[str]:
    """Return the name in `….with_name("NAME")`: a file or folder beside the module, if it exists."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "with_name":
        names = [item.value for item in node.args if isinstance(item, ast.Constant)]
        return [name for name in names if isinstance(name, str)]
    return []


def drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = [line for line in node.body if not is_text(line)]


def is_text(line: ast.AST) -> bool:
    """Return whether a statement is text alone, as a docstring is."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def _packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _is_in(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

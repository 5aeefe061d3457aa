# SPDX-License-Identifier: MIT
"""What the top-level names of Python files stand on, read from their text: nothing is imported or run.

A node is a name (`tasks/util/text.py::shortened`), all names of a file (`tasks/util/text.py::*`), the
statements that bind no name (`tasks/util/text.py::`), or any other file or folder of the checkout
(`rootfs/files/etc/motd`, `kconfig/`).  A method belongs to its class.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from tasks.engine import code
from tasks.util.checkout import KINDS
from tasks.util.errors import UserError

PYTHON = ".py"
ROOMS = ("tasks", "tests")
"""Folders that are named to find what is in them, one by one."""
PATH = re.compile(r"[\w@.-]+(?:/[\w@.-]+)+|\w[\w-]*\.\w+")
LOOKUPS = ("find", "found", "folders", "in_trees", "path")
"""Methods of CHECKOUT that take a path or a kind of folder."""


def node(path: str, name: str = "*") -> str:
    """Return the node of a top-level name of a file, "" for what binds no name, "*" for all of it."""
    return f"{path}::{name}"


def bound(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement binds; [] for one that binds none of its own."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        inside = (word for target in targets if target for word in ast.walk(target))
        return [word.id for word in inside if isinstance(word, ast.Name)]
    return []


def parts(text: str | bytes) -> dict[str, str]:
    """Return top-level name -> what binds it, as syntax without docstrings and layout; "": all else."""
    found: dict[str, str] = {}
    for statement in _parsed(text).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):  # each of its names for itself
            module = getattr(statement, "module", None)
            dumps = {bound_name(alias): f"{module} {code.dumped(alias)}" for alias in statement.names}
        else:
            dumps = dict.fromkeys(bound(statement) or [""], code.dumped(statement))
        for name, dump in dumps.items():
            found[name] = f"{found.get(name, '')}{dump}\n"
    return found


def bound_name(alias: ast.alias) -> str:
    """Return the name that an import binds."""
    return alias.asname or alias.name.partition(".")[0]


def differing(old: str | bytes, new: str | bytes) -> set[str]:
    """Return the top-level names that two texts of a file bind differently; "": what binds no name.

    Raises `SyntaxError`.
    """
    before, after = parts(old), parts(new)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


class Names:
    """The files of a checkout and their names.  known: paths below `root`, those included that are gone.

    Raises `UserError` for a Python file with a syntax error.
    """

    def __init__(self, root: Path, known: Collection[str]) -> None:
        self.root, self.known = root, set(known)
        self.folders = {str(above) for name in known for above in PurePosixPath(name).parents} - {"."}
        python = [name for name in sorted(known) if name.endswith(PYTHON) and (root / name).is_file()]
        self.trees = {name: self._read(name) for name in python}
        # Top-level statement -> all that is in it.
        self.insides = {line: list(_walk(line)) for tree in self.trees.values() for line in tree.body}
        self.names = {
            path: {name for line in tree.body for name in bound(line)} for path, tree in self.trees.items()
        }
        self.modules = {_module(path): path for path in python}

    def _read(self, name: str) -> ast.Module:
        try:
            return ast.parse((self.root / name).read_bytes())
        except SyntaxError as error:
            raise UserError(f"{name}:{error.lineno}: {error.msg}", "mend it: no test can import it") from None

    def edges(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield (node, node that it stands on) for the names of a Python file."""
        reader = _Reader(self, path)
        for line in self.trees[path].body:
            names = bound(line)
            used = set(reader.used(line))
            for name in names or [""]:
                yield node(path), node(path, name)
                yield from ((node(path, name), other) for other in used)
                yield node(path, name), node(path, "")
                if isinstance(line, ast.Import | ast.ImportFrom):
                    yield from ((node(path, name), other) for other in reader.imported(name))

    def existing(self, path: str, *, is_whole: bool = True) -> str:
        """Return the node of a file or folder, "" if there is none; if not `is_whole`, of the first above."""
        if path in self.known:
            return node(path) if path.endswith(PYTHON) else path
        if path in self.folders:
            return "" if path in ROOMS else f"{path}/"
        above = str(PurePosixPath(path).parent)
        return "" if is_whole or above in (".", "/") else self.existing(above, is_whole=False)

    def of(self, dotted: str) -> set[str]:
        """Return the nodes of a module or of a name in it, `tasks.util.text.shortened`; also its packages."""
        words = dotted.split(".")
        modules = [".".join(words[:count]) for count in range(1, len(words) + 1)]
        paths = [self.modules[module] for module in modules if module in self.modules]
        if not paths:
            return set()
        rest = dotted.removeprefix(_module(paths[-1])).lstrip(".").partition(".")[0]
        is_name = rest in self.names[paths[-1]]
        return {node(paths[-1], rest if is_name else "*"), *(node(path, "") for path in paths)}


class _Reader:
    """Resolves the words of one file."""

    def __init__(self, names: Names, path: str) -> None:
        self._names, self._path = names, path
        self._folder = PurePosixPath(path).parent
        # Name -> the module or the name in a module that it stands for; imports inside functions, too.
        self._meant: dict[str, str] = {}
        for inside in (one for line in names.trees[path].body for one in names.insides[line]):
            if isinstance(inside, ast.Import):
                self._meant |= {bound_name(one): one.name for one in inside.names}
            elif isinstance(inside, ast.ImportFrom) and inside.module:
                self._meant |= {bound_name(one): f"{inside.module}.{one.name}" for one in inside.names}

        self._has_checkout = "CHECKOUT" in self._meant

    def imported(self, name: str) -> set[str]:
        """Return what an imported name stands on.  A module alone counts by what is used of it."""
        dotted = self._meant.get(name, "")
        return set() if dotted in self._names.modules else self._names.of(dotted)

    def used(self, line: ast.stmt) -> Iterator[str]:
        """Yield what a statement stands on."""
        if isinstance(line, ast.Import | ast.ImportFrom):
            return
        every = self._names.insides[line]
        for inside in every:
            if isinstance(inside, ast.Name):
                yield from self._of_name(inside.id)
            elif isinstance(inside, ast.Constant) and isinstance(inside.value, str):
                yield from self._of_text(inside.value)
        for dotted in self._chains(every):
            yield from self._names.of(dotted)
        has_texts = self._path.startswith("tests/")
        for path, is_whole in _paths(line, has_texts=has_texts) if has_texts or self._has_checkout else ():
            if "*" in path:
                there = fnmatch.filter(self._names.known, path)
                yield from (name for name in there if name.count("/") == path.count("/"))
            else:
                yield from filter(None, [self._names.existing(path, is_whole=is_whole)])

    def _of_name(self, name: str) -> Iterator[str]:
        if name in self._names.names[self._path]:
            yield node(self._path, name)
        elif (dotted := self._meant.get(name)) and dotted not in self._names.modules:
            yield from self._names.of(dotted)

    def _of_text(self, text: str) -> Iterator[str]:
        # A patch by its name, a program for another Python.
        if text == "dodo" or text.startswith(("tasks.", "tests.")):
            yield from self._names.of(text)
        elif text and "/" not in text:  # a file or folder beside it
            found = self._names.existing(str(self._folder / text))
            if found and not any(path.endswith(PYTHON) for path in self._inside(found)):
                yield found

    def _chains(self, every: Iterable[ast.AST]) -> Iterator[str]:
        """Yield `MODULE.NAME` for each use of an imported module, `MODULE` where all of it may be meant."""
        modules, longer = self._names.modules, set[ast.AST]()
        for inside in every:  # a longer chain comes before what it begins with
            words: list[str] = []
            start = inside
            while isinstance(start, ast.Attribute):
                words.insert(0, start.attr)
                start = start.value
                longer.add(start)
            if inside in longer or not isinstance(start, ast.Name):
                continue
            full = self._meant.get(start.id, "")
            if full in modules or "." in full:
                for word in words:
                    if full not in modules:
                        break
                    full = f"{full}.{word}"
                yield full

    def _inside(self, found: str) -> Iterable[str]:
        return (path for path in self._names.known if path.startswith(found)) if found[-1:] == "/" else ()


def _parsed(text: str | bytes) -> ast.Module:
    """Return the syntax of a file without docstrings."""
    tree = ast.parse(text)
    for inside in ast.walk(tree):
        code.drop_docstring(inside)
    return tree


def _module(path: str) -> str:
    return path.removesuffix(PYTHON).removesuffix("/__init__").replace("/", ".")


def _walk(top: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all in it, as ast.walk does, but for docstrings; it takes half the time."""
    todo = [top]
    while todo:
        inside = todo.pop()
        yield inside
        for name in inside._fields:
            value = getattr(inside, name, None)
            if isinstance(value, list):
                todo += [one for one in value if isinstance(one, ast.AST) and not code.is_text(one)]
            elif isinstance(value, ast.AST):
                todo.append(value)


def _paths(line: ast.AST, *, has_texts: bool) -> Iterator[tuple[str, bool]]:
    """Yield paths below the checkout that a text names, each with whether all of it is known.

    As `CHECKOUT.root / "docs" / name`, `CHECKOUT.kconfig / "qemu.config"`, `CHECKOUT.find("kconfig", name)`
    and `CHECKOUT.root.glob("*.md")`; has_texts: also as they stand in any text.
    """
    for inside in ast.iter_child_nodes(line):
        if found := _joined(inside) or _looked_up(inside):
            yield found
        elif isinstance(inside, ast.JoinedStr) and has_texts and inside.values:
            first = inside.values[0]
            if isinstance(first, ast.Constant) and "/" in str(first.value):
                yield str(first.value).strip("/"), False
        elif isinstance(inside, ast.Constant) and isinstance(inside.value, str) and has_texts:
            yield from ((word, True) for word in PATH.findall(inside.value))
        else:
            yield from _paths(inside, has_texts=has_texts)


def _looked_up(call: ast.AST) -> tuple[str, bool] | None:
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return None
    words = [str(word.value) for word in call.args if isinstance(word, ast.Constant)]
    if words and call.func.attr in LOOKUPS and _is_checkout(call.func.value):
        return "/".join(words[:2]), False
    if words and call.func.attr == "glob" and (start := _joined(call.func.value)):
        return f"{start[0]}/{words[0]}".lstrip("/"), False
    return None


def _joined(inside: ast.AST) -> tuple[str, bool] | None:
    """Return the path that joined operands say, and whether all of it is known; None if not of CHECKOUT."""
    if isinstance(inside, ast.Attribute) and _is_checkout(inside.value):
        if inside.attr == "root":
            return "", True
        return (inside.attr, True) if inside.attr in KINDS else None
    if not (isinstance(inside, ast.BinOp) and isinstance(inside.op, ast.Div)):
        return None
    before = _joined(inside.left)
    if before is None or not before[1]:
        return before
    right = inside.right
    if isinstance(right, ast.Constant) and isinstance(right.value, str):
        return f"{before[0]}/{right.value}".lstrip("/"), True
    return before[0], False


def _is_checkout(inside: ast.AST) -> bool:
    return isinstance(inside, ast.Name) and inside.id == "CHECKOUT"

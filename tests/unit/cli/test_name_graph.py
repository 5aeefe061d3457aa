# SPDX-License-Identifier: MIT
"""What the names of Python files stand on, in small checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import name_graph
from tasks.cli.name_graph import Names

TEXT = """\
import os
from tasks.util import text as words
from tasks.util.text import LIMIT

HERE = "limits.toml"

def short(line: str) -> str:
    return words.cut(line, LIMIT)

class Box:
    def size(self) -> int:
        from tasks.util import boxes
        return boxes.size(self)
"""


def names_of(root: Path, files: dict[str, str]) -> Names:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return Names(root, files)


def test_names_stand_on_what_they_use(tmp_path: Path) -> None:
    files = {
        "tasks/a.py": TEXT,
        "tasks/limits.toml": "",
        "tasks/util/text.py": "LIMIT = 3\ndef cut(line, limit): ...\ndef other(): ...\n",
        "tasks/util/boxes.py": "def size(box): ...\n",
    }
    edges = set(names_of(tmp_path, files).edges("tasks/a.py"))
    assert ("tasks/a.py::short", "tasks/util/text.py::cut") in edges
    assert ("tasks/a.py::short", "tasks/util/text.py::LIMIT") in edges
    assert ("tasks/a.py::short", "tasks/util/text.py::other") not in edges
    assert ("tasks/a.py::Box", "tasks/util/boxes.py::size") in edges, "an import inside a method"
    assert ("tasks/a.py::short", "tasks/util/boxes.py::size") not in edges
    assert ("tasks/a.py::HERE", "tasks/limits.toml") in edges, "a file beside it"
    assert ("tasks/a.py::*", "tasks/a.py::Box") in edges


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ("X = CHECKOUT.root / 'docs' / 'a.md'", "docs/a.md"),
        ("X = CHECKOUT.root / 'docs' / name", "docs/"),
        ("X = CHECKOUT.kconfig / 'qemu.config'", "kconfig/qemu.config"),
        ("X = CHECKOUT.kconfig", "kconfig/"),
        ("X = CHECKOUT.find('kconfig', 'qemu.config')", "kconfig/qemu.config"),
        ("X = CHECKOUT.find('kconfig', name)", "kconfig/"),
        ("X = sorted(CHECKOUT.root.glob('*.md'))", "README.md"),
        ("X = 'see docs/a.md'", "docs/a.md"),
        ("X = f'kconfig/{name}.config'", "kconfig/"),
        ("@mark('README.md')\ndef f(): ...", "README.md"),
        ("X = 'tasks.a.f'", "tasks/a.py::f"),
    ],
)
def test_the_text_of_tests_names_files(tmp_path: Path, line: str, used: str) -> None:
    files = {"tests/test_x.py": line, "tasks/a.py": "def f(): ...\n"}
    names = names_of(
        tmp_path, files | dict.fromkeys(("docs/a.md", "docs/b.md", "kconfig/qemu.config", "README.md"), "")
    )
    found = {other for _, other in names.edges("tests/test_x.py") if not other.startswith("tests/")}
    assert found - {"tasks/a.py::"} == {used}


def test_a_package_and_all_of_a_module_count(tmp_path: Path) -> None:
    files = {
        "tasks/__init__.py": "A = 1\n",
        "tasks/a.py": "def f(): ...\n",
        "tests/test_x.py": "from tasks import a\nprint(a)\nX = getattr(a, name)\n",
    }
    edges = set(names_of(tmp_path, files).edges("tests/test_x.py"))
    assert ("tests/test_x.py::X", "tasks/a.py::*") in edges, "the module is given to something else"
    assert ("tests/test_x.py::X", "tasks/__init__.py::") in edges, "it is run by the import"
    assert ("tests/test_x.py::X", "tests/test_x.py::") in edges


@pytest.mark.parametrize(
    ("new", "differ"),
    [
        ("A = 1  # one\n\n\ndef f():\n    '''Do.'''\n    return A\n", set()),
        ("A = 2\ndef f():\n    return A\n", {"A"}),
        ("A = 1\ndef f():\n    return A + 1\n", {"f"}),
        ("A = 1\n", {"f"}),
        ("import os\nA = 1\ndef f():\n    return A\n", {"os"}),
        ("A = 1\ndef f():\n    return A\nprint(A)\n", {""}),
        ("A = 1\nA += 1\ndef f():\n    return A\n", {""}),
    ],
    ids=["comment", "value", "function", "gone", "import", "statement", "in-place"],
)
def test_names_that_differ(new: str, differ: set[str]) -> None:
    assert name_graph.differing("A = 1\ndef f():\n    return A\n", new) == differ

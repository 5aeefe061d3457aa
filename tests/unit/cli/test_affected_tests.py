# SPDX-License-Identifier: MIT
"""Which tests a change touches, in a small checkout of git's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cli import affected_tests
from tasks.cli.affected_tests import changed, choose
from tasks.util.errors import UserError
from tests.support.gitrepo import GitRepository
from tests.support.tasknodes import node

DOIT = (
    "def doit(*words):\n    return ['./doit', *words]\ndef built():\n    ...\ndef copy_checkout():\n    ...\n"
)
FILES = {
    "dodo.py": "",
    "README.md": "",
    "rootfs/files/etc/motd": "hi\n",
    "tasks/cli/main.py": "from tasks.util.text import cut\ndef main():\n    cut('')\n",
    "tasks/cli/commands.py": "COMMANDS = ()\n",
    "tasks/util/text.py": "LIMIT = 3\ndef cut(line):\n    return line[:LIMIT]\ndef wrap(line):\n    ...\n",
    "tasks/util/tool.py": "def run():\n    ...\n",
    "tasks/initramfs/core.py": "from tasks.util import text\ndef build():\n    text.wrap('')\n",
    "tests/conftest.py": (
        "import pytest\nfrom tasks.util import tool\n@pytest.fixture\ndef made():\n    tool.run()\n"
    ),
    "tests/support/built.py": DOIT,
    "tests/unit/test_style.py": "def test_it():\n    ...\n",
    "tests/unit/util/test_text.py": "from tasks.util.text import cut\ndef test_it():\n    cut('')\n",
    "tests/unit/util/test_tool.py": "def test_it():\n    ...\n",
    "tests/unit/initramfs/test_one.py": "def test_it(made):\n    ...\n",
    "tests/tools/test_run.py": "from tests.support.built import doit\ndef test_it():\n    doit('iso')\n",
    "tests/vm/test_list.py": "from tests.support.built import doit\ndef test_it():\n    doit('list')\n",
    "tests/vm/test_boot.py": "from tests.support.built import built\ndef test_it():\n    built()\n",
}
STYLE = "tests/unit/test_style.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    repository = GitRepository(tmp_path / "checkout")
    repository.commit(FILES)
    return repository.top


def tasks_of(root: Path) -> list[Any]:
    """The tasks core, iso and list, of which iso reads what core makes."""

    def core() -> None: ...

    core.__name__ = "initramfs.core.build"  # as tasks.engine.task.do names it
    act = SimpleNamespace(py_callable=core)
    return [
        node("core", ("core.gz",), (f"{root}/rootfs/files/etc/motd",), actions=[act], uptodate=[], meta=None),
        node("iso", ("x.iso",), ("core.gz",), actions=[], uptodate=[], meta=None),
        node("disk", ("x.img",), ("core.gz",), actions=[], uptodate=[], meta=None),
        node("list", actions=[], uptodate=[], meta=None),
    ]


def chosen(root: Path, edits: dict[str, str | None], since: str = "") -> affected_tests.Chosen:
    """Return what edits of files choose; None removes a file."""
    for name, text in edits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True) if text is None else (root / name).write_text(text)
    return choose(root, changed(root, since), tasks_of(root))


def only(made: affected_tests.Chosen) -> set[str]:
    """Return the chosen files without those that any change chooses."""
    assert STYLE in made.reasons, "it looks at the whole checkout"
    return set(made.reasons) - {STYLE}


ALL_RUNS = {"tests/tools/test_run.py", "tests/vm/test_list.py", "tests/vm/test_boot.py"}


@pytest.mark.parametrize(
    ("file", "old", "new", "tests"),
    [
        ("tasks/util/text.py", "LIMIT = 3", "LIMIT = 4", {"tests/unit/util/test_text.py", *ALL_RUNS}),
        (
            "tasks/util/text.py",
            "wrap(line):\n    ...",
            "wrap(line):\n    return 1",
            {"tests/unit/util/test_text.py", "tests/tools/test_run.py", "tests/vm/test_boot.py"},
        ),
        ("tasks/util/text.py", "LIMIT = 3", "LIMIT = 3  # three", set()),
        (
            "tasks/util/tool.py",
            "...",
            "return 1",
            {"tests/unit/util/test_tool.py", "tests/unit/initramfs/test_one.py"},
        ),
        ("rootfs/files/etc/motd", "hi", "ho", {"tests/tools/test_run.py", "tests/vm/test_boot.py"}),
        ("tests/unit/util/test_text.py", "cut('')", "cut('a')", {"tests/unit/util/test_text.py"}),
        ("dodo.py", "", "X = 1\n", ALL_RUNS),
        (
            "tests/conftest.py",
            "tool.run()",
            "return tool.run()",
            {*ALL_RUNS, *(name for name in FILES if name.startswith("tests/unit/util/test_"))}
            | {"tests/unit/initramfs/test_one.py"},
        ),
    ],
    ids=["value", "function", "comment", "fixture-and-room", "task-file", "test", "dodo", "conftest"],
)
def test_a_change_chooses_what_stands_on_it(
    checkout: Path, file: str, old: str, new: str, tests: Iterable[str]
) -> None:
    made = chosen(checkout, {file: FILES[file].replace(old, new, 1)})
    assert only(made) == set(tests)
    assert made.unknown == {}
    assert made.need_image == bool({"tests/tools/test_run.py", "tests/vm/test_boot.py"} & set(tests))


def test_nothing_changed(checkout: Path) -> None:
    assert chosen(checkout, {}).paths() == []


def test_new_and_removed_files_count(checkout: Path) -> None:
    new = "from tasks.util import tool\ndef test_it():\n    tool.run()\n"
    assert only(chosen(checkout, {"tests/unit/test_new.py": new})) == {"tests/unit/test_new.py"}
    (checkout / "tests/unit/test_new.py").unlink()
    made = chosen(checkout, {"rootfs/files/etc/motd": None, "tests/unit/util/test_text.py": None})
    assert only(made) == {"tests/tools/test_run.py", "tests/vm/test_boot.py"}


def test_a_file_that_no_test_stands_on_takes_its_tier(checkout: Path) -> None:
    made = chosen(checkout, {"README.md": "other", "tests/tools/data.bin": "x"})
    assert made.unknown == {"README.md": "tests/unit", "tests/tools/data.bin": "tests/tools"}
    assert made.paths() == ["tests/tools", "tests/unit"]


def test_the_commit_is_where_the_branch_left_main_or_a_named_one(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "checkout")
    repository.commit(FILES)
    repository.git("checkout", "-q", "-b", "work")
    root = repository.top
    repository.commit({"tasks/util/tool.py": "def run():\n    return 1\n"})
    (root / "README.md").write_text("edited, not committed")
    assert changed(root, "") == {"tasks/util/tool.py": {"run"}, "README.md": None}
    assert changed(root, "HEAD") == {"README.md": None}
    with pytest.raises(UserError, match="nothing") as caught:
        changed(root, "nothing")
    assert "--since" in caught.value.hint
    repository.git("branch", "-D", "main")
    assert changed(root, "") == {"README.md": None}, "without main: against HEAD"


def test_a_file_that_is_no_python_is_named_with_its_line(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"^tasks/util/tool.py:2: "):
        chosen(checkout, {"tasks/util/tool.py": "def run():\n    return return\n"})

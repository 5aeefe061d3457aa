# SPDX-License-Identifier: MIT
"""Which tests a change of this checkout touches: those of each module's room, and what commits changed."""

from __future__ import annotations

import subprocess
from pathlib import PurePosixPath

import pytest

from tasks.cli import affected_tests
from tasks.cli.affected_tests import Graph
from tasks.report import docs
from tasks.util.checkout import CHECKOUT
from tests.unit import test_rooms

COMMITS = 8
MODULE_OF = {path: test_rooms.module_of(path) for path in test_rooms.FILES}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(CHECKOUT.root, affected_tests.files(CHECKOUT.root), docs.declared())


def standing_on(graph: Graph, path: str, names: set[str] | None = None) -> set[str]:
    """Return the files of tests that stand on a file, or on some of its names."""
    return set(graph.affected(path, names))


def room(module: str) -> set[str]:
    """Return the files that test a module, as tests/unit/test_rooms.py has them."""
    named = {path for path, of in MODULE_OF.items() if of == module}
    tested_in = test_rooms.TESTED_IN.get(module), test_rooms.RUN_IN.get(module, ("",))[0]
    return {str(path.relative_to(CHECKOUT.root)) for path in named} | set(filter(None, tested_in))


def test_a_module_affects_the_tests_of_its_room(graph: Graph) -> None:
    lacking = {
        module: missed
        for module in test_rooms.MODULES
        if (missed := room(module) - standing_on(graph, f"tasks/{module}.py"))
    }
    assert lacking == {}


def test_data_affects_tests(graph: Graph) -> None:
    """No file that belongs to code, and none that the image is built of, is unknown."""
    built_of = ("tasks/", "rootfs/", "kconfig/", "patches/", "profiles/", "extensions/", "docs/")
    data = [path for path in graph.names.known if path.startswith(built_of)]
    assert len(data) > 500
    assert [path for path in sorted(data) if not standing_on(graph, path)] == []


@pytest.mark.parametrize(
    ("path", "names", "some", "others"),
    [
        ("docs/recipes.md", None, ["tests/unit/report/test_docs_check.py"], ["tests/vm/test_boot.py"]),
        ("kconfig/qemu.config", None, ["tests/tools/test_rebuild_chains.py", "tests/vm/test_boot.py"], []),
        ("rootfs/files/etc/motd", None, ["tests/vm/test_boot.py"], ["tests/unit/formats/test_ktap.py"]),
        ("tests/data/check.awk", None, ["tests/vm/test_boot.py"], ["tests/vm/test_disk.py"]),
        (
            "tasks/remaster/disks.py",
            None,
            ["tests/tools/remaster/test_disks.py", "tests/vm/test_import.py"],
            ["tests/vm/test_boot.py", "tests/tools/test_rebuild_chains.py"],
        ),
        (
            "tasks/image/disk.py",
            {"build"},
            ["tests/vm/test_disk.py", "tests/tools/test_rebuild_chains.py"],
            ["tests/unit/image/test_grub.py"],
        ),
        ("tests/support/built.py", {"compiled"}, ["tests/vm/test_debugger.py"], ["tests/vm/test_boot.py"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_chosen_is_neither_all_nor_too_little(
    graph: Graph, path: str, names: set[str] | None, some: list[str], others: list[str]
) -> None:
    chosen = standing_on(graph, path, names)
    assert chosen >= set(some)
    assert not chosen & set(others)


def test_commits_affect_the_tests_that_they_changed_and_those_of_their_modules(graph: Graph) -> None:
    """Of the last commits, as far as their files are still there; a shallow clone may have but one."""
    command = ["git", "log", f"-{COMMITS}", "--no-merges", "--name-only", "--format=commit %h"]
    said = subprocess.run(command, cwd=CHECKOUT.root, capture_output=True, text=True, check=True).stdout
    commits = [part.split("\n") for part in said.split("commit ") if part]
    assert commits
    for number, *lines in commits:
        files = [line for line in lines if line in graph.names.known]
        chosen = {test for path in files for test in standing_on(graph, path)}
        changed = {path for path in files if path in graph.tests}
        modules = [
            path.removeprefix("tasks/").removesuffix(".py") for path in files if path.startswith("tasks/")
        ]
        of_modules = {test for module in modules for test in room(module)}
        assert chosen >= changed | of_modules, f"commit {number}"
        assert all(PurePosixPath(test).name.startswith("test_") for test in chosen)

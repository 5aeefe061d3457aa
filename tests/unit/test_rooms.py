# SPDX-License-Identifier: MIT
"""The tests stand in the rooms of the modules: every module has its test, every test its module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT

ROOMS = [CHECKOUT.root / "tests/unit", CHECKOUT.root / "tests/tools"]
MODULES = sorted(
    path.relative_to(CHECKOUT.root / "tasks").with_suffix("").as_posix()
    for path in (CHECKOUT.root / "tasks").rglob("*.py")
    if path.name != "__init__.py"
)
TESTED_IN: dict[str, str] = {
    "cli/main": "tests/unit/cli/test_completion.py",
    "cli/verdict": "tests/unit/cli/test_doctor.py",
    "config/inputs": "tests/unit/fetch/test_inputs.py",
    "config/kernel_source": "tests/tools/kernel/test_source_tree.py",
    "config/settings": "tests/unit/cli/test_doctor.py",
    "config/sources": "tests/unit/image/test_container_images.py",
    "engine/explain": "tests/unit/cache/test_task.py",
    "fetch/needs": "tests/tools/fetch/test_packages.py",
    "fetch/update": "tests/tools/fetch/test_outdated.py",
    "formats/iso_layout": "tests/tools/provenance/test_verify.py",
    "formats/unpack_limits": "tests/unit/formats/test_archive.py",
    "image/disk": "tests/vm/test_disk.py",
    "image/targets": "tests/unit/image/test_container_images.py",
    "kernel/kconfig_workspace": "tests/tools/kernel/test_kconfig_menu.py",
    "kernel/inputs": "tests/tools/provenance/test_manifest.py",
    "kernel/nearest_tree": "tests/tools/kernel/test_git_tree.py",
    "kernel/stock_tasks": "tests/unit/kernel/test_stock_config.py",
    "origins/kinds/archive": "tests/unit/origins/test_released.py",
    "origins/kinds/compiled": "tests/unit/origins/kinds/test_module.py",
    "origins/kinds/apt": "tests/unit/origins/kinds/test_base.py",
    "origins/sources/apt": "tests/unit/origins/sources/test_base.py",
    "origins/sources/file": "tests/unit/origins/sources/test_base.py",
    "origins/sources/recipe": "tests/unit/image/test_image_tasks.py",
    "origins/sources/http": "tests/unit/origins/sources/test_base.py",
    "provenance/sbom/components": "tests/tools/provenance/test_manifest.py",
    "remaster/take_over": "tests/tools/remaster/test_disks.py",
    "vm/crash_dump": "tests/vm/test_debugger.py",
    "util/progress": "tests/unit/origins/test_http.py",
}
"""Module without a test file of its name -> a file of tests that imports it."""

RUN_IN: dict[str, tuple[str, str]] = {
    "cli/test_tasks": ("tests/tools/test_wrapper_needs.py", '"test:unit"'),
    "engine/command": ("tests/tools/cli/test_commands.py", '"explain"'),
    "engine/dependencies": ("tests/unit/engine/test_database.py", "project.doit()"),
    "engine/main": ("tests/unit/engine/test_runner.py", "tasks.engine.main"),
    "engine/reporter": ("tests/unit/engine/test_runner.py", "tasks.engine.main"),
    "engine/run": ("tests/tools/cli/test_commands.py", '"iso"'),
    "engine/run_lock": ("tests/unit/engine/test_database.py", "waiting for another run here"),
    "engine/status": ("tests/unit/engine/test_runner.py", "running: "),
    "engine/worker": ("tests/unit/engine/test_runner.py", "tasks.engine.main"),
    "origins/kinds/wheel": ("tests/tools/extensions/test_collect.py", 'kind = "wheel"'),
}
"""Module without one that no test imports -> the file of tests that runs it, and words by which it does."""

OF_DATA = {
    "tests/tools/extensions/test_buildkit_service.py": "extensions/buildkit/files",
    "tests/tools/extensions/test_completion.py": "extensions/containerd/files",
    "tests/tools/extensions/test_container_checks.py": "extensions/containerd/files",
    "tests/tools/extensions/test_fn_build.py": "extensions/faasd/files",
    "tests/tools/extensions/test_makedockerconfig.py": "extensions/buildkit/files",
    "tests/tools/extensions/test_recipes.py": "extensions/buildkit",
    "tests/tools/extensions/test_services.py": "extensions/faasd",
    "tests/tools/initramfs/test_rootfs32.py": "profiles/apt32.toml",
}
"""File of tests that is of no module -> what of the checkout it tests."""


def module_of(path: Path) -> str:
    """Return the module that a test file is named after: test_MODULE.py or test_MODULE_MORE.py; else ""."""
    room = next(room for room in ROOMS if path.is_relative_to(room))
    named = path.with_name(path.stem.removeprefix("test_")).relative_to(room).as_posix()
    fitting = [module for module in MODULES if named == module or named.startswith(f"{module}_")]
    return max(fitting, key=len, default="")


FILES = sorted(path for room in ROOMS for path in room.rglob("test_*.py"))
OWN = {module_of(path) for path in FILES}


def imported(path: Path) -> set[str]:
    """Return the modules of tasks/ that a file imports, as `package/module`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tasks"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {name.removeprefix("tasks.").replace(".", "/") for name in names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_test(module: str) -> None:
    """Either a file of its name, or an entry of a table that is true."""
    in_tables = [table for table in (TESTED_IN, RUN_IN) if module in table]
    if module in OWN:
        assert not in_tables, f"{module} has a test file of its name: take it out of the table"
        return
    assert len(in_tables) == 1, f"write tests/unit/{module}: test_NAME.py, or say where it is tested"
    if module in TESTED_IN:
        assert Path(TESTED_IN[module]).name.startswith("test_")
        assert module in imported(CHECKOUT.root / TESTED_IN[module])
    else:
        file, words = RUN_IN[module]
        assert words in (CHECKOUT.root / file).read_text()


def test_the_tables_name_modules_that_exist() -> None:
    assert set(TESTED_IN) | set(RUN_IN) <= set(MODULES)


def test_every_test_file_is_of_a_module() -> None:
    assert len(FILES) > 100
    others = {  # but for those of the whole, which stand above the packages
        path.relative_to(CHECKOUT.root).as_posix()
        for path in FILES
        if path.parent not in ROOMS and not module_of(path)
    }
    assert others == set(OF_DATA)
    for data in OF_DATA.values():
        assert (CHECKOUT.root / data).exists()

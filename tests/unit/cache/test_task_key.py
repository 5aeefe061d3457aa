# SPDX-License-Identifier: MIT
"""Keys of the shared cache: all that counts changes them, and nothing else."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.cache import task as cache_task
from tasks.cache.task import SharedCache, closure, has_one_source, machine, shared
from tasks.config.settings import Settings
from tasks.engine import code
from tasks.engine.database import SavedValues
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tests.support.cacheentries import locked, make_checkout, settings_of
from tests.support.settings import with_values


@pytest.fixture(autouse=True)
def a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_checkout(tmp_path, monkeypatch)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], a_checkout: Path) -> Settings:
    return settings_of(a_checkout, make_settings())


def key(settings: Settings, top: Path, **more: Any) -> str:
    """Return the key of a task that reads a file of the checkout and one of the output folder."""
    machine.cache_clear()
    code._code_of.cache_clear()
    inputs = more.pop(
        "inputs", [str(top / "kconfig/a.config"), str(settings.paths.output / "kconfig/config")]
    )
    values = more.pop("values", {"epoch": 17, "tools": [("/usr/bin/gcc", 1, 2)]})
    return cache_task.key(
        settings,
        more.pop("name", "kernel"),
        inputs,
        SavedValues(values).values,
        code.here().digests(["tasks.one"]),
    )


def edit(path: str, text: str) -> Callable[[Settings, Path], None]:
    def change(settings: Settings, top: Path) -> None:
        (top / path).write_text(text)

    return change


def executable(settings: Settings, top: Path) -> None:
    (top / "kconfig/a.config").chmod(0o755)


@pytest.mark.parametrize(
    "change",
    [
        edit("kconfig/a.config", "other"),
        edit("artifacts/apt/kconfig/config", "other"),
        edit("tasks/one.py", "import doit\nimport tasks.two\nOTHER = 1"),
        edit("tasks/two.py", "OTHER = 1"),
        edit("requirements.lock", locked("doit", "2")),
        executable,
    ],
    ids=["input", "input-of-output", "code", "imported-code", "requirements", "executable"],
)
def test_every_file_that_counts_changes_the_key(
    settings: Settings, a_checkout: Path, change: Callable[[Settings, Path], None]
) -> None:
    before = key(settings, a_checkout)
    change(settings, a_checkout)
    assert key(settings, a_checkout) != before


@pytest.mark.parametrize(
    "change",
    [edit("tasks/two.py", "# another comment"), edit("tasks/three.py", "NEW = 1")],
    ids=["comment", "code-of-other-tasks"],
)
def test_code_that_does_not_count_changes_no_key(
    settings: Settings, a_checkout: Path, change: Callable[[Settings, Path], None]
) -> None:
    before = key(settings, a_checkout)
    change(settings, a_checkout)
    assert key(settings, a_checkout) == before


def test_packages_that_building_does_not_need_change_no_key(settings: Settings, a_checkout: Path) -> None:
    before = key(settings, a_checkout)
    (a_checkout / "requirements.lock").write_text(locked("doit", "1") + locked("pytest", "2"))
    assert key(settings, a_checkout) == before


@pytest.mark.parametrize(
    "more",
    [
        {"name": "kconfig"},
        {"values": {"epoch": 18}},
        {"values": {}},
        {"inputs": []},
    ],
    ids=["task", "value", "no-values", "inputs"],
)
def test_every_word_that_counts_changes_the_key(
    settings: Settings, a_checkout: Path, more: dict[str, Any]
) -> None:
    assert key(settings, a_checkout, **more) != key(settings, a_checkout)


def test_an_input_of_another_name_changes_the_key(settings: Settings, a_checkout: Path) -> None:
    before = key(settings, a_checkout)
    (a_checkout / "kconfig/a.config").rename(a_checkout / "kconfig/b.config")
    inputs = [str(a_checkout / "kconfig/b.config"), str(settings.paths.output / "kconfig/config")]
    assert key(settings, a_checkout, inputs=inputs) != before


def test_the_machine_changes_the_key(
    settings: Settings, a_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = dataclasses.replace(settings.profile, toolchain="host")
    settings = dataclasses.replace(settings, profile=profile)
    keys = [key(settings, a_checkout)]
    monkeypatch.setattr(cache_task, "tools", lambda: {"gcc": "4:13"})
    keys.append(key(settings, a_checkout))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    keys.append(key(settings, a_checkout))
    monkeypatch.setattr(cache_task, "clean_env", lambda: {"LANG": "de_DE", "HOME": "/root"})
    keys.append(key(settings, a_checkout))
    assert len(set(keys)) == len(keys)
    # Python and its libraries write no result: what they compress has no place in one.
    monkeypatch.setattr("sys.version", "3.99.0 (main)")
    monkeypatch.setattr("zlib.ZLIB_RUNTIME_VERSION", "2.0")
    cache_task.machine.cache_clear()
    assert key(settings, a_checkout) == keys[-1]


@pytest.mark.parametrize("chosen", [{"toolchain": "debian11"}, {"release": "5.4.3"}])
def test_toolchain_and_release_change_the_key(
    settings: Settings, a_checkout: Path, chosen: dict[str, str]
) -> None:
    assert key(with_kernel(settings, **chosen), a_checkout) != key(settings, a_checkout)


def test_folder_time_order_user_and_path_of_the_compiler_do_not(
    settings: Settings, a_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(settings, a_checkout)
    there = tmp_path / "deeper/another"
    shutil.copytree(a_checkout, there)
    for path in there.rglob("*"):
        os.utime(path, (1, 1))
    (there / "kconfig/a.config").chmod(0o600)
    monkeypatch.setattr(CHECKOUT, "root", there)
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("CFLAGS", "-O0")
    other = with_values(settings, output=there / "artifacts/apt", cache=tmp_path / "c", name="other")
    inputs = [str(other.paths.output / "kconfig/config"), str(there / "kconfig/a.config")]
    values = {"tools": [("/opt/gcc", 3, 4)], "epoch": 17}
    assert key(other, there, inputs=inputs, values=values) == before


def test_the_place_of_a_tree_does_not_count(
    settings: Settings, a_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does its number among the trees, and whether its file hides one of the checkout."""
    keys = []
    for tree in (tmp_path / "one", tmp_path / "deeper/two"):
        (tree / "kconfig").mkdir(parents=True)
        shutil.copy(a_checkout / "kconfig/a.config", tree / "kconfig")
        monkeypatch.setattr(CHECKOUT, "trees", (*CHECKOUT.trees, tree))
        inputs = [str(tree / "kconfig/a.config"), str(settings.paths.output / "kconfig/config")]
        keys.append(key(settings, a_checkout, inputs=inputs))
    assert keys == [key(settings, a_checkout)] * 2
    (tree / "kconfig/a.config").write_text("other")
    assert key(settings, a_checkout, inputs=inputs) not in keys


INSTALLED = [
    # package, architecture, version, Pre-Depends, Depends, Provides
    ("gcc", "amd64", "4:12.2.0-3", "", "cpp (= 4:12.2.0-3), gcc-12 (>= 12.2.0-1~)", "c-compiler"),
    ("gcc-12", "amd64", "12.2.0-14", "libc6 (>= 2.34)", "libgcc-12-dev:any | lib-other, awk", ""),
    ("libgcc-12-dev", "amd64", "12.2.0-14", "", "", ""),
    ("libc6", "amd64", "2.36-9", "", "", ""),
    ("libc6", "i386", "2.36-9", "", "", ""),
    ("mawk", "amd64", "1.3.4", "", "", "awk (= 1)"),
    ("vim", "amd64", "9", "", "libvim", ""),
]
LISTING = "".join("\t".join(["installed", *fields]) + "\n" for fields in INSTALLED)
LISTING += "config-files\tcpp\tamd64\t1\t\t\t\n"


def test_the_packages_that_tools_stand_on() -> None:
    assert closure(LISTING, ["gcc", "missing"]) == {
        "gcc": "4:12.2.0-3:amd64",
        "gcc-12": "12.2.0-14:amd64",
        "libgcc-12-dev": "12.2.0-14:amd64",
        "libc6": "2.36-9:amd64 2.36-9:i386",
        "mawk": "1.3.4:amd64",
    }
    shuffled = "".join(f"{line}\n" for line in reversed(LISTING.splitlines()))
    assert closure(shuffled, ["missing", "gcc"]) == closure(LISTING, ["gcc"])


def with_kernel(settings: Settings, **chosen: Any) -> Settings:
    kernel = dataclasses.replace(settings.profile.kernel, **chosen)
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def test_a_tree_that_is_edited_in_place_is_not_shared(settings: Settings, a_checkout: Path) -> None:
    (a_checkout / "tree").mkdir()
    assert has_one_source(settings.profile)
    assert has_one_source(with_kernel(settings, source=FileSource(path="tool")).profile)
    tree = with_kernel(settings, source=FileSource(path="tree"))
    assert not has_one_source(tree.profile)
    task = {"basename": "kernel", "actions": [], "file_dep": [], "targets": ["x"]}
    cache = SharedCache(settings.network.shared_cache, offline=False)
    assert shared(cache, tree, task) is task
    assert shared(cache, tree, {**task, "basename": "core"})["actions"] != []


def test_a_pinned_toolchain_makes_this_machines_tools_irrelevant(
    settings: Settings, a_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = dataclasses.replace(settings.profile, toolchain="debian12")
    pinned = dataclasses.replace(settings, profile=profile)
    mixed = with_kernel(pinned, toolchain="host")
    before = [key(pinned, a_checkout), key(mixed, a_checkout)]
    cache_task.machine.cache_clear()
    monkeypatch.setattr(cache_task, "tools", lambda: {"gcc": "4:13"})
    after = [key(pinned, a_checkout), key(mixed, a_checkout)]
    assert [now == then for now, then in zip(after, before, strict=True)] == [True, False]


def test_what_comes_from_the_cache_waits_for_nothing_read_beforehand(settings: Settings) -> None:
    task = {"basename": "core", "actions": [], "file_dep": [], "targets": []}
    meta = {"before_fork": [(print, [])], "sizes": ["corepure64.gz"]}
    cache, none = (SharedCache(address, offline=False) for address in ("folder", ""))
    assert shared(cache, settings, {**task, "meta": meta})["meta"] == {"sizes": ["corepure64.gz"]}
    assert shared(none, settings, {**task, "meta": meta})["meta"] == meta

# SPDX-License-Identifier: MIT
"""What is taken of packages: which edits of a recipe make a lock's packages of libraries outdated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inheritance, rootfs_rules, taken
from tasks.config import profile as profile_file
from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.origins.lock import load_lock
from tasks.util.checkout import CHECKOUT
from tests.support.workshop import INFO

KEEP = 'kind = "apt"\npackages = ["tool"]\nkeep = ["usr/bin/tool"]'


@pytest.fixture
def profile(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Profile:
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    write("tool", KEEP)
    write("user", KEEP, '"tool"')
    write("alone", KEEP)
    return replace(make_settings().profile, extensions=())


def write(name: str, origin: str, deps: str = "", info: str = INFO) -> None:
    (CHECKOUT.extensions / name).mkdir(parents=True, exist_ok=True)
    text = f"deps = [{deps}]\n{info}[[origin]]\n{origin}\n"
    (CHECKOUT.extensions / name / "recipe.toml").write_text(text)


def changed(profile: Profile, edit: Callable[[], None]) -> set[str]:
    """Return the extensions whose digest an edit changes."""
    names = ("tool", "user", "alone")
    before = {name: taken.digest(profile, name) for name in names}
    edit()
    return {name for name in names if taken.digest(profile, name) != before[name]}


@pytest.mark.parametrize(
    "more",
    ['keep = ["usr/*"]', 'drop = ["usr/bin/t*"]', 'rename = { "usr/" = "usr/local/" }', 'join = { a = "b" }'],
)
def test_other_files_count_for_the_extension_and_for_those_above_it(profile: Profile, more: str) -> None:
    lines = [line for line in KEEP.splitlines() if not line.startswith(more[:4])]
    assert changed(profile, lambda: write("tool", "\n".join([*lines, more]))) == {"tool", "user"}


def test_dependencies_count_and_words_do_not(profile: Profile) -> None:
    assert changed(profile, lambda: write("tool", KEEP, '"alone"')) == {"tool", "user"}
    assert changed(profile, lambda: write("tool", KEEP, '"upstream"')) == {"tool", "user"}
    assert (
        changed(profile, lambda: write("tool", KEEP, '"upstream"', INFO.replace("title", "# x\ntitle")))
        == set()
    )
    assert changed(profile, lambda: write("tool", KEEP, '"user"')) == {"tool", "user"}, "a circle ends"


def test_a_broken_recipe_is_no_error_here(profile: Profile) -> None:
    assert changed(profile, lambda: write("tool", "kind = 1")) == {"tool", "user"}


def test_the_root_depends_on_its_rules(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    before = taken.digest(profile, "core")
    rules = rootfs_rules.load()
    monkeypatch.setattr(rootfs_rules, "load", lambda: replace(rules, drop=(*rules.drop, "usr/x")))
    assert taken.digest(profile, "core") != before


def test_fetch_runs_again_when_other_files_are_taken(profile: Profile) -> None:
    packages = {"tool": ("tool",), "plain": ()}
    before = taken.keys(profile, packages)
    assert before.keys() == {"packages.tool", "packages.plain", "packages.core"}
    write("tool", KEEP.replace("tool", "t*"))
    after = taken.keys(profile, packages)
    assert {key for key in before if before[key] != after[key]} == {"packages.tool"}


@pytest.mark.parametrize("name", profile_file.names())
def test_the_locks_hold_for_what_the_recipes_take_now(name: str) -> None:
    """After an edit of `keep` or `deps`: ./doit lock."""
    profile = profile_file.load(name)
    pinned = load_lock(inheritance.pinned_lock([CHECKOUT.profiles], name))
    assert [needs.of for needs in pinned.needs if needs.takes != taken.digest(profile, needs.of)] == []

# SPDX-License-Identifier: MIT
"""The checks of a profile: whose there are, which are off, and what is refused before anything is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import checks, plan, profile, recipe
from tasks.config.check import Check
from tasks.config.profile import Profile
from tasks.origins.lock import Lock
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

OURS = checks.built_in()[0].name
RECIPE = '[info]\ntitle = "t"\ndescription = "d"\n'
GOOD = '[[check]]\nname = "works"\nscript = "ask"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """extensions/ with the recipes `one` and `two`; `one` has a check with a script."""
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    for name in ("one", "two"):
        add(tmp_path / "extensions" / name / "recipe.toml", RECIPE)
    add(tmp_path / "extensions/one/checks/one.toml", GOOD)
    add(tmp_path / "extensions/one/checks/ask", "#!/bin/sh\n")
    return tmp_path / "extensions"


def add(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def made(*mine: Check) -> Profile:
    return replace(profile.load("apt"), check=mine, extensions=())


def named(found: list[checks.PlacedCheck]) -> list[str]:
    return [placed.check.name for placed in found]


def test_the_recipes_of_the_project_have_sound_checks() -> None:
    for name in recipe.names():
        checks.require(made(), [name], recipe.names())
    assert named(list(checks.of_recipe("attr"))) == ["attr works"]


def test_ours_come_first_then_the_recipes_and_the_profiles(folder: Path) -> None:
    found = checks.of_profile(made(Check("mine", script="checks/mine")), ["one", "two"])
    ours = [check.name for check in checks.built_in()]
    assert named(found) == [*ours, "works", "mine"]
    assert [(placed.recipe, placed.script) for placed in found[len(ours) :]] == [
        ("one", folder / "one/checks/ask"),
        ("", folder.parent / "checks/mine"),
    ]
    assert found[0].script is None


def test_a_profile_replaces_one_by_its_name_or_leaves_it_out(folder: Path) -> None:
    mine = (Check(OURS, command="other"), Check("works", off=True))
    found = checks.of_profile(made(*mine), ["one"])
    assert named(found) == [check.name for check in checks.built_in()]
    assert found[0].check.command == "other"
    checks.require(made(*mine), ["one"], [])


@pytest.mark.parametrize(
    ("check", "words", "hint"),
    [
        (Check("wroks", off=True), "check: there is no 'wroks' to switch off", "did you mean 'works'?"),
        (
            Check("c", command="x", extension="onne"),
            "check 'c': extension: there is no extension 'onne'",
            "did you mean 'one'?",
        ),
        (Check("c", script="nowhere.sh"), "check 'c': script: there is no file nowhere.sh", ""),
    ],
)
def test_what_a_check_names_must_be_there(folder: Path, check: Check, words: str, hint: str) -> None:
    profile_file = folder.parent / "profiles/p.toml"
    add(profile_file, f'[[check]]\nname = "{check.name}"\n')
    with pytest.raises(UserError) as caught:
        checks.require(made(check), ["one"], [], [profile_file])
    assert caught.value.message == f"profiles/p.toml: {words}"
    assert caught.value.hint == hint


def test_an_extension_of_the_plan_needs_no_recipe(folder: Path) -> None:
    checks.require(made(Check("c", command="x", extension="parted")), [], ["parted"])


def test_a_check_that_was_there_may_be_off_in_a_profile_above(folder: Path) -> None:
    """The inherited entry keeps its command (tasks/config/inheritance.py)."""
    off = Check("mine", off=True, command="x")
    checks.require(made(off), [], [])
    assert "mine" not in named(checks.of_profile(made(off), []))


def test_two_recipes_share_no_name_and_switch_nothing_off(folder: Path) -> None:
    add(folder / "two/checks/b.toml", '[[check]]\nname = "works"\ncommand = "x"\n')
    words = "extensions/two/checks/b.toml: extensions/one/checks/one.toml has a check 'works', too"
    with pytest.raises(UserError, match=words):
        checks.of_profile(made(), ["one", "two"])
    add(folder / "two/checks/b.toml", f'[[check]]\nname = "{OURS}"\noff = true\n')
    with pytest.raises(UserError, match=r"b.toml: .* a recipe switches no check off"):
        checks.of_profile(made(), ["two"])


def test_a_mistake_in_a_recipes_check_is_told_before_anything_is_built(folder: Path) -> None:
    """When the profile is read, and only if it uses the recipe."""
    add(folder / "one/checks/one.toml", GOOD.replace("script", "scirpt"))
    using = replace(made(), extensions=(profile.Extension("one"),))
    found = plan.plan(using, Lock(), unused=["one", "two"])
    with pytest.raises(UserError, match=r"extensions/one/checks/one.toml: unknown key 'check\[0\].scirpt'"):
        plan.require_fitting(using, found)
    plan.require_fitting(made(), plan.plan(made(), Lock(), unused=["one", "two"]))


def test_a_tree_has_checks_of_its_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    monkeypatch.setattr(CHECKOUT, "trees", (tree,))
    add(tree / "checks/net.toml", '[[check]]\nname = "net"\nscript = "ask"\n')
    add(tree / "checks/ask", "#!/bin/sh\n")
    found = {placed.check.name: placed for placed in checks.of_profile(made(), ["one"])}
    assert (found["net"].script, found["net"].recipe) == (tree / "checks/ask", "")
    checks.require(made(Check("net", off=True)), ["one"], [])  # as of a recipe
    add(tree / "checks/mine", "#!/bin/sh\n")
    assert checks.PlacedCheck(Check("mine", script="checks/mine")).script == tree / "checks/mine"
    add(tree / "checks/two.toml", '[[check]]\nname = "works"\ncommand = "x"\n')
    with pytest.raises(UserError, match="has a check 'works', too"):
        checks.of_profile(made(), ["one"])
    add(tree / "checks/two.toml", '[[check]]\nname = "login"\noff = true\n')
    with pytest.raises(UserError, match="a tree switches no check off"):
        checks.of_profile(made(), [])

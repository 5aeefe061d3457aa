# SPDX-License-Identifier: MIT
"""Which recipes are locked, and which are left out for want of a lock."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan, profile, recipe, recipe_lock
from tasks.config.profile import Extension, Profile
from tasks.origins.lock import Lock
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

ONE = OriginFile("https://h/a.tgz", "a.tgz", "a" * 64, 3)


def test_every_lock_of_the_project_is_of_its_recipe() -> None:
    """An entry that no origin has is one nobody looks at any more."""
    for name in (*recipe.names(), *recipe.image_names()):
        known = {origin.identity() for origin in recipe_lock.lockable_origins(recipe.load(name))}
        locked = {file.origin for file in recipe_lock.committed_lock(name).file}
        assert locked <= known, name
        if recipe.is_image(name):  # none of them waits for somebody to look at a release
            assert locked == known, name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Recipes: plain; new, of an archive; old or new; above -> new; top -> above, plain."""
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    archive = '[[origin]]\nkind = "archive"\nversion = "1"\nurls = ["https://h/{name}"]\n'
    recipes = {
        "plain": ("", ""),
        "new": ("", archive.replace("{name}", "new.tgz")),
        "both": ("", "".join(f'{archive}alternative = "{n}"\n'.replace("{name}", n) for n in ("a", "b"))),
        "above": ('"new"', ""),
        "top": ('"above", "plain"', ""),
    }
    for name, (deps, origins) in recipes.items():
        (tmp_path / "extensions" / name).mkdir(parents=True)
        text = f'deps = [{deps}]\n[info]\ntitle = "t"\ndescription = "d"\n{origins}'
        (tmp_path / "extensions" / name / "recipe.toml").write_text(text)
    return replace(profile.load("apt"), extensions=())


def left_out(made: Profile) -> dict[str, str]:
    return plan.left_out(made, plan.plan(made, Lock(), unused=recipe.names()))


def pin(name: str, identity: str) -> None:
    recipe_lock.path(name).write_text(OriginLock((replace(ONE, origin=identity),)).to_toml())


def test_what_is_not_locked_is_left_out_with_all_that_needs_it(
    project: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    out = left_out(project)
    assert out == {
        "above": "it needs new, which is left out",
        "both": "no sha256 is locked for https://h/a (./doit lock:both)",
        "new": "no sha256 is locked for https://h/new.tgz (./doit lock:new)",
        "top": "it needs above, which is left out",
    }
    plan.log_left_out(out)
    assert capsys.readouterr().out.splitlines() == [
        f"left out: {name}.tcz: {reason}" for name, reason in out.items()
    ]
    pin("new", "https://h/new.tgz")
    assert list(left_out(project)) == ["both"]


def test_a_broken_recipe_is_left_out_with_its_error(project: Profile) -> None:
    path = CHECKOUT.extensions / "plain/recipe.toml"
    path.write_text("[info]\n")
    out = left_out(project)
    assert out["plain"] == out["top"] == f"{path}: missing key 'info.title'"
    assert "plain" not in recipe.readable()


def make_odd(path: Path, kind: str) -> str:
    """Replace a TOML file by something else; return what is said about it."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("[[file\n")
        return f"{path}: Expected ']]' at the end of an array declaration (at line 1, column 7)"
    return f"{path}: not a regular file"


@pytest.mark.parametrize("kind", ["folder", "pipe", "no TOML"])
def test_a_recipe_that_cannot_be_read_stops_only_those_who_use_it(project: Profile, kind: str) -> None:
    says = make_odd(CHECKOUT.extensions / "plain/recipe.toml", kind)
    found = plan.plan(project, Lock(), unused=recipe.names())
    assert found.of_kind("recipe") == ["new", "above", "both"]
    assert {name: error.message for name, error in found.broken.items()} == {"plain": says, "top": says}
    out = plan.left_out(project, found)
    assert out["plain"] == out["top"] == says
    assert "both" in recipe.readable()  # what dodo.py's LOCKABLE calls
    with pytest.raises(UserError) as caught:
        plan.plan(replace(project, extensions=(Extension("plain"),)), Lock())
    assert caught.value.message == says


@pytest.mark.parametrize("kind", ["folder", "pipe", "no TOML"])
def test_a_lock_that_cannot_be_read_stops_the_fetch_and_not_the_task_that_writes_it(
    project: Profile, kind: str
) -> None:
    """The plan of a profile that uses the extension does not need the lock: each start makes it."""
    says = make_odd(CHECKOUT.extensions / "plain/lock.toml", kind)
    found = plan.plan(project, Lock(), unused=recipe.names())
    assert found.broken == {}
    assert plan.left_out(project, found)["plain"] == says
    assert plan.left_out(project, found)["top"] == "it needs above, which is left out"
    using = replace(project, extensions=(Extension("plain"),))
    assert plan.plan(using, Lock()).of_kind("recipe") == ["plain"]
    with pytest.raises(UserError) as caught:
        recipe_lock.unlocked_origins("plain", recipe.load("plain"))  # what a fetch begins with
    assert caught.value.message == says
    assert caught.value.hint == "restore it, or write it anew: ./doit lock:plain relock=1"


GO = """
[[origin]]
kind = "go"
alternative = "go"
module = "example.org/tool"
version = "1.2.3"
packages = ["./cmd/tool"]
[[origin]]
kind = "apt"
alternative = "apt"
packages = ["tool"]
"""


def test_a_program_for_another_architecture_is_refused_before_anything_is_fetched(project: Profile) -> None:
    path = CHECKOUT.extensions / "plain/recipe.toml"
    path.write_text(path.read_text() + GO)
    pin("plain", "go:example.org/tool@v1.2.3")
    assert "plain" not in left_out(project)
    small = replace(project, arch="x86")
    says = "extension plain: tool@v1.2.3 is compiled for x86_64 alone"
    assert left_out(small)["plain"] == says
    taking = replace(small, extensions=(Extension("plain"),))
    with pytest.raises(UserError) as caught:
        plan.require_fitting(taking, plan.plan(taking, Lock()))
    assert (caught.value.message, caught.value.hint) == (
        says,
        "a profile for x86 takes another alternative of the recipe, or goes without it",
    )
    other = replace(small, extensions=(Extension("plain", alternative="apt"),))
    for fitting in (replace(taking, arch="x86_64"), other):
        plan.require_fitting(fitting, plan.plan(fitting, Lock()))


def test_another_root_gets_what_its_profile_needs_and_nothing_else(project: Profile) -> None:
    other = replace(project, core=replace(project.core, rootfs=False))
    assert left_out(other)["plain"].startswith("the root is not made of a suite's packages")
    assert "plain" not in left_out(replace(other, extensions=(Extension("plain"),)))


@pytest.mark.parametrize("name", ["a=b", "-x", "new\nline", "a b", ".hidden", "a\x1b[2J", "tree.tcz", "core"])
def test_a_folder_that_has_no_name_of_an_extension(
    project: Profile, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops nothing, `./doit tcz` says so, and who names it gets an error."""
    (tmp_path / "extensions/both").rename(tmp_path / "extensions" / name)
    assert name not in recipe.names()
    out = left_out(project)
    plan.log_left_out({quoted: reason for quoted, reason in out.items() if "folder" in reason})
    assert capsys.readouterr().out == f"left out: {name!r}.tcz: {recipe.NO_NAME}\n"
    with pytest.raises(UserError) as caught:
        plan.plan(project, Lock(), also=[name])
    assert caught.value.message == f"the recipe {name!r} cannot be built: {recipe.NO_NAME}"


def test_another_version_in_the_recipe_is_not_locked_by_the_old_one(project: Profile) -> None:
    pin("new", "https://h/old.tgz")
    assert "new" in left_out(project)


def test_what_the_profile_names_or_needs_is_never_left_out(project: Profile) -> None:
    assert list(left_out(replace(project, extensions=(Extension("top"),)))) == ["both"]


def test_the_chosen_alternative_is_what_must_be_locked(project: Profile) -> None:
    pin("both", "https://h/b")
    assert "both" in left_out(project)
    found = plan.plan(project, Lock(), also=["both"])
    chosen = replace(project, extensions=(Extension("both", alternative="b"),))
    assert recipe_lock.unlocked_origins("both", plan.recipe_of(chosen, "both")) == []
    assert list(plan.left_out(project, found)) == ["both"]

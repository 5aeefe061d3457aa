"""Recipes: their schema, their files, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import profile, recipe, tce
from tasks.errors import UserError
from tasks.profile import Lock


@pytest.fixture
def extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, with extensions a -> b -> c, a -> c, and a ring x -> y -> x."""
    deps = {"a": ["b", "c"], "b": ["c"], "c": [], "x": ["y"], "y": ["x"], "lost": ["nowhere"]}
    for name, names in deps.items():
        folder = tmp_path / "extensions" / name
        folder.mkdir(parents=True)
        listed = ", ".join(f'"{dep}"' for dep in names)
        (folder / "recipe.toml").write_text(
            f'deps = [{listed}]\n[info]\ntitle = "{name}"\ndescription = "d"\n'
        )
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    return tmp_path / "extensions"


def order(*names: str) -> list[str]:
    """Return the order in which these recipes, and what they depend on, are built."""
    nothing_else = replace(profile.load("apt"), extensions=())
    return list(tce.plan(nothing_else, Lock(), also=names).nodes)


@pytest.mark.usefixtures("extensions")
def test_dependencies_come_first_and_once() -> None:
    assert order("a") == ["c", "b", "a"]
    assert order("c", "a") == ["c", "b", "a"]


@pytest.mark.usefixtures("extensions")
def test_a_circle_is_named() -> None:
    with pytest.raises(UserError, match="x -> y -> x"):
        order("x")


@pytest.mark.usefixtures("extensions")
def test_a_missing_dependency_is_named() -> None:
    with pytest.raises(UserError, match="no recipe for extension 'nowhere'") as caught:
        order("lost")
    assert "a, b, c" in caught.value.hint


def test_a_recipe_with_an_unknown_key_is_refused(extensions: Path) -> None:
    path = extensions / "c" / "recipe.toml"
    path.write_text(path.read_text().replace("deps", "dep"))
    with pytest.raises(UserError, match="unknown key 'dep'"):
        recipe.load("c")


def test_files_of_a_recipe_and_their_layout(extensions: Path) -> None:
    """A link that leads nowhere in the checkout is no file anybody could read."""
    top = extensions / "c" / "files"
    own = top / "usr" / "local" / "bin" / "tool"
    own.parent.mkdir(parents=True)
    own.touch(0o644)
    (top / "link").symlink_to("/etc/no-such-file")
    assert recipe.files("c") == [extensions / "c" / "recipe.toml", own]
    assert recipe.layout("c") == ("link -> /etc/no-such-file", "usr/local/bin/tool")
    own.chmod(0o744)
    assert recipe.layout("c") == ("link -> /etc/no-such-file", "usr/local/bin/tool executable")


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_of_the_project_is_sound(name: str) -> None:
    made = recipe.load(name)
    assert made.info.description
    assert order(name)[-1] == name


def test_packages_of_recipes_are_named_once_each() -> None:
    def made(*packages: str) -> recipe.Recipe:
        origin = recipe.Origin("apt", packages)
        return recipe.Recipe(recipe.Info("t", "d"), (origin,))

    assert recipe.packages({"x": made("b", "c"), "y": made("a", "b")}) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: recipe.Origin("apt"), "packages: needed"),
        (lambda: recipe.Origin("apt", ("p",), rename={"a/": "b"}), "'a/' and 'b' must both end in /"),
        (lambda: recipe.Origin("apt", ("p",), rename={"a": "/b"}), "'/b' must be a path below /"),
        (lambda: recipe.Origin("apt", ("p",), rename={"a": "x/../../b"}), "must be a path below /"),
        (lambda: recipe.Origin("apt", ("p",), join={"../b": "*"}), "must be a path below /"),
        (lambda: recipe.Recipe(recipe.Info("t", "d"), deps=("a.tcz",)), "a name without .tcz"),
        (lambda: recipe.Recipe(recipe.Info("t", "d"), deps=("../a",)), "a name without .tcz"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_refusals_name_file_and_key(extensions: Path) -> None:
    path = extensions / "c" / "recipe.toml"
    path.write_text(path.read_text() + '[[origin]]\nkind = "apt"\npackages = []\n')
    with pytest.raises(UserError, match=r"c/recipe.toml: origin\[0\].packages: needed"):
        recipe.load("c")
    path.write_text(path.read_text().replace('"apt"', '"disk"'))
    with pytest.raises(
        UserError, match=r"origin\[0\].kind: expected one of 'apt', 'archive', 'wheel', got 'disk'"
    ):
        recipe.load("c")

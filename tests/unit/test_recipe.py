"""Recipes and what extensions depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import recipe, tcz
from tasks.errors import UserError


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


@pytest.mark.usefixtures("extensions")
def test_dependencies_come_first_and_once() -> None:
    assert list(recipe.closure(["a"])) == ["c", "b", "a"]
    assert list(recipe.closure(["c", "a"])) == ["c", "b", "a"]


@pytest.mark.usefixtures("extensions")
def test_a_circle_is_named() -> None:
    with pytest.raises(UserError, match="x -> y -> x"):
        recipe.closure(["x"])


@pytest.mark.usefixtures("extensions")
def test_a_missing_dependency_is_named() -> None:
    with pytest.raises(UserError, match="no recipe for extension 'nowhere'") as caught:
        recipe.closure(["lost"])
    assert "a, b, c" in caught.value.hint


def test_a_recipe_with_an_unknown_key_is_refused(extensions: Path) -> None:
    path = extensions / "c" / "recipe.toml"
    path.write_text(path.read_text().replace("deps", "dep"))
    with pytest.raises(UserError, match="unknown key 'dep'"):
        recipe.load("c")


def test_files_of_a_recipe_include_its_own_files(extensions: Path) -> None:
    own = extensions / "c" / "files" / "usr" / "local" / "bin" / "tool"
    own.parent.mkdir(parents=True)
    own.touch()
    assert recipe.files("c") == [extensions / "c" / "recipe.toml", own]


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_of_the_project_is_sound(name: str) -> None:
    made = recipe.load(name)
    assert made.info.description
    assert list(recipe.closure([name]))[-1] == name


def test_info_has_tiny_cores_fields_in_order() -> None:
    made = recipe.Recipe(recipe.Info("t", "what it is", tags=("cli", "xattr"), comments=("one", "two")))
    text = tcz.info_text("attr", made, "2.5.1", 34567, 1700000000)
    labels = [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert labels == [
        *("Title", "Description", "Version", "Author", "Original-site", "Copying-policy", "Size"),
        *("Extension_by", "Tags", "Comments", "Change-log", "Current"),
    ]
    assert "Size:           34K\n" in text
    assert "                two\n" in text
    assert "2023/11/14 2.5.1" in text

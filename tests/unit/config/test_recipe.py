# SPDX-License-Identifier: MIT
"""Recipes: their schema, their files, and what they depend on."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.config import plan, profile, recipe
from tasks.origins.kinds.apt import AptOrigin
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.lock import Lock
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


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
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    return tmp_path / "extensions"


def order(*names: str) -> list[str]:
    """Return the order in which these recipes, and what they depend on, are built."""
    nothing_else = replace(profile.load("apt"), extensions=())
    return list(plan.plan(nothing_else, Lock(), also=names).nodes)


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


def test_files_of_a_recipe_and_what_they_are(extensions: Path) -> None:
    """A link that leads nowhere in the checkout is no file anybody could read."""
    top = extensions / "c" / "files"
    own = top / "usr" / "local" / "bin" / "tool"
    own.parent.mkdir(parents=True)
    own.touch(0o644)
    (top / "link").symlink_to("/etc/no-such-file")
    assert recipe.files("c") == [extensions / "c" / "recipe.toml", own]
    link = {str(top / "link"): "-> /etc/no-such-file"}
    assert recipe.own_tree("c")() == {**link, str(own): "a file"}
    own.chmod(0o744)
    assert recipe.own_tree("c")() == {**link, str(own): "executable"}


@pytest.mark.parametrize("symbol", ["CONFIG_OVERLAY_FS", "overlay fs", "", "A=y"])
def test_kernel_symbols_are_written_without_config(symbol: str) -> None:
    with pytest.raises(ValueError, match="kconfig: expected symbols without CONFIG_"):
        recipe.Recipe(recipe.Info("t", "d"), kconfig=("BRIDGE", symbol))


@pytest.mark.parametrize(("path", "target"), [("/a", "b"), ("../a", "b"), ("", "b"), ("a", "")])
def test_links_have_a_path_in_the_extension_and_a_target(path: str, target: str) -> None:
    with pytest.raises(ValueError, match=r"^links: "):
        recipe.Recipe(recipe.Info("t", "d"), links={path: target})


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_of_the_project_is_sound(name: str) -> None:
    made = recipe.load(name)
    assert made.info.description
    assert order(name)[-1] == name


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_tells_of_a_circle_and_of_what_it_lacks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (CHECKOUT.root / "extensions").iterdir():
        shutil.copytree(folder, tmp_path / "extensions" / folder.name, symlinks=True)
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    path = tmp_path / "extensions" / name / "recipe.toml"
    whole = path.read_text()
    deps = ", ".join(f'"{dep}"' for dep in recipe.load(name).deps)
    plain = re.sub(r"^deps = .*\n", "", whole, flags=re.MULTILINE)
    path.write_text(f'deps = [{deps}{", " if deps else ""}"nowhere"]\n{plain}')
    with pytest.raises(UserError, match="there is no recipe for extension 'nowhere'"):
        order(name)
    other = tmp_path / "extensions" / "other" / "recipe.toml"
    other.parent.mkdir()
    other.write_text(f'deps = ["{name}"]\n[info]\ntitle = "t"\ndescription = "d"\n')
    path.write_text(f'deps = [{deps}{", " if deps else ""}"other"]\n{plain}')
    with pytest.raises(UserError, match=f"circle: {name} -> other -> {name}"):
        order(name)


def test_packages_of_recipes_are_named_once_each() -> None:
    def made(*packages: str) -> recipe.Recipe:
        return recipe.Recipe(recipe.Info("t", "d"), (AptOrigin(packages=packages),))

    assert recipe.packages({"x": made("b", "c"), "y": made("a", "b")}) == ("a", "b", "c")


def archive(**more: Any) -> ArchiveOrigin:
    return ArchiveOrigin(**({"urls": ("http://h/a-{version}.tgz",), "version": "1.2"} | more))


BOTH = recipe.Recipe(
    recipe.Info("t", "d"),
    (
        archive(alternative="new"),
        AptOrigin(packages=("always",)),
        archive(alternative="old", version="0.1"),
        archive(alternative="new", urls=("http://h/more",)),
    ),
)


@pytest.mark.parametrize(
    ("alternative", "taken"),
    [("", (0, 1, 3)), ("new", (0, 1, 3)), ("old", (1, 2))],
    ids=["first", "new", "old"],
)
def test_one_alternative_is_taken_and_what_belongs_to_none(alternative: str, taken: tuple[int, ...]) -> None:
    assert recipe.with_alternative("x", BOTH, alternative).origin == tuple(
        BOTH.origin[number] for number in taken
    )


GO = '[[origin]]\nkind = "go"\nmodule = "example.org/tool"\nversion = "1.0.0"\npackages = ["./a"]\n'


@pytest.mark.parametrize("more", ['packages = ["./b"]', 'tags = ["x"]', "cgo = true", 'go = "1.27.3"'])
def test_origins_that_share_their_lock_need_the_same_files(more: str, extensions: Path) -> None:
    """The lock names the files of a module once, and these keys decide which they are."""
    path = extensions / "c/recipe.toml"
    info = path.read_text()
    other = GO.replace('packages = ["./a"]', more) if "packages" in more else GO + more + "\n"
    path.write_text(f'{info}{GO}{other}alternative = "other"\n')
    with pytest.raises(UserError, match=r"go:example.org/tool@v1.0.0: two origins of it must have the same"):
        recipe.load("c")
    path.write_text(f'{info}{GO}{GO}into = "opt/bin"\n')
    assert len(recipe.load("c").origin) == 2


@pytest.mark.parametrize(
    ("made", "hint"),
    [
        (BOTH, "it has: new, old"),
        (recipe.Recipe(recipe.Info("t", "d")), "it has none: leave out `alternative`"),
    ],
)
def test_an_unknown_alternative_names_those_there_are(made: recipe.Recipe, hint: str) -> None:
    with pytest.raises(UserError, match="recipe of x has no alternative 'odd'") as caught:
        recipe.with_alternative("x", made, "odd")
    assert caught.value.hint == hint


def test_the_profile_chooses_the_alternative() -> None:
    """Of the project's own recipe, and of nothing else."""
    loaded = profile.load("apt")
    entry = profile.Extension("buildkit", alternative="0.8")
    by_profile = replace(loaded, extensions=(profile.Extension("attr"), entry))

    def versions(one: profile.Profile) -> list[str]:
        return [origin.stated_version() for origin in plan.recipe_of(one, "buildkit").origin]

    assert versions(by_profile) == ["0.8.1", "1.0.0-rc92"]  # with runc
    assert versions(loaded) == ["0.34.2", "1.5.3"]
    wrong = replace(loaded, extensions=(replace(entry, alternative="9"),))
    with pytest.raises(UserError, match="has no alternative '9'"):
        plan.recipe_of(wrong, "buildkit")
    with pytest.raises(ValueError, match="alternative: only recipes"):
        profile.Extension("attr", origin="upstream", alternative="x")


@pytest.mark.parametrize("dep", ["a.tcz", "../a", ""])
def test_a_dependency_that_is_no_name_is_refused(dep: str) -> None:
    with pytest.raises(ValueError, match=r"a name without \.tcz"):
        recipe.Recipe(recipe.Info("t", "d"), deps=(dep,))


def test_refusals_name_file_and_key(extensions: Path) -> None:
    path = extensions / "c" / "recipe.toml"
    path.write_text(path.read_text() + '[[origin]]\nkind = "apt"\npackages = []\n')
    with pytest.raises(UserError, match=r"c/recipe.toml: origin\[0\].packages: needed"):
        recipe.load("c")
    path.write_text(path.read_text().replace('"apt"', '"disk"'))
    known = "expected one of 'apt', 'archive', 'wheel', 'npm', 'go', 'module', 'source'"
    with pytest.raises(UserError, match=rf"origin\[0\].kind: {known}, got 'disk'"):
        recipe.load("c")
    path.write_text(path.read_text().replace('kind = "disk"\n', ""))
    with pytest.raises(UserError, match=r"missing key 'origin\[0\].kind'") as caught:
        recipe.load("c")
    assert caught.value.hint == known


@pytest.mark.parametrize("text", ["two\nlines", "two\u2028lines", "two\x85lines", "\x1b[2J", "a\tb"])
@pytest.mark.parametrize("key", ["description", "author", "tags", "comments"])
def test_a_field_of_the_info_file_is_one_line(key: str, text: str) -> None:
    value = (text,) if key in ("tags", "comments") else text
    with pytest.raises(ValueError, match=f"^{key}: expected one line of text, got '"):
        recipe.Info(**{"title": "t", "description": "d", key: value})  # type: ignore[arg-type]


MODULE = (
    '[info]\ntitle = "t"\ndescription = "d"\n[[origin]]\nkind = "module"\nversion = "1"\n'
    'source = { kind = "folder", path = "src" }\n'
)


def module(extensions: Path, name: str = "drv-KERNEL", text: str = MODULE) -> Path:
    (extensions / name).mkdir()
    (extensions / name / "recipe.toml").write_text(text)
    return extensions / name


def test_a_recipe_with_kernel_modules_is_called_after_the_kernel(extensions: Path) -> None:
    folder = module(extensions)
    assert recipe.folder("drv-6.1.2-mine") == recipe.folder("drv-KERNEL") == folder
    assert recipe.name_of("drv-6.1.2-mine") == "drv-KERNEL"
    assert recipe.load("drv-6.1.2-mine").has_modules
    assert recipe.exists("drv-6.1.2-mine")
    # Names that look like it, and are none.
    for other in ("drv", "drv-390", "other-6.1.2-mine", "a-6.1.2"):
        assert recipe.name_of(other) == other
        assert not recipe.exists(other)
    module(extensions, "drv-6.1.2-mine", MODULE.replace('kind = "module"', 'kind = "apt"'))
    assert recipe.name_of("drv-6.1.2-mine") == "drv-6.1.2-mine"


def test_modules_and_the_name_of_their_recipe_go_together(extensions: Path) -> None:
    module(extensions, "drv")
    with pytest.raises(UserError, match=r"drv/recipe\.toml: extension drv has kernel modules") as caught:
        recipe.load("drv")
    assert "lies in a folder NAME-KERNEL" in caught.value.hint
    (extensions / "a").rename(extensions / "a-KERNEL")
    with pytest.raises(UserError, match="extension a-KERNEL has no kernel modules"):
        recipe.load("a-KERNEL")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            '[[origin]]\nkind = "apt"\npackages = ["p"]\n',
            "kernel modules and packages need an extension each",
        ),
        ('[image]\nname = "localhost/a:1"\n', "a container image has no kernel modules"),
    ],
)
def test_what_a_recipe_with_kernel_modules_may_not_have(extensions: Path, more: str, words: str) -> None:
    folder = module(extensions, text=MODULE + more)
    with pytest.raises(UserError, match=words):
        recipe.load(folder.name)


def test_the_folder_that_a_recipe_is_compiled_from_counts(
    extensions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECKOUT, "root", extensions.parent)
    made = recipe.load(module(extensions).name)
    assert recipe.source_files(made) == []
    source = extensions.parent / "src"
    (source / ".git").mkdir(parents=True)
    (source / ".git/config").touch()
    (source / "a.c").touch(0o644)
    assert recipe.source_files(made) == [source / "a.c"]
    assert recipe.own_tree("drv-KERNEL", made)() == {"src/a.c": "a file"}
    assert recipe.own_tree("drv-KERNEL")() == {}

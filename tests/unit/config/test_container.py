# SPDX-License-Identifier: MIT
"""The table `image` of a recipe: its mistakes, and the config that it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import recipe
from tasks.config.container import Container
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

INFO = '[info]\ntitle = "t"\ndescription = "d"\n'
NAME = 'name = "docker.io/library/tool:1"\n'


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('name = "tool"', "image.name: expected a full reference like localhost/tool:1, got 'tool'"),
        (NAME + 'ports = ["http"]', "image.ports: expected a port like 8080 or 53/udp, got 'http'"),
        (NAME + 'user = "a b"', "image.user: expected USER or USER:GROUP, got 'a b'"),
        (NAME + 'workdir = "data"', "image.workdir: expected a path that begins with /, got 'data'"),
        (NAME + 'applets = "/bin/busybox"', "image.applets: expected a path without a leading slash"),
        (NAME + 'env = { "A B" = "1" }', "image.env: 'A B' is no name of a variable"),
        (NAME + 'folder = [{ path = "../x" }]', "image.folder[0].path: expected a path below /"),
        (NAME + 'folder = [{ path = "x", mode = 0o10000 }]', "image.folder[0].mode: expected at most 0o7777"),
        (NAME + 'entry = ["x"]', "did you mean"),
    ],
)
def test_mistakes(table: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKOUT, "images", tmp_path)
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/recipe.toml").write_text(f"{INFO}[image]\n{table}\n")
    with pytest.raises(UserError) as caught:
        recipe.load("images/tool")
    assert says in str(caught.value)


@pytest.mark.parametrize("key", ['deps = ["attr"]', 'kconfig = ["BRIDGE"]', 'bootcodes = ["noembed"]'])
def test_an_image_asks_nothing_of_the_system(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHECKOUT, "images", tmp_path)
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/recipe.toml").write_text(f"{key}\n{INFO}[image]\n{NAME}")
    with pytest.raises(UserError, match=f"{key.split()[0]}: a container image has none"):
        recipe.load("images/tool")


@pytest.mark.parametrize(("name", "table"), [("images/tool", ""), ("tool", f"[image]\n{NAME}")])
def test_a_recipe_in_the_wrong_folder(
    name: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("images", "extensions"):
        monkeypatch.setattr(CHECKOUT, folder, tmp_path / folder)
    recipe.folder(name).mkdir(parents=True)
    (recipe.folder(name) / "recipe.toml").write_text(INFO + table)
    with pytest.raises(UserError, match=f"{recipe.label(name)} is in the wrong folder"):
        recipe.load(name)


def test_the_config_of_an_image() -> None:
    made = Container(
        "localhost/tool:1",
        entrypoint=("/bin/tool",),
        env={"B": "2", "A": "1"},
        user="65534:65534",
        ports=("8080", "53/udp"),
        labels={"x": "y"},
    )
    assert made.config({"z": "1"}) == {
        "Entrypoint": ["/bin/tool"],
        "Env": ["A=1", "B=2", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "User": "65534:65534",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Labels": {"z": "1", "x": "y"},
    }
    assert Container("localhost/tool:1", env={"PATH": "/x"}).config({}) == {"Env": ["PATH=/x"]}

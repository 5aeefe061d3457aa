# SPDX-License-Identifier: MIT
"""The table `image` of a recipe: its mistakes, and the config that it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.config import recipe
from tasks.config.container import Container
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

INFO = '[info]\ntitle = "t"\ndescription = "d"\n'
NAME = 'name = "docker.io/library/tool:1"\n'
FAASD = "0.18.8"
# What the docker-compose.yaml of that release says of the services that are made here: the image, and
# the `command`, or None for the image's own.  All run as user 65534, and lie in volumes at /SERVICE.
SERVICES = {
    "nats-streaming": ("docker.io/library/nats-streaming:0.25.6", "/nats-streaming-server"),
    "prometheus": ("docker.io/prom/prometheus:v2.49.1", None),
}


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


@pytest.mark.parametrize("name", recipe.image_names())
def test_every_image_of_the_project_is_sound(name: str) -> None:
    """Whoever it names as a user or an owner has a name in it."""
    made = recipe.load(name)
    assert made.image is not None
    assert made.info.copying_policy
    owners = {str(owner) for folder in made.image.folder for owner in (folder.uid, folder.gid)}
    listed = [recipe.folder(name) / "files/etc" / file for file in ("passwd", "group")]
    ids = {line.split(":")[2] for file in listed for line in file.read_text().splitlines()}
    assert {word for word in made.image.user.split(":") if word} | owners <= ids


@pytest.mark.parametrize(("name", "image", "command"), [(name, *said) for name, said in SERVICES.items()])
def test_images_of_faasds_services(name: str, image: str, command: str | None) -> None:
    """faasd starts them as its compose file says, or as they say themselves."""
    assert any(f"faasd/releases/download/{FAASD}/faasd" in url for url in faasd_urls())
    made = recipe.load(f"images/{name}").image
    assert made is not None
    assert (made.name, made.user) == (image, "65534:65534")
    if command:
        assert made.entrypoint == (command,)


def faasd_urls() -> Iterator[str]:
    """Yield the addresses of what the recipe of faasd takes."""
    for origin in recipe.load("faasd").origin:
        assert isinstance(origin, ArchiveOrigin)
        yield from (url.replace("{version}", origin.version) for url in origin.urls)


def test_prometheus_starts_by_what_faasd_mounts() -> None:
    """The compose file mounts its settings and a folder for its data, and gives no arguments."""
    made = recipe.load("images/prometheus").image
    assert made is not None
    assert made.cmd == ("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus")
    assert [(folder.path, folder.uid, folder.gid) for folder in made.folder] == [("prometheus", 65534, 65534)]
    assert made.ports == ("9090",)

# SPDX-License-Identifier: MIT
"""The tasks of container images, and which of them a profile needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.image import image_tasks, targets
from tasks.origins.lock import Lock
from tasks.origins.sources.recipe import RecipeSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import with_values

RECIPE = '[info]\ntitle = "t"\ndescription = "{0}"\n[image]\nname = "localhost/{0}:1"\n'


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Two recipes of images, one of them broken."""
    monkeypatch.setattr(CHECKOUT, "images", tmp_path / "images")
    for name, text in (("tool", RECIPE.format("tool")), ("broken", "[info\n")):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "recipe.toml").write_text(text)
    return make_settings()


def carrying(profile: Profile, *names: str) -> Profile:
    """Return the profile with an image of each name, each in a namespace of its own."""
    images = (
        Image(f"localhost/{name}:1", RecipeSource(recipe=name), namespace=f"n{number}")
        for number, name in enumerate(names)
    )
    return replace(profile, images=tuple(images))


def test_a_broken_recipe_stops_only_who_needs_it(settings: Settings) -> None:
    found = image_tasks.load(settings.profile)
    assert ([*found.recipes], [*found.broken], found.carried) == (["images/tool"], ["images/broken"], ())
    with pytest.raises(UserError, match=r"broken/recipe\.toml"):
        image_tasks.load(carrying(settings.profile, "broken"))
    with pytest.raises(UserError, match="there is no recipe for the image absent"):
        image_tasks.load(carrying(settings.profile, "absent"))


def test_an_image_of_programs_for_another_architecture_stops_only_who_carries_it(settings: Settings) -> None:
    path = CHECKOUT.images / "tool/recipe.toml"
    program = 'kind = "go"\nmodule = "example.org/tool"\nversion = "1.2.3"\npackages = ["."]\n'
    path.write_text(f"{path.read_text()}[[origin]]\n{program}")
    assert image_tasks.load(carrying(settings.profile, "tool")).carried == ("images/tool",)
    small = replace(settings.profile, arch="x86")
    assert [*image_tasks.load(small).recipes] == ["images/tool"]
    with pytest.raises(UserError, match=r"image tool: tool@v1\.2\.3 is compiled for x86_64 alone"):
        image_tasks.load(carrying(small, "tool"))


def test_a_broken_lock_takes_no_task_away(settings: Settings) -> None:
    (CHECKOUT.images / "tool/lock.toml").write_text("<<<<<<< HEAD\n")
    for profile in (settings.profile, carrying(settings.profile, "tool")):
        assert [*image_tasks.load(profile).recipes] == ["images/tool"]


@pytest.mark.parametrize("names", [(), ("tool", "tool")])
def test_image_makes_what_the_profile_carries(settings: Settings, names: tuple[str, ...]) -> None:
    images = image_tasks.load(carrying(settings.profile, *names))
    group, broken, tool = image_tasks.declared(settings, images, "")
    assert (group["basename"], broken["basename"]) == ("image", "image:broken")
    word = {"basename": "image", "name": "tool"} if names else {"basename": "image:tool"}
    assert word.items() <= tool.items()
    assert tool["targets"] == [str(settings.paths.output / "images/tool.tar")]


def test_an_image_is_made_again_for_another_architecture(settings: Settings) -> None:
    """A Go program's lock is the same for both, but the image's config names it."""
    other = with_values(settings, profile=replace(settings.profile, arch="x86"))
    images = image_tasks.load(settings.profile)
    states = [
        next(check.values for check in list(image_tasks.declared(one, images, ""))[-1]["uptodate"][:1])
        for one in (settings, other)
    ]
    assert states[0] != states[1]


def test_a_made_image_is_no_input_of_the_profile(settings: Settings) -> None:
    profile = carrying(settings.profile, "tool")
    assert profile.images[0].source not in inputs.sources(profile)
    assert "images" not in inputs.lock_parts(Lock(), profile, {}, ())
    inputs.check_local(profile)
    tar = settings.paths.container_image("tool")
    assert tar not in targets.image_files(settings.paths, profile)
    assert tar in targets.carried_images(settings.paths, profile)
    with pytest.raises(UserError, match=r"tool\.tar") as caught:
        inputs.source_file(settings.paths, profile.images[0].source)
    assert caught.value.hint == "./doit image:tool"
    tar.parent.mkdir(parents=True)
    tar.touch()
    assert inputs.source_file(settings.paths, profile.images[0].source) == tar

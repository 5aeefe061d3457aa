# SPDX-License-Identifier: MIT
"""The tasks that build container images by the recipes in images/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.config import plan, recipe, recipe_lock
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.engine.task import Task, beside, changed, command, do, files
from tasks.image.targets import carried_recipes
from tasks.toolchain import build_root
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


@dataclass(frozen=True)
class Images:
    """The recipes of container images.

    recipes: by their names, `images/NAME`; broken: those that cannot be read, each with its error;
    carried: the names of those that the profile carries.
    """

    recipes: dict[str, Recipe] = field(default_factory=dict)
    broken: dict[str, UserError] = field(default_factory=dict)
    carried: tuple[str, ...] = ()


def load(profile: Profile) -> Images:
    """Return all recipes of images.

    Raises `UserError` for one that the profile carries, if it is broken or for another architecture.
    """
    carried = tuple(f"{recipe.IMAGES}{name}" for name in carried_recipes(profile))
    found, broken = {}, {}
    for name in dict.fromkeys([*carried, *recipe.image_names()]):
        try:
            load_one = plan.recipe_to_build if name in carried else plan.recipe_of
            found[name] = load_one(profile, name)
        except UserError as error:
            if name in carried:
                raise
            broken[name] = error
    return Images(found, broken, carried)


def named(name: str, carried: bool) -> Task:
    """Return the name of the task that builds an image; `./doit image` builds those that are carried."""
    word = name.removeprefix(recipe.IMAGES)
    return {"basename": "image", "name": word} if carried else {"basename": f"image:{word}"}


def declared(settings: Settings, images: Images, toolchain: str) -> Iterator[Task]:
    """Yield the tasks of all images, and the group of those that the profile carries.

    toolchain: the digest of the profile's.
    """
    doc = "make the profile's container images by their recipes in images/"
    yield {"basename": "image", "name": None, "doc": doc}
    for name, error in images.broken.items():
        word = named(name, carried=False)["basename"]
        yield command(word, "its recipe is broken", do("config.plan", "refuse", error))
    for name in images.recipes:
        yield _task(settings, images, name, toolchain)


def _task(settings: Settings, images: Images, name: str, toolchain: str) -> Task:
    """Return the task that builds the image of the recipe `name`."""
    made = images.recipes[name]
    own = recipe.toolchains(made)
    has_packages = bool(recipe.packages({name: made}))
    fetched = [recipe_lock.used_path(settings.paths, name)] if recipe_lock.lockable_origins(made) else []
    locks = [*fetched, *([settings.paths.extension_lock(name)] if has_packages else [])]
    return {
        **named(name, name in images.carried),
        "doc": f"make a container image: {made.info.description}",
        "actions": [
            beside("fetch.stage_inputs", "fetch_recipe_packages", settings, name),
            *([beside("fetch.recipe_inputs", "fetch_missing", settings, name)] if fetched else []),
            do("fetch.toolchain", "fetch", settings),
            do("toolchain.prepare", "ensure_toolchains", settings),
            *([beside("fetch.toolchain", "make_roots", settings, own)] if own else []),
            do("image.image_build", "build", settings, name),
        ],
        "file_dep": files(*locks, *recipe.files(name), *recipe.source_files(made), *CHECKOUT.secrets),
        "targets": files(settings.paths.container_image(name.removeprefix(recipe.IMAGES))),
        "uptodate": changed(
            layout=recipe.own_tree(name, made),
            origins=made.origin,
            architecture=settings.profile.arch,
            toolchain=[toolchain, *map(build_root.digest, own)],
            epoch=settings.profile.source_date_epoch,
        ),
    }

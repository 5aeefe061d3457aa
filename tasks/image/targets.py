# SPDX-License-Identifier: MIT
"""The files of an image and of a mirror, for the targets and file_dep of tasks."""

from __future__ import annotations

from pathlib import Path

from tasks.config import mirror_layout
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import tcz
from tasks.origins.sources.recipe import RecipeSource
from tasks.util.checkout import CHECKOUT


def mirror_files(paths: Paths, profile: Profile, names: list[str]) -> list[Path]:
    """Return the files of a mirror with the extensions `names`.

    Their .dep and .info are left out: only the build shows which extensions have one.
    """
    top = mirror_layout.mirror(paths)
    folder = top / mirror_layout.mirror_folder(profile)
    found = [file for name in names for file in tcz.file_names(name, tcz.MIRROR_SIDE_FILES)]
    found += [f"{name}{packed}" for name in tcz.DATABASES for packed in ("", ".gz")]
    tops = [top / name for name in (f"latest-{folder.parent.name}", "index.html", "SHA256SUMS")]
    carried = [top / "images" / image.file for image in profile.images]
    carried += [top / "images" / paths.images_list.name] if carried else []
    return [*(folder / name for name in found), *carried, *tops]


def carried_images(paths: Paths, profile: Profile) -> list[Path]:
    """Return what images.lst is made of: `image_files`, and the images that tcbuild makes itself."""
    made = [paths.container_image(name) for name in carried_recipes(profile)]
    return [*image_files(paths, profile), *made]


def carried_recipes(profile: Profile) -> list[str]:
    """Return the folders in images/ of the container images that the profile carries, each once."""
    sources = [image.source for image in profile.images]
    return list(dict.fromkeys(source.recipe for source in sources if isinstance(source, RecipeSource)))


def image_files(paths: Paths, profile: Profile) -> list[Path]:
    """Return the inputs of images.lst that tcbuild does not make.

    These are the local image tars, and the lock entries of fetched ones.  A missing tar is left out, so
    that the images stage reports it.
    """
    sources = [image.source for image in profile.images]
    fetched = any(source.is_fetched for source in sources)
    local = [CHECKOUT.path(source.local_name()) for source in sources if source.is_local]
    return [*([paths.lock_part("images")] if fetched else []), *(path for path in local if path.is_file())]

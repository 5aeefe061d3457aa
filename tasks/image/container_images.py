# SPDX-License-Identifier: MIT
"""Container images that the image carries beside the extensions.  The guest imports them at boot.

`images.lst` lists them.  It lies in `cde/images/` or `tce/images/` with the tars.  A line has
five words: NAME FILE SHA256 DIGEST NAMESPACE.  SHA256 (64 hex digits) is the tar's.  DIGEST is
the one that containerd's store will have: the manifest's, or the config's for docker-save
archives, which have no manifest digest.  An extension whose recipe sets `imports_images`
contains the program that reads the list.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.checks import secrets
from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.config.sources import Image
from tasks.formats import container_archive
from tasks.util.errors import UserError
from tasks.util.files import sha256_file, write_if_changed
from tasks.util.log import logger

LIST = "images.lst"
FOLDER = "images"


@dataclass(frozen=True)
class ImageLine:
    """A line of images.lst."""

    name: str
    file: str
    sha256: str
    digest: str
    namespace: str

    def line(self) -> str:
        return f"{self.name} {self.file} {self.sha256} {self.digest} {self.namespace}\n"


def build(paths: Paths, profile: Profile) -> None:
    """Check every image tar of the profile and write images.lst.  An unchanged list keeps its time.

    Raises `UserError` if a tar is missing or damaged, if it is for another platform than
    the profile's, if it has not the digest that the profile declares, or if a tar of this
    machine holds a secret.
    """
    entries = [_check_image(paths, image, profile.architecture.platform) for image in profile.images]
    write_if_changed(paths.images_list, list_text(entries))


def _check_image(paths: Paths, image: Image, platform: str) -> ImageLine:
    path = inputs.source_file(paths, image.source)
    found = container_archive.read(path, platform)
    if image.digest not in ("", found.digest):
        raise UserError(
            f"image {image.name}: {path} has the digest {found.digest}, the profile expects {image.digest}",
            "the tar holds another image or another version of it: correct the digest, or replace the tar",
        )
    if image.source.is_local:  # fetched images are public already
        secrets.refuse_in_image(f"image {image.name}", path)
    logger.info(f"{image.name}: {found.form}, {found.layers} layers, {found.size:,} bytes, {found.digest}")
    return ImageLine(image.name, image.file, sha256_file(path), found.digest, image.namespace)


def list_text(entries: Iterable[ImageLine]) -> str:
    """Return the text of images.lst."""
    return "# name file sha256 digest namespace\n" + "".join(entry.line() for entry in entries)


def parse_list(text: str) -> list[ImageLine]:
    """Return the entries of an images.lst that `list_text` wrote."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [ImageLine(*words) for words in lines]


def copy_images(paths: Paths, profile: Profile, folder: Path) -> None:
    """Create `folder`/images with images.lst and the tars.  Without images, do nothing.

    Raises `UserError` if images.lst is missing, or if a tar has changed since `build` checked it.
    """
    if not profile.images:
        return
    images_list = paths.images_list
    if not images_list.is_file():
        raise UserError(f"{images_list} does not exist", "./doit images")
    target = folder / FOLDER
    target.mkdir(parents=True)
    by_file = {image.file: image for image in profile.images}
    for entry in parse_list(images_list.read_text()):
        source = inputs.source_file(paths, by_file[entry.file].source)
        shutil.copyfile(source, target / entry.file)
        if sha256_file(target / entry.file) != entry.sha256:
            raise UserError(f"{source} has changed since it was checked", "run the same command again")
    shutil.copyfile(images_list, target / LIST)

"""Offline images: container images carried beside the extensions and imported at boot.

`images.lst` names them, one a line, five words: NAME FILE SHA256 DIGEST NAMESPACE, where
SHA256 is the tar's (64 hex digits) and DIGEST the one containerd's store will have: the
manifest's, or for docker-save archives, which have none, the config's.  It lies in
`cde/images/` or `tce/images/`, with the tars; an extension whose recipe says
`imports_images` brings what reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.checks import secrets
from tasks.config import inputs
from tasks.config.settings import Settings
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


def build(settings: Settings) -> None:
    """Check every image tar of the profile and write images.lst; it is left alone if nothing changed.

    Raises `UserError` for one that is not there, damaged, for another platform than
    linux/amd64, or has not the digest the profile declares, or holds a secret though it is
    of this machine.
    """
    entries = [_checked(settings, image) for image in settings.profile.images]
    write_if_changed(settings.images_list, list_text(entries))


def _checked(settings: Settings, image: Image) -> ImageLine:
    path = inputs.source_file(settings, image.source)
    found = container_archive.read(path)
    if image.digest not in ("", found.digest):
        raise UserError(
            f"image {image.name}: {path} has the digest {found.digest}, the profile expects {image.digest}",
            "it is another image, or another version of it",
        )
    if image.source.is_local:  # others are published already
        secrets.refuse_in_image(f"image {image.name}", path)
    logger.info(f"{image.name}: {found.form}, {found.layers} layers, {found.size:,} bytes, {found.digest}")
    return ImageLine(image.name, image.file, sha256_file(path), found.digest, image.namespace)


def list_text(entries: Iterable[ImageLine]) -> str:
    """Return images.lst."""
    return "# name file sha256 digest namespace\n" + "".join(entry.line() for entry in entries)


def parse_list(text: str) -> list[ImageLine]:
    """Return the entries of an images.lst that `list_text` wrote."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [ImageLine(*words) for words in lines]


def lay_out(settings: Settings, folder: Path) -> None:
    """Make `folder`/images with images.lst and the tars, if the profile has some.

    Raises `UserError` if a tar is no longer the one that was checked.
    """
    if not settings.profile.images:
        return
    made = settings.images_list
    if not made.is_file():
        raise UserError(f"{made} does not exist", "./doit images")
    target = folder / FOLDER
    target.mkdir(parents=True)
    by_file = {image.file: image for image in settings.profile.images}
    for entry in parse_list(made.read_text()):
        source = inputs.source_file(settings, by_file[entry.file].source)
        shutil.copyfile(source, target / entry.file)
        if sha256_file(target / entry.file) != entry.sha256:
            raise UserError(f"{source} has changed since it was checked", "run the same command again")
    shutil.copyfile(made, target / LIST)

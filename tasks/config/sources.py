# SPDX-License-Identifier: MIT
"""The tables of a profile that use sources: the core and container images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tasks.formats.container_archive import DIGEST
from tasks.origins.sources import ALL, AnySource
from tasks.origins.sources.recipe import RecipeSource
from tasks.util import toml_schema

# A reference as containerd stores it: a host (or localhost), a path, a tag.
REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
)
NAMESPACE = re.compile(r"[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*")


def check_reference(name: str) -> None:
    """Raise `ValueError` unless `name` is a full reference."""
    if not REFERENCE.fullmatch(name):
        raise ValueError(f"name: expected a full reference like localhost/tool:1, got {name!r}")


@dataclass(frozen=True)
class Core:
    """The initramfs: made of apt packages and the checkout's `rootfs/`, or of ready-made archives.

    packages: the packages of the base root, as a person would name them.  The lock adds those of the
    libraries that they need.
    rootfs: build the base root from `packages` and the folder rootfs/.
    archives: ready-made cpio archives that the core begins with.
    compression: how tcbuild compresses what it writes.  `zopfli` makes smaller gzip streams, slowly.
    level: the level of the compression; without it, tcbuild's default (tasks/formats/compression.py).
    recompress: compress the ready-made archives in the same way, instead of keeping them as they are.
    """

    packages: tuple[str, ...] = ()
    rootfs: bool = False
    archives: tuple[AnySource, ...] = ()
    compression: Literal["gzip", "zopfli", "xz", "zstd", "plain"] = "gzip"
    level: int | None = None
    recompress: bool = False


@dataclass(frozen=True)
class Image:
    """A container image that lies on the ISO and the disk image, and is imported at boot.

    name: the full reference that the image gets in containerd's store, as localhost/tool:1.
    source: where the tar comes from: kind `recipe` (tcbuild makes it), `http` (its sha256 is locked)
    or `file` (not locked).
    digest: the digest that the image must have: the manifest digest of an OCI layout, or the
    image id of a docker-save archive.  Empty for no check.
    namespace: the namespace in containerd's store.
    """

    name: str
    source: AnySource | RecipeSource
    digest: str = ""
    namespace: str = "default"

    def __post_init__(self) -> None:
        check_reference(self.name)
        if self.source.is_package:
            kinds = " or ".join(
                repr(kind)
                for kind, one in toml_schema.kinds((*ALL, RecipeSource)).items()
                if not one.is_package
            )
            raise ValueError(f"source.kind: expected {kinds}: an image is not a package")
        if self.digest and not DIGEST.fullmatch(self.digest):
            raise ValueError(f"digest: expected sha256: and 64 hex digits, got {self.digest!r}")
        if not NAMESPACE.fullmatch(self.namespace):
            raise ValueError(f"namespace: expected letters, digits, - . and _, got {self.namespace!r}")

    @property
    def file(self) -> str:
        """The name of its file on the image, safe for every file system and shell."""
        name = re.sub(r"[^A-Za-z0-9.-]", "_", self.name)
        prefix = "" if self.namespace == "default" else f"{self.namespace}_"
        return f"{prefix}{name}.tar"


def check_images(images: tuple[Image, ...]) -> None:
    """Raise `ValueError` if two of `images` would have the same file name on the image."""
    seen: dict[str, str] = {}
    for image in images:
        if image.file in seen:
            raise ValueError(
                f"images: {seen[image.file]!r} and {image.name!r} would have the same file name on the image"
            )
        seen[image.file] = image.name

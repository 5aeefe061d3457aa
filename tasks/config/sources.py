"""What a profile makes of its sources: the core, container images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tasks.formats.container_archive import DIGEST
from tasks.origins.sources import ALL, AnySource
from tasks.util import toml_schema

# A reference as containerd stores it: a host (or localhost), a path, a tag.
REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
)
NAMESPACE = re.compile(r"[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Core:
    """The initramfs: apt packages and our own `rootfs/`, or archives somebody else made.

    compression, level: of all that tcbuild writes (tasks/formats/compression.py, LEVELS); zopfli
    makes gzip streams, only smaller and slowly.
    recompress: compress what somebody else made in that way, too, instead of keeping it.
    """

    packages: tuple[str, ...] = ()
    rootfs: bool = False
    archives: tuple[AnySource, ...] = ()
    compression: Literal["gzip", "zopfli", "xz", "zstd", "plain"] = "gzip"
    level: int | None = None
    recompress: bool = False


@dataclass(frozen=True)
class Image:
    """A container image that is carried on the ISO and the disk image, and imported at boot.

    name: the reference it gets in containerd's store, whatever the tar calls it;
    source: the tar, by kind `http` (its sha256 is locked) or `file` (taken as it is);
    digest: what it must have, if given: the manifest digest of an OCI layout, the image id
    of a docker-save archive;
    namespace: containerd's.
    """

    name: str
    source: AnySource
    digest: str = ""
    namespace: str = "default"

    def __post_init__(self) -> None:
        if not REFERENCE.fullmatch(self.name):
            raise ValueError(f"name: expected a full reference like localhost/tool:1, got {self.name!r}")
        if self.source.is_package:
            kinds = " or ".join(
                repr(kind) for kind, one in toml_schema.kinds(ALL).items() if not one.is_package
            )
            raise ValueError(f"source.kind: expected {kinds}, an image is no package")
        if self.digest and not DIGEST.fullmatch(self.digest):
            raise ValueError(f"digest: expected sha256: and 64 hex digits, got {self.digest!r}")
        if not NAMESPACE.fullmatch(self.namespace):
            raise ValueError(f"namespace: expected letters, digits, - . and _, got {self.namespace!r}")

    @property
    def file(self) -> str:
        """Its file's name on the image: plain letters, for every file system and shell."""
        name = re.sub(r"[^A-Za-z0-9.-]", "_", self.name)
        prefix = "" if self.namespace == "default" else f"{self.namespace}_"
        return f"{prefix}{name}.tar"


def check_images(images: tuple[Image, ...]) -> None:
    """Raise `ValueError` if two of `images` would have the same place on the image."""
    seen: dict[str, str] = {}
    for image in images:
        if image.file in seen:
            raise ValueError(f"images: {seen[image.file]!r} and {image.name!r} are the same or too alike")
        seen[image.file] = image.name

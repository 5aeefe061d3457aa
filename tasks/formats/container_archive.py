# SPDX-License-Identifier: MIT
"""Check container images in tar archives, and return the digest that containerd will store.

Two formats are supported, as in containerd: the OCI image layout (image-spec,
image-layout.md: `oci-layout`, `index.json`, `blobs/sha256/`) and the output of `docker save`
(Docker image specification v1.2: `manifest.json`, configs and layers).  An archive with both
is read as an OCI layout.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import zstandard

from tasks.formats import unpack_limits
from tasks.util.errors import UserError
from tasks.util.files import CHUNK

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
COMPRESSIONS = {GZIP: "gzip", ZSTD: "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
MAX_JSON_BYTES = 4 << 20  # bytes of a JSON document that is read
MAX_INDEX_DEPTH = 4  # indexes within indexes


class _InvalidImage(Exception):
    """The archive is damaged or not supported; the text says why."""


@dataclass(frozen=True)
class ImageTar:
    """An archive that passed every check of `read`.

    digest: In an OCI layout the digest of the manifest, or of the index for several platforms;
    containerd's store gives this digest the image's name.  In a docker-save archive the
    digest of the image's config, which is the image's id.  Such an archive has no manifest;
    containerd writes one with this config, and may write it with compressed layers.
    layers: number of layers.  size: bytes of the archive.
    """

    form: Literal["OCI image layout", "docker-save archive"]
    digest: str
    layers: int
    size: int


@dataclass(frozen=True)
class _Blob:
    """A file of the archive: its digest and size, the digest of its unpacked content, JSON text."""

    digest: str
    size: int
    unpacked: str
    method: Literal["plain", "gzip", "zstd"]
    text: bytes = b""


class _Archive:
    """All files of an archive by their normalized names, read in one pass."""

    def __init__(self, path: Path, platform: str) -> None:
        self.platform = platform
        self.blobs: dict[str, _Blob] = {}
        links: dict[str, str] = {}
        _refuse_compressed(path)
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                if member.issym():
                    # Older versions of `docker save` write a layer that two images share as a symlink.
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    self.blobs[name] = _hashed(content, member.size)
        for name, target in links.items():
            if target in self.blobs:
                self.blobs[name] = self.blobs[target]

    def file(self, name: str, referrer: str) -> _Blob:
        try:
            return self.blobs[posixpath.normpath(name)]
        except KeyError:
            raise _InvalidImage(f"{name}, which {referrer} names, is not in it") from None

    def blob(self, descriptor: dict[str, Any], referrer: str) -> _Blob:
        """Return the blob of an OCI descriptor, after checking its digest and size."""
        digest = _field(descriptor, "digest", str, referrer)
        if not DIGEST.fullmatch(digest):
            raise _InvalidImage(f"{referrer} names a blob by {digest!r}, which is no sha256 digest")
        name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
        found = self.file(name, referrer)
        if found.digest != digest:
            raise _InvalidImage(f"{name} is damaged: its sha256 is {found.digest.removeprefix('sha256:')}")
        if found.size != _field(descriptor, "size", int, referrer):
            raise _InvalidImage(f"{name} has {found.size} bytes, {referrer} says {descriptor['size']}")
        return found


def read(path: Path, platform: str = "linux/amd64") -> ImageTar:
    """Check an image archive completely.

    Every blob of the image is hashed.  Every layer is also unpacked and compared with its
    digest in the image's config.  Raises `UserError` naming the first fault, as an image for
    another platform.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image archive", "pack it: tar -cf IMAGE.tar -C FOLDER .")
    try:
        archive = _Archive(path, platform)
        if "oci-layout" in archive.blobs:
            digest, layers = _oci(archive)
            return ImageTar("OCI image layout", digest, layers, path.stat().st_size)
        if "manifest.json" in archive.blobs:
            digest, layers = _docker(archive)
            return ImageTar("docker-save archive", digest, layers, path.stat().st_size)
        raise _InvalidImage(
            "it has neither oci-layout nor manifest.json at its top, so it is no image archive"
        )
    except (tarfile.TarError, ValueError) as error:  # ValueError: see tasks/formats/archive.py
        why = f"it is damaged, cut short or no tar archive ({error})"
    except _InvalidImage as error:
        why = str(error)
    hint = "make it again, for example with `skopeo copy docker://NAME oci-archive:FILE` or `docker save`"
    raise UserError(f"image archive {path}: {why}", hint)


def _refuse_compressed(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(6)
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic):
            raise _InvalidImage(
                f"it is compressed by {name}, but `ctr images import` reads plain archives: unpack it"
            )


class _HashingReader:
    """A reader that hashes and counts the bytes of a stream, and keeps them if `keep` is set."""

    def __init__(self, stream: IO[bytes], keep: bool) -> None:
        self.stream, self.digest, self.size = stream, hashlib.sha256(), 0
        self.kept = bytearray() if keep else None

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(min(size, CHUNK) if size >= 0 else CHUNK)
        self.digest.update(block)
        self.size += len(block)
        if self.kept is not None:
            self.kept += block
        return block


def _hashed(stream: IO[bytes], size: int) -> _Blob:
    head = stream.read(4)
    stream.seek(0)
    is_text = head[:1] in (b"{", b"[") and size <= MAX_JSON_BYTES
    raw = _HashingReader(stream, is_text)
    method: Literal["plain", "gzip", "zstd"] = "plain"
    unpacked = hashlib.sha256()
    whole = True
    try:
        if head.startswith(GZIP):
            method = "gzip"
            _hash_content(gzip.GzipFile(fileobj=cast(IO[bytes], raw)), unpacked, size)
        elif head.startswith(ZSTD):
            method = "zstd"
            frames = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], raw), read_across_frames=True)
            _hash_content(frames, unpacked, size)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        whole = False  # reported only if an image has it as a layer
    while raw.read(CHUNK):
        pass
    if raw.size != size:
        raise tarfile.ReadError("unexpected end of data")
    digest = f"sha256:{raw.digest.hexdigest()}"
    inside = digest if method == "plain" else f"sha256:{unpacked.hexdigest()}" if whole else ""
    return _Blob(digest, size, inside, method, bytes(raw.kept or b""))


def unpacked(stream: IO[bytes]) -> Any:
    """Return a stream of a blob's unpacked content; `read` must have checked the blob."""
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return stream


def _hash_content(stream: Any, digest: Any, size: int) -> None:
    """Hash the unpacked content of a blob of `size` bytes; raise `_InvalidImage` above the limit."""
    left = limit = unpack_limits.max_unpacked_bytes(size)
    while block := stream.read(CHUNK):
        digest.update(block)
        left -= len(block)
        if left < 0:
            raise _InvalidImage(f"a blob of {size:,} bytes in it unpacks to more than {limit:,} bytes")


def _json(blob: _Blob, kind: type, what: str) -> Any:
    try:
        data = json.loads(blob.text)
    except (ValueError, RecursionError):
        raise _InvalidImage(f"{what} is no JSON document") from None
    if not isinstance(data, kind):
        raise _InvalidImage(f"{what}: expected a JSON {'object' if kind is dict else 'array'}")
    return data


def _field(data: Any, name: str, kind: type, what: str) -> Any:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _InvalidImage(f"{what} has no valid {name!r}")
    return value


def _oci(archive: _Archive) -> tuple[str, int]:
    """Return the digest that gets the image's name, and the number of layers."""
    version = _json(archive.blobs["oci-layout"], dict, "oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise _InvalidImage(f"its OCI layout has version {version!r}, but containerd reads '1.0.0'")
    index = _json(archive.file("index.json", "the OCI layout"), dict, "index.json")
    entries = {_field(entry, "digest", str, "index.json"): entry for entry in _manifests(index, "index.json")}
    other_platforms: set[str] = set()
    found = {}
    for digest, entry in entries.items():
        counts = _layer_counts(archive, entry, "index.json", other_platforms, MAX_INDEX_DEPTH)
        if len(counts) > 1:
            raise _InvalidImage(
                f"{digest} holds {len(counts)} manifests for {archive.platform}, expected one"
            )
        if counts:
            found[digest] = counts[0]
    if not found:
        platforms = ", ".join(sorted(other_platforms)) or "nothing"
        raise _InvalidImage(f"the image is for {platforms}, not for {archive.platform}")
    if len(found) > 1:
        raise _InvalidImage(f"it holds {len(found)} images for {archive.platform}: make one archive for each")
    return next(iter(found.items()))


def _manifests(index: dict[str, Any], what: str) -> list[Any]:
    entries: list[Any] = _field(index, "manifests", list, what)
    return entries


def _layer_counts(
    archive: _Archive, entry: Any, what: str, other_platforms: set[str], depth: int
) -> list[int]:
    """Return the number of layers of each manifest for the platform that `entry` refers to.

    Other platforms are added to `other_platforms`; their blobs may be missing.
    """
    platform = entry.get("platform") if isinstance(entry, dict) else None
    if isinstance(platform, dict) and _platform(platform) != archive.platform:
        other_platforms.add(_platform(platform))
        return []
    digest, kind = _field(entry, "digest", str, what), _field(entry, "mediaType", str, what)
    if kind in INDEXES:
        if not depth:
            raise _InvalidImage("its indexes are nested too deep")
        index = _json(archive.blob(entry, what), dict, digest)
        entries = _manifests(index, digest)
        return [
            layers
            for one in entries
            for layers in _layer_counts(archive, one, digest, other_platforms, depth - 1)
        ]
    if kind not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise _InvalidImage(f"{digest} is no image manifest but {kind!r}")
    manifest = _json(archive.blob(entry, what), dict, digest)
    descriptor = _field(manifest, "config", dict, digest)
    if descriptor.get("mediaType") not in CONFIGS:
        raise _InvalidImage(f"{digest} is no container image: its config is {descriptor.get('mediaType')!r}")
    config = _json(archive.blob(descriptor, digest), dict, "its config")
    if _platform(config) != archive.platform:
        other_platforms.add(_platform(config))
        return []
    layers = [archive.blob(layer, digest) for layer in _field(manifest, "layers", list, digest)]
    _check_layers(layers, config)
    return [len(layers)]


def _docker(archive: _Archive) -> tuple[str, int]:
    """Return the image's id (the digest of its config) and the number of layers."""
    listed = _json(archive.blobs["manifest.json"], list, "manifest.json")
    if len(listed) != 1:
        raise _InvalidImage(f"it holds {len(listed)} images: make one archive for each")
    name = _field(listed[0], "Config", str, "manifest.json")
    blob = archive.file(name, "manifest.json")
    named = posixpath.basename(name).removesuffix(".json").removeprefix("sha256:")
    if DIGEST.fullmatch(f"sha256:{named}") and blob.digest != f"sha256:{named}":
        raise _InvalidImage(f"{name} is damaged: its sha256 is {blob.digest.removeprefix('sha256:')}")
    config = _json(blob, dict, name)
    if _platform(config) != archive.platform:
        raise _InvalidImage(f"the image is for {_platform(config)}, not for {archive.platform}")
    layers = []
    for layer in _field(listed[0], "Layers", list, "manifest.json"):
        layers.append(archive.file(str(layer), "manifest.json"))
        if layers[-1].method == "zstd":
            raise _InvalidImage(f"{layer} is compressed by zstd, which docker-save archives do not support")
    _check_layers(layers, config)
    return blob.digest, len(layers)


def _check_layers(layers: list[_Blob], config: dict[str, Any]) -> None:
    """Check the layers against the digests of their unpacked content in the image's config."""
    expected = _field(_field(config, "rootfs", dict, "its config"), "diff_ids", list, "its config")
    if len(expected) != len(layers):
        raise _InvalidImage(f"its config lists {len(expected)} layers, its manifest {len(layers)}")
    for number, (layer, diff_id) in enumerate(zip(layers, expected, strict=True), start=1):
        if layer.unpacked != diff_id:
            how = f"unpacks to {layer.unpacked}" if layer.unpacked else "cannot be unpacked"
            raise _InvalidImage(f"layer {number} ({layer.digest}) is damaged: it {how}, expected {diff_id}")


def _platform(data: dict[str, Any]) -> str:
    return f"{data.get('os') or '(no os)'}/{data.get('architecture') or '(no architecture)'}"

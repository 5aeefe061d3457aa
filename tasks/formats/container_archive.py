"""Container images in tar archives: prove that one is whole, and say what containerd will make of it.

Two forms are read, as containerd reads them: the OCI image layout (image-spec,
image-layout.md: `oci-layout`, `index.json`, `blobs/sha256/`) and what `docker save`
writes (Docker image specification v1.2: `manifest.json`, configs and layers).  An
archive that has both is an OCI layout.
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

PLATFORM = "linux/amd64"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PACKED = {GZIP: "gzip", ZSTD: "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
MOST_TEXT = 4 << 20  # bytes of a JSON document that is looked into
MOST_NESTING = 4  # indexes within indexes


class _Broken(Exception):
    """What is wrong with an archive."""


@dataclass(frozen=True)
class ImageTar:
    """An archive that passed every check of `read`.

    digest: of an OCI layout that of the manifest (or of the index, for several platforms),
    which the image's name will stand for in containerd's store; of a docker-save archive
    that of the image's config, its id.  Such an archive has no manifest: containerd writes
    one, with other layers if its store has them packed, but with this config.
    layers: how many; size: bytes of the archive.
    """

    form: Literal["OCI image layout", "docker-save archive"]
    digest: str
    layers: int
    size: int


@dataclass(frozen=True)
class _Blob:
    """A file of the archive: digest and size as it is, digest of what it unpacks to, JSON text."""

    digest: str
    size: int
    unpacked: str
    method: Literal["plain", "gzip", "zstd"]
    text: bytes = b""


class _Archive:
    """All files of an archive by their cleaned names, read in one pass."""

    def __init__(self, path: Path) -> None:
        self.blobs: dict[str, _Blob] = {}
        links: dict[str, str] = {}
        _refuse_packed(path)
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                if member.issym():
                    # Older `docker save` links a layer that another image has too.
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    self.blobs[name] = _hashed(content, member.size)
        for name, target in links.items():
            if target in self.blobs:
                self.blobs[name] = self.blobs[target]

    def file(self, name: str, wanted_by: str) -> _Blob:
        try:
            return self.blobs[posixpath.normpath(name)]
        except KeyError:
            raise _Broken(f"{name}, which {wanted_by} names, is not in it") from None

    def blob(self, descriptor: dict[str, Any], wanted_by: str) -> _Blob:
        """Return what an OCI descriptor stands for, its content checked against its digest and size."""
        digest = _field(descriptor, "digest", str, wanted_by)
        if not DIGEST.fullmatch(digest):
            raise _Broken(f"{wanted_by} names a blob by {digest!r}, which is no sha256 digest")
        name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
        found = self.file(name, wanted_by)
        if found.digest != digest:
            raise _Broken(f"{name} is damaged: its sha256 is {found.digest.removeprefix('sha256:')}")
        if found.size != _field(descriptor, "size", int, wanted_by):
            raise _Broken(f"{name} has {found.size} bytes, {wanted_by} says {descriptor['size']}")
        return found


def read(path: Path) -> ImageTar:
    """Check an image archive, from its first to its last byte that counts.

    Every blob the image is made of is hashed, every layer also unpacked and compared with
    what the image's config says of it; the platform must be linux/amd64.  Raises
    `UserError` saying what is wrong.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image archive", "pack it: tar -cf IMAGE.tar -C FOLDER .")
    try:
        archive = _Archive(path)
        if "oci-layout" in archive.blobs:
            digest, layers = _oci(archive)
            return ImageTar("OCI image layout", digest, layers, path.stat().st_size)
        if "manifest.json" in archive.blobs:
            digest, layers = _docker(archive)
            return ImageTar("docker-save archive", digest, layers, path.stat().st_size)
        raise _Broken("it has neither oci-layout nor manifest.json at its top: no image archive")
    except tarfile.TarError as error:
        why = f"it is damaged, cut short or no tar archive ({error})"
    except _Broken as broken:
        why = str(broken)
    hint = "write it anew, for example by `skopeo copy docker://NAME oci-archive:FILE` or `docker save`"
    raise UserError(f"image archive {path}: {why}", hint)


def _refuse_packed(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(6)
    for magic, name in PACKED.items():
        if head.startswith(magic):
            raise _Broken(f"it is packed by {name}, and `ctr images import` reads plain archives: unpack it")


class _Counted:
    """A stream whose bytes are hashed, counted and, as far as there is room, kept on their way."""

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
    is_text = head[:1] in (b"{", b"[") and size <= MOST_TEXT
    raw = _Counted(stream, is_text)
    method: Literal["plain", "gzip", "zstd"] = "plain"
    unpacked = hashlib.sha256()
    whole = True
    try:
        if head.startswith(GZIP):
            method = "gzip"
            _drain(gzip.GzipFile(fileobj=cast(IO[bytes], raw)), unpacked, size)
        elif head.startswith(ZSTD):
            method = "zstd"
            frames = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], raw), read_across_frames=True)
            _drain(frames, unpacked, size)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        whole = False  # said when an image wants it as a layer
    while raw.read(CHUNK):
        pass
    if raw.size != size:
        raise tarfile.ReadError("unexpected end of data")
    digest = f"sha256:{raw.digest.hexdigest()}"
    inside = digest if method == "plain" else f"sha256:{unpacked.hexdigest()}" if whole else ""
    return _Blob(digest, size, inside, method, bytes(raw.kept or b""))


def unpacked(stream: IO[bytes]) -> Any:
    """Return a stream of what a blob that `read` has found whole unpacks to, or of itself."""
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    return stream


def _drain(stream: Any, digest: Any, size: int) -> None:
    """Hash what a blob of `size` bytes unpacks to; raise `_Broken` if that is far too much."""
    left = unpack_limits.most(size)
    while block := stream.read(CHUNK):
        digest.update(block)
        left -= len(block)
        if left < 0:
            raise _Broken(f"a blob of {size:,} bytes in it unpacks to more than {unpack_limits.most(size):,}")


def _json(blob: _Blob, kind: type, what: str) -> Any:
    try:
        data = json.loads(blob.text)
    except (ValueError, RecursionError):
        raise _Broken(f"{what} is no JSON document") from None
    if not isinstance(data, kind):
        raise _Broken(f"{what}: expected a JSON {'object' if kind is dict else 'array'}")
    return data


def _field(data: Any, name: str, kind: type, what: str) -> Any:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Broken(f"{what} has no proper {name!r}")
    return value


def _oci(archive: _Archive) -> tuple[str, int]:
    """Return the digest the image's name will stand for, and how many layers it has."""
    version = _json(archive.blobs["oci-layout"], dict, "oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise _Broken(f"its OCI layout has version {version!r}, containerd reads '1.0.0'")
    index = _json(archive.file("index.json", "the OCI layout"), dict, "index.json")
    tops = {_field(entry, "digest", str, "index.json"): entry for entry in _manifests(index, "index.json")}
    others: set[str] = set()
    found = {}
    for digest, entry in tops.items():
        fitting = _fitting(archive, entry, "index.json", others, MOST_NESTING)
        if len(fitting) > 1:
            raise _Broken(f"{digest} holds {len(fitting)} manifests for {PLATFORM}, expected one")
        if fitting:
            found[digest] = fitting[0]
    if not found:
        said = ", ".join(sorted(others)) or "nothing"
        raise _Broken(f"the image is for {said}, not for {PLATFORM}")
    if len(found) > 1:
        raise _Broken(f"it holds {len(found)} images for {PLATFORM}: give each an archive of its own")
    return next(iter(found.items()))


def _manifests(index: dict[str, Any], what: str) -> list[Any]:
    entries: list[Any] = _field(index, "manifests", list, what)
    return entries


def _fitting(archive: _Archive, entry: Any, what: str, others: set[str], depth: int) -> list[int]:
    """Return the number of layers of every manifest for our platform that `entry` leads to.

    Other platforms are added to `others`; their blobs may be absent.
    """
    told = entry.get("platform") if isinstance(entry, dict) else None
    if isinstance(told, dict) and _platform(told) != PLATFORM:
        others.add(_platform(told))
        return []
    digest, kind = _field(entry, "digest", str, what), _field(entry, "mediaType", str, what)
    if kind in INDEXES:
        if not depth:
            raise _Broken("its indexes are nested too deep")
        index = _json(archive.blob(entry, what), dict, digest)
        entries = _manifests(index, digest)
        return [layers for one in entries for layers in _fitting(archive, one, digest, others, depth - 1)]
    if kind not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise _Broken(f"{digest} is no image manifest but {kind!r}")
    manifest = _json(archive.blob(entry, what), dict, digest)
    descriptor = _field(manifest, "config", dict, digest)
    if descriptor.get("mediaType") not in CONFIGS:
        raise _Broken(f"{digest} is no container image: its config is {descriptor.get('mediaType')!r}")
    config = _json(archive.blob(descriptor, digest), dict, "its config")
    if _platform(config) != PLATFORM:
        others.add(_platform(config))
        return []
    layers = [archive.blob(layer, digest) for layer in _field(manifest, "layers", list, digest)]
    _check_layers(layers, config)
    return [len(layers)]


def _docker(archive: _Archive) -> tuple[str, int]:
    """Return the image's id, which is the digest of its config, and how many layers it has."""
    listed = _json(archive.blobs["manifest.json"], list, "manifest.json")
    if len(listed) != 1:
        raise _Broken(f"it holds {len(listed)} images: give each an archive of its own")
    name = _field(listed[0], "Config", str, "manifest.json")
    blob = archive.file(name, "manifest.json")
    named = posixpath.basename(name).removesuffix(".json").removeprefix("sha256:")
    if DIGEST.fullmatch(f"sha256:{named}") and blob.digest != f"sha256:{named}":
        raise _Broken(f"{name} is damaged: its sha256 is {blob.digest.removeprefix('sha256:')}")
    config = _json(blob, dict, name)
    if _platform(config) != PLATFORM:
        raise _Broken(f"the image is for {_platform(config)}, not for {PLATFORM}")
    layers = []
    for layer in _field(listed[0], "Layers", list, "manifest.json"):
        layers.append(archive.file(str(layer), "manifest.json"))
        if layers[-1].method == "zstd":
            raise _Broken(f"{layer} is packed by zstd, which docker-save archives never are")
    _check_layers(layers, config)
    return blob.digest, len(layers)


def _check_layers(layers: list[_Blob], config: dict[str, Any]) -> None:
    """Compare layers with the digests of their unpacked content in the image's config."""
    expected = _field(_field(config, "rootfs", dict, "its config"), "diff_ids", list, "its config")
    if len(expected) != len(layers):
        raise _Broken(f"its config speaks of {len(expected)} layers, its manifest of {len(layers)}")
    for number, (layer, diff_id) in enumerate(zip(layers, expected, strict=True), start=1):
        if layer.unpacked != diff_id:
            how = f"unpacks to {layer.unpacked}" if layer.unpacked else "cannot be unpacked"
            raise _Broken(f"layer {number} ({layer.digest}) is damaged: it {how}, expected {diff_id}")


def _platform(data: dict[str, Any]) -> str:
    return f"{data.get('os') or '(no os)'}/{data.get('architecture') or '(no architecture)'}"

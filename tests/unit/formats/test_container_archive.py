# SPDX-License-Identifier: MIT
"""Image archives: what is whole is read as containerd reads it, and each kind of damage is named."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tasks.formats import container_archive, unpack_limits
from tasks.util.errors import UserError
from tests.support import oci
from tests.support.oci import AMD64, ARM64, Files

LAYER = oci.tar({"bin/tool": b"#!/bin/sh\n"})
OTHER = oci.tar({"etc/name": b"x\n"})
INDEX = "index.v1+json"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., container_archive.ImageTar]:
    """Return a function that reads an archive of these files (or these bytes)."""

    def call(files: Files | bytes, links: dict[str, str] | None = None) -> container_archive.ImageTar:
        path = tmp_path / "image.tar"
        path.write_bytes(files if isinstance(files, bytes) else oci.tar(files, links))
        return container_archive.read(path)

    return call


Read = Callable[..., container_archive.ImageTar]


def top_digest(files: Files) -> str:
    return str(json.loads(files["index.json"])["manifests"][0]["digest"])


@pytest.mark.parametrize(
    "layers",
    [
        [LAYER],
        [LAYER, gzip.compress(OTHER)],
        [gzip.compress(LAYER) + gzip.compress(OTHER)],
        [],
    ],
    ids=["plain", "gzip", "gzip-in-two-members", "none"],
)
def test_an_oci_layout(read: Read, layers: list[bytes]) -> None:
    files = oci.oci_image(layers)
    found = read(files)
    assert (found.form, found.layers) == ("OCI image layout", len(layers))
    assert found.digest == top_digest(files)


def test_a_zstd_layer(read: Read) -> None:
    packed = zstandard.compress(LAYER)
    files: Files = {}
    layer = oci.blob(files, packed, "layer.v1.tar+zstd")
    config = oci.blob(files, oci.config([oci.digest(LAYER)]), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    entry = oci.blob(files, json.dumps(manifest).encode(), "manifest.v1+json")
    assert read(oci.oci_layout(files, [entry])).digest == entry["digest"]


def test_names_may_begin_with_a_dot(read: Read) -> None:
    """As `tar -C FOLDER .` writes them."""
    files = oci.oci_image([LAYER])
    assert read({f"./{name}": content for name, content in files.items()}).digest == top_digest(files)


def test_of_several_platforms_the_name_stands_for_the_index(read: Read) -> None:
    """Blobs of other platforms may be absent, an attestation is none."""
    files: Files = {}
    other = oci.oci_manifest({}, [OTHER], ARM64, platform=ARM64)
    note = oci.oci_manifest({}, [OTHER], platform={"os": "unknown", "architecture": "unknown"})
    ours = oci.oci_manifest(files, [LAYER], platform=AMD64)
    index = oci.blob(files, oci.oci_index([other, note, ours]), INDEX)
    found = read(oci.oci_layout(files, [index]))
    assert (found.digest, found.layers) == (index["digest"], 1)


@pytest.mark.parametrize("told", [True, False], ids=["said-by-the-index", "known-by-the-config"])
def test_of_several_platforms_at_the_top_ours_is_taken(read: Read, told: bool) -> None:
    files: Files = {}
    other = oci.oci_manifest(files, [OTHER], ARM64, **({"platform": ARM64} if told else {}))
    ours = oci.oci_manifest(files, [LAYER], AMD64)
    assert read(oci.oci_layout(files, [other, ours])).digest == ours["digest"]


def test_two_names_of_one_image(read: Read) -> None:
    files = oci.oci_image([LAYER])
    entry = json.loads(files["index.json"])["manifests"][0]
    again = {**entry, "annotations": {"org.opencontainers.image.ref.name": "second"}}
    assert read({**files, "index.json": oci.oci_index([entry, again])}).digest == entry["digest"]


def test_docker_save(read: Read) -> None:
    """The digest is that of the config, as docker's image id; names do not count."""
    files = oci.docker_image([LAYER, OTHER], "tool:1")
    found = read(files)
    assert (found.form, found.layers) == ("docker-save archive", 2)
    assert f"{found.digest[7:]}.json" in files
    assert read(oci.docker_image([LAYER, OTHER])).digest == found.digest


def test_docker_save_with_gzip_layers(read: Read) -> None:
    files = oci.docker_image([LAYER])
    digest = read(files).digest
    assert read({name: gzip.compress(c) if c == LAYER else c for name, c in files.items()}).digest == digest


def test_docker_save_with_a_layer_that_is_a_link(read: Read) -> None:
    files = oci.docker_image([LAYER, OTHER])
    digest = read(files).digest
    path = next(name for name, content in files.items() if content == OTHER)
    del files[path]
    files["shared/layer.tar"] = OTHER
    assert read(files, {path: "../shared/layer.tar"}).digest == digest


def test_an_archive_of_both_forms_is_an_oci_layout(read: Read) -> None:
    """As docker save writes since version 25, and as containerd reads it."""
    files = oci.oci_image([LAYER])
    assert read({**oci.docker_image([OTHER]), **files}).digest == top_digest(files)


def changed(files: Files, name: str, content: bytes | None) -> Files:
    """Return `files` with one file replaced, or left out."""
    rest = {other: data for other, data in files.items() if other != name}
    return rest if content is None else {**rest, name: content}


def blob_of(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def with_manifest(change: Callable[[dict[str, object]], object]) -> Files:
    """Return a layout whose manifest is changed and still has its right digest."""
    files = oci.oci_image([LAYER])
    manifest = json.loads(files[f"blobs/sha256/{top_digest(files)[7:]}"])
    change(manifest)
    entry = oci.blob(files, json.dumps(manifest).encode(), "manifest.v1+json")
    return oci.oci_layout({n: c for n, c in files.items() if n.startswith("blobs")}, [entry])


def with_entry(**fields: object) -> Files:
    """Return a layout whose index says something else of its manifest."""
    files = oci.oci_image([LAYER])
    entry = json.loads(files["index.json"])["manifests"][0]
    return changed(files, "index.json", oci.oci_index([{**entry, **fields}]))


def with_listed(**fields: object) -> Files:
    """Return a docker-save archive whose manifest.json says something else."""
    files = oci.docker_image([LAYER])
    listed = json.loads(files["manifest.json"])
    return changed(files, "manifest.json", json.dumps([{**listed[0], **fields}]).encode())


def nested(depth: int) -> Files:
    files: Files = {}
    entry = oci.oci_manifest(files, [LAYER])
    for _ in range(depth):
        entry = oci.blob(files, oci.oci_index([entry]), INDEX)
    return oci.oci_layout(files, [entry])


def two_images() -> Files:
    files: Files = {}
    return oci.oci_layout(files, [oci.oci_manifest(files, [layer]) for layer in (LAYER, OTHER)])


def two_manifests_for_us() -> Files:
    files: Files = {}
    entries = [oci.oci_manifest(files, [layer], platform=AMD64) for layer in (LAYER, OTHER)]
    return oci.oci_layout(files, [oci.blob(files, oci.oci_index(entries), INDEX)])


def cut_gzip_layer() -> Files:
    files: Files = {}
    layer = oci.blob(files, gzip.compress(LAYER)[:-9], "layer.v1.tar+gzip")
    config = oci.blob(files, oci.config([oci.digest(LAYER)]), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    entry = oci.blob(files, json.dumps(manifest).encode(), "manifest.v1+json")
    return oci.oci_layout(files, [entry])


OCI, DOCKER = oci.oci_image([LAYER]), oci.docker_image([LAYER])
CONFIG = next(name for name, content in DOCKER.items() if content.startswith(b'{"os"'))
DOCKER_LAYER = next(name for name, content in DOCKER.items() if content == LAYER)
BROKEN: dict[str, tuple[Files | bytes, str]] = {
    "empty": (b"", "cut short or no tar archive"),
    "text": (b"no archive at all\n" * 99, "cut short or no tar archive"),
    "cut in a layer": (oci.tar({"a": b"x" * 9000})[:4000], "unexpected end of data"),
    "another archive": ({"bin/tool": b"x"}, "neither oci-layout nor manifest.json"),
    "gzip": (gzip.compress(oci.tar(OCI)), "compressed by gzip"),
    "xz": (lzma.compress(oci.tar(OCI)), "compressed by xz"),
    "bzip2": (bz2.compress(oci.tar(OCI)), "compressed by bzip2"),
    "zstd": (zstandard.compress(oci.tar(OCI)), "compressed by zstd"),
    # OCI layouts
    "another layout": (changed(OCI, "oci-layout", b'{"imageLayoutVersion": "2.0.0"}'), "version '2.0.0'"),
    "layout nested": (changed(OCI, "oci-layout", b"[" * 100_000), "oci-layout is no JSON document"),
    "layout no JSON": (changed(OCI, "oci-layout", b"1.0.0"), "oci-layout is no JSON document"),
    "no index": (changed(OCI, "index.json", None), "index.json, which the OCI layout names, is not in it"),
    "index no object": (changed(OCI, "index.json", b"[]"), "index.json: expected a JSON object"),
    "index without list": (changed(OCI, "index.json", b"{}"), "index.json has no valid 'manifests'"),
    "index of words": (changed(OCI, "index.json", oci.oci_index(["x"])), "index.json has no valid 'digest'"),
    "index of nothing": (
        changed(OCI, "index.json", oci.oci_index([])),
        "is for nothing, not for linux/amd64",
    ),
    "lost manifest": (with_entry(digest=oci.digest(b"")), "which index.json names, is not in it"),
    "digest of another kind": (with_entry(digest="md5:00"), "'md5:00', which is no sha256 digest"),
    "digest as path": (with_entry(digest="sha256:../../index.json"), "no sha256 digest"),
    "wrong size": (with_entry(size=3), "index.json says 3"),
    "size no number": (with_entry(size="3"), "index.json has no valid 'size'"),
    "media type": (with_entry(mediaType="text/plain"), "no image manifest but 'text/plain'"),
    "lost layer": (changed(OCI, blob_of(LAYER), None), "is not in it"),
    "damaged layer": (changed(OCI, blob_of(LAYER), LAYER[:-1] + b"x"), f"{blob_of(LAYER)} is damaged"),
    "gzip layer cut": (cut_gzip_layer(), "layer 1 .* is damaged: it cannot be unpacked"),
    "a chart": (
        with_manifest(lambda m: m["config"].update(mediaType="application/x-chart")),  # type: ignore[attr-defined]
        "no container image: its config is 'application/x-chart'",
    ),
    "fewer layers": (with_manifest(lambda m: m.update(layers=[])), "lists 1 layers, its manifest 0"),
    "layers no list": (with_manifest(lambda m: m.update(layers=None)), "has no valid 'layers'"),
    "another platform": (oci.oci_image([LAYER], platform=ARM64), "is for linux/arm64, not for linux/amd64"),
    "no platform": (oci.oci_image([LAYER], platform={}), r"is for \(no os\)/\(no architecture\)"),
    "two images": (two_images(), "holds 2 images for linux/amd64"),
    "two for us in one": (two_manifests_for_us(), "holds 2 manifests for linux/amd64"),
    "a deep nest": (nested(9), "nested too deep"),
    # docker save
    "no image": (changed(DOCKER, "manifest.json", b"[]"), "holds 0 images"),
    "list no list": (changed(DOCKER, "manifest.json", b"{}"), "manifest.json: expected a JSON array"),
    "list of words": (changed(DOCKER, "manifest.json", b'["x"]'), "manifest.json has no valid 'Config'"),
    "two in one": (changed(DOCKER, "manifest.json", b'[{"Config": "a"}, {"Config": "b"}]'), "holds 2 images"),
    "lost config": (changed(DOCKER, CONFIG, None), f"{CONFIG}, which manifest.json names, is not in it"),
    "damaged config": (changed(DOCKER, CONFIG, DOCKER[CONFIG] + b" "), f"{CONFIG} is damaged"),
    "config no JSON": (with_listed(Config=DOCKER_LAYER), "is no JSON document"),
    "lost docker layer": (changed(DOCKER, DOCKER_LAYER, None), f"{DOCKER_LAYER}, .* is not in it"),
    "damaged docker layer": (changed(DOCKER, DOCKER_LAYER, OTHER), "layer 1 .* is damaged: it unpacks to"),
    "layer by zstd": (changed(DOCKER, DOCKER_LAYER, zstandard.compress(LAYER)), "compressed by zstd"),
    "layers twice": (with_listed(Layers=[DOCKER_LAYER] * 2), "lists 1 layers, its manifest 2"),
    "docker for arm": (oci.docker_image([LAYER], platform=ARM64), "is for linux/arm64"),
}


@pytest.mark.parametrize(("files", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said(read: Read, files: Files | bytes, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(files)
    assert caught.value.message.startswith("image archive /")
    assert "skopeo copy" in caught.value.hint


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        container_archive.read(tmp_path)


def test_an_archive_cut_anywhere_is_refused(read: Read) -> None:
    """After the last blob there is nothing to lose but the archive's padding."""
    whole = oci.tar(OCI)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        blocks = max(-(-(member.offset_data + member.size) // 512) for member in archive)
    end = 512 * blocks
    assert read(whole[:end]).digest == top_digest(OCI)
    for length in range(0, end, 511):
        with pytest.raises(UserError, match="image archive"):
            read(whole[:length])


def test_any_bit_that_is_wrong_is_noticed(read: Read) -> None:
    """In contents; a header's unused fields may say what they like."""
    whole = oci.tar(DOCKER)
    digest = read(whole).digest
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        spans = [(member.offset_data, member.size) for member in archive if member.name != "manifest.json"]
    for start, size in spans:
        for at in range(start, start + size, 97):
            with pytest.raises(UserError, match="damaged"):
                read(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert read(whole).digest == digest


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_is_refused(
    read: Read, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)
    bomb = pack(bytes(4 << 20))
    assert len(bomb) * unpack_limits.MAX_RATIO < 4 << 20
    with pytest.raises(UserError, match=f"a blob of {len(bomb):,} bytes in it unpacks to more than"):
        read(oci.oci_image([LAYER, bomb]))

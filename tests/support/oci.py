# SPDX-License-Identifier: MIT
"""Container images made on the spot, as the files of an archive: an OCI layout, or `docker save`'s.

Written from the specifications (image-spec: image-layout.md, manifest.md, config.md;
Docker image specification v1.2), not by the code under test.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence

Files = dict[str, bytes]
AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64"}
OCI = "application/vnd.oci.image"


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """Return a tar archive of programs (0755) and symbolic links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(files: Files, content: bytes, kind: str, **more: object) -> dict[str, object]:
    """Add a blob to a layout and return its descriptor; `kind` is its media type below vnd.oci.image."""
    files[f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"] = content
    return {"mediaType": f"{OCI}.{kind}", "size": len(content), "digest": digest(content), **more}


def config(diff_ids: Sequence[str], platform: Mapping[str, str] = AMD64) -> bytes:
    """Return an image's config."""
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    return json.dumps({**platform, "config": {}, "rootfs": rootfs}).encode()


def oci_manifest(
    files: Files, layers: Sequence[bytes], made_for: Mapping[str, str] = AMD64, **more: object
) -> dict[str, object]:
    """Add an image to a layout and return its manifest's descriptor, with the fields `more`.

    A layer packed by gzip is told by its first bytes.
    """
    packed, diff_ids = [], []
    for layer in layers:
        is_gzip = layer.startswith(b"\x1f\x8b")
        packed.append(blob(files, layer, "layer.v1.tar+gzip" if is_gzip else "layer.v1.tar"))
        diff_ids.append(digest(gzip.decompress(layer) if is_gzip else layer))
    described = blob(files, config(diff_ids, made_for), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": described, "layers": packed}
    return blob(files, json.dumps(manifest).encode(), "manifest.v1+json", **more)


def oci_index(manifests: Sequence[object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()


def oci_layout(files: Files, manifests: Sequence[object]) -> Files:
    """Return the files of a layout with these entries in its index."""
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": oci_index(manifests), **files}


def oci_image(layers: Sequence[bytes], name: str = "", platform: Mapping[str, str] = AMD64) -> Files:
    """Return the layout of one image; `name` is what containerd shall call it."""
    files: Files = {}
    more = {"annotations": {"io.containerd.image.name": name}} if name else {}
    return oci_layout(files, [oci_manifest(files, layers, platform, **more)])


def docker_image(layers: Sequence[bytes], name: str = "", platform: Mapping[str, str] = AMD64) -> Files:
    """Return what `docker save` writes for one image."""
    text = config([digest(layer) for layer in layers], platform)
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    paths = [f"{hashlib.sha256(layer).hexdigest()}/layer.tar" for layer in layers]
    listed = [{"Config": config_name, "RepoTags": [name] if name else None, "Layers": paths}]
    return {
        **dict(zip(paths, layers, strict=True)),
        config_name: text,
        "manifest.json": json.dumps(listed).encode(),
    }

# SPDX-License-Identifier: MIT
"""Write a container image of one layer as an OCI archive: an image layout in a tar file.

The formats are those of the OCI image specification: image-layout.md, manifest.md, config.md and
layer.md.  The same files and settings give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.formats import compression

OCI = "application/vnd.oci.image"
LAYOUT = {"imageLayoutVersion": "1.0.0"}


@dataclass(frozen=True)
class Settings:
    """What an image says beside its files.

    platform: as linux/amd64; created: seconds since 1970; name: the full reference.
    config: `Entrypoint`, `Cmd`, `Env` and the other keys of config.md, without empty ones.
    """

    platform: str
    created: int
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


def layer(root: Path, owners: Mapping[str, tuple[int, int, int]], mtime: int) -> bytes:
    """Return the files below `root` as a layer, a tar archive.

    Files and folders are root's; folders have the mode 0755.  owners: another mode, uid and gid of
    paths, without a leading slash.  mtime: seconds since 1970, of everything.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            entry = tarfile.TarInfo(name)
            entry.mtime = mtime
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size, entry.mode = path.stat().st_size, stat.S_IMODE(path.stat().st_mode)
            if name in owners:
                entry.mode, entry.uid, entry.gid = owners[name]
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
    return out.getvalue()


def write(archive: Path, files: bytes, settings: Settings) -> str:
    """Write an image with the layer `files` to `archive`; return the digest of its manifest.

    The layer is compressed by gzip, which every version of containerd reads.
    """
    blobs: dict[str, bytes] = {}
    packed = compression.compress(files, "gzip")
    system, _, architecture = settings.platform.partition("/")
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(settings.created))
    config = {
        "created": created,
        "os": system,
        "architecture": architecture,
        "config": dict(settings.config),
        "rootfs": {"type": "layers", "diff_ids": [_digest(files)]},
        "history": [{"created": created, "created_by": "tcbuild"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _blob(blobs, _json(config), f"{OCI}.config.v1+json"),
        "layers": [_blob(blobs, packed, f"{OCI}.layer.v1.tar+gzip")],
    }
    described = _blob(blobs, _json(manifest), f"{OCI}.manifest.v1+json")
    names = {
        "io.containerd.image.name": settings.name,
        "org.opencontainers.image.ref.name": settings.name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "manifests": [{**described, "annotations": names}]}
    members = {"oci-layout": _json(LAYOUT), "index.json": _json(index), **blobs}
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind in _folders_and_files(members):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mtime = kind, settings.created
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            entry.size = len(members.get(name, b""))
            tar.addfile(entry, io.BytesIO(members.get(name, b"")))
    return str(described["digest"])


def _folders_and_files(members: Iterable[str]) -> list[tuple[str, bytes]]:
    folders = [("blobs", tarfile.DIRTYPE), ("blobs/sha256", tarfile.DIRTYPE)]
    return sorted([*folders, *((name, tarfile.REGTYPE) for name in members)])


def _blob(blobs: dict[str, bytes], content: bytes, kind: str) -> dict[str, Any]:
    """Add a blob; return its descriptor (descriptor.md)."""
    digest = _digest(content)
    blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = content
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

# SPDX-License-Identifier: MIT
"""OCI archives that tcbuild writes: what is in them, and that the same files give the same bytes."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path

from tasks.formats import container_archive, oci_archive
from tasks.formats.oci_archive import Settings

EPOCH = 1_700_000_000
SETTINGS = Settings("linux/amd64", EPOCH, "docker.io/library/tool:1", {"Cmd": ["sh"], "Env": ["PATH=/bin"]})


def tree(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"a program")
    (root / "bin/tool").chmod(0o755)
    (root / "bin/sh").symlink_to("tool")
    (root / "tmp").mkdir(mode=0o700)
    (root / ("long" * 60)).mkdir()
    return root


def members(layer: bytes) -> dict[str, tuple[str, int, int, float]]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return {one.name: (stat.filemode(one.mode), one.uid, one.gid, one.mtime) for one in tar}


def test_a_layer_has_root_as_owner_and_one_time(tmp_path: Path) -> None:
    layer = oci_archive.layer(tree(tmp_path / "root"), {"tmp": (0o1777, 0, 7)}, EPOCH)
    assert members(layer) == {
        "bin": ("?rwxr-xr-x", 0, 0, EPOCH),
        "bin/sh": ("?rwxrwxrwx", 0, 0, EPOCH),
        "bin/tool": ("?rwxr-xr-x", 0, 0, EPOCH),
        "long" * 60: ("?rwxr-xr-x", 0, 0, EPOCH),
        "tmp": ("?rwxrwxrwt", 0, 7, EPOCH),
    }


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        root = tree(tmp_path / name)
        os.utime(root / "bin/tool", (0, 0) if name == "one" else None)
        archive = tmp_path / f"{name}.tar"
        oci_archive.write(archive, oci_archive.layer(root, {}, EPOCH), SETTINGS)
        made.append(archive.read_bytes())
    assert made[0] == made[1]


def test_an_archive_is_what_containerd_imports(tmp_path: Path) -> None:
    layer = oci_archive.layer(tree(tmp_path / "root"), {}, EPOCH)
    digest = oci_archive.write(tmp_path / "x.tar", layer, SETTINGS)
    found = container_archive.read(tmp_path / "x.tar", "linux/amd64")
    assert (found.form, found.digest, found.layers) == ("OCI image layout", digest, 1)
    with tarfile.open(tmp_path / "x.tar") as tar:
        content = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    (described,) = json.loads(content["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/library/tool:1"
    manifest = json.loads(content[f"blobs/sha256/{digest[7:]}"])
    config = json.loads(content[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert (config["os"], config["architecture"], config["created"]) == (
        *("linux", "amd64"),
        "2023-11-14T22:13:20Z",
    )
    assert config["config"] == {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    assert gzip.decompress(content[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"]) == layer

# SPDX-License-Identifier: MIT
"""Offline images on real ISOs and disk images, and archives as skopeo writes them."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.formats import container_archive
from tasks.image import container_images, disk, iso
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import run
from tests.support import oci
from tests.support.built import built
from tests.support.settings import both, with_values

LAYERS = [oci.tar({"bin/tool": b"#!/bin/sh\n"}), oci.tar({"etc/name": b"x\n"})]
NAMES = ("localhost/layout:1", "localhost/saved:1")


@pytest.fixture
def carried(tmp_path: Path) -> Settings:
    """The built image, with an OCI layout and a docker-save archive in its profile."""
    settings = built()
    (tmp_path / "a.tar").write_bytes(oci.tar(oci.oci_image(LAYERS)))
    (tmp_path / "b.tar").write_bytes(oci.tar(oci.docker_image(LAYERS)))
    declared = tuple(
        Image(name, FileSource(path=str(tmp_path / f"{letter}.tar")))
        for name, letter in zip(NAMES, "ab", strict=True)
    )
    profile = replace(settings.profile, images=declared, extensions=(Extension("attr"),))
    made = with_values(settings, profile=profile, output=tmp_path / "out")
    made.paths.output.mkdir()
    for name in ("kernel", "corepure64.gz", "tcz", "lock.toml"):
        (made.paths.output / name).symlink_to(settings.paths.output / name)
    container_images.build(made.paths, made.profile)
    return made


def check(folder: Path, made: Settings) -> None:
    """The folder holds the list as it was made, and the tars it speaks of, byte for byte."""
    text = (folder / "images.lst").read_text()
    assert text == made.paths.images_list.read_text()
    entries = container_images.parse_list(text)
    assert tuple(entry.name for entry in entries) == NAMES
    assert {path.name for path in folder.iterdir()} == {"images.lst", *(entry.file for entry in entries)}
    for entry in entries:
        assert sha256_file(folder / entry.file) == entry.sha256
        assert container_archive.read(folder / entry.file).digest == entry.digest


def test_iso_and_disk_carry_the_tars_and_their_list(carried: Settings, tmp_path: Path) -> None:
    iso.build(carried.paths, carried.profile)
    out = tmp_path / "cde"
    run(["xorriso", "-osirrox", "on", "-indev", carried.paths.iso, "-extract", "/cde/images", out])
    check(out, carried)
    disk.build(carried.paths, carried.profile)
    offset = (disk.FIRST_PARTITION + disk.EFI_SECTORS) * 512
    (tmp_path / "tce").mkdir()
    image = f"{disk.raw(carried.paths)}?offset={offset}"
    run(["debugfs", "-R", f"rdump /tce/images {tmp_path}/tce", image])
    check(tmp_path / "tce/images", carried)
    listing = run(["debugfs", "-R", "stat /tce/images/images.lst", image]).stdout
    assert f"User:  {disk.TC_UID}   Group:    {disk.STAFF_GID}" in listing
    before = sha256_file(carried.paths.iso), sha256_file(disk.raw(carried.paths))
    iso.build(carried.paths, carried.profile)
    disk.build(carried.paths, carried.profile)
    assert (sha256_file(carried.paths.iso), sha256_file(disk.raw(carried.paths))) == before


def test_a_disk_too_small_for_them_is_explained(carried: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        oci.tar(oci.oci_image([oci.tar({"noise": bytes(range(256)) * 400_000})]))
    )
    container_images.build(carried.paths, carried.profile)
    small = replace(carried.profile, disk=replace(carried.profile.disk, size_mib=96))
    with pytest.raises(UserError) as caught:
        disk.build(*both(replace(carried, profile=small)))
    assert "disk.size_mib of the profile is 96" in caught.value.hint
    assert not disk.raw(carried.paths).exists()


class TestSkopeo:
    """What a well-known tool writes of our archives, and what it says of the digests."""

    def copy(self, source: str, target: str) -> None:
        policy = "--insecure-policy"
        run(["skopeo", policy, "copy", "--quiet", source, target])

    @pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
    def test_oci_archive(self, form: str, tmp_path: Path) -> None:
        """skopeo packs layers by gzip, and annotates the reference."""
        files = oci.oci_image(LAYERS) if form == "oci-archive" else oci.docker_image(LAYERS, "tool:1")
        (tmp_path / "ours.tar").write_bytes(oci.tar(files))
        self.copy(f"{form}:{tmp_path}/ours.tar", f"oci-archive:{tmp_path}/theirs.tar:localhost/tool:1")
        inspect = ["skopeo", "inspect", "--format", "{{.Digest}}", f"oci-archive:{tmp_path}/theirs.tar"]
        found = container_archive.read(tmp_path / "theirs.tar")
        assert found.digest == run(inspect).stdout.strip()
        assert (found.form, found.layers) == ("OCI image layout", 2)

    def test_docker_archive(self, tmp_path: Path) -> None:
        """Gzip layers are unpacked on the way, and older names of layers are links."""
        files = oci.oci_image([gzip.compress(layer, mtime=0) for layer in LAYERS])
        (tmp_path / "ours.tar").write_bytes(oci.tar(files))
        self.copy(f"oci-archive:{tmp_path}/ours.tar", f"docker-archive:{tmp_path}/theirs.tar:tool:1")
        found = container_archive.read(tmp_path / "theirs.tar")
        assert (found.form, found.layers) == ("docker-save archive", 2)
        # The same config, whoever wrote the archive.
        (tmp_path / "plain.tar").write_bytes(oci.tar(oci.docker_image(LAYERS)))
        assert found.digest == container_archive.read(tmp_path / "plain.tar").digest

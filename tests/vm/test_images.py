# SPDX-License-Identifier: MIT
"""Offline images: carried on ISO and disk image, imported by containerd's start script, once."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import system
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.config.system import System
from tasks.formats import initramfs_file
from tasks.formats.initramfs_file import Archive
from tasks.image import container_images, disk, iso
from tasks.initramfs import core
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.recipe import RecipeSource
from tasks.util.checkout import CHECKOUT
from tasks.util.process import run
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support import oci
from tests.support.built import doit
from tests.support.settings import with_values
from tests.vm.contract import LIMIT, booted, machine, make_disk, own_root

OCI, DOCKER, BIG = "localhost/layout:1", "docker.io/library/saved:2", "localhost/big:1"
MADE = "docker.io/library/busybox:1"
SERVICE = "/usr/local/etc/init.d/containerd"
DATA = "/var/lib/containerd"
# All that a profile has to say; the second line is run whether or not there is such a disk.
BOOTLOCAL = (f"mkdir -p {DATA} && mount LABEL=DATA {DATA}", f"{SERVICE} start")


def busybox() -> bytes:
    """Return a layer with a program in it."""
    return oci.tar({"bin/busybox": Path("/bin/busybox").read_bytes()}, {"bin/echo": "busybox"})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The built image with containerd, two images and the start commands in its profile."""
    settings = own_root()
    folder = tmp_path_factory.mktemp("images")
    # Both share a layer, and containerd puts the one it has, packed, into the manifest it writes.
    packed = gzip.compress(busybox(), mtime=0)
    # Named otherwise than in the profile, whose word counts.
    (folder / "layout.tar").write_bytes(oci.tar(oci.oci_image([packed], "localhost/else:9")))
    (folder / "saved.tar").write_bytes(
        oci.tar(oci.docker_image([busybox(), oci.tar({"a": b"b"})], "saved:2"))
    )
    made = with_values(
        settings,
        output=folder / "out",
        profile=replace(
            settings.profile,
            extensions=(Extension("containerd"),),
            images=(
                Image(OCI, FileSource(path=str(folder / "layout.tar"))),
                Image(DOCKER, FileSource(path=str(folder / "saved.tar"))),
                # Where BuildKit looks for what an image is built FROM.
                Image(MADE, RecipeSource(recipe="busybox"), namespace="buildkit"),
            ),
            boot=replace(settings.profile.boot, bootcodes=("cde", "noembed")),
        ),
    )
    made.paths.output.mkdir()
    done = doit(CHECKOUT.root, "image:busybox", f"profile={settings.paths.name}")
    assert done.status == 0, done.output
    for name in ("kernel", "tcz", "images"):
        (made.paths.output / name).symlink_to(settings.paths.output / name)
    members = system.members(
        System(bootlocal=BOOTLOCAL), initramfs_file.unpacked(initramfs_file.read_core(settings.paths.core))
    )
    core.append(settings.paths.core, [Archive("gzip", tuple(members))], made.paths.core, mtime=0)
    container_images.build(made.paths, made.profile)
    return made


@contextmanager
def started(image: Settings, log: Path, bootcodes: str, *disks: Disk) -> Iterator[Guest]:
    """A guest whose boot scripts have come to their end: containerd runs, images were looked at."""
    with booted(image, log, f"nodhcp noembed {bootcodes}", *disks, memory=1500) as guest:
        guest.run(
            "n=0; while pidof bootlocal.sh >/dev/null && [ $((n += 1)) -lt 120 ]; do sleep 1; done", 150
        )
        guest.run(f"{SERVICE} status")
        yield guest
        guest.run(f"sudo {SERVICE} stop && sudo umount {DATA}")


def in_store(guest: Guest) -> dict[str, str]:
    """Return what containerd's store has: reference -> manifest digest."""
    lines = guest.run("sudo ctr images ls").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def config(guest: Guest, digest: str) -> str:
    """Return the digest of the config that a manifest in containerd's store names."""
    return str(json.loads(guest.run(f"sudo ctr content get {digest}"))["config"]["digest"])


def said(guest: Guest, folder: str = "") -> list[str]:
    """Run import-images by hand; return its messages and its exit status."""
    return guest.run(f"sudo import-images {folder} 2>&1", 120, check=False).splitlines()


def made_by_a_recipe(guest: Guest, digest: str) -> None:
    """The image of images/busybox has its commands, folders and users; containerd runs it as it says."""
    assert f"import-images: {MADE}: imported ({digest})" in guest.console
    ctr = "sudo ctr --namespace buildkit"
    assert guest.run(f"{ctr} images ls -q") == f"{MADE}\n"
    command = "sh -c 'id -un; echo $PATH; ls -ld /tmp; vi --help 2>&1 | head -n 1'"
    user, path, tmp, version = guest.run(f"{ctr} run --rm {MADE} made {command}", 120).splitlines()
    assert (user, path) == ("root", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert (tmp[:10], version[:9]) == ("drwxrwxrwt", "BusyBox v")


def test_imported_once(image: Settings, tmp_path: Path) -> None:
    """From the ISO onto a data disk; the next boot with that disk leaves the store alone."""
    iso.build(image.paths, image.profile)
    cd, data = Disk(image.paths.iso, "cdrom"), make_disk(tmp_path / "data.img", tmp_path / "empty", "DATA")
    expected = {
        entry.name: entry.digest for entry in container_images.parse_list(image.paths.images_list.read_text())
    }
    with started(image, tmp_path / "first", "cde", cd, data) as guest:
        made_by_a_recipe(guest, expected.pop(MADE))
        store = in_store(guest)
        assert list(store) == [DOCKER, OCI]
        assert (store[OCI], config(guest, store[DOCKER])) == (expected[OCI], expected[DOCKER])
        shared = f"sha256:{hashlib.sha256(gzip.compress(busybox(), mtime=0)).hexdigest()}"
        assert shared in guest.run(f"sudo ctr content get {store[DOCKER]}")
        for name, digest in expected.items():
            assert f"import-images: {name}: imported ({digest})" in guest.console
            assert "hello" in guest.run(f"sudo ctr run --rm {name} first /bin/echo hello", 120)
        # An import would take the label away, and bring the other image back.
        guest.run(f"sudo ctr images label {OCI} seen=first && sudo ctr images rm {DOCKER}")
    with started(image, tmp_path / "second", "cde", cd, data) as guest:
        assert guest.run("cut -d ' ' -f 3- /var/log/import-images.log") == (
            f"{OCI}: imported before\n{DOCKER}: imported before\n{MADE}: imported before\n"
        )
        assert in_store(guest) == {OCI: expected[OCI]}
        assert "seen=first" in guest.run("sudo ctr images ls")
        assert "hello" in guest.run(f"sudo ctr run --rm {OCI} second /bin/echo hello", 120)


def lose(guest: Guest) -> None:
    """Leave the data disk as a power cut does between containerd's database and the files it tells of.

    The second image has just been unpacked: its manifest and the file of its own layer are lost.
    """
    digest = in_store(guest)[DOCKER]
    guest.run(f"sudo ctr images tag {DOCKER} localhost/import-images@{digest} && sudo ctr images rm {DOCKER}")
    before = f"default\\n{OCI} {in_store(guest)[OCI]}\\nsha256:{hashlib.sha256(busybox()).hexdigest()}"
    guest.run(f"sudo {SERVICE} stop")
    blob = f"io.containerd.content.v1.content/blobs/{digest.replace(':', '/')}"
    file = "io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/a"
    guest.run(f"sudo sh -c 'rm {DATA}/{blob} {DATA}/{file}'")
    guest.run(f"echo -e '{before}' | sudo tee {DATA}/importing-images >/dev/null")
    guest.run(f"sudo sed -i '/saved/d' {DATA}/imported-images")


def test_a_power_cut_in_the_middle_of_the_import(image: Settings, tmp_path: Path) -> None:
    """The next boot with the same data disk has every image, whole; whatever the disk has lost."""
    iso.build(image.paths, image.profile)
    cd, data = Disk(image.paths.iso, "cdrom"), make_disk(tmp_path / "data.img", tmp_path / "empty", "DATA")
    started_by = machine(image, "nodhcp noembed cde", cd, data, memory=1500)
    with Guest(started_by, tmp_path / "first", limit=LIMIT) as guest:
        guest.login()
        guest.run("n=0; while ! pidof import-images && [ $((n += 1)) -lt 240 ]; do usleep 500000; done", 150)
        wait = random.uniform(0, 4)
        print(f"the power goes {wait:.2f} s into the import")
        time.sleep(wait)
        guest.cut_power()
    with started(image, tmp_path / "second", "cde", cd, data) as guest:
        assert sorted(in_store(guest)) == [DOCKER, OCI]
        for name in (DOCKER, OCI):
            assert "hello" in guest.run(f"sudo ctr run --rm {name} first /bin/echo hello", 120)
        store = in_store(guest)
        lose(guest)
        told = guest.run(f"sudo {SERVICE} start", 120)
        assert "import-images: an import was cut off: what it left goes" in told
        assert f"import-images: {DOCKER}: imported" in told
        assert in_store(guest) == store
        assert guest.run(f"sudo ctr run --rm {DOCKER} second /bin/busybox cat /a", 120) == "b"
        guest.run(f"sudo ctr run --rm {OCI} second /bin/echo hello && ! ls {DATA}/importing-images", 120)


def wrong_images(image: Settings, folder: Path) -> None:
    """Lay out what may go wrong, to be put on the data disk: big/, wrong/ and lines/."""
    for name in ("big", "wrong", "lines"):
        (folder / name).mkdir(parents=True)
    layout = image.profile.images[0].source.local_name()
    entry = container_images.parse_list(image.paths.images_list.read_text())[0]
    other = replace(entry, name="localhost/wrong:1", file=layout, digest=f"sha256:{'0' * 64}")
    (folder / "wrong/layout.tar").write_bytes(Path(layout).read_bytes())
    (folder / "wrong/images.lst").write_text(replace(other, file="layout.tar").line())
    absent = replace(entry, name="localhost/absent:1", file="absent.tar")
    (folder / "lines/images.lst").write_text(f"{BIG} big.tar\n{absent.line()}")
    big = oci.tar(oci.oci_image([oci.tar({"noise": random.Random(1).randbytes(4 << 20)})]))
    (folder / "big/big.tar").write_bytes(big)
    settings = with_values(
        image,
        output=folder / "big",
        profile=replace(image.profile, images=(Image(BIG, FileSource(path=str(folder / "big/big.tar"))),)),
    )
    container_images.build(settings.paths, settings.profile)
    text = settings.paths.images_list.read_text()
    settings.paths.images_list.write_text(text.replace(settings.profile.images[0].file, "big.tar"))


def test_what_goes_wrong_is_said_and_the_boot_goes_on(image: Settings, tmp_path: Path) -> None:
    """From the disk image, one tar of which was damaged; then by hand what else may happen."""
    disk.build(image.paths, image.profile)
    saved = image.profile.images[1].source.local_file().read_bytes()
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(saved.replace(b"layer", b"later", 1))
    offset = (disk.FIRST_PARTITION + disk.EFI_SECTORS) * 512
    place = f"/tce/images/{image.profile.images[1].file}"
    for command in (f"rm {place}", f"write {damaged} {place}"):
        run(["debugfs", "-w", "-R", command, f"{disk.raw(image.paths)}?offset={offset}"])
    wrong_images(image, tmp_path / "content")
    data = make_disk(tmp_path / "data.img", tmp_path / "content", "DATA")
    with started(image, tmp_path / "log", "", Disk(disk.raw(image.paths)), data) as guest:
        line = f"{DOCKER}: not imported: /etc/sysconfig/tcedir/images/{place.rsplit('/', 1)[1]} is damaged"
        found = hashlib.sha256(damaged.read_bytes()).hexdigest()
        assert guest.console.count(f"import-images: {line} (sha256 {found}, expected") == 1
        guest.run(f"grep -qF '{line}' /var/log/import-images.log")
        assert list(in_store(guest)) == [OCI]

        store, (told, status) = in_store(guest), said(guest, f"{DATA}/wrong")
        assert status == "1"
        assert told.endswith(f"has the digest {store[OCI]} instead of sha256:{'0' * 64}")
        assert in_store(guest) == store
        assert said(guest, f"{DATA}/lines") == [
            f"import-images: {DATA}/lines/images.lst: expected NAME FILE SHA256 DIGEST, got: {BIG} big.tar",
            f"import-images: localhost/absent:1: not imported: {DATA}/lines/absent.tar does not exist",
            "1",
        ]

        guest.run(f"sudo dd if=/dev/zero of={DATA}/room bs=1M count=1 2>/dev/null")
        guest.run(f"! sudo dd if=/dev/zero of={DATA}/fill bs=64k 2>/dev/null; sudo rm {DATA}/room", 120)
        assert said(guest, f"{DATA}/big") == [
            f"import-images: {BIG}: not imported: the disk of {DATA} is full",
            "1",
        ]
        assert in_store(guest) == store
        guest.run(f"sudo rm {DATA}/fill && sudo {SERVICE} stop")
        assert said(guest, f"{DATA}/big") == [
            "import-images: no image imported: containerd does not run",
            "1",
        ]
        own = "/usr/local/etc/containerd"
        guest.run(f"sudo mkdir -p {own} && echo 'version = two' | sudo tee {own}/config.toml >/dev/null")
        answer = guest.run(f"sudo {SERVICE} start 2>&1", 120, check=False).splitlines()
        assert answer[-2:] == ["import-images: no image imported: containerd does not run", "1"]
        guest.run(f"sudo rm {own}/config.toml")
        answer = guest.run(f"sudo {SERVICE} start 2>&1", 120, check=False).splitlines()
        assert answer[-1] == "0", "an image that cannot be imported does not keep containerd from starting"
        assert f"import-images: {line}" in "\n".join(answer)
        assert said(guest, f"{DATA}/big")[-1] == "0"
        assert set(in_store(guest)) == {OCI, BIG}

# SPDX-License-Identifier: MIT
"""containerd from its extension, its data on ext3: it runs containers, and it commits them.

Committing is what the `ext3-xattr` fragment is for: containerd's differ asks every
changed path for `security.capability`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.config import recipe
from tasks.config.settings import Settings
from tasks.formats import container_archive
from tasks.image import container_images
from tasks.util.files import sha256_file
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support import debian11, oci
from tests.vm.contract import booted, carry, empty_disk, make_disc, own_root

SERVICE = "/usr/local/etc/init.d/containerd"
FAASD = "usr/local/etc/init.d/faasd"
ONBOOT = ("containerd", "coreutils")
IMAGE = "localhost/busybox:1"
SAVED = "localhost/saved:1"
BUSYBOX = Path("/bin/busybox")  # static, by host.toml
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "test",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "subnet": "10.77.0.0/24"},
        }
    ],
}


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


@pytest.fixture(scope="module")
def layer() -> bytes:
    names = ("sh", "echo", "cat", "ip", "hostname", "id")
    return oci.tar({"bin/busybox": BUSYBOX.read_bytes()}, {f"bin/{name}": "busybox" for name in names})


@pytest.fixture(scope="module")
def disc(image: Settings, layer: bytes, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A CD with the extensions, an image to import and a network's description."""
    folder = tmp_path_factory.mktemp("disc")
    carry(image, folder / "tree", ONBOOT)
    (folder / "tree/busybox.tar").write_bytes(oci.tar(oci.oci_image([layer], IMAGE)))
    (folder / "tree/broken.tar").write_bytes(oci.tar(oci.oci_image([layer], IMAGE))[:5000])
    debian11.runtime(folder / "tree/debian11")
    offline_image(folder / "tree/offline", layer)
    (folder / "tree/10-test.conflist").write_text(json.dumps(NETWORK))
    shutil.copyfile(recipe.folder("faasd") / "files" / FAASD, folder / "tree/faasd")
    return make_disc(folder / "disc.iso", folder / "tree")


def offline_image(folder: Path, layer: bytes) -> None:
    """Lay out a docker-save archive for import-images, with the digest its config has."""
    folder.mkdir()
    saved = folder / "saved.tar"
    saved.write_bytes(oci.tar(oci.docker_image([layer])))
    hashes = sha256_file(saved), container_archive.read(saved).digest
    (folder / "images.lst").write_text(container_images.ImageLine(SAVED, saved.name, *hashes, "other").line())


@contextmanager
def with_containerd(
    image: Settings, disc: Disk, folder: Path, bootcodes: str, before: str = "true", **changes: object
) -> Iterator[tuple[Guest, str]]:
    """A guest whose containerd has been started on a fresh ext3 disk, and what the script said.

    before: a command the guest runs before that.
    """
    disk = empty_disk(folder / "ext3.img", 256)
    codes = f"nodhcp cde {bootcodes}"
    with booted(image, folder / "log", codes, disc, disk, memory=1500, **changes) as guest:
        guest.run("sudo mkdir -p /var/lib/containerd && sudo mount -t ext3 /dev/vda /var/lib/containerd")
        guest.run(before)
        said = guest.run(f"sudo {SERVICE} start 2>&1", 120)
        guest.run("sudo ctr images import /mnt/sr0/busybox.tar", 120)
        yield guest, said


def commit_a_change(guest: Guest, layer: bytes) -> str:
    """Change a file in a writable snapshot of the image and ask for the difference as a layer."""
    chain = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    guest.run(f"sudo ctr snapshots prepare work {chain}")
    guest.run("sudo mkdir -p /mnt/x && sudo ctr snapshots mounts /mnt/x work | sudo sh")
    guest.run("echo new | sudo tee /mnt/x/added >/dev/null && sudo umount /mnt/x")
    return guest.run("sudo ctr snapshots diff work 2>&1 > /tmp/diff.tar", 120, check=False)


def test_runs_containers_and_commits_them(image: Settings, disc: Disk, layer: bytes, tmp_path: Path) -> None:
    with with_containerd(image, disc, tmp_path, "noembed") as (guest, said):
        assert "containerd: started (process" in said
        assert "noembed" not in said
        assert "Server:" in guest.run("sudo ctr version")
        guest.run("grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts")
        assert "containerd: runs (process" in guest.run(f"{SERVICE} status")
        assert f"needs root: sudo {SERVICE} stop" in guest.run(f"{SERVICE} stop 2>&1", check=False)
        assert "runs already" in guest.run(f"sudo {SERVICE} start")

        program = "/bin/sh -c 'echo out of $(hostname) as $(id -u)'"
        answer = guest.run(f"sudo ctr run --rm {IMAGE} first {program}", 120)
        assert "as 0" in answer

        guest.run("sudo cp /mnt/sr0/10-test.conflist /etc/cni/net.d/")
        answer = guest.run(f"sudo ctr run --rm --cni {IMAGE} second /bin/ip -4 addr", 180)
        assert "inet 10.77.0.2/24" in answer

        answer = commit_a_change(guest, layer)
        assert answer == "0", answer
        assert guest.run("tar -tf /tmp/diff.tar") == "added\n"

        guest.run(f"sudo {SERVICE} restart && sudo ctr images ls -q | grep -qx {IMAGE}", 120)
        assert "stopped" in guest.run(f"sudo {SERVICE} stop")
        assert guest.run(f"{SERVICE} status", check=False) == "containerd: does not run\n1"
        images_are_imported_for_faasd(guest)
        what_is_missing_is_told(guest)
        a_broken_setting_is_told(guest)
        other_extensions_work(guest)

        old_containerd(guest)
        answer = guest.run(f"sudo ctr run --rm {IMAGE} first {program}", 120)
        assert "as 0" in answer
        answer = commit_a_change(guest, layer)
        assert answer == "0", answer
        # This ctr writes the media type before the layer.
        assert guest.run("head -n 1 /tmp/diff.tar") == "application/vnd.oci.image.layer.v1.tar+gzip\n"
        assert guest.run("sed 1d /tmp/diff.tar | tar -tzf -") == "added\n"
        # Old containerd writes a manifest for a docker-save archive too, with the config foretold.
        assert f"{SAVED}: imported (sha256:" in guest.run("sudo import-images /mnt/sr0/offline", 120)
        assert guest.run("sudo ctr -n other images ls -q") == f"{SAVED}\n"
        guest.run(f"sudo {SERVICE} stop")
        guest.run("sudo umount /var/lib/containerd")


def images_are_imported_for_faasd(guest: Guest) -> None:
    """faasd's script starts containerd, and imports by the real ctr, once; a damaged archive is one line."""
    said = guest.run("sudo sh /mnt/sr0/faasd import /mnt/sr0/busybox.tar", 120)
    assert f"import-images: /mnt/sr0/busybox.tar: imported ({IMAGE})\n" in said
    assert guest.run("sudo ctr --namespace openfaas-fn images ls -q") == f"{IMAGE}\n"
    said = guest.run("sudo sh /mnt/sr0/faasd import /mnt/sr0/busybox.tar", 120)
    assert "import-images: /mnt/sr0/busybox.tar: imported before\n" in said
    said = guest.run("sudo sh /mnt/sr0/faasd import /mnt/sr0/broken.tar 2>&1", 120, check=False)
    *_, told, status = said.splitlines()
    assert told.startswith("import-images: /mnt/sr0/broken.tar: not imported: ctr: ")
    assert status == "1"
    assert guest.run("sudo ctr --namespace openfaas-fn images ls -q") == f"{IMAGE}\n"
    guest.run(f"sudo {SERVICE} stop")


def old_containerd(guest: Guest) -> None:
    """Put Debian 11's programs before those of the extension, and start with an empty store."""
    guest.run(f"sudo {SERVICE} stop && sudo sh -c 'rm -rf /var/lib/containerd/*'")
    guest.run("sudo ln -sf /mnt/sr0/debian11/* /usr/local/bin/")
    guest.run(f"sudo {SERVICE} start 2>&1", 120)
    assert guest.run("sudo ctr version").count("Version:  1.4.") == 2  # client and server
    assert "1.0.0~rc" in guest.run("runc --version")
    guest.run("sudo ctr images import /mnt/sr0/busybox.tar", 120)


def what_is_missing_is_told(guest: Guest) -> None:
    """A store or a kernel on which containers would fail: one line, and no containerd."""
    store, overlay = "/var/lib/containerd", "lowerdir=/etc,upperdir=/tmp/upper,workdir=/tmp/work"
    hidden = "grep -v overlay /proc/filesystems > /tmp/hidden"
    release = guest.run("uname -r").strip()
    where = f"{store} lies on {{}}, where overlayfs cannot keep layers: mount an ext4 disk there"
    for prepare, undo, said in (
        (
            f"sudo mount -t ramfs none {store}",
            store,
            f"{where.format('ramfs')}, or boot with the bootcode noembed",
        ),
        (
            f"mkdir /tmp/upper /tmp/work && sudo mount -t overlay -o {overlay} none {store}",
            store,
            where.format("overlay"),
        ),
        (
            f"{hidden} && sudo mount --bind /tmp/hidden /proc/filesystems",
            "/proc/filesystems",
            # As where the extension with the kernel's modules is not loaded.
            f"overlayfs is a module that cannot be loaded: load the extension original-modules-{release}",
        ),
    ):
        guest.run(prepare)
        answer = guest.run(f"sudo {SERVICE} start 2>&1", 120, check=False)
        assert answer == f"containerd: {said}\n1"
        guest.run(f"sudo umount {undo}")
    answer = guest.run("ctr images ls 2>&1", check=False)
    assert answer == f"ctr: containerd does not run: sudo {SERVICE} start\n1"


def a_broken_setting_is_told(guest: Guest) -> None:
    """containerd ends at once, and the script says why instead of waiting for its socket."""
    own = "/usr/local/etc/containerd/config.toml"
    guest.run(f"sudo mkdir -p {own.rsplit('/', 1)[0]} && echo 'version = two' | sudo tee {own} >/dev/null")
    answer = guest.run(f"sudo {SERVICE} start 2>&1", 120, check=False)
    assert "it ended at once; the end of /var/log/containerd.log:" in answer
    assert "config.toml" in answer
    assert answer.splitlines()[-1] == "1"
    guest.run(f"! {SERVICE} status && sudo rm {own}")


def other_extensions_work(guest: Guest) -> None:
    """coreutils, iptables and ca-certificates, loaded for containerd."""
    assert guest.run("stat --version").startswith("stat (GNU coreutils)")
    assert guest.run("expr 99999999999999999999 + 1") == "100000000000000000000\n"
    for command in ("iptables", "iptables-nft", "ip6tables"):
        rule = "POSTROUTING -m comment --comment tcbuild -j MASQUERADE"
        guest.run(f"sudo {command} -t nat -A {rule}")
        assert "tcbuild" in guest.run(f"sudo {command} -t nat -S POSTROUTING")
    assert int(guest.run("grep -c BEGIN /usr/local/etc/ssl/cert.pem")) > 100
    # Loading must not take folders from those who may write there.
    assert guest.run("stat -c '%a %U:%G' /opt /usr/local /usr/local/tce.installed") == (
        "2775 root:staff\n2775 root:staff\n775 tc:staff\n"
    )


# What a kernel without cgroup v2 shows.
ONLY_V1 = (
    "sudo modprobe overlay && grep -v cgroup2 /proc/filesystems > /tmp/v1 && "
    "sudo mount --bind /tmp/v1 /proc/filesystems"
)


def test_without_the_fragment_nothing_can_be_committed(
    plain_kernel: Path, image: Settings, disc: Disk, layer: bytes, tmp_path: Path
) -> None:
    """The error that led here.  Also, without noembed, containers fail as the start script
    says, or run with --no-pivot; and with cgroup v1."""
    with with_containerd(image, disc, tmp_path, "", ONLY_V1, kernel=plain_kernel) as (guest, said):
        assert "boot with the bootcode noembed" in said
        assert "containerd: started (process" in said
        guest.run("grep -q ' /sys/fs/cgroup/devices cgroup ' /proc/mounts")
        answer = guest.run(f"sudo ctr run --rm {IMAGE} first /bin/echo hello 2>&1", 120, check=False)
        assert "pivot_root" in answer
        where = "/bin/sh -c 'echo hello; cat /proc/self/cgroup'"
        answer = guest.run(f"sudo ctr run --rm --no-pivot {IMAGE} second {where}", 120)
        assert answer.startswith("hello\n")
        assert ":devices:/default/second" in answer
        answer = commit_a_change(guest, layer)
        assert "failed to get xattr for" in answer
        assert "operation not supported" in answer
        assert answer.splitlines()[-1] != "0"
        old_containerd(guest)
        answer = commit_a_change(guest, layer)
        assert "failed to get xattr for" in answer
        assert "operation not supported" in answer
        assert answer.splitlines()[-1] != "0"
        guest.run(f"sudo {SERVICE} stop && sudo umount /var/lib/containerd /proc/filesystems")

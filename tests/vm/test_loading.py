# SPDX-License-Identifier: MIT
"""tce-load and tce-setup in a booted guest: by hand, from the initramfs, a disk, a disc."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core, embedded
from tasks.vm.machine import Disk
from tests.vm.contract import base_and_top, booted, make_disk, make_tcz, own_root, starting


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


def test_tce_load_by_hand(image: Settings, tmp_path: Path) -> None:
    """Dependencies, cycles, -KERNEL, copying, replacing, empty extensions, modules."""
    release = (image.paths.kernel / "release").read_text().strip()
    content = tmp_path / "content"
    extensions = content / "x"
    base_and_top(extensions)
    make_tcz(extensions, "circle-a", {"usr/local/share/a": ""}, deps="circle-b.tcz\n")
    make_tcz(extensions, "circle-b", {"usr/local/share/b": ""}, deps="circle-a.tcz\n")
    make_tcz(extensions, f"mods-{release}", {f"usr/local/lib/modules/{release}/kernel/note": "x"})
    make_tcz(extensions, "needs-mods", {"usr/local/share/m": ""}, deps="mods-KERNEL.tcz\r\n")
    make_tcz(extensions, "broken", {"usr/local/share/c": ""}, deps="top.tcz\nabsent.tcz\n")
    make_tcz(extensions, "only-name", {"empty": ""})
    make_tcz(extensions, "copied", {"usr/local/share/copied": "bytes\n"})
    make_tcz(extensions, "forced", {"etc/motd": "taken\n"})
    (extensions / "damaged.tcz").write_bytes(b"no squashfs")
    disk = make_disk(tmp_path / "disk.img", content)
    with booted(image, tmp_path / "log", "nodhcp", disk) as guest:
        guest.run("mount /mnt/vda && cd /mnt/vda/x")  # a user may: /etc/fstab says so
        assert guest.run("tce-load -i broken", check=False) == "absent.tcz not found!\n1"
        assert guest.run("ls -1 /usr/local/tce.installed") == ""
        assert guest.run("tce-load -i top.tcz") == "base.tcz: OK\ntop.tcz: OK\n"
        assert guest.run("top-tool; cat /tmp/started") == ("from base\nbase root\ntop root\n")
        assert guest.run("cat /etc/motd") != "not to be taken\n"
        assert guest.run("readlink /usr/local/bin/top-tool") == "/tmp/tcloop/top/usr/local/bin/top-tool\n"
        assert guest.run("tce-load -i top") == "top is already installed!\n"
        answer = guest.run("tce-load -i circle-a")
        assert "Warning loop dependency: circle-a.tcz" in answer
        assert answer.endswith("circle-b.tcz: OK\ncircle-a.tcz: OK\n")
        assert guest.run("tce-load -i needs-mods") == f"mods-{release}.tcz: OK\nneeds-mods.tcz: OK\n"
        guest.run("[ -e /lib/modules/$(uname -r)/kernel.tclocal/note ]")
        assert guest.run("tce-load -is only-name; ls /tmp/tcloop/only-name 2>&1", check=False).endswith("1")
        guest.run("[ -e /usr/local/tce.installed/only-name ] && ! grep -q only-name /proc/mounts")
        assert guest.run("tce-load -ic copied && cat /usr/local/share/copied") == "copied.tcz: OK\nbytes\n"
        guest.run("[ ! -L /usr/local/share/copied ] && ! grep -q copied /proc/mounts")
        assert guest.run("tce-load -if forced && cat /etc/motd") == "forced.tcz: OK\ntaken\n"
        answer = guest.run("tce-load -i damaged 2>&1", check=False)
        assert "cannot be mounted" in answer
        assert answer.endswith("damaged.tcz: failed\n1")
        assert "copied" in guest.run("tce-status -i")
        guest.run("[ ! -s /etc/sysconfig/tcedir/onboot.lst ]")


def test_initramfs_disk_and_disc(image: Settings, tmp_path: Path) -> None:
    """/tmp/builtin first, then the tce folder, then `cde`; the same disc on a stick is found too."""
    built_in = starting(tmp_path / "in", "inner")
    extra = Archive("gzip", tuple(embedded.builtin_members([built_in], ["inner"])))
    core.append(image.paths.core, [extra], tmp_path / "core.gz")
    tree = tmp_path / "disc"
    base_and_top(tree / "cde/optional")
    (tree / "cde/onboot.lst").write_text("top.tcz\n")
    iso = tmp_path / "disc.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-o", iso, tree], check=True)
    starting(tmp_path / "content/tce/optional", "own")
    (tmp_path / "content/tce/onboot.lst").write_text("# mine\nown.tcz # why not\n\n")
    disk = make_disk(tmp_path / "disk.img", tmp_path / "content")
    cd = Disk(iso, "cdrom")
    with booted(image, tmp_path / "log", "nodhcp cde", cd, disk, initrd=tmp_path / "core.gz") as guest:
        assert guest.run("cat /tmp/started") == "inner root\nown root\nbase root\ntop root\n"
        assert guest.run("cat /etc/sysconfig/cde /etc/sysconfig/cdroms").split() == [
            "/mnt/sr0/cde/optional",
            "/dev/sr0",
        ]
        assert guest.run("readlink /dev/cdrom; readlink /etc/sysconfig/tcedir") == "/dev/sr0\n/mnt/vda/tce\n"
        guest.run("grep '^/dev/sr0 .*# Added by TC$' /etc/fstab")
    with booted(image, tmp_path / "log2", "nodhcp cde", Disk(iso, "ahci")) as guest:
        assert guest.run("cat /tmp/started /etc/sysconfig/cde") == (
            "base root\ntop root\n/mnt/sda/cde/optional\n"
        )

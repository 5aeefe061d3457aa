# SPDX-License-Identifier: MIT
"""tce-load and tce-setup in a booted guest: by hand, from the initramfs, a disk, a disc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core, embedded
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.vm.contract import (
    add_gpt_partition,
    add_partition,
    base_and_top,
    booted,
    make_disc,
    make_disk,
    make_tcz,
    own_root,
    starting,
)


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


ODD = (
    "it's.tcz",
    "two words.tcz",
    ";touch /tmp/ran",
    "$(touch /tmp/ran).tcz",
    "`reboot`",
    "*.tcz",
    "-t",
    "a|b&",
)
"""Lines of onboot.lst that are no names: none may be obeyed, and none may cost the others."""
COLOURED = "no\x1b[31m"
"""A name that a terminal would obey."""


def many_are_in_place(guest: Guest) -> None:
    """Of a file of two extensions the first one's stays; of the base's, the base's."""
    assert guest.run("cat /usr/local/share/both /usr/local/share/mine/a") == "first\na\n"
    assert "not to be taken" not in guest.run("cat /etc/motd")
    assert guest.run("readlink /usr/local/share/both") == "/tmp/tcloop/first/usr/local/share/both\n"
    guest.run("[ -e /lib/modules/$(uname -r)/kernel.tclocal/note ]")
    guest.run("[ -e /usr/local/tce.installed/only-name ] && [ ! -e /tmp/tcloop/only-name ]")
    assert guest.run("losetup -a | grep -c only-name", check=False) == "0\n1"


def the_damaged_one_costs_no_other(guest: Guest) -> None:
    """What needs it is not loaded, nor left mounted."""
    assert "absent.tcz not found!" in guest.console
    assert "damaged.tcz: failed" in guest.console
    assert guest.run("ls -d /tmp/tcloop/damaged /tmp/tcloop/needy 2>/dev/null", check=False) == "1"
    assert guest.run("grep -c cannot.be.mounted /var/log/tce-setup.log") == "1\n"


def disc_with_a_damaged_one(folder: Path) -> Disk:
    """A disc whose list names one that is there already, and one that needs a damaged one."""
    optional = folder / "disc/cde/optional"
    base_and_top(optional)
    needs = (("circle-a", "circle-b"), ("circle-b", "circle-a"), ("needy", "damaged"), ("last", "top"))
    for name, other in needs:
        starting(optional, name, deps=f"{other}.tcz\n")
    starting(optional, COLOURED)
    (optional / "damaged.tcz").write_bytes(b"no squashfs")
    (folder / "disc/cde/onboot.lst").write_text("top.tcz\nneedy\ncircle-a\nabsent\nlast\n")
    return make_disc(folder / "disc.iso", folder / "disc")


def disk_with_odd_lines(folder: Path, release: str) -> Disk:
    """A tce folder of extensions of every kind, and a list with lines that are none."""
    tce = folder / "content/tce"
    for name in ("own", "base", "copied", "copied-not", "don't", COLOURED):
        starting(tce / "optional", name, {f"usr/local/share/{name}": "from the disk\n"})
    both = "usr/local/share/both"
    make_tcz(tce / "optional", "first", {both: "first\n", "etc/motd": "not to be taken\n"})
    make_tcz(tce / "optional", "second", {both: "second\n", "usr/local/share/mine/a": "a\n"})
    make_tcz(tce / "optional", "only-name", {"empty": ""})
    make_tcz(tce / "optional", f"mods-{release}", {f"usr/local/lib/modules/{release}/kernel/note": "x"})
    lines = [
        *("first", "second", "only-name", "mods-KERNEL"),
        *("# mine", "own.tcz # why not", "", *ODD),
        *("base.tcz\r", "copied", "copied-not", "don't.tcz", COLOURED),
    ]
    (tce / "onboot.lst").write_text("\n".join(lines), newline="")
    (tce / "copy2fs.lst").write_text("copied.tcz\r\n", newline="")
    return make_disk(folder / "disk.img", folder / "content")


# In the order of loading; the guest's console has no colours.
STARTED = (
    "inner",
    "own",
    "base",
    "copied",
    "copied-not",
    "don't",
    "no",
    "top",
    "circle-b",
    "circle-a",
    "last",
)


def test_initramfs_disk_and_disc(image: Settings, tmp_path: Path) -> None:
    """/tmp/builtin first, then the tce folder, then `cde`; odd lines and equal names are said."""
    built_in = starting(tmp_path / "in", "inner")
    extra = Archive("gzip", tuple(embedded.builtin_members([built_in], ["inner"])))
    core.append(image.paths.core, [extra], tmp_path / "core.gz")
    disks = (
        disc_with_a_damaged_one(tmp_path),
        disk_with_odd_lines(tmp_path, (image.paths.kernel / "release").read_text().strip()),
    )
    with booted(image, tmp_path / "log", "nodhcp cde", *disks, initrd=tmp_path / "core.gz") as guest:
        assert guest.run("cat /tmp/started").splitlines() == [f"{name} root" for name in STARTED]
        for line in ODD:
            assert f"{line.split()[0].removesuffix('.tcz')}.tcz not found!" in guest.console
        assert 'of "two words.tcz", "two" is taken' in guest.console
        guest.run(
            "[ ! -e /tmp/ran ] && [ ! -L /usr/local/share/copied ] && [ -L /usr/local/share/copied-not ]"
        )
        assert "Loaded from /mnt/vda/tce, not from /mnt/sr0/cde: base no?[31m" in guest.console
        assert guest.run("cat /usr/local/share/base") == "from the disk\n"
        said = guest.run('ondemand "don\'t.tcz" && /mnt/vda/tce/ondemand/don*')
        assert said == "don't was loaded; it has no program of its own name.\n"
        assert guest.run("cat /etc/sysconfig/cde /etc/sysconfig/cdroms").split() == [
            "/mnt/sr0/cde/optional",
            "/dev/sr0",
        ]
        assert guest.run("readlink /dev/cdrom; readlink /etc/sysconfig/tcedir") == "/dev/sr0\n/mnt/vda/tce\n"
        guest.run("grep '^/dev/sr0 .*# Added by TC$' /etc/fstab")
        many_are_in_place(guest)
        the_damaged_one_costs_no_other(guest)


def test_the_image_on_a_stick(image: Settings, tmp_path: Path) -> None:
    """`cde` leaves the stick's other partitions free: a backup on one of them is restored.

    With `base`, no other disk's tce folder counts.
    """
    stick = tmp_path / "stick.img"
    shutil.copyfile(image.paths.iso, stick)
    (tmp_path / "backup/home/tc").mkdir(parents=True)
    (tmp_path / "backup/home/tc/note").write_text("kept\n")
    (tmp_path / "stick").mkdir()
    backup: list[str | Path] = [
        "tar",
        "-C",
        tmp_path / "backup",
        "-czf",
        tmp_path / "stick/mydata.tgz",
        "home/tc/note",
    ]
    subprocess.run(backup, check=True)
    add_gpt_partition(stick, 3, make_disk(tmp_path / "stick.ext3", tmp_path / "stick").path)
    starting(tmp_path / "other/tce/optional", "attr")
    (tmp_path / "other/tce/onboot.lst").write_text("attr.tcz\n")
    other = make_disk(tmp_path / "other.img", tmp_path / "other")
    # No partition of this one holds what its first sectors describe.
    tree = tmp_path / "disc"
    starting(tree / "cde/optional", "raw")
    (tree / "cde/onboot.lst").write_text("raw.tcz\n")
    raw = make_disc(tmp_path / "raw.iso", tree).path
    add_partition(raw, 1, make_disk(tmp_path / "empty.ext3", tmp_path / "nothing").path)
    disks = (Disk(stick, "ahci"), other, Disk(raw))
    codes = 'nodhcp cde base "iso=sda1/my own.iso"'
    with booted(image, tmp_path / "log", codes, *disks) as guest:
        assert 'Bootcode "iso=sda1/my: the path of the ISO must have no space' in guest.console
        assert guest.run("cat /etc/sysconfig/cde") == "/mnt/sda1/cde/optional\n"
        guest.run("[ -e /usr/local/tce.installed/attr ] && [ ! -e /tmp/started ]")
        assert "Restoring files from /mnt/sda3/mydata.tgz" in guest.console
        assert guest.run("cat ~/note; cat /etc/sysconfig/backup_device") == "kept\nsda3\n"
        assert "Done." in guest.run("filetool.sh -b")
        # Somebody uses the partition, and the stick is not looked at.
        guest.run("mount /mnt/vdb1 && sudo sh -c 'echo sda >> /etc/init.d/tc_noscan.lst' && sudo tce-setup")
        assert guest.run("cat /tmp/started /etc/sysconfig/cde") == "raw root\n/mnt/vdb/cde/optional\n"
        said = "/mnt/vdb/cde is read from the whole disk: no partition of it has a folder cde.\n"
        assert guest.run("cat /tmp/tce-notes") == said
        guest.run("sudo tce-setup")
        assert guest.run("grep -c ' /mnt/vdb ' /proc/mounts") == "1\n"

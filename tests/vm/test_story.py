# SPDX-License-Identifier: MIT
"""The story this tool comes from: containerd asks ext3 for `security.capability`.

Two kernels that differ in the `ext3-xattr` fragment alone, the same core.gz, the
same kind of disk, made by mkfs.ext3.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.vm import qemu
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support.built import built
from tests.vm.contract import empty_disk

# struct vfs_cap_data, revision 2, cap_net_raw (linux/capability.h)
CAPABILITY = "0x0000000200200000000000000000000000000000"


@pytest.fixture
def ext3(tmp_path: Path) -> Path:
    """An ext3 disk of 64 MiB."""
    return empty_disk(tmp_path / "ext3.img", 64).path


@contextmanager
def guest_with_disk(disk: Path, log: Path, kernel: Path | None = None) -> Iterator[Guest]:
    """A logged-in guest with the disk's root on /mnt/x, the attr extension loaded from the ISO."""
    settings = built()
    disks = (Disk(settings.paths.iso, "cdrom"), Disk(disk, "virtio"))
    machine = qemu.machine(
        settings.paths,
        settings.profile,
        "direct",
        qemu.accelerator(settings.paths, settings.profile),
        disks=disks,
    )
    if kernel is not None:
        machine = replace(machine, kernel=kernel)
    with Guest(machine, log, limit=300) as guest:
        guest.login()
        guest.run("sudo mkdir -p /mnt/x && sudo mount -t ext3 /dev/vda /mnt/x")
        guest.run("sudo touch /mnt/x/f && sudo chmod 666 /mnt/x/f")
        yield guest
        guest.run("sudo umount /mnt/x")
        guest.power_off()


def test_without_the_fragment_ext3_does_not_answer(plain_kernel: Path, ext3: Path, tmp_path: Path) -> None:
    with guest_with_disk(ext3, tmp_path / "log", plain_kernel) as guest:
        answer = guest.run("getfattr -n security.capability /mnt/x/f", check=False)
        assert "security.capability: Operation not supported" in answer  # EOPNOTSUPP
        answer = guest.run(f"sudo setfattr -n security.capability -v {CAPABILITY} /mnt/x/f", check=False)
        assert "Operation not supported" in answer
        # user.* needs no handler of the fragment's
        guest.run("setfattr -n user.origin -v tcbuild /mnt/x/f")
        assert "tcbuild" in guest.run("getfattr --only-values -n user.origin /mnt/x/f")


def test_with_the_fragment_attributes_are_answered_set_and_kept(ext3: Path, tmp_path: Path) -> None:
    with guest_with_disk(ext3, tmp_path / "log") as guest:
        answer = guest.run("getfattr -n security.capability /mnt/x/f", check=False)
        assert "security.capability: No such attribute" in answer  # ENODATA
        guest.run(f"sudo setfattr -n security.capability -v {CAPABILITY} /mnt/x/f")
        guest.run("sudo setfattr -n security.test -v kept /mnt/x/f")
        guest.run("setfattr -n user.origin -v tcbuild /mnt/x/f")
        guest.run("sudo umount /mnt/x && sudo mount -t ext3 /dev/vda /mnt/x")
        assert CAPABILITY in guest.run("getfattr -e hex -n security.capability /mnt/x/f")
        assert "kept" in guest.run("getfattr --only-values -n security.test /mnt/x/f")
        assert "tcbuild" in guest.run("getfattr --only-values -n user.origin /mnt/x/f")
    # The same bytes lie on the disk once the guest is off.
    said = subprocess.run(
        ["debugfs", "-R", "ea_list /f", ext3], capture_output=True, text=True, check=True
    ).stdout
    assert "security.capability" in said
    assert "user.origin" in said


def test_the_two_configurations_differ_in_the_fragment_alone(plain_kernel: Path) -> None:
    """The proof above is worth something only if nothing else differs."""

    def symbols(path: Path) -> set[str]:
        return {line for line in path.read_text().splitlines() if "CONFIG_" in line}

    settings = built()
    differing = symbols(settings.paths.kernel / "config") ^ symbols(plain_kernel.with_name("config"))
    names = {line.replace("# ", "").split("=")[0].split()[0] for line in differing}
    assert names <= {
        *("CONFIG_EXT3_FS", "CONFIG_EXT3_FS_SECURITY", "CONFIG_EXT3_FS_POSIX_ACL"),
        *("CONFIG_EXT4_FS_SECURITY", "CONFIG_EXT4_FS_POSIX_ACL", "CONFIG_SQUASHFS_XATTR"),
        *("CONFIG_TMPFS_XATTR", "CONFIG_TMPFS_POSIX_ACL", "CONFIG_FS_POSIX_ACL"),
    }
    assert "CONFIG_EXT4_FS_SECURITY" in names

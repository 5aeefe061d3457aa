# SPDX-License-Identifier: MIT
"""Profile tc11 whole, on a mirror of our own: from `lock` to a kernel, and an ISO that boots.

The kernel tree is what this machine can reach: the one in $TCBUILD_LINUX_54, or that of the
built image.  Its config is Tiny Core's cut down (tests/data/tinycore-cut.config), so loop and
squashfs are modules, compressed, in the core, and bridges an extension.  The root is ours
with BusyBox's modprobe, as Tiny Core's has: that one reads .ko.gz.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.process import run
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine
from tests.support.built import copy_checkout, doit
from tests.support.mirror import Mirror
from tests.support.tinycore import DISTRIBUTION, Checkout, TinyCore, squashfs
from tests.vm.contract import LIMIT, empty_disk, own_root

CUT = CHECKOUT.root / "tests/data/tinycore-cut.config"
LINUX_54 = os.environ.get("TCBUILD_LINUX_54", "")
TOOL = "usr/local/bin/tool"
# What the guest needs beyond Tiny Core's config to have device nodes without udev.
FRAGMENT = "CONFIG_DEVTMPFS=y\n"
EXTENSIONS = """
[[extensions]]
name = "tool"
origin = "upstream"

[[extensions]]
name = "attr"
origin = "upstream"

[[extensions]]
name = "original-modules-KERNEL"
place = "ondemand"
"""


def configured(tree: Path, build: Path) -> tuple[bytes, str]:
    """Return the cut-down config made whole for this tree, and the release it gives."""
    build.mkdir()
    make: list[str | Path] = ["make", "-s", "-C", tree, f"O={build}", "ARCH=x86_64", "LOCALVERSION="]
    run([*make, f"KCONFIG_ALLCONFIG={CUT}", "allnoconfig"])
    version = run([*make, "kernelversion"]).stdout.strip()
    return (build / ".config").read_bytes(), f"{version}-tinycore64"


def busybox_modprobe(folder: Path) -> Path:
    """Return a cpio archive that puts BusyBox's module tools in place of kmod's."""
    (folder / "sbin").mkdir(parents=True)
    for name in ("depmod", "insmod", "lsmod", "modprobe", "rmmod"):
        (folder / "sbin" / name).symlink_to("/bin/busybox")
    packed = folder.with_suffix(".gz")
    script = f"find sbin | sort | cpio -o -H newc -R 0:0 --quiet | gzip -n > {packed}"
    subprocess.run(["sh", "-c", script], cwd=folder, check=True)
    return packed


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


@pytest.fixture(scope="module")
def made(image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout in which the profile is locked and its ISO built, by the commands a person uses."""
    folder = tmp_path_factory.mktemp("tc11")
    tree = Path(LINUX_54) if LINUX_54 else image.paths.linux
    config, release = configured(tree, folder / "config")
    cache = folder / "cache"
    cache.mkdir()
    (cache_folder() / "ccache").mkdir(parents=True, exist_ok=True)
    (cache / "ccache").symlink_to(cache_folder() / "ccache")
    overlay = busybox_modprobe(folder / "busybox")
    with Mirror() as mirror:
        made = Checkout(copy_checkout(folder / "checkout"), cache, TinyCore(mirror))
        made.tiny.kernel(config)
        made.tiny.distribution((image.paths.output / "rootfs64.gz").read_bytes())
        (folder / "tool").mkdir()
        says = squashfs(folder / "tool", {TOOL: "#!/bin/sh\nlsmod\n"}, executable=(TOOL,))
        made.tiny.extension("tool", "net-bridging-KERNEL.tcz\n", says)
        made.tiny.extension("attr", None, (image.paths.tcz / "attr.tcz").read_bytes())
        made.write_profile(
            EXTENSIONS,
            source=f'{{ kind = "file", path = "{tree}" }}',
            fragments='["devtmpfs", "ext3-xattr"]',
            patches='"linux-5.4"' if LINUX_54 else '""',
            release=f'"{release}"',
        )
        profile = made.folder / "profiles/double.toml"
        rootfs = f'{{ kind = "http", path = "{DISTRIBUTION}/rootfs64.gz" }}'
        core = f'[core]\narchives = [{rootfs}, {{ kind = "file", path = "{overlay}" }}]\n\n[boot]'
        text = profile.read_text()
        assert text.count("[boot]") == 1
        profile.write_text(text.replace("[boot]", core))
        (made.folder / "kconfig/devtmpfs.config").write_text(FRAGMENT)
        for words in (("lock",), ("iso",)):
            done = made.doit(*words)
            assert done.status == 0, done.output
        yield made


def test_all_of_it_is_up_to_date_and_the_kernel_is_a_valid_vmlinuz(made: Checkout) -> None:
    done = made.doit("iso")
    assert "everything is up to date" in done.output, done.output
    checked = doit(CHECKOUT.root, "check", str(made.out / "kernel/vmlinuz64"))
    assert checked.status == 0, checked.output
    release = (made.out / "kernel/release").read_text().strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+-tinycore64", release)
    assert release in checked.output
    alone = {path.name for path in (made.out / "kernel/modules").rglob("*.ko")}
    assert {"squashfs.ko", "loop.ko", "bridge.ko"} <= alone


def test_the_difference_to_the_base_config_is_the_fragments(made: Checkout) -> None:
    done = made.doit("kconfig:diff")
    assert done.status == 0, done.output
    asked = done.output.split("# asked for")[1].split("\n# ")[0]
    fragments = FRAGMENT + (CHECKOUT.root / "kconfig/ext3-xattr.config").read_text()
    wanted = set(re.findall(r"(?m)^(CONFIG_\w+=[ym])", fragments))
    base = set((made.out / "kconfig/base.config").read_text().splitlines())
    assert set(re.findall(r"CONFIG_\w+=[ym]", asked)) == wanted - base


def test_it_boots_and_finds_its_modules_where_tiny_core_keeps_them(made: Checkout, tmp_path: Path) -> None:
    release = (made.out / "kernel/release").read_text().strip()
    disk = replace(empty_disk(tmp_path / "ext3.img", 64), bus="ahci")
    disks = (Disk(made.out / "tcbuild-double.iso", "cdrom"), disk)
    with Guest(Machine("bios", disks=disks), tmp_path / "log", limit=LIMIT) as guest:
        guest.login()
        assert guest.run("uname -r") == f"{release}\n"
        assert guest.run("readlink -f /sbin/modprobe") == "/bin/busybox\n"
        # From the core, compressed: without them the CD's extensions could not be mounted.
        for name in ("loop", "squashfs"):
            found = guest.run(f"find /lib/modules/$(uname -r)/ -name '{name}.ko*'")
            assert found.endswith(f"/{name}.ko.gz\n")
        assert "squashfs" in guest.run("tool")
        # From its extension, which `tool` depends on by net-bridging-KERNEL.
        assert guest.run("ls /usr/local/tce.installed | grep net-bridging") == f"net-bridging-{release}\n"
        # Tiny Core's depmod follows the link kernel.tclocal there; BusyBox as it is does not.
        folder = f"/usr/local/lib/modules/{release}/kernel/net/bridge"
        guest.run(f"sudo modprobe stp && sudo insmod {folder}/bridge.ko.gz && lsmod | grep -q ^bridge")
        guest.run(f"[ -f /mnt/sr0/cde/optional/original-modules-{release}.tcz ]")
        guest.run(f"cd /mnt/sr0/cde/optional && tce-load -i original-modules-{release}", 240)
        guest.run("sudo mkdir /mnt/x && sudo mount -t ext3 /dev/sda /mnt/x && sudo touch /mnt/x/f")
        answer = guest.run("getfattr -n security.capability /mnt/x/f", check=False)
        assert "security.capability: No such attribute" in answer
        guest.run("sudo setfattr -n security.test -v kept /mnt/x/f")
        guest.run("sudo umount /mnt/x && sudo mount -t ext3 /dev/sda /mnt/x")
        assert "kept" in guest.run("getfattr --only-values -n security.test /mnt/x/f")
        guest.run("sudo umount /mnt/x")
        guest.power_off()

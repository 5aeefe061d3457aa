# SPDX-License-Identifier: MIT
"""Profile tc11 whole, on a mirror of our own: from `lock` to a kernel, and an ISO that boots.

The kernel tree is what this machine can reach: the one in $TCBUILD_LINUX_54, or that of the
built image.  For that kernel, its config is Tiny Core's cut down (tests/data/tinycore-cut.config), else the
built image's with what that one has as modules, so loop and squashfs are modules, compressed, in the core,
and bridges an extension.  Nearly all objects are those of the built image then.  The root is ours
with BusyBox's modprobe, as Tiny Core's has: that one reads .ko.gz.  With kernel 5.4, and where Tiny
Core's own files are, its own root with its own extensions follows, and the story's error on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inputs
from tasks.config.settings import OWN_CACHE, Settings
from tasks.formats.initramfs_file import read_core, unpacked
from tasks.kernel import finished_builds
from tasks.kernel.fragments import Request, apply_requests, parse_config
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.process import run
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine
from tests.support.built import compiled, copy_checkout, doit
from tests.support.mirror import Mirror
from tests.support.tinycore import DISTRIBUTION, Checkout, TinyCore, real, squashfs, squashfs_of
from tests.vm.contract import CONSOLE, LIMIT, empty_disk, own_root
from tests.vm.test_consoles import COLOUR, DEPS
from tests.vm.test_import import PLACES
from tests.vm.test_story import CAPABILITY

CUT = CHECKOUT.root / "tests/data/tinycore-cut.config"
EXT3_XATTR = CHECKOUT.root / "kconfig/ext3-xattr.config"
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


def configured(tree: Path, build: Path, image: Settings) -> tuple[bytes, str]:
    """Return a config like Tiny Core's, made whole for this tree, and the release it gives."""
    build.mkdir()
    make: list[str | Path] = ["make", "-s", "-C", tree, f"O={build}", "ARCH=x86_64", "LOCALVERSION="]
    if LINUX_54:
        run([*make, f"KCONFIG_ALLCONFIG={CUT}", "allnoconfig"])
    else:
        (build / ".config").write_text(like_tiny_cores((image.paths.kernel / "config").read_text()))
        run([*make, "olddefconfig"])
    version = run([*make, "kernelversion"]).stdout.strip()
    return (build / ".config").read_bytes(), f"{version}-tinycore64"


def like_tiny_cores(config: str) -> str:
    """Return a config with Tiny Core's modules and name, and without what the fragments ask for."""
    cut = parse_config(CUT.read_text())
    own = {symbol: value for symbol, value in cut.items() if value == "m" or symbol == "LOCALVERSION"}
    asked = parse_config(FRAGMENT + EXT3_XATTR.read_text())
    own |= {symbol: "n" for symbol in asked if cut.get(symbol, "n") == "n"}
    return apply_requests(config, [Request(symbol, value, CUT.name) for symbol, value in own.items()])


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
    paths = compiled().paths
    tree = Path(LINUX_54) if LINUX_54 else paths.linux
    source = tree if LINUX_54 else inputs.source_file(image.paths, image.profile.kernel.own_source)
    config, release = configured(tree, folder / "config", image)
    cache = folder / "cache"
    (cache / finished_builds.NOTES).mkdir(parents=True)
    # By this, the build starts from the objects of the built image.
    (cache / finished_builds.NOTES / "b").write_text(f"{paths.output}\n")
    (cache_folder() / "ccache").mkdir(parents=True, exist_ok=True)
    for name in ("ccache", "toolchains"):
        (cache / name).symlink_to(cache_folder() / name)
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
            source=f'{{ kind = "file", path = "{source}" }}',
            fragments='["devtmpfs", "ext3-xattr"]',
            toolchain=f'"{"host" if LINUX_54 else image.profile.kernel_toolchain}"',
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
        for words in (("lock",), ("iso", f"cache={OWN_CACHE}")):
            done = made.doit(*words)
            assert done.status == 0, done.output
        assert LINUX_54 or f"starts from the objects of {paths.build}" in done.output
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
    fragments = FRAGMENT + EXT3_XATTR.read_text()
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


@pytest.fixture(scope="module")
def real_root(made: Checkout, image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Kernel 5.4 with Tiny Core's own root, and its extensions in all four places."""
    if not LINUX_54:
        pytest.skip(
            "TCBUILD_LINUX_54 names no tree of kernel 5.4; test_consoles has this root on the built one"
        )
    folder = tmp_path_factory.mktemp("real")
    made.tiny.distribution(real("x86_64/rootfs64.gz").read_bytes())
    for name in (*PLACES, "readline", "udev-lib"):
        deps = "".join(f"{dep}.tcz\n" for dep in DEPS.get(name, ()))
        made.tiny.extension(name, deps or None, real(f"x86_64/tcz/{name}.tcz").read_bytes())
    made.tiny.extension("xattr", None, xattr_programs(image, folder))
    profile = made.folder / "profiles/double.toml"
    text = profile.read_text()
    before, _, after = text.partition("[core]\n")
    places = PLACES | {"xattr": "onboot"}
    listed = "".join(
        f'\n[[extensions]]\nname = "{name}"\norigin = "upstream"\nplace = "{place}"\n'
        for name, place in places.items()
    )
    profile.write_text(f"{before}{after[after.index('[boot]') : after.index('[[extensions]]')]}{listed}")
    done = made.doit("lock", "relock=1")
    assert done.status == 0, done.output
    done = made.doit("iso")
    assert done.status == 0, done.output
    assert "kernel" not in done.ran, "the kernel is the same"
    return made


def xattr_programs(image: Settings, folder: Path) -> bytes:
    """Return an extension with Debian's getfattr and setfattr, and Debian's C library: 11.0's is older."""
    tree = folder / "xattr-tree"
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-d", tree, image.paths.tcz / "attr.tcz"], check=True, capture_output=True
    )
    root = unpacked(read_core(image.paths.output / "rootfs64.gz"))
    for path in ("lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"):
        node = root.find(path, follow=True)
        assert node is not None
        (tree / "own").mkdir(exist_ok=True)
        (tree / "own" / Path(path).name).write_bytes(node.data)
        (tree / "own" / Path(path).name).chmod(0o755)
    for program in ("getfattr", "setfattr"):
        (found,) = tree.rglob(program)
        found.rename(tree / "own" / program)
        start = f"/own/ld-linux-x86-64.so.2 --library-path /own:/usr/local/lib:/usr/lib /own/{program}"
        script = tree / "usr/local/bin" / program
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        script.chmod(0o755)
    for library in list(tree.rglob("libattr.so.1*")):
        shutil.move(library, tree / "own" / library.name)
    return squashfs_of(tree)


def test_tiny_cores_own_root_boots_with_no_odd_bootcode(real_root: Checkout) -> None:
    """By BIOS and UEFI, by the command a person uses."""
    done = real_root.doit("qemu:test", "--media", "cd")
    assert done.status == 0, done.output
    for firmware in ("bios", "uefi"):
        assert f"{firmware}-cd: 4 checks passed" in done.output
        said = (real_root.out / f"tests/{firmware}-cd/console.log").read_text(errors="replace")
        assert "Booting Core 11.0" in COLOUR.sub("", said)


@pytest.mark.parametrize("with_fragment", [False, True])
def test_the_storys_error_on_tiny_cores_own_root(
    real_root: Checkout, tmp_path: Path, with_fragment: bool
) -> None:
    """An ext3 disk answers for security.capability only with the fragment ext3-xattr."""
    kernel = real_root.out / "kernel/vmlinuz64"
    if not with_fragment:
        out = tmp_path / "without"
        done = real_root.doit("kernel", "fragments=devtmpfs", f"out={out}")
        assert done.status == 0, done.output
        kernel = out / "kernel/vmlinuz64"
    disk = replace(empty_disk(tmp_path / "ext3.img", 64), bus="ahci")
    disks = (Disk(real_root.out / "tcbuild-double.iso", "cdrom"), disk)
    core = real_root.out / "corepure64.gz"
    what = Machine("direct", disks=disks, kernel=kernel, initrd=core, append=f"{CONSOLE} cde")
    with Guest(what, tmp_path / "log", limit=LIMIT) as guest:
        guest.login()
        guest.run("sudo mkdir /mnt/x && sudo mount -t ext3 /dev/sda /mnt/x && sudo touch /mnt/x/f")
        answer = guest.run("getfattr -n security.capability /mnt/x/f", check=False)
        attributes = f"sudo setfattr -n security.capability -v {CAPABILITY} /mnt/x/f"
        if with_fragment:
            assert "security.capability: No such attribute" in answer
            guest.run(attributes)
            assert CAPABILITY in guest.run("getfattr -e hex -n security.capability /mnt/x/f")
        else:
            assert "security.capability: Operation not supported" in answer
            assert "Operation not supported" in guest.run(attributes, check=False)
        guest.run("sudo umount /mnt/x")
        guest.power_off()

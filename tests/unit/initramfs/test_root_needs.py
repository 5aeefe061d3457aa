# SPDX-License-Identifier: MIT
"""What a root waits for, told before it boots."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.formats.cpio import Member, directory, regular, symlink
from tasks.formats.initramfs_file import Archive, read_core, unpacked
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs import core, root_needs
from tasks.initramfs.root_needs import Kernel
from tasks.kernel.needs import fragments_by_symbol
from tasks.util.errors import UserError
from tests.support.images import AARCH64, ET_DYN, I386, PT_INTERP, elf
from tests.support.settings import both, with_values
from tests.support.tinycore import real
from tests.unit.initramfs.test_core import BASE, CONFIG, RELEASE, make_stage, write_base

GOOD = {line.split("=")[0].removeprefix("CONFIG_"): "y" for line in CONFIG.splitlines()}
GOOD["COMPAT_32BIT_TIME"] = "y"
UDEV = dict.fromkeys(("NET", "UNIX", "INOTIFY_USER", "SIGNALFD", "EPOLL", "SYSFS", "TMPFS"), "y")
LOADER = b"/lib/ld-linux.so.2\0"
PANIC = "the kernel would stop with a panic"
ZRAM = (
    "this root waits for /dev/zram0, and the kernel has no CONFIG_ZRAM: "
    "add the fragment tinycore, or the bootcode nozswap"
)
TC_CONFIG = b"""#!/bin/busybox ash
if [ -z "$NOZSWAP" ]; then
	while [ ! -e /dev/zram0 ]; do usleep 50000; done
fi
"""


@pytest.fixture
def stage(make_settings: Callable[..., Settings]) -> Settings:
    """A profile without the fragment tinycore."""
    return with_values(make_stage(make_settings), fragments=("qemu", "containers", "ext3-xattr"))


def root(*changed: Member) -> RootFs:
    """Return a root that boots, with some members more, or others."""
    members = {member.name: member for member in (*BASE, *changed)}
    return unpacked([Archive("plain", tuple(members.values()))])


def script(name: str, data: bytes) -> list[Member]:
    folders = [directory("/".join(name.split("/")[: n + 1])) for n in range(name.count("/"))]
    return [*folders, regular(name, data, 0o755)]


def with_boot(stage: Settings, *bootcodes: str) -> Settings:
    boot = dataclasses.replace(stage.profile.boot, bootcodes=bootcodes)
    return dataclasses.replace(stage, profile=dataclasses.replace(stage.profile, boot=boot))


def lines(
    stage: Settings, there: RootFs, config: dict[str, str], modules: set[str] | None = None
) -> list[str]:
    kernel = Kernel(
        config, fragments_by_symbol(stage.profile), None if modules is None else frozenset(modules)
    )
    return root_needs.unmet(kernel, stage.profile, there)


def test_a_root_that_has_what_it_needs(stage: Settings) -> None:
    assert lines(stage, root(), GOOD) == []


def test_a_root_that_waits_for_a_device_names_fragment_and_bootcode(stage: Settings) -> None:
    waiting = root(*script("etc/init.d/tc-config", TC_CONFIG))
    assert lines(stage, waiting, GOOD) == [ZRAM]
    assert lines(with_boot(stage, "nozswap"), waiting, GOOD) == []
    assert lines(stage, waiting, {**GOOD, "ZRAM": "y"}) == []


def test_a_root_that_only_uses_it_if_it_is_there_waits_for_nothing(stage: Settings) -> None:
    uses = TC_CONFIG.replace(b"while [ ! -e /dev/zram0 ]", b"if [ -e /dev/zram0 ]")
    assert lines(stage, root(*script("etc/init.d/tc-config", uses)), GOOD) == []


def test_a_module_must_be_in_the_core(stage: Settings) -> None:
    """With kernel.modules = "split" it may lie in an extension, which is loaded too late."""
    waiting = root(*script("etc/init.d/tc-config", TC_CONFIG))
    config = {**GOOD, "ZRAM": "m"}
    assert lines(stage, waiting, config) == []  # before the kernel is built
    assert lines(stage, waiting, config, {"zram"}) == []
    (line,) = lines(stage, waiting, config, {"zsmalloc"})
    assert line == (
        "this root waits for /dev/zram0, and its module of CONFIG_ZRAM is not in the core: "
        "request CONFIG_ZRAM=y in a fragment, or the bootcode nozswap"
    )


@pytest.mark.parametrize(
    ("lacking", "codes", "says"),
    [
        ("BLK_DEV_INITRD", (), "is unpacked from an initramfs, and the kernel has no CONFIG_BLK_DEV_INITRD"),
        (
            "SERIAL_8250_CONSOLE",
            ("console=ttyS1,9600",),
            "has a console on a serial port, and the kernel has",
        ),
        ("BINFMT_SCRIPT", (), "/init is a script, and the kernel has no CONFIG_BINFMT_SCRIPT"),
        ("BINFMT_ELF", (), "/bin/sh is a program, and the kernel has no CONFIG_BINFMT_ELF"),
        ("X86_64", (), "/bin/sh is a program for x86-64, and the kernel has no CONFIG_X86_64"),
    ],
)
def test_what_the_kernel_lacks_is_named(
    stage: Settings, lacking: str, codes: tuple[str, ...], says: str
) -> None:
    config = {**GOOD, lacking: "n"}
    (line,) = lines(with_boot(stage, *codes), root(), config)
    assert says in line


@pytest.mark.parametrize("symbol", ["BLK_DEV_LOOP", "SQUASHFS"])
def test_extensions_from_outside_need_loop_devices_and_squashfs(stage: Settings, symbol: str) -> None:
    there = root(*script("usr/bin/tce-load", b"#!/bin/busybox ash\n"))
    config = {**GOOD, symbol: "n"}
    assert lines(stage, there, config) == []  # there are none
    extensions = dataclasses.replace(stage.profile, extensions=(Extension("attr"),))
    (line,) = lines(dataclasses.replace(stage, profile=extensions), there, config)
    assert f"mounts extensions by loop devices, and the kernel has no CONFIG_{symbol}" in line


REBUILDFSTAB = b"""#!/bin/busybox ash
  case "$CDROMS" in *"$DEVROOT/$DEVNAME"*) FSTYPE="auto" ;; esac
"""


def test_a_root_that_loads_no_module_needs_it_built_in(stage: Settings) -> None:
    """Measured: with isofs as a module, no extension of the disc was loaded, and nothing was said."""
    there = root(*script("usr/sbin/rebuildfstab", REBUILDFSTAB))
    disc = with_boot(stage, "cde")
    module = {**GOOD, "ISO9660_FS": "m"}
    (line,) = lines(disc, there, module, {"isofs"})
    assert line.endswith("and CONFIG_ISO9660_FS is a module: request CONFIG_ISO9660_FS=y in a fragment")
    assert lines(disc, there, GOOD) == lines(with_boot(stage), there, module) == []
    assert lines(disc, root(), module) == []


def test_of_symbols_with_a_bar_one_is_enough(stage: Settings) -> None:
    there = root(*script("etc/init.d/rcS", b"#!/bin/sh\nmount -t devtmpfs devtmpfs /dev\n"))
    without = {**GOOD, "DEVTMPFS": "n"}
    assert lines(stage, there, {**without, "TMPFS": "y"}) == []
    (line,) = lines(stage, there, without)
    assert "the kernel has no CONFIG_DEVTMPFS or CONFIG_TMPFS" in line


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            [regular("init", b"#!/bin/gone\n", 0o755)],
            f"no executable /bin/gone, which /init is run by: {PANIC}",
        ),
        ([regular("init", b"#!\n", 0o755)], f"/init is a script that names no interpreter: {PANIC}"),
        ([regular("init", b"#!/init\n", 0o755)], f"the scripts that run /init are too many: {PANIC}"),
        ([regular("init", b"MZ", 0o755)], f"/init is not an ELF file: {PANIC}"),
        ([regular("init", b"\x7fELF", 0o755)], "/init is a damaged ELF file"),
        (
            [regular("bin/sh", elf(machine=I386, bits=32), 0o755)],
            "/bin/sh is a program for 32-bit x86, and the kernel has no CONFIG_X86_32 or "
            "CONFIG_IA32_EMULATION: add the fragment ia32",
        ),
        ([regular("bin/sh", elf(machine=AARCH64), 0o755)], "for aarch64, and the kernel has no CONFIG_ARM64"),
        ([regular("bin/sh", elf(machine=2), 0o755)], "a program for sparc, which no kernel of tcbuild runs"),
        (
            [regular("bin/sh", elf(kind=ET_DYN, segments=[(PT_INTERP, 0, LOADER)]), 0o755)],
            f"the core has no /lib/ld-linux.so.2, which /bin/sh is run by: {PANIC}",
        ),
        ([*script("sbin/init", b"")[:1], symlink("sbin/init", "../bin/none")], ""),
        (script("sbin/init", elf(machine=I386, bits=32)), "/sbin/init is a program for 32-bit x86"),
    ],
)
def test_a_panic_is_told_before(stage: Settings, changed: list[Member], says: str) -> None:
    found = lines(stage, root(*changed), GOOD)
    assert len(found) == bool(says)
    assert says in "".join(found)


def test_the_other_words_of_bits_do_not_matter_with_emulation(stage: Settings) -> None:
    there = root(regular("bin/sh", elf(machine=I386, bits=32), 0o755))
    runs = {**GOOD, "IA32_EMULATION": "y"}
    assert lines(stage, there, runs) == []
    (line,) = lines(stage, there, {**runs, "COMPAT_32BIT_TIME": "n"})
    assert line.endswith("the kernel has no CONFIG_COMPAT_32BIT_TIME: add the fragment ia32")


def test_the_core_stage_refuses_a_root_that_would_hang(stage: Settings) -> None:
    write_base(stage, [*BASE, *script("etc/init.d/tc-config", TC_CONFIG)])
    with pytest.raises(UserError) as caught:
        core.build(stage.paths, stage.profile)
    assert caught.value.message == ZRAM
    assert caught.value.hint == "kernel.fragments and boot.bootcodes in profiles/apt.toml"
    assert not stage.paths.core.exists()
    (stage.paths.kernel / "config").write_text(f"{CONFIG}CONFIG_ZRAM=y\n")
    core.build(stage.paths, stage.profile)


def test_the_check_before_the_kernel_is_compiled(stage: Settings) -> None:
    write_base(stage, [*BASE, *script("etc/init.d/tc-config", TC_CONFIG)])
    stage.paths.config.parent.mkdir(parents=True)
    stage.paths.config.write_text(CONFIG)
    with pytest.raises(UserError, match="waits for /dev/zram0"):
        root_needs.check(*both(stage))
    stage.paths.config.write_text(f"{CONFIG}CONFIG_ZRAM=m\n")
    root_needs.check(*both(stage))


@pytest.mark.parametrize(
    ("medium", "codes", "lacking", "says"),
    [
        ("iso", ("cde",), "ISO9660_FS", r"loads extensions from a disc \(bootcode cde\)"),
        ("iso", ("quiet",), "ISO9660_FS", ""),
        (
            "disk",
            ("quiet",),
            "EXT4_FS",
            "from an ext3 disk, and the kernel has no CONFIG_EXT4_FS or CONFIG_EXT3_FS",
        ),
        ("disk", ("cde",), "ISO9660_FS", ""),
    ],
)
def test_an_image_that_the_kernel_cannot_read_is_refused(
    stage: Settings, medium: str, codes: tuple[str, ...], lacking: str, says: str
) -> None:
    made = with_boot(stage, *codes)
    root_needs.check_medium(*both(made), medium)
    (made.paths.kernel / "config").write_text(CONFIG.replace(f"CONFIG_{lacking}=y\n", ""))
    if not says:
        root_needs.check_medium(*both(made), medium)
        return
    with pytest.raises(UserError, match=says):
        root_needs.check_medium(*both(made), medium)


def test_a_module_of_the_core_reads_the_disk(stage: Settings) -> None:
    folder = stage.paths.kernel / "modules/lib/modules" / RELEASE / "kernel/fs"
    (stage.paths.kernel / "config").write_text(CONFIG.replace("EXT4_FS=y", "EXT4_FS=m"))
    with pytest.raises(UserError, match="its module of CONFIG_EXT4_FS or CONFIG_EXT3_FS is not in the core"):
        root_needs.check_medium(*both(stage), "disk")
    (folder / "ext4.ko.gz").touch()
    root_needs.check_medium(*both(stage), "disk")


def test_tiny_cores_own_root(stage: Settings) -> None:
    """It waits for two devices, and mounts what it loads."""
    there = unpacked(read_core(real("x86_64/rootfs64.gz")))
    found = lines(stage, there, {**GOOD, **UDEV})
    assert [line.partition(",")[0] for line in found] == [
        "this root waits for /dev/zram0",
        "this root waits for /dev/rtc0",
    ]
    assert all("add the fragment tinycore, or the bootcode no" in line for line in found)
    disc = with_boot(stage, "nozswap", "nortc", "cde")
    (line,) = lines(disc, there, {**GOOD, **UDEV, "ISO9660_FS": "m"})
    assert "mounts a disc (bootcode cde) without loading a module" in line
    assert lines(with_boot(stage, "nozswap", "nortc"), there, {**GOOD, **UDEV}) == []
    without = {**GOOD, **UDEV, "SIGNALFD": "n"}
    assert "makes its device nodes by udev" in lines(with_boot(stage, "nozswap", "nortc"), there, without)[0]


def test_tiny_cores_32_bit_root_needs_a_kernel_that_runs_it(stage: Settings) -> None:
    there = unpacked(read_core(real("x86/rootfs.gz")))
    found = lines(with_boot(stage, "nozswap", "nortc"), there, {**GOOD, **UDEV})
    assert len(found) == 1
    assert found[0].endswith("CONFIG_X86_32 or CONFIG_IA32_EMULATION: add the fragment ia32")


def test_a_stock_kernel_gets_no_advice_that_it_cannot_follow(stage: Settings) -> None:
    needing = {**GOOD, "BLK_DEV_LOOP": "m", "SQUASHFS": "n"}
    extensions = dataclasses.replace(stage.profile, extensions=(Extension("attr"),))
    there = root(*script("usr/bin/tce-load", b"#!/bin/sh\n"))
    kernel = Kernel(needing, {}, frozenset({"isofs"}), stock=True)
    what = "this root mounts extensions by loop devices, and"
    assert root_needs.unmet(kernel, extensions, there) == [
        f'{what} its module of CONFIG_BLK_DEV_LOOP is not in the core: set kernel.modules = "core"',
        f"{what} the kernel has no CONFIG_SQUASHFS: the stock kernel cannot get it, build one that has it",
    ]


def test_nothing_is_said_of_a_kernel_whose_config_nobody_knows(stage: Settings) -> None:
    kernel = Kernel({}, {}, frozenset(), stock=True)
    assert root_needs.unmet(kernel, stage.profile, root(*script("etc/init.d/tc-config", TC_CONFIG))) == []
    lost = root_needs.unmet(kernel, stage.profile, root(regular("init", b"#!/bin/no\n", 0o755)))
    assert [line for line in lost if PANIC in line], "what the core lacks is known"

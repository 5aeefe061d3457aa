# SPDX-License-Identifier: MIT
"""A kernel that others built: its files are found in each form, and checked as built ones are."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, directory, regular, symlink
from tasks.initramfs import core
from tasks.kernel import installed, stock
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError
from tests.support.images import RELEASE, bzimage, elf, module, vmlinux
from tests.support.settings import both

pytestmark = pytest.mark.usefixtures("own_programs")

CONFIG = (
    "CONFIG_64BIT=y\nCONFIG_X86_64=y\nCONFIG_RD_GZIP=y\nCONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n"
    "CONFIG_BLK_DEV_LOOP=m\n# CONFIG_EXT4_FS_SECURITY is not set\n"
)
LOOP = "kernel/drivers/block/loop.ko"
TOP = f"lib/modules/{RELEASE}"


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def install(folder: Path, **changed: bytes | None) -> Path:
    """Write a kernel's install as tcbuild has it below artifacts/."""
    files: dict[str, bytes | None] = {
        "vmlinuz64": bzimage(),
        "config": CONFIG.encode(),
        f"modules/{TOP}/{LOOP}": module(),
        f"modules/{TOP}/modules.dep": f"{LOOP}:\n".encode(),
        **changed,
    }
    return fill(folder, {name: content for name, content in files.items() if content is not None})


def archive(path: Path, *members: Member) -> FileSource:
    path.write_bytes(gzip.compress(cpio.write(members, mtime=0), mtime=0))
    return FileSource(path=str(path))


def modules_archive(path: Path, release: str = RELEASE, lib: str = "lib", *more: Member) -> FileSource:
    names = f"{lib}/modules/{release}/{LOOP}".split("/")
    folders = [directory("/".join(names[:number])) for number in range(1, len(names))]
    index = regular(f"{lib}/modules/{release}/modules.dep", f"{LOOP}:\n".encode())
    link = symlink(f"{lib}/modules/{release}/kernel.tclocal", "/usr/local")
    return archive(path, *folders, *more, index, link, regular("/".join(names), module(release)))


@pytest.fixture
def taken(make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Return a function that makes settings with a kernel image, and takes it.

    given: keys of the image, and of the profile's kernel (modules, release, fragments) or core.
    """

    def take(core_table: Core | None = None, take_it: bool = True, **given: Any) -> Settings:
        made = make_settings()
        of_kernel = {key: given.pop(key) for key in ("release", "fragments") if key in given}
        kernel = Kernel(source=KernelImage(**given), **of_kernel)
        profile = dataclasses.replace(made.profile, kernel=kernel, core=core_table or made.profile.core)
        made = dataclasses.replace(made, profile=profile)
        if take_it:
            stock.take(*both(made))
        return made

    return take


def test_a_folder_with_an_install(taken: Callable[..., Settings], tmp_path: Path) -> None:
    folder = install(tmp_path / "install")
    (folder / f"modules/{TOP}/build").symlink_to("/usr/src")
    made = taken(folder=str(folder))
    kernel = made.paths.kernel
    assert made.paths.vmlinuz.read_bytes() == bzimage()
    assert (kernel / "release").read_text() == f"{RELEASE}\n"
    assert (kernel / "config").read_text() == CONFIG
    assert (kernel / "initramfs.formats").read_text() == "gzip\n"
    assert (kernel / "squashfs.formats").read_text() == "gzip\n"
    said = installed.material(made.paths, folder)
    assert said is not None
    assert (said.name, said.size) == ("install", len(bzimage()) + len(module()) + len(f"{LOOP}:\n"))
    listed = [line.split("  ")[1] for line in (kernel / "modules.sha256").read_text().splitlines()]
    assert listed == [f"{TOP}/{LOOP}", f"{TOP}/modules.dep"]
    assert sorted(path.name for path in (kernel / "modules" / TOP).iterdir()) == ["kernel", "modules.dep"]


def test_a_folder_as_a_distribution_has_it(taken: Callable[..., Settings], tmp_path: Path) -> None:
    folder = fill(
        tmp_path / "root",
        {
            f"boot/vmlinuz-{RELEASE}": bzimage(),
            f"boot/config-{RELEASE}": CONFIG.encode(),
            f"boot/System.map-{RELEASE}": b"ffffffffffffffff B The real System.map is elsewhere\n",
            f"usr/{TOP}/{LOOP}": module(),
            f"usr/{TOP}/modules.dep": f"{LOOP}:\n".encode(),
        },
    )
    (folder / "vmlinuz").symlink_to(f"boot/vmlinuz-{RELEASE}")
    (folder / "lib/modules").mkdir(parents=True)  # an empty folder is no place of modules
    made = taken(folder=str(folder))
    assert (made.paths.kernel / "modules" / TOP / LOOP).read_bytes() == module()
    assert (made.paths.kernel / "config").read_text() == CONFIG
    assert not (made.paths.kernel / "System.map").exists(), "it has no symbols"
    symbols = b"0000000000000000 D __per_cpu_start\nffffffff81000000 T _text\n"
    (folder / f"boot/System.map-{RELEASE}").write_bytes(symbols)
    stock.take(*both(made))
    assert (made.paths.kernel / "System.map").read_bytes() == symbols


def test_release_files_of_tiny_core(taken: Callable[..., Settings], tmp_path: Path) -> None:
    fill(tmp_path, {"vmlinuz64": bzimage()})
    given = {"vmlinuz": FileSource(path=str(tmp_path / "vmlinuz64"))}
    made = taken(**given, modules=modules_archive(tmp_path / "modules64.gz"))
    assert (made.paths.kernel / "modules" / TOP / LOOP).read_bytes() == module()
    assert not (made.paths.kernel / "modules" / TOP / "kernel.tclocal").is_symlink(), "the core makes it"
    assert (made.paths.kernel / "config").read_text() == ""
    assert "xz" in (made.paths.kernel / "initramfs.formats").read_text(), "nobody knows better"


def test_a_root_whose_lib_is_a_link(taken: Callable[..., Settings], tmp_path: Path) -> None:
    """Roots with a merged /usr have their modules in /usr/lib/modules."""
    fill(tmp_path, {"vmlinuz64": bzimage()})
    link = symlink("lib", "usr/lib")
    modules = modules_archive(tmp_path / "modules64.gz", RELEASE, "usr/lib", link)
    made = taken(vmlinuz=FileSource(path=str(tmp_path / "vmlinuz64")), modules=modules)
    assert (made.paths.kernel / "modules" / TOP / LOOP).read_bytes() == module()


def test_modules_in_the_base_stay_there(taken: Callable[..., Settings], tmp_path: Path) -> None:
    """corepure64.gz is rootfs64.gz and modules64.gz: nothing is added, and it keeps its bytes."""
    fill(tmp_path, {"vmlinuz64": bzimage()})
    root = tmp_path / "rootfs64.gz"
    archive(root, regular("init", elf(), 0o755))
    modules_archive(tmp_path / "modules64.gz")
    whole = tmp_path / "corepure64.gz"
    whole.write_bytes(root.read_bytes() + (tmp_path / "modules64.gz").read_bytes())
    base = Core(archives=(FileSource(path=str(whole)),))
    made = taken(base, vmlinuz=FileSource(path=str(tmp_path / "vmlinuz64")))
    assert (made.paths.kernel / "modules" / TOP / LOOP).read_bytes() == module()
    profile = dataclasses.replace(made.profile, extensions=())
    core.build(made.paths, profile)
    for part in (root, tmp_path / "modules64.gz"):
        assert part.read_bytes() in made.paths.core.read_bytes()
    names = [
        name for name in initramfs_file.merged(initramfs_file.read_core(made.paths.core)) if LOOP in name
    ]
    assert names == [f"{TOP}/{LOOP}"]
    added = initramfs_file.read_core(made.paths.core)[2:]
    assert not any(LOOP in member.name for item in added for member in item.members)


def test_a_kernel_without_modules(taken: Callable[..., Settings], tmp_path: Path) -> None:
    made = taken(folder=str(fill(tmp_path / "only", {"bzImage": bzimage()})))
    assert (made.paths.kernel / "modules" / TOP / "modules.dep").read_text() == ""


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"vmlinuz64": None}, "holds no kernel"),
        (
            {"vmlinuz": bzimage(), "bzImage": b"text"},
            rf"several kernels: .*vmlinuz64 \({RELEASE}\).*bzImage \(no kernel\)",
        ),
        ({"vmlinuz64": bzimage()[:-4000]}, "bytes are missing|is cut short|shorter"),
        ({"vmlinuz64": vmlinux()}, "not a bzImage"),
        ({"vmlinuz64": bzimage(version="6/../../../../../out (x) #1")}, "which is no release"),
        ({f"modules/{TOP}/{LOOP}": module("6.1.0-other")}, "vermagic is '6.1.0-other"),
        ({f"modules/{TOP}/{LOOP}": module(machine=3)}, "built for"),
        ({"config": b"<html>"}, "config: not a kernel config"),
    ],
)
def test_what_is_no_kernel_is_refused(
    taken: Callable[..., Settings], tmp_path: Path, changed: dict[str, bytes | None], words: str
) -> None:
    folder = install(tmp_path / "install", **changed)
    made = taken(take_it=False, folder=str(folder))
    with pytest.raises(UserError, match=words):
        stock.take(*both(made))
    assert not made.paths.kernel.exists()


def test_the_declared_release_chooses_one_of_several_kernels(
    taken: Callable[..., Settings], tmp_path: Path
) -> None:
    """As the /boot of a machine that has had an upgrade."""
    other = "6.1.0-other"
    folder = fill(
        tmp_path / "root",
        {
            f"boot/vmlinuz-{RELEASE}": bzimage(),
            f"boot/vmlinuz-{other}": bzimage(version=f"{other} (x) #1"),
            f"boot/config-{RELEASE}": CONFIG.encode(),
            f"boot/config-{other}": b"CONFIG_OTHER=y\n",
            f"lib/{TOP}/{LOOP}": module(),
        },
    )
    made = taken(folder=str(folder), release=RELEASE)
    assert (made.paths.kernel / "release").read_text() == f"{RELEASE}\n"
    assert (made.paths.kernel / "config").read_text() == CONFIG
    with pytest.raises(UserError, match="several kernels") as caught:
        taken(folder=str(folder), release="5.4.3")
    assert caught.value.hint == "kernel.release chooses the one of that release"


def test_modules_of_another_kernel_are_refused(taken: Callable[..., Settings], tmp_path: Path) -> None:
    fill(tmp_path, {"vmlinuz64": bzimage()})
    other = modules_archive(tmp_path / "modules64.gz", "5.4.3-tinycore64")
    with pytest.raises(UserError) as caught:
        taken(vmlinuz=FileSource(path=str(tmp_path / "vmlinuz64")), modules=other)
    assert caught.value.message == (f"the kernel is Linux {RELEASE}, but the modules are of 5.4.3-tinycore64")


def test_another_release_than_the_profile_declares(taken: Callable[..., Settings], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'5.4.3', but the kernel's is '{RELEASE}'"):
        taken(folder=str(install(tmp_path / "install")), release="5.4.3")


@pytest.mark.parametrize("where", ["inside", "module"])
def test_a_config_inside_the_kernel(taken: Callable[..., Settings], tmp_path: Path, where: str) -> None:
    marked = b"IKCFG_ST" + gzip.compress(CONFIG.encode(), mtime=0) + b"IKCFG_ED"
    changed: dict[str, bytes | None] = {"config": None}
    if where == "inside":
        content = vmlinux() + marked
        packed = compression.compress(content, "gzip")
        changed["vmlinuz64"] = bzimage(payload=packed)
    else:
        holding = module() + marked
        changed[f"modules/{TOP}/kernel/kernel/configs.ko"] = holding
    made = taken(folder=str(install(tmp_path / "install", **changed)))
    assert (made.paths.kernel / "config").read_text() == CONFIG

# SPDX-License-Identifier: MIT
"""A hybrid ISO that boots from CD and from a USB stick, by BIOS (isolinux) and by UEFI (GRUB).

A copy of its files on a FAT file system boots by UEFI, too.  The layout is that of Tiny Core's CD:
boot/vmlinuz64, boot/corepure64.gz, boot/isolinux/, cde/optional/*.tcz, cde/onboot.lst,
cde/copy2fs.lst.  tcbuild adds cde/images/, EFI/BOOT/, and boot/grub/loopback.cfg for a GRUB that boots
the ISO as a file of a disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from tasks.checks import conflicts, secrets
from tasks.config import bootcodes, plan
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats.tcz import file_names
from tasks.image import container_images, grub
from tasks.initramfs import root_needs
from tasks.initramfs.embedded import with_dependencies
from tasks.kernel import installed
from tasks.toolchain import tools
from tasks.toolchain.tools import Tools
from tasks.util.errors import UserError
from tasks.util.files import atomic_path, remove_tree, sha256_file, write_atomic
from tasks.util.log import logger

EFI_PARTITION = (
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"  # its type in a GPT (UEFI, table "Defined GPT Partition Entry")
)


def build(paths: Paths, profile: Profile) -> None:
    """Write tcbuild-PROFILE.iso.  The same inputs give the same bytes in any folder at any time.

    Raises `UserError` as `copy_extensions` and `check_medium` do, if a boot loader is not installed,
    or if there is a secret in the boot menus.
    """
    root_needs.check_medium(paths, profile, "iso")
    tree = paths.output / "iso-tree"
    remove_tree(tree)
    (tree / "boot/grub").mkdir(parents=True)
    log = paths.logs / "iso.log"
    log.unlink(missing_ok=True)
    values = menu_values(paths, profile)
    programs = tools.of_profile(paths, profile)
    _copy_boot_files(paths, programs, values, tree)
    menus = sorted((tree / "boot").rglob("*.cfg"))
    secrets.refuse_in_files("the boot menu", [(str(path.relative_to(tree)), path) for path in menus])
    secrets.refuse_in_records(paths.output)
    copy_extensions(paths, profile, tree / "cde")
    image = identity(tree)
    # GRUB finds the medium by this file: a name that every file system can hold.
    name = f"{image.hex[:8]}.id"
    write_atomic(tree / "boot/grub" / name, f"{image}\n")
    embedded = grub.fill("grub-embedded.cfg", values | {"IMAGE": name})
    efi = paths.output / "iso-efi.img"
    grub.efi_image(paths, profile, embedded, efi, log, tree)
    _normalize(tree, profile.source_date_epoch)
    with atomic_path(paths.iso) as partial:
        programs.run([*_xorriso(profile, image, efi), "-o", partial, tree], log=log)
        size = partial.stat().st_size
    remove_tree(tree)
    efi.unlink()
    logger.info(f"{paths.iso.name}: {size:,} bytes")


def menu_values(paths: Paths, profile: Profile) -> dict[str, str]:
    """Return the values of the @KEYS@ in the menus of tasks/image/boot/.

    Raises `UserError`, which names the key, if the profile's [boot] holds a secret.
    """
    boot = profile.boot
    secrets.refuse_in_table(f"profile {paths.name}", {"boot": dataclasses.asdict(boot)})
    release = (paths.kernel / "release").read_text().strip()
    title = f"Tiny Core ({paths.name}, {release})"
    return {
        "TITLE": title,
        "KERNEL": paths.vmlinuz.name,
        "CORE": paths.core.name,
        "GRUB_TITLE": grub.in_double_quotes(title),
        **code_values(boot.bootcodes),
        "TIMEOUT_S": str(boot.timeout),
        # isolinux counts tenths of a second, and waits for ever if it is told to wait for none.
        "TIMEOUT_DS": str(boot.timeout * 10 or 1),
    }


def code_values(codes: Sequence[str]) -> dict[str, str]:
    """Return the values of the @KEYS@ for bootcodes, as isolinux takes them and quoted for GRUB."""
    # The bootcode `base` skips the tce folder only: Tiny Core's tce-setup would still load `cde`.
    base = [code for code in codes if code != "cde"]
    values = {}
    for key, wanted in (("BOOTCODES", codes), ("BASE_CODES", base)):
        values[key] = bootcodes.line(wanted)
        values[f"GRUB_{key}"] = " ".join(grub.quoted(bootcodes.word(code)) for code in wanted)
    return values


def _copy_boot_files(paths: Paths, programs: Tools, values: dict[str, str], tree: Path) -> None:
    isolinux = tree / "boot/isolinux"
    isolinux.mkdir(parents=True)
    for part in (paths.vmlinuz, paths.core):
        shutil.copyfile(part, tree / "boot" / part.name)
    for source in map(programs.file, grub.loaders().isolinux.files):
        if not source.is_file():
            raise UserError(f"{source} is not installed", "apt-get install isolinux syslinux-common")
        shutil.copyfile(source, isolinux / source.name)
    write_atomic(isolinux / "isolinux.cfg", grub.fill("isolinux.cfg", values))
    for name in ("grub.cfg", "loopback.cfg"):
        write_atomic(tree / "boot/grub" / name, grub.fill(name, values))


def copy_extensions(paths: Paths, profile: Profile, folder: Path) -> None:
    """Fill cde/ or tce/: optional/*.tcz with dependencies, onboot.lst, copy2fs.lst, images/.

    Raises `UserError` if an extension is missing or the kernel cannot read its compression, if a
    container image has changed since its check, or if two extensions loaded at boot, those in the
    core included, have the same path.
    """
    release = installed.kernel_release(paths, profile)
    outside = plan.extensions_at(profile, "onboot", "copy2fs", "ondemand")
    optional = folder / "optional"
    optional.mkdir(parents=True)
    for name in with_dependencies(paths.tcz, outside, release):
        squashfs, *beside = (paths.tcz / file for file in file_names(name))
        if not squashfs.is_file():
            raise UserError(f"{squashfs} does not exist", "build the extensions first: ./doit tcz")
        installed.check_readable(paths, squashfs)
        for source in (squashfs, *beside):
            if source.is_file():  # upstream extensions have no .info
                shutil.copyfile(source, optional / source.name)
    loaded = plan.extensions_at(profile, *plan.AT_BOOT)
    conflicts.check(paths, profile, with_dependencies(paths.tcz, loaded, release))
    onboot = plan.extensions_at(profile, "onboot", "copy2fs")
    write_atomic(folder / "onboot.lst", "".join(f"{name}.tcz\n" for name in onboot))
    copied = plan.extensions_at(profile, "copy2fs")
    if copied:
        write_atomic(folder / "copy2fs.lst", "".join(f"{name}.tcz\n" for name in copied))
    container_images.copy_images(paths, profile, folder)


def _normalize(tree: Path, epoch: int) -> None:
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def identity(tree: Path) -> uuid.UUID:
    """Return an identity made of the paths and contents in `tree`: reproducible, and no other image's."""
    found = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        found.update(f"{sha256_file(path)}  {path.relative_to(tree)}\n".encode())
    return uuid.UUID(bytes=found.digest()[:16], version=4)


def _xorriso(profile: Profile, identity: uuid.UUID, efi: Path) -> list[str | Path]:
    """Return the command without the ISO and the tree.  efi: the image of the EFI partition.

    The ISO and the EFI partition lie one after the other in the GPT, which has no gap.  The EFI
    partition is El Torito's image for UEFI as well.  xorriso repeats ECMA-119's descriptors 16
    blocks on, so that the first partition can be mounted, as the whole medium can.
    """
    date = time.strftime("%Y%m%d%H%M%S00", time.gmtime(profile.source_date_epoch))
    return [
        *("xorriso", "-as", "mkisofs", "-quiet", "-V", profile.boot.volume_id, "-J", "-r"),
        *(f"--modification-date={date}", "--set_all_file_dates", "set_to_mtime"),
        *("--gpt_disk_guid", identity.hex, "-isohybrid-mbr", grub.loaders().isolinux.mbr),
        # Some BIOSes start no disk without an active partition, and GPT's own must not be one.
        *("-partition_offset", "16", "-partition_cyl_align", "off", "-no-pad", "--mbr-force-bootable"),
        *("-append_partition", "2", EFI_PARTITION, efi, "-appended_part_as_gpt"),
        *("-b", "boot/isolinux/isolinux.bin", "-c", "boot/isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"),
    ]

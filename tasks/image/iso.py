"""One hybrid ISO: isolinux for BIOS, GRUB for UEFI, bootable from CD and from a USB stick.

The layout is Tiny Core's CD: boot/vmlinuz64, boot/corepure64.gz, boot/isolinux/,
cde/optional/*.tcz, cde/onboot.lst, cde/copy2fs.lst; cde/images/ is ours.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path

from tasks.checks import conflicts, secrets
from tasks.config import plan
from tasks.config.settings import Settings
from tasks.formats.tcz import file_names
from tasks.image import container_images, grub
from tasks.initramfs.embedded import with_dependencies
from tasks.kernel import installed
from tasks.util.errors import UserError
from tasks.util.files import atomic_path, remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import run


def build(settings: Settings) -> None:
    """Write `tcbuild-PROFILE.iso`.  Same inputs, same bytes, in whatever folder and at whatever time."""
    tree = settings.output / "iso-tree"
    remove_tree(tree)
    (tree / "boot/grub").mkdir(parents=True)
    log = settings.logs / "iso.log"
    log.unlink(missing_ok=True)
    values = menu_values(settings)
    _boot_files(settings, values, tree)
    menus = sorted((tree / "boot").rglob("*.cfg"))
    secrets.refuse_in_files("the boot menu", [(str(path.relative_to(tree)), path) for path in menus])
    secrets.refuse_in_records(settings.output)
    embedded = grub.fill("grub-embedded.cfg", values)
    grub.efi_image(settings, embedded, tree / "boot/grub/efi.img", log)
    extensions(settings, tree / "cde")
    _normalize(tree, settings.profile.source_date_epoch)
    with atomic_path(settings.iso) as partial:
        run([*_xorriso(settings), "-o", partial, tree], log=log)
        size = partial.stat().st_size
    remove_tree(tree)
    logger.info(f"{settings.iso.name}: {size:,} bytes")


def menu_values(settings: Settings) -> dict[str, str]:
    """Return what the @KEYS@ of the menus in boot/ stand for."""
    boot = settings.profile.boot
    # `base` leaves out the tce folder alone: Tiny Core's tce-setup looks at `cde` all the same.
    base_codes = [code for code in boot.bootcodes if code != "cde"]
    release = (settings.kernel / "release").read_text().strip()
    return {
        "TITLE": f"Tiny Core ({settings.name}, {release})",
        "BOOTCODES": " ".join(boot.bootcodes),
        "BASE_CODES": " ".join(base_codes),
        "TIMEOUT_S": str(boot.timeout),
        "TIMEOUT_DS": str(boot.timeout * 10),  # isolinux counts tenths of a second
        "VOLUME": boot.volume_id,
    }


def _boot_files(settings: Settings, values: dict[str, str], tree: Path) -> None:
    isolinux = tree / "boot/isolinux"
    isolinux.mkdir(parents=True)
    shutil.copyfile(settings.kernel / "vmlinuz64", tree / "boot/vmlinuz64")
    shutil.copyfile(settings.core, tree / "boot/corepure64.gz")
    for source in map(Path, grub.loaders().isolinux.files):
        if not source.is_file():
            raise UserError(f"{source} is not installed", "apt-get install isolinux syslinux-common")
        shutil.copyfile(source, isolinux / source.name)
    write_atomic(isolinux / "isolinux.cfg", grub.fill("isolinux.cfg", values))
    write_atomic(tree / "boot/grub/grub.cfg", grub.fill("grub.cfg", values))


def extensions(settings: Settings, folder: Path) -> None:
    """Lay out cde/ or tce/: optional/*.tcz with all they depend on, onboot.lst, copy2fs.lst, images/.

    Raises `UserError` if an extension is not there, an image is not what it was, or two
    extensions that are loaded at boot, from here or from the core, bring the same path.
    """
    release = installed.kernel_release(settings)
    outside = plan.extensions_at(settings.profile, "onboot", "copy2fs", "ondemand")
    optional = folder / "optional"
    optional.mkdir(parents=True)
    for name in with_dependencies(settings.tcz, outside, release):
        squashfs, *beside = (settings.tcz / file for file in file_names(name))
        if not squashfs.is_file():
            raise UserError(f"{squashfs} does not exist", "build the extensions first: `doit tcz`")
        for source in (squashfs, *beside):
            if source.is_file():  # upstream extensions have no .info
                shutil.copyfile(source, optional / source.name)
    loaded = plan.extensions_at(settings.profile, "initrd", "onboot", "copy2fs")
    conflicts.check(settings, with_dependencies(settings.tcz, loaded, release))
    onboot = plan.extensions_at(settings.profile, "onboot", "copy2fs")
    write_atomic(folder / "onboot.lst", "".join(f"{name}.tcz\n" for name in onboot))
    copied = plan.extensions_at(settings.profile, "copy2fs")
    if copied:
        write_atomic(folder / "copy2fs.lst", "".join(f"{name}.tcz\n" for name in copied))
    container_images.lay_out(settings, folder)


def _normalize(tree: Path, epoch: int) -> None:
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def _xorriso(settings: Settings) -> list[str]:
    date = time.strftime("%Y%m%d%H%M%S00", time.gmtime(settings.profile.source_date_epoch))
    # The disk's GUID must be the same for the same image and differ between images.
    content = hashlib.sha256()
    for part in (settings.kernel / "vmlinuz64", settings.core):
        content.update(part.read_bytes())
    guid = uuid.UUID(bytes=content.digest()[:16], version=4).hex
    return [
        *("xorriso", "-as", "mkisofs", "-quiet", "-V", settings.profile.boot.volume_id, "-J", "-r"),
        *(f"--modification-date={date}", "--set_all_file_dates", "set_to_mtime"),
        *("--gpt_disk_guid", guid, "-isohybrid-mbr", grub.loaders().isolinux.mbr),
        *("-b", "boot/isolinux/isolinux.bin", "-c", "boot/isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat"),
    ]

# SPDX-License-Identifier: MIT
"""A disk image with an EFI partition, an ext3 partition with tce/, and GRUB for BIOS and UEFI.

The build needs no root, mounts or loop devices: all parts are plain files.  `sfdisk` writes the
partition table, `mke2fs -d` the file system and `debugfs` the owners.  GRUB's images go where
GRUB's manual puts them.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from tasks.checks import secrets
from tasks.config import inputs, system
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.image import grub, iso
from tasks.initramfs import root_needs
from tasks.toolchain import tools
from tasks.toolchain.tools import Tools
from tasks.util.checkout import CHECKOUT
from tasks.util.files import CHUNK, atomic_path, remove_tree, write_atomic
from tasks.util.log import logger

MIB = 1 << 20
FIRST_PARTITION = 2048  # sector: 1 MiB before it for the MBR and GRUB's core image
EFI_SECTORS = 16 * MIB // grub.SECTOR
TC_UID, STAFF_GID = 1001, 50  # Tiny Core's user tc and group staff own tce/
NAMESPACE = uuid.UUID("54434f52-4520-4c49-4e55-580000000000")


def raw(paths: Paths) -> Path:
    """Return the path of the raw image."""
    return paths.output / f"tcbuild-{paths.name}.img"


def qcow2(paths: Paths) -> Path:
    """Return the path of the qcow2 image."""
    return paths.output / f"tcbuild-{paths.name}.qcow2"


def build(paths: Paths, profile: Profile) -> None:
    """Write the raw and the qcow2 image.  The same inputs give the same bytes.

    Raises `UserError` as `check_medium` does, if the files do not fit, if an input is missing, or if
    there is a secret in what goes into the image.
    """
    root_needs.check_medium(paths, profile, "disk")
    log = paths.logs / "disk.log"
    log.unlink(missing_ok=True)
    secrets.refuse_in_records(paths.output)
    work = paths.output / "disk"
    remove_tree(work)
    work.mkdir(parents=True)
    # The file system's UUID must be reproducible and differ between profiles.
    identity = uuid.uuid5(NAMESPACE, paths.name)
    values = iso.menu_values(paths, profile) | {"UUID": str(identity)}
    values["GRUB_BOOTCODES"] = f"tce=UUID={identity} {values['GRUB_BASE_CODES']}"
    embedded = grub.fill("grub-embedded-disk.cfg", values)
    grub.efi_image(paths, profile, embedded, work / "efi.img", log)
    programs = tools.of_profile(paths, profile)
    _ext3(paths, profile, programs, values, identity, work, log)
    grub.mkimage(programs, grub.loaders().pc, embedded, work / "core.img", log)
    with atomic_path(raw(paths)) as partial:
        _assemble(profile, programs, identity, work, partial, log)
    with atomic_path(qcow2(paths)) as partial:
        programs.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw(paths), partial], log=log)
    remove_tree(work)
    logger.info(f"{raw(paths).name}: {raw(paths).stat().st_size // MIB} MiB, and as qcow2")


def _umask_of(paths: Paths, folder: Path) -> Path:
    """Return a file whose mode tells of the umask of a folder: one of the same checkout or tree."""
    of_tree = CHECKOUT.root_of(folder) == CHECKOUT.root_of(paths.profile_file)
    return paths.profile_file if of_tree else CHECKOUT.root / "dodo.py"


def _ext3(
    paths: Paths,
    profile: Profile,
    programs: Tools,
    values: dict[str, str],
    identity: uuid.UUID,
    work: Path,
    log: Path,
) -> None:
    tree = work / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    for part in (paths.vmlinuz, paths.core):
        shutil.copyfile(part, tree / "boot" / part.name)
    write_atomic(tree / "boot/grub/grub.cfg", grub.fill("grub.cfg", values))
    iso.copy_extensions(paths, profile, tree / "tce")
    (tree / "tce/ondemand").mkdir()
    epoch = profile.source_date_epoch
    if folder := system.mydata_folder(profile.system):
        content = system.mydata(folder, epoch)
        secrets.refuse_private("mydata", folder, _umask_of(paths, folder))
        found = sorted(folder.rglob("*"))
        secrets.refuse_in_files("mydata", [(str(path.relative_to(folder)), path) for path in found])
        write_atomic(tree / "tce/mydata.tgz", content)
    elif not isinstance(profile.system.mydata, str):
        shutil.copyfile(inputs.source_file(paths, profile.system.mydata), tree / "tce/mydata.tgz")
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))
    # The mke2fs.conf of this machine must not change the file system.
    fake_time = {"E2FSPROGS_FAKE_TIME": str(epoch), "MKE2FS_CONFIG": str(grub.BOOT / "mke2fs.conf")}
    extended = f"root_owner=0:0,hash_seed={uuid.uuid5(identity, 'hash')}"
    size = profile.disk.size_mib - (FIRST_PARTITION + EFI_SECTORS) * grub.SECTOR // MIB
    command = ["mke2fs", "-q", "-F", "-t", "ext3", "-U", str(identity), "-L", "TCE", "-E", extended]
    hint = f"if the files do not fit, raise it: disk.size_mib of the profile is {profile.disk.size_mib}"
    argv: list[str | Path] = [*command, "-d", tree, work / "ext3.img", f"{size}M"]
    programs.run(argv, shown=[grub.BOOT], env=fake_time, log=log, hint=hint)
    # mke2fs takes owner and change time from the files that it copies.  In the image root owns
    # all files but tce/, which tc owns.
    commands = []
    for path in sorted(tree.rglob("*")):
        name = "/" + str(path.relative_to(tree))
        uid, gid = (TC_UID, STAFF_GID) if name.startswith("/tce") else (0, 0)
        fields = {"uid": uid, "gid": gid, "ctime": f"@{epoch}"}
        commands += [f'set_inode_field "{name}" {field} {value}' for field, value in fields.items()]
    write_atomic(work / "debugfs", "\n".join(commands) + "\n")
    argv = ["debugfs", "-w", "-f", work / "debugfs", work / "ext3.img"]
    programs.run(argv, shown=[grub.BOOT], env=fake_time, log=log)


def _assemble(
    profile: Profile, programs: Tools, identity: uuid.UUID, work: Path, disk: Path, log: Path
) -> None:
    with disk.open("wb") as stream:
        stream.truncate(profile.disk.size_mib * MIB)
    table = (
        f"label: dos\nlabel-id: 0x{identity.hex[:8]}\n"
        f"start={FIRST_PARTITION}, size={EFI_SECTORS}, type=ef\n"
        f"start={FIRST_PARTITION + EFI_SECTORS}, type=83, bootable\n"
    )
    argv: list[str | Path] = ["sfdisk", "--quiet", "--no-tell-kernel", "--wipe", "never", disk]
    programs.run(argv, stdin=table.encode(), log=log)
    grub.write_bios_loader(programs.file(grub.loaders().pc.mbr), disk, work / "core.img", FIRST_PARTITION)
    _copy_into(disk, work / "efi.img", FIRST_PARTITION * grub.SECTOR)
    _copy_into(disk, work / "ext3.img", (FIRST_PARTITION + EFI_SECTORS) * grub.SECTOR)


def _copy_into(disk: Path, part: Path, offset: int) -> None:
    """Write the file `part` to `disk` at `offset` (bytes).  Zero blocks become holes."""
    with disk.open("r+b") as target, part.open("rb") as source:
        while block := source.read(CHUNK):
            if block.strip(b"\0"):
                target.seek(offset)
                target.write(block)
            offset += len(block)

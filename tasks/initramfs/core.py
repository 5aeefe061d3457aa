# SPDX-License-Identifier: MIT
"""core.gz: the initramfs of Tiny Core, one or more cpio archives in one file.

Existing archives stay byte for byte.  Additions go into archives behind them.  Nothing here
needs root: owners, device nodes and set-uid bits exist in the archives only.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.checks import conflicts, secrets
from tasks.config import inputs, plan, system
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import compression, cpio
from tasks.formats.cpio import Member
from tasks.formats.initramfs_file import Archive, read_core, unpacked
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs import consoles, embedded, root_needs
from tasks.initramfs.base_archives import SHOWN, list_lines, read_base
from tasks.initramfs.parts import arranged, joined, of_profile
from tasks.kernel import installed
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.text import shortened

# --- writing ---------------------------------------------------------------


def write_core(
    archives: Sequence[Archive],
    out: Path,
    *,
    method: str | None = None,
    level: int | None = None,
    mtime: int | None = None,
) -> None:
    """Write `archives` one after the other to `out`, atomically.

    method: of compression, None for each archive's own; level: None for the method's default;
    mtime: seconds since 1970, None for each member's own.  Raises `UserError` if cpio cannot
    store a member or the method has no such level.
    """
    write_atomic(out, joined([_pack(item, method, level, mtime) for item in archives]))


def append(base: Path, archives: Sequence[Archive], out: Path, *, mtime: int | None = None) -> None:
    """Write the bytes of `base` and `archives` behind them to `out` (which may be `base`).

    Raises `UserError` if `base` is no core file, or if its last archive uses lz4.  That format
    has no end mark: kernels such as 5.4 read whatever follows as one more lz4 block.
    """
    if read_core(base)[-1].method == "lz4":
        raise UserError(
            f"{base} is compressed with lz4, so nothing can be appended to it",
            "compress it with gzip, xz or zstd instead",
        )
    write_atomic(out, joined([base.read_bytes(), *(_pack(item, None, None, mtime) for item in archives)]))


def _pack(archive: Archive, method: str | None, level: int | None, mtime: int | None) -> bytes:
    return compression.compress(cpio.write(archive.members, mtime=mtime), method or archive.method, level)


def overlay(root: RootFs, extra: Iterable[Member], what: str) -> tuple[list[Member], list[str]]:
    """Unpack `extra` over `root`.  Return the members to archive, in order, and the names left out.

    Existing paths stay, as with tce-load, which answers "n" to `cp -i`.  A folder keeps its
    owner and mode (/tmp its 1777).  A symlink to a folder stays, and its target receives the
    files.  An existing file is not replaced.  Missing parent folders are added.

    what: the name of `extra` in messages.  Raises `UserError` if a folder and a file have the
    same path, or if the kernel would lose members.
    """
    added: dict[str, Member] = {}
    kept: list[str] = []
    for member in sorted(extra, key=lambda member: cpio.by_path(member.name)):
        for parent in reversed(Path(member.name).parents[:-1]):
            name = str(parent)
            existing = root.find(name, follow=True) or root.find(name)
            if existing is not None and not existing.is_dir:
                raise UserError(f"{what} has a folder {name!r} where a file is")
            if existing is None and name not in added:
                added[name] = cpio.directory(name)
        is_dir = member.kind == stat.S_IFDIR
        existing = (root.find(member.name, follow=True) if is_dir else None) or root.find(member.name)
        if existing is None:
            added[member.name] = member
        elif existing.is_dir != is_dir:
            kinds = ("a folder", "a file") if is_dir else ("a file", "a folder")
            raise UserError(f"{what} has {kinds[0]} {member.name!r} where {kinds[1]} is")
        elif not is_dir:
            kept.append(member.name)
    lost = len(root.lost)
    ordered = arranged(added.values())
    root.unpack(ordered)
    if root.lost[lost:]:
        raise UserError(f"{what}: the kernel would lose files", detail=list_lines(root.lost[lost:]))
    return ordered, kept


# --- modules ---------------------------------------------------------------


def modules_archive(modules_root: Path, release: str) -> list[Member]:
    """Return the members of lib/modules/RELEASE that `make modules_install` wrote below `modules_root`.

    All members are root:root and files are 0644.  Compressed modules stay compressed.  The links
    `build` and `source` into the build machine are left out.  The link `kernel.tclocal` leads
    depmod to the modules of extensions, as in Tiny Core's own modules64.gz.

    Raises `UserError` if the release or its modules.dep is missing.
    """
    top = f"lib/modules/{release}"
    if not (modules_root / top).is_dir():
        raise UserError(f"{modules_root} has no {top}", "build the kernel again: ./doit kernel")
    if not (modules_root / top / "modules.dep").is_file():
        raise UserError(
            f"{modules_root / top}/modules.dep is missing: modprobe would find no module",
            "install depmod (apt-get install kmod) and build the kernel again",
        )
    local = f"usr/local/{top}/kernel"
    members = [
        replace(member, name=f"{top}/{member.name}", mode=member.kind | _module_mode(member))
        for member in cpio.scan_folder(modules_root / top)
        if member.name not in ("build", "source")
    ]
    names = ["lib", "lib/modules", top, "usr", "usr/local", "usr/local/lib", "usr/local/lib/modules"]
    folders = [cpio.directory(name) for name in [*names, f"usr/local/{top}", local]]
    return [*folders, *members, cpio.symlink(f"{top}/kernel.tclocal", f"/{local}")]


def _module_mode(member: Member) -> int:
    return {stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}.get(member.kind, 0o644)


# --- the stage -------------------------------------------------------------


def build(paths: Paths, profile: Profile) -> None:
    """Write artifacts/PROFILE/modules64.gz and corepure64.gz, or as the architecture names them.

    The core holds the base archives, a login on the serial consoles of the bootcodes if the base
    has none there, the modules of the profile's kernel, the extensions placed `initrd` and the
    files of [system], in this order.  The base keeps its bytes, except archives with modules of
    their own (or all archives but microcode, with core.recompress).  The rest is written in
    parts, and only changed parts are compressed.  Raises `UserError` if a base, the modules or
    an extension is missing or damaged, if two extensions have the same path, if the core would
    lose files or have no /init, or if the kernel cannot unpack its compression.
    """
    parts = of_profile(paths, profile, "core")
    release = installed.kernel_release(paths, profile)
    rows, root = read_base(paths, profile, release)
    kept = [row for row in rows if isinstance(row, bytes)]
    check_unpackable(paths, [profile.core.compression, *map(compression.detect, kept)])
    logins = consoles.members(root, profile.boot.bootcodes)
    root.unpack(logins)
    modules, _ = overlay(
        root, modules_archive(installed.core_modules(paths, profile), release), "lib/modules"
    )
    names, added = _extensions(paths, profile, root, release)
    own = arranged(system.members(profile.system, root))
    secrets.refuse_in_members("the [system] table", own, paths.core_parts / "system.clean")
    root.unpack(own)
    root_needs.check_core(paths, profile, root)
    layers = [row for row in rows if not isinstance(row, bytes)]
    *packed, logins_gz, modules_gz, added_gz, own_gz = parts.pack([*layers, logins, modules, added, own])
    base = [row if isinstance(row, bytes) else packed.pop(0) for row in rows]
    write_atomic(paths.modules, modules_gz)
    write_atomic(paths.core, joined([*base, logins_gz, modules_gz, added_gz, own_gz]))
    parts.remove_unused()
    size, count = paths.core.stat().st_size, len(root.members())
    logger.info(
        f"{paths.core.name}: {size:,} bytes, {count} members, {parts.summary()}, "
        f"extensions: {' '.join(names) or '-'}"
    )


def _extensions(paths: Paths, profile: Profile, root: RootFs, release: str) -> tuple[list[str], list[Member]]:
    """Unpack the extensions placed `initrd` over `root`.  Return their names and the members to archive."""
    added: list[Member] = []
    placed = plan.extensions_at(profile, "initrd")
    names = embedded.with_dependencies(paths.tcz, placed, release)
    for name in names:
        new, kept = overlay(root, embedded.extension_members(paths.tcz / f"{name}.tcz"), f"{name}.tcz")
        added += _renumbered(new, len(added))
        if kept:
            logger.info(f"core: {name}.tcz: kept the base's {shortened(kept, SHOWN)}")
    conflicts.check(paths, profile, names)
    if names:
        new, kept = overlay(root, embedded.boot_files(root, names, release), "the boot files")
        if embedded.SETUP_LIST in kept:
            raise UserError(
                f"the base has a /{embedded.SETUP_LIST} of its own", "place the extensions `onboot`"
            )
        added += new
    return names, added


def check_unpackable(paths: Paths, methods: Iterable[str]) -> None:
    """Raise `UserError` if the kernel cannot unpack one of `methods`.

    The kernel stage writes the formats that the kernel can unpack to `initramfs.formats`.
    """
    formats = (paths.kernel / "initramfs.formats").read_text().split()
    for method in methods:
        name = {"zopfli": "gzip"}.get(method, method)
        if name != "plain" and name not in formats:
            option = f"CONFIG_{compression.KERNEL_OPTIONS[name]}"
            raise UserError(
                f"the core would be compressed by {method}, but the kernel has no {option} to unpack it",
                f"add {option}=y to a fragment (kconfig/NAME.config), or set core.compression "
                f"(for fetched archives with core.recompress = true) to one of: {', '.join(formats)}",
            )


def _renumbered(members: list[Member], device: int) -> list[Member]:
    """Return `members` with the minor device number `device`.

    Hard links are found by device and inode, so the links of two extensions must not share both.
    """
    return [replace(member, devminor=device) for member in members]


def check_users(paths: Paths, profile: Profile) -> None:
    """Raise `UserError` if the base lacks a user of the profile without a uid, or has the uid of another."""
    files = inputs.base_archives(paths, profile)
    system.check_users(profile.system, unpacked(archive for path in files for archive in read_core(path)))

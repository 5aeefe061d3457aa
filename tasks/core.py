"""core.gz: the initramfs of Tiny Core, one or more cpio archives in one file.

`corepure64.gz` is `rootfs64.gz` and `modules64.gz` one after the other; each archive
has its own compression and zero bytes may stand between them (kernel Documentation,
driver-api/early-userspace/buffer-format.rst).  Everything here works without root:
owners, device nodes and set-uid bits exist in the archives only.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks import clashes, compression, cpio, extracted, system, tce
from tasks.cpio import Member
from tasks.errors import UserError
from tasks.files import write_atomic
from tasks.initramfs import RootFs
from tasks.profile import Settings
from tasks.run import say

ALIGNMENT = 4  # init/initramfs.c: a plain archive starts at a multiple of this
LEVEL = 9
SHOWN = 5


@dataclass(frozen=True)
class Archive:
    """One cpio archive of a core file, and how it is compressed (compression.detect's names)."""

    method: str
    members: tuple[Member, ...]


# --- reading ---------------------------------------------------------------


def read_core(path: Path) -> list[Archive]:
    """Return the archives of a core.gz, in order.

    Accepts what unpack_to_rootfs() of init/initramfs.c accepts: archives plain or
    compressed, several in one stream too, zero bytes between.  Raises `UserError`
    with the file's name for anything cut, corrupt, misplaced, or following the last archive.
    """
    try:
        return _archives(memoryview(path.read_bytes()))
    except UserError as error:
        raise UserError(f"{path}: {error.message}", error.hint, error.detail) from None


def _archives(data: memoryview) -> list[Archive]:
    archives: list[Archive] = []
    offset = _skip_zeros(data, 0)
    while offset < len(data):
        is_plain = data[offset] == ord("0") or bytes(data[offset : offset + 2]) in cpio.OLD_BINARY
        method = "plain" if is_plain else compression.detect(data, offset)
        # The kernel says "broken padding" after a plain archive, whatever follows it.
        after_plain = bool(archives) and archives[-1].method == "plain"
        if offset % ALIGNMENT and (is_plain or after_plain):
            number = len(archives) + 1
            raise UserError(f"archive {number} starts at offset {offset}, no multiple of {ALIGNMENT}")
        if is_plain:
            members, offset = cpio.read(data, offset)
            archives.append(Archive(method, tuple(members)))
        else:
            content, end = compression.decompress_one(data, offset)
            archives += _inner(memoryview(content), method, offset)
            offset = end
        offset = _skip_zeros(data, offset)
    if not archives:
        raise UserError("no cpio archive in it", "the file is empty or damaged; make or fetch it again")
    return archives


def _inner(data: memoryview, method: str, start: int) -> list[Archive]:
    """Return the archives inside one compressed stream."""
    found: list[Archive] = []
    offset = 0
    while offset < len(data):
        if offset % ALIGNMENT:
            raise UserError(f"junk in the {method} stream at offset {start}, at {offset} of its content")
        members, offset = cpio.read(data, offset)
        found.append(Archive(method, tuple(members)))
        offset = _skip_zeros(data, offset)
    if not found:
        raise UserError(f"the {method} stream at offset {start} holds no cpio archive")
    return found


def _skip_zeros(data: memoryview, offset: int) -> int:
    while offset < len(data):
        block = bytes(data[offset : offset + 4096])
        rest = block.lstrip(b"\0")
        if rest:
            return offset + len(block) - len(rest)
        offset += len(block)
    return offset


def unpacked(archives: Iterable[Archive]) -> RootFs:
    """Return the file system the kernel makes of `archives`, later ones over earlier ones."""
    root = RootFs()
    for archive in archives:
        root.unpack(archive.members)
    return root


def merged(archives: Iterable[Archive]) -> dict[str, Member]:
    """Return the final view of `archives` as the kernel has it, by name, sorted by path."""
    return unpacked(archives).members()


def list_core(path: Path) -> None:
    """Print a core file's members as `cpio -tv` does, archive by archive."""
    for number, archive in enumerate(read_core(path), start=1):
        print(f"# archive {number}: {archive.method}, {len(archive.members)} members")
        for member in archive.members:
            print(listing_line(member))


def listing_line(member: Member) -> str:
    """Return mode, links, numeric owner, size or device, day, name (and target) of a member."""
    is_device = member.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = f"{member.rdevmajor}, {member.rdevminor}" if is_device else str(len(member.data))
    day = time.strftime("%Y-%m-%d", time.gmtime(member.mtime))
    name = _visible(member.name)
    if member.kind == stat.S_IFLNK:
        name += f" -> {_visible(cpio.decode(member.data))}"
    owner = f"{member.uid:>5} {member.gid:>5}"
    return f"{stat.filemode(member.mode)} {member.nlink:>3} {owner} {size:>9} {day} {name}"


def _visible(name: str) -> str:
    """Escape what would upset a terminal; everything printable stays."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


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

    method None: each archive's own; level None: the method's default; mtime None: each
    member's own.  Raises `UserError` for what cpio or the method cannot hold.
    """
    write_atomic(out, _joined([_packed(item, method, level, mtime) for item in archives]))


def append(base: Path, archives: Sequence[Archive], out: Path, *, mtime: int | None = None) -> None:
    """Write `base` as it is, byte for byte, and `archives` behind it to `out` (which may be `base`).

    Raises `UserError` if `base` is no core file, or ends in lz4: that format has no end
    mark, and kernels such as 5.4 take what follows for another of its blocks.
    """
    if read_core(base)[-1].method == "lz4":
        raise UserError(
            f"{base} is compressed with lz4, nothing can be appended to it",
            "write it anew with gzip, xz or zstd",
        )
    write_atomic(out, _joined([base.read_bytes(), *(_packed(item, None, None, mtime) for item in archives)]))


def _packed(archive: Archive, method: str | None, level: int | None, mtime: int | None) -> bytes:
    return compression.compress(cpio.write(archive.members, mtime=mtime), method or archive.method, level)


def _joined(pieces: Iterable[bytes]) -> bytes:
    return b"".join(piece + bytes(-len(piece) % ALIGNMENT) for piece in pieces)


def overlay(root: RootFs, extra: Iterable[Member], what: str) -> tuple[list[Member], list[str]]:
    """Unpack `extra` over `root`; return the members to archive for that, and the names left out.

    What is there stays, as with tce-load, which answers "n" to `cp -i`: a folder keeps
    its owner and mode (/tmp its 1777), a symlink to a folder stays one and is gone
    through, and another file of that name is not replaced.  Missing parent folders are
    added.  Raises `UserError`, with `what` in it, where a folder and a file meet.
    """
    added: dict[str, Member] = {}
    kept: list[str] = []
    for member in sorted(extra, key=lambda member: cpio.by_path(member.name)):
        for parent in reversed(Path(member.name).parents[:-1]):
            name = str(parent)
            there = root.find(name, follow=True) or root.find(name)
            if there is not None and not there.is_dir:
                raise UserError(f"{what} has a folder {name!r} where a file is")
            if there is None and name not in added:
                added[name] = cpio.directory(name)
        is_dir = member.kind == stat.S_IFDIR
        there = (root.find(member.name, follow=True) if is_dir else None) or root.find(member.name)
        if there is None:
            added[member.name] = member
        elif there.is_dir != is_dir:
            kinds = ("a folder", "a file") if is_dir else ("a file", "a folder")
            raise UserError(f"{what} has {kinds[0]} {member.name!r} where {kinds[1]} is")
        elif not is_dir:
            kept.append(member.name)
    lost = len(root.lost)
    root.unpack(added.values())
    if root.lost[lost:]:
        raise UserError(f"{what}: the kernel would lose files", detail=_lines(root.lost[lost:]))
    return list(added.values()), kept


# --- modules ---------------------------------------------------------------


def modules_archive(modules_root: Path, release: str) -> list[Member]:
    """Return lib/modules/RELEASE of a `make modules_install` below `modules_root`.

    All is root:root, files 0644, compressed modules as they are; the `build` and
    `source` links into the build machine are left out.  As in Tiny Core's own
    modules64.gz, `kernel.tclocal` leads depmod to the modules of extensions.

    Raises `UserError` if the release is not there, or has no modules.dep.
    """
    top = f"lib/modules/{release}"
    if not (modules_root / top).is_dir():
        raise UserError(f"{modules_root} has no {top}", "build the kernel again: `doit kernel`")
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


def drop_modules(root: RootFs) -> list[str]:
    """Remove everything in lib/modules from `root`; return the releases that stood there."""
    folder = root.find("lib/modules", follow=True)
    if folder is None:
        return []
    releases = sorted(folder.children)
    folder.children.clear()
    return releases


# --- the stage -------------------------------------------------------------


def build(settings: Settings) -> None:
    """Write artifacts/PROFILE/modules64.gz and corepure64.gz.

    Base archives, then our kernel's modules, then the extensions placed `initrd`.  The
    base goes in byte for byte, unless it holds modules or times of its own: then it is
    written anew without them.  Raises `UserError` if a base, the modules or an extension
    is missing or damaged, if two extensions bring the same path, or if the result would lose
    files or have no /init.
    """
    epoch = settings.profile.source_date_epoch
    release = tce.kernel_release(settings)
    base, root = _base(settings, release)
    modules, _ = overlay(root, modules_archive(tce.core_modules(settings), release), "lib/modules")
    modules_gz = _packed(Archive("gzip", tuple(modules)), None, LEVEL, epoch)
    pieces = [base, modules_gz]
    added: list[Member] = []
    placed = tce.placed(settings.profile, "initrd")
    names = extracted.with_dependencies(settings.tcz, placed, release)
    for name in names:
        new, kept = overlay(root, extracted.extension_members(settings.tcz / f"{name}.tcz"), f"{name}.tcz")
        added += _renumbered(new, len(added))
        if kept:
            say(f"core: {name}.tcz: kept the base's {_some(kept)}")
    clashes.check(settings, names)
    if names:
        new, kept = overlay(root, extracted.boot_files(root, names, release), "the boot files")
        if extracted.SETUP_LIST in kept:
            raise UserError(f"the base has a /{extracted.SETUP_LIST} of its own", "place extensions onboot")
        added += new
        pieces.append(_packed(Archive("gzip", tuple(added)), None, LEVEL, epoch))
    own = system.members(settings.profile.system, root)
    if own:
        root.unpack(own)
        pieces.append(_packed(Archive("gzip", tuple(own)), None, LEVEL, epoch))
    _check_init(settings, root)
    write_atomic(settings.output / "modules64.gz", modules_gz)
    write_atomic(settings.core, _joined(pieces))
    size, count = settings.core.stat().st_size, len(root.members())
    say(f"{settings.core.name}: {size:,} bytes, {count} members, extensions: {' '.join(names) or '-'}")


def _renumbered(members: list[Member], start: int) -> list[Member]:
    """Keep the hard links of one extension apart from those of another."""
    return [replace(member, devminor=start) for member in members]


def base_files(settings: Settings) -> list[Path]:
    """Return the archives a profile's core is made from, in order."""
    core = settings.profile.core
    files = [settings.output / "rootfs64.gz"] if core.rootfs else []
    if core.archives:
        from tasks import fetch  # imports requests: only for profiles that download

        files += [fetch.source_file(settings, source) for source in core.archives]
    if not files:
        raise UserError(
            f"profile {settings.name} has no base for its core",
            "set core.rootfs = true, or name core.archives",
        )
    return files


def _base(settings: Settings, release: str) -> tuple[bytes, RootFs]:
    """Return the base archives' bytes and what the kernel makes of them."""
    epoch = settings.profile.source_date_epoch
    files = base_files(settings)
    archives = [archive for path in files for archive in read_core(path)]
    root = unpacked(archives)
    if root.lost:
        say(f"core: the kernel loses {len(root.lost)} members of the base:\n{_lines(root.lost)}")
    dropped = drop_modules(root)
    if dropped:
        # Modules of another release cannot be loaded; of the same one, built with
        # another configuration, they could crash the kernel.
        say(f"core: dropped lib/modules/{_some(dropped)} of the base, the kernel built here is {release}")
        _explain(root, dropped, release)
    as_it_is = not dropped and all(
        archive.method != "lz4" and all(member.mtime == epoch for member in archive.members)
        for archive in archives
    )
    if as_it_is:
        return _joined([path.read_bytes() for path in files]), root
    whole = Archive("gzip", tuple(root.members().values()))
    return _joined([_packed(whole, None, LEVEL, epoch)]), root


def _explain(root: RootFs, dropped: Sequence[str], release: str) -> None:
    """Say what of a base made for another kernel will not do what it did."""
    if release in dropped:
        # Without CONFIG_MODVERSIONS a kernel loads all that its release was written into.
        say(
            f"core: the mirrors' NAME-{release}.tcz are of the base's own kernel, whose configuration "
            "differs: take the modules built here"
        )
        return
    say(f"core: `tce-load -w NAME-KERNEL` will look for NAME-{release}.tcz, which mirrors may not have")
    scripts = [
        name
        for name, member in root.members().items()
        if member.data.startswith(b"#!") and any(old.encode() in member.data for old in dropped)
    ]
    if scripts:
        say(f"core: scripts of the base that name its own kernel's release: {_some(scripts)}")


def _check_init(settings: Settings, root: RootFs) -> None:
    """Refuse a core the kernel cannot start: no /init (or rdinit=) that may be executed."""
    given = [word[len("rdinit=") :] for word in settings.profile.boot.bootcodes if word.startswith("rdinit=")]
    path = given[-1] if given else "/init"
    node = root.find(path, follow=True)
    if node is None or node.kind != stat.S_IFREG or not node.mode & 0o111:
        raise UserError(
            f"the core has no executable {path}: the kernel would stop with a panic",
            "check the base archives, or set bootcode rdinit=",
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _lines(items: Sequence[str]) -> str:
    more = len(items) - SHOWN
    lines = [f"  {item}" for item in items[:SHOWN]]
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])

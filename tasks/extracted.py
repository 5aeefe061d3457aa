"""Extensions inside the initramfs, in either of the two ways Tiny Core knows.

Extracted into it (ezremaster's third place): the files lie in `/` from the start,
`usr/local/tce.installed/NAME` tells tce-load that it is installed, and its script
is run at boot through /tmp/setup.lst, the list that tce-setup works off at its end.

Or packed in /tmp/builtin, which tce-setup loads before any disk or CD: the .tcz
files in `optional/`, what to load in `onboot.lst`.
"""

from __future__ import annotations

import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks import cpio, limits
from tasks.cpio import Member
from tasks.errors import UserError
from tasks.initramfs import RootFs
from tasks.run import require_tool, run

INSTALLED = "usr/local/tce.installed"
BUILTIN = "tmp/builtin"
SETUP_LIST = "tmp/setup.lst"
SIDE_FILES = (".dep", ".md5.txt")  # what tce-load and its tools read beside a .tcz
XATTR = "SCHILY.xattr."
KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def squashfs_members(squashfs: Path) -> list[Member]:
    """Return everything in a squashfs image, owners, modes, devices and hard links as stored.

    sqfs2tar (package squashfs-tools-ng) reads the image and never touches the file
    system, so this is the same with and without root.  The root folder itself is left out.

    Raises `UserError` for a damaged image, a socket, or file capabilities and other
    `security.` attributes, which a cpio archive cannot hold.
    """
    if not squashfs.is_file():
        raise UserError(f"{squashfs} does not exist", "build the extensions first: `doit tcz`")
    with squashfs_tar(squashfs) as tar:
        return _from_tar(tar, squashfs)


@contextmanager
def squashfs_tar(squashfs: Path) -> Iterator[tarfile.TarFile]:
    """Yield a squashfs image as a tar archive, written for as long as the context lasts.

    Raises `UserError` if the image is damaged, holds a socket, or unpacks to far too much.
    """
    size = squashfs.stat().st_size
    with tempfile.TemporaryDirectory(prefix="tcbuild-tcz-") as folder:
        packed = Path(folder, "extension.tar")
        try:
            # The kernel stops the program at that size: no bomb fills the disk.
            run(
                ["prlimit", f"--fsize={limits.most(size)}", require_tool("sqfs2tar"), "--no-skip", squashfs],
                stdout=packed,
                hint=f"{squashfs.name} must be a whole squashfs file without sockets; make or fetch it again",
            )
        except UserError as error:
            if packed.is_file() and packed.stat().st_size >= limits.most(size):
                raise _bomb(squashfs, size, packed) from None
            message = error.message.replace("prlimit", "sqfs2tar", 1)
            raise type(error)(message, error.hint, error.detail) from None
        with tarfile.open(packed, encoding="utf-8", errors="surrogateescape") as tar:
            yield tar


def _bomb(squashfs: Path, size: int, packed: Path) -> UserError:
    """Return the error for an image of `size` bytes that was cut off while it was written to `packed`."""
    last = ""
    with suppress(tarfile.TarError), tarfile.open(packed, errors="surrogateescape") as tar:
        for entry in tar:
            last = entry.name
    message = f"{squashfs.name}: with {last!r} it unpacks to more than the {limits.most(size):,} bytes "
    return UserError(f"{message}that a squashfs image of {size:,} may have", "it is not one to trust")


def _from_tar(tar: tarfile.TarFile, squashfs: Path) -> list[Member]:
    members: dict[str, Member] = {}
    links: dict[str, list[str]] = {}
    for entry in tar:
        held = [key for key in entry.pax_headers if key.startswith(XATTR + "security.")]
        if held:
            raise UserError(
                f"{squashfs.name}: {entry.name!r} has the attribute {held[0].removeprefix(XATTR)}, "
                "which an initramfs cannot hold",
                "place this extension onboot instead of initrd",
            )
        if entry.type == tarfile.LNKTYPE:
            links.setdefault(entry.linkname, [entry.linkname]).append(entry.name)
            continue
        content = tar.extractfile(entry) if entry.isreg() else None
        data = content.read() if content else cpio.encode(entry.linkname) if entry.issym() else b""
        kind = KINDS[tarfile.REGTYPE if entry.isreg() else entry.type]
        members[entry.name] = Member(
            name=entry.name,
            mode=kind | stat.S_IMODE(entry.mode),
            uid=entry.uid,
            gid=entry.gid,
            nlink=2 if entry.isdir() else 1,
            mtime=int(entry.mtime),
            data=data,
            rdevmajor=entry.devmajor,
            rdevminor=entry.devminor,
        )
    for number, (name, names) in enumerate(links.items(), start=1):
        members |= {member.name: member for member in cpio.hard_links(members[name], names, number)}
    return sorted(members.values(), key=lambda member: cpio.by_path(member.name))


def extension_members(squashfs: Path) -> list[Member]:
    """Return the members of an extension as if installed, `usr/local/tce.installed/NAME` included."""
    members = squashfs_members(squashfs)
    mark = f"{INSTALLED}/{squashfs.name.removesuffix('.tcz')}"
    if mark not in {member.name for member in members}:
        members.append(cpio.regular(mark, b""))
    return members


def with_dependencies(folder: Path, names: Sequence[str], release: str) -> list[str]:
    """Return `names` and all they depend on by the .dep files in `folder`, each before what needs it.

    tce-load asks for the dependencies of what it loads, not of what is already
    installed, so those of an extracted extension must be in the initramfs too.
    `-KERNEL` stands for `-RELEASE`; a circle is broken where it closes, as tce-load does.
    """
    done: dict[str, None] = {}
    begun: set[str] = set()

    def visit(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        dep = folder / f"{name}.tcz.dep"
        for line in dep.read_text().splitlines() if dep.is_file() else []:
            needed = line.strip().removesuffix(".tcz")
            if needed:
                visit(f"{needed.removesuffix('-KERNEL')}-{release}" if needed.endswith("-KERNEL") else needed)
        done[name] = None

    for name in names:
        visit(name)
    return list(done)


def boot_files(root: RootFs, names: Sequence[str], release: str) -> list[Member]:
    """Return what makes Tiny Core's tce-setup finish the extensions `names` extracted into `root`.

    /tmp/setup.lst runs their scripts, in order; /etc/sysconfig/newmodules asks for depmod.
    """
    found: list[Member] = []
    scripts = []
    for name in names:
        node = root.find(f"{INSTALLED}/{name}", follow=True)
        if node is not None and node.kind == stat.S_IFREG and node.mode & 0o100:
            scripts.append(f"/{INSTALLED}/{name}\n")
    if scripts:
        found += [cpio.directory("tmp", 0o1777), cpio.regular(SETUP_LIST, "".join(scripts).encode())]
    modules = root.find(f"usr/local/lib/modules/{release}", follow=True)
    if modules is not None and any(child.children for child in modules.children.values()):
        found.append(cpio.regular("etc/sysconfig/newmodules", b""))
    return found


def builtin_members(tczs: Sequence[Path], onboot: Sequence[str]) -> list[Member]:
    """Return /tmp/builtin with the files `tczs` (and their .dep, .md5.txt), loading `onboot` at boot.

    onboot: names without .tcz, in order.  Raises `UserError` if one is not among `tczs`.
    """
    missing = set(onboot) - {path.name.removesuffix(".tcz") for path in tczs}
    if missing:
        raise UserError(f"onboot names extensions that are not built in: {', '.join(sorted(missing))}")
    members = [
        cpio.directory("tmp", 0o1777),
        cpio.directory(BUILTIN),
        cpio.directory(f"{BUILTIN}/optional"),
        cpio.regular(f"{BUILTIN}/onboot.lst", "".join(f"{name}.tcz\n" for name in onboot).encode()),
    ]
    for path in sorted(tczs, key=lambda path: path.name):
        for file in (path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES)):
            if file == path or file.is_file():
                members.append(cpio.regular(f"{BUILTIN}/optional/{file.name}", file.read_bytes()))
    return members

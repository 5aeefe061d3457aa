"""The small root of a profile that is built from apt packages: rootfs64.gz.

Packages bring the programs, `rootfs/files/` our own boot scripts as they stand in the image,
`rootfs/rootfs.toml` the rules: what of a package is left out, BusyBox's links, owners, modes,
device nodes.  Nothing here needs root: owners, set-uid bits and devices exist in the
archive only.  The result keeps Tiny Core's contract: its paths, its bootcodes, its user.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.checks import secrets
from tasks.checks.libraries import check_root
from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.formats import cpio, debian_package, elf
from tasks.formats.cpio import Member
from tasks.initramfs import package_tree
from tasks.initramfs.parts import Parts, arranged
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.process import run

RULES = ROOT / "rootfs" / "rootfs.toml"
OVERLAY = ROOT / "rootfs" / "files"
PROGRAM_DIRS = ("bin", "sbin", "usr/bin", "usr/sbin")
LOADER = "lib64/ld-linux-x86-64.so.2"
SETID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Permissions:
    """Permissions and owner ("user:group", by the names in the root's own etc/passwd)."""

    mode: int
    owner: str = "root:root"


@dataclass(frozen=True)
class Device:
    """A device node: c or b, its numbers, permissions and owner."""

    type: Literal["c", "b"]
    major: int
    minor: int
    mode: int
    owner: str = "root:root"


@dataclass(frozen=True)
class Busybox:
    """Where a package puts BusyBox, and which of its programs get links to which copy of it."""

    program: tuple[str, ...]
    suid: str
    suid_applets: tuple[str, ...]
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """rootfs.toml; all paths are below the root, without a leading slash."""

    drop: tuple[str, ...]
    keep: dict[str, tuple[str, ...]]
    busybox: Busybox
    links: dict[str, str]
    folders: dict[str, Permissions]
    files: dict[str, Permissions]
    devices: dict[str, Device] = field(default_factory=dict)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path fits one of the shell patterns, in which `*` also stands for `/`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def wanted(rules: Rules, package: str, name: str) -> bool:
    """Tell whether a package's file belongs into the root."""
    keep = rules.keep.get(package)
    return matches(name, keep) if keep is not None else not matches(name, rules.drop)


def merge(rules: Rules, package: str, unpacked: Path, root: Path) -> list[str]:
    """Move what is wanted of an unpacked package into `root`; return its set-id files.

    Raises `UserError` if another package has brought one of its files, if a folder and
    a file meet, or if a `keep` pattern fits nothing (the package was rearranged).
    """
    names = [name for name, is_folder in _walk(unpacked) if not is_folder]
    chosen = [name for name in names if wanted(rules, package, name)]
    for pattern in rules.keep.get(package, ()):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"{RULES.name}: keep.{package}: {pattern!r} fits no file of the package",
                f"the package's files: dpkg-deb -c {package}_*.deb",
            )
    set_id = []
    for name in chosen:
        source, target = unpacked / name, root / name
        if os.path.lexists(target):
            raise UserError(f"package {package} brings {name}, which is there already")
        _make_folder(root, Path(name).parent, package)
        status = source.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & SETID:
            set_id.append(name)
        os.rename(source, target)
    return set_id


def _make_folder(root: Path, name: Path, who: str) -> None:
    for part in [*reversed(name.parents), name]:
        path = root / part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise UserError(f"{who} has a folder {part}, where the root has something else")
    (root / name).mkdir(parents=True, exist_ok=True)


def _walk(folder: Path, below: str = "") -> list[tuple[str, bool]]:
    """Return (path, is a folder) of everything in `folder`, sorted, links not followed."""
    found: list[tuple[str, bool]] = []
    for entry in sorted(os.scandir(folder / below), key=lambda entry: entry.name):
        name = f"{below}/{entry.name}" if below else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        found.append((name, is_folder))
        if is_folder:
            found += _walk(folder, name)
    return found


def add_overlay(overlay: Path, root: Path) -> None:
    """Copy our own files over the packages'.  Only the executable bit counts of their modes."""
    for name, is_folder in _walk(overlay):
        if is_folder:
            _make_folder(root, Path(name), overlay.name)
            continue
        target = root / name
        if target.is_dir() and not target.is_symlink():
            raise UserError(f"{overlay.name} has a file {name}, where the root has a folder")
        target.unlink(missing_ok=True)
        shutil.copy(overlay / name, target, follow_symlinks=False)


# --- BusyBox ---------------------------------------------------------------


def list_applets(root: Path, program: str) -> list[str]:
    """Return the paths BusyBox wants its programs at (`bin/ls`), by asking it.

    It is started through the root's own ld.so, so the machine's libraries do not matter.
    """
    command = [str(root / program), "--list-full"]
    loader = root / LOADER
    if elf.interpreter(root / program):
        libraries = [str(root / folder.strip("/")) for folder in elf.LIBRARY_DIRS]
        command = [str(_inside(root, loader)), "--library-path", ":".join(libraries), *command]
    output = run(command, hint="the root's BusyBox must run on this machine: build on x86-64").stdout
    return sorted(filter(None, output.split()))


def _inside(root: Path, path: Path) -> Path:
    """Follow a link inside `root`: absolute targets are below it, not on this machine."""
    for _ in range(elf.MAX_SYMLINKS):
        if not path.is_symlink():
            return path
        target = os.readlink(path)
        path = root / target.lstrip("/") if target.startswith("/") else path.parent / target
    raise UserError(f"{path} is a link that leads in circles")


def applet_links(applets: Iterable[str], present: Iterable[str], rules: Busybox) -> dict[str, str]:
    """Return the links to make for BusyBox's programs: path -> target.

    A program that a package brings is never covered.  If it lies in another folder, the
    link leads to it, so that both paths start the same program.
    """
    real: dict[str, str] = {}
    for path in present:
        folder, _, name = path.rpartition("/")
        if folder in PROGRAM_DIRS:
            real.setdefault(name, path)
    links: dict[str, str] = {}
    for path in applets:
        name = path.rpartition("/")[2]
        if path in rules.without or real.get(name) == path:
            continue
        if name in real:
            links[path] = f"/{real[name]}"
        elif name in rules.suid_applets:
            links[path] = f"/{rules.suid}"
        else:
            links[path] = "/bin/busybox"
    return links


def add_busybox(rules: Rules, root: Path) -> None:
    """Add the set-uid copy of BusyBox and the links to both.  Raises `UserError` if it is not there."""
    program = next((name for name in rules.busybox.program if (root / name).is_file()), None)
    if program is None:
        raise UserError("no package brings BusyBox", "add busybox to core.packages of the profile")
    applets = list_applets(root, program)
    (root / rules.busybox.suid).unlink(missing_ok=True)
    shutil.copy(root / program, root / rules.busybox.suid)
    present = [name for name, is_folder in _walk(root) if not is_folder]
    unknown = set(rules.busybox.suid_applets) - {path.rpartition("/")[2] for path in applets}
    if unknown:
        raise UserError(f"{RULES.name}: suid_applets: this BusyBox has no {', '.join(sorted(unknown))}")
    for path, target in applet_links(applets, present, rules.busybox).items():
        _link(root, path, target)


def _link(root: Path, name: str, target: str) -> None:
    _make_folder(root, Path(name).parent, RULES.name)
    if not os.path.lexists(root / name):
        (root / name).symlink_to(target)


# --- owners, modes, devices ------------------------------------------------


def read_ids(path: Path) -> dict[str, int]:
    """Return name -> number of an /etc/passwd or /etc/group."""
    ids = {}
    for line in path.read_text().splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            ids[fields[0]] = int(fields[2])
    return ids


class Owners:
    """Turns "user:group" into numbers by a root's own etc/passwd and etc/group."""

    def __init__(self, root: Path) -> None:
        self._users = read_ids(root / "etc/passwd")
        self._groups = read_ids(root / "etc/group")

    def __call__(self, owner: str, where: str) -> tuple[int, int]:
        user, colon, group = owner.partition(":")
        if not colon or user not in self._users or group not in self._groups:
            raise UserError(
                f"{RULES.name}: {where}: unknown owner {owner!r}",
                "USER:GROUP, both named in rootfs/files/etc/passwd and rootfs/files/etc/group",
            )
        return self._users[user], self._groups[group]


def members(rules: Rules, root: Path) -> list[Member]:
    """Return the archive's members: `root`'s content with owners and modes, and the devices.

    Raises `UserError` if a rule for a file fits none, or names an unknown owner.
    """
    owners = Owners(root)
    special: dict[str, tuple[int, int, int]] = {}
    for name, entry in rules.folders.items():
        special[name] = (entry.mode, *owners(entry.owner, f"folders.{name}"))
    regular = [name for name, folder in _walk(root) if not folder and not (root / name).is_symlink()]
    for pattern, entry in rules.files.items():
        fitting = [name for name in regular if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise UserError(f"{RULES.name}: files: {pattern!r} fits no file of the root")
        for name in fitting:
            special[name] = (entry.mode, *owners(entry.owner, f"files.{pattern}"))
    mode, uid, gid = special.pop(".", (0o755, 0, 0))
    found = [cpio.directory(".", mode, uid, gid), *cpio.scan_folder(root, special=special)]
    for name, node in rules.devices.items():
        uid, gid = owners(node.owner, f"devices.{name}")
        found.append(cpio.device(name, node.type, node.major, node.minor, node.mode, uid, gid))
    return found


def check_set_id(rules: Rules, set_id: Mapping[str, str]) -> None:
    """Refuse set-id files of packages that rootfs.toml says nothing about.

    set_id: path -> package.  They would lose the bit without a word, and not work.
    """
    for name, package in sorted(set_id.items()):
        if not matches(name, rules.files):
            raise UserError(
                f"package {package}: {name} is set-uid or set-gid, but {RULES.name} does not say so",
                "give it a mode in [files], or leave it out in [keep] or drop",
            )


def check_links(root: Path) -> None:
    """Refuse links into folders that stay empty: what they lead to was left out."""
    names = {name for name, _ in _walk(root)}
    for name in sorted(names):
        path = root / name
        if not path.is_symlink():
            continue
        target = os.path.normpath(os.path.join("/", os.path.dirname(name), os.readlink(path)))
        if not target.startswith(("/proc/", "/dev/", "/sys/")) and not _reaches(root, path):
            raise UserError(f"{name} leads to {target}, which is not in the root", f"see {RULES.name}")


def _reaches(root: Path, path: Path) -> bool:
    try:
        return os.path.lexists(_inside(root, path))
    except UserError:
        return False


# --- the stage -------------------------------------------------------------


def unpack_packages(rules: Rules, packages: Mapping[str, Path], root: Path) -> dict[str, str]:
    """Fill the empty folder `root` from .debs (name -> file); return the set-id files, path -> package."""
    set_id: dict[str, str] = {}
    for package, deb in sorted(packages.items()):
        with scratch_folder(root.parent, "deb") as folder:
            unpacked = folder / "content"
            debian_package.unpack_deb(deb, unpacked)
            set_id |= dict.fromkeys(merge(rules, package, unpacked, root), package)
    return set_id


def assemble(
    rules: Rules, packages: Mapping[str, Path], overlay: Path, root: Path, profile: str, kept: Path
) -> None:
    """Make the folder `root` from the .debs `packages` (name -> file), `overlay` and the rules.

    In `kept` stands what the packages alone brought, for the next time.
    Raises `UserError` for clashes, missing libraries, dangling links and rules that fit nothing.
    """
    set_id = package_tree.linked(
        kept,
        [rules.drop, rules.keep, {name: sha256_file(deb) for name, deb in sorted(packages.items())}],
        lambda folder: unpack_packages(rules, packages, folder),
        root,
    )
    check_set_id(rules, set_id)
    add_overlay(overlay, root)
    for name in rules.folders:
        _make_folder(root, Path(name), RULES.name)
    for name, target in rules.links.items():
        _link(root, name, target)
    add_busybox(rules, root)
    check_links(root)
    check_root(root, profile, kept.with_name("libraries.good"))


def build(settings: Settings) -> None:
    """Write artifacts/PROFILE/rootfs64.gz and rootfs.index from core.packages, `rootfs/` and rootfs.toml.

    Raises `UserError` as `assemble` does, and for a package that was not fetched.
    """
    rules = toml_schema.load(RULES, Rules)
    core = settings.profile.core
    epoch = settings.profile.source_date_epoch
    debs = inputs.package_files(settings, core.packages)
    parts = Parts(settings.core_parts / "rootfs", core.compression, core.level, epoch)
    with scratch_folder(settings.output, "rootfs") as scratch:
        root = scratch / "root"
        assemble(rules, debs, OVERLAY, root, settings.name, settings.core_parts / "packages")
        found = arranged(members(rules, root))
    secrets.refuse_private("the base root", OVERLAY, RULES)
    secrets.refuse_in_members("the base root", found, settings.core_parts / "rootfs.clean")
    (packed,) = parts.pack([found])
    write_atomic(settings.output / "rootfs64.gz", packed)
    parts.tidy()
    write_if_changed(settings.output / "rootfs.index", index(found))
    count = f"{len(found)} members from {len(core.packages)} packages"
    logger.info(f"rootfs64.gz: {len(packed):,} bytes, {count}, {parts.summary()}")


def index(found: Iterable[Member]) -> str:
    """Return what an extension sees of the root, a line a member: mode, owner, path, library's sha256.

    Extensions are built against this: another line in a script changes none of them.
    """
    lines = []
    for member in found:
        is_library = ".so" in member.name.rsplit("/", 1)[-1]
        digest = hashlib.sha256(member.data).hexdigest() if is_library else "-"
        lines.append(f"{member.mode:o} {member.uid}:{member.gid} {member.name!r} {digest}\n")
    return "".join(sorted(lines))

# SPDX-License-Identifier: MIT
"""rootfs64.gz (rootfs.gz for 32-bit PCs): the small root of a profile that is built from apt packages.

The programs come from packages and the boot scripts from `rootfs/files/`.  The rules in
`rootfs/rootfs.toml` say which files of a package are left out, and give BusyBox's links, owners,
modes and device nodes.  Nothing here needs root: owners, set-uid bits and devices exist in the
archive only.  The result has Tiny Core's paths, bootcodes and user.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.checks import secrets
from tasks.checks.libraries import check_root
from tasks.config import inputs, rootfs_rules
from tasks.config.architecture import Architecture
from tasks.config.rootfs_rules import RULES, Busybox, Rules, is_included, matches
from tasks.config.settings import Settings
from tasks.engine import code
from tasks.formats import cpio, debian_package, elf, libraries
from tasks.formats.cpio import Member
from tasks.initramfs import package_tree
from tasks.initramfs.parts import arranged, of_profile
from tasks.origins.lock import CORE
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file, write_atomic, write_if_changed
from tasks.util.links import MAX_SYMLINKS
from tasks.util.log import logger
from tasks.util.process import run

OVERLAY = CHECKOUT.rootfs / "files"
PROGRAM_DIRS = ("bin", "sbin", "usr/bin", "usr/sbin")
SETID = stat.S_ISUID | stat.S_ISGID


def merge(rules: Rules, package: str, unpacked: Path, root: Path) -> list[str]:
    """Move the included files of an unpacked package into `root`.  Return its set-id files.

    Raises `UserError` if another package has one of the files, if a folder and a file have the
    same path, or if a `keep` pattern matches no file (the package was rearranged).
    """
    names = [name for name, is_folder in _walk(unpacked) if not is_folder]
    included = [name for name in names if is_included(rules, package, name)]
    for pattern in rules.keep.get(package, ()):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"{RULES.name}: keep.{package}: {pattern!r} matches no file of the package",
                f"the package's files: dpkg-deb -c {package}_*.deb",
            )
    set_id = []
    for name in included:
        source, target = unpacked / name, root / name
        if os.path.lexists(target):
            raise UserError(f"package {package} has {name}, which another package has too")
        _make_folder(root, Path(name).parent, package)
        status = source.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & SETID:
            set_id.append(name)
        os.rename(source, target)
    return set_id


def _make_folder(root: Path, name: Path, origin: str) -> None:
    """Create the folder `name` below `root`.  Raises `UserError`, which names `origin`, for a file there."""
    for part in [*reversed(name.parents), name]:
        path = root / part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise UserError(f"{origin} has a folder {part}, where the root has something else")
    (root / name).mkdir(parents=True, exist_ok=True)


def _walk(folder: Path, below: str = "") -> list[tuple[str, bool]]:
    """Return (path, whether it is a folder) of all in `folder`, sorted.  Links are not followed."""
    found: list[tuple[str, bool]] = []
    for entry in sorted(os.scandir(folder / below), key=lambda entry: entry.name):
        name = f"{below}/{entry.name}" if below else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        found.append((name, is_folder))
        if is_folder:
            found += _walk(folder, name)
    return found


def overlays() -> list[Path]:
    """Return rootfs/files/ of the checkout, and of each tree that has it, the last of which wins."""
    return [OVERLAY, *CHECKOUT.in_trees("rootfs", OVERLAY.name)]


def add_overlay(overlay: Path, root: Path) -> None:
    """Copy the files of `overlay` over those of the packages.

    Of their modes only the executable bit counts.  Raises `UserError` if a folder and a file have
    the same path.
    """
    label = CHECKOUT.name_of(overlay)
    for name, is_folder in _walk(overlay):
        if is_folder:
            _make_folder(root, Path(name), label)
            continue
        target = root / name
        if target.is_dir() and not target.is_symlink():
            raise UserError(f"{label} has a file {name}, where the root has a folder")
        target.unlink(missing_ok=True)
        shutil.copy(overlay / name, target, follow_symlinks=False)


# --- BusyBox ---------------------------------------------------------------


def list_applets(architecture: Architecture, root: Path, program: str) -> list[str]:
    """Return the paths of BusyBox's applets (`bin/ls`), as `busybox --list-full` prints them.

    It runs by the root's own ld.so, so the libraries of this machine do not matter.  Kernels of 64-bit
    PCs run the programs of 32-bit ones, too.  Raises `UserError` if this machine cannot run it.
    """
    command = [str(root / program), "--list-full"]
    loader = root / architecture.loader
    if elf.interpreter(root / program):
        libraries = [str(root / folder.strip("/")) for folder in elf.LIBRARY_DIRS]
        command = [str(_resolve_link(root, loader)), "--library-path", ":".join(libraries), *command]
    machine = elf.short_machine_name(architecture.machine)
    hint = f"the root's BusyBox must run on this machine: build where programs for {machine} run"
    output = run(command, hint=hint).stdout
    return sorted(filter(None, output.split()))


def _resolve_link(root: Path, path: Path) -> Path:
    """Follow a link inside `root`.  Absolute targets are relative to `root`.

    Raises `UserError` for a circle of links.
    """
    for _ in range(MAX_SYMLINKS):
        if not path.is_symlink():
            return path
        target = os.readlink(path)
        path = root / target.lstrip("/") if target.startswith("/") else path.parent / target
    raise UserError(f"{path} is a link that leads in a circle")


def applet_links(applets: Iterable[str], present: Iterable[str], rules: Busybox) -> dict[str, str]:
    """Return the links for BusyBox's applets: path -> target.

    No link replaces a program of a package.  If a package has the program in another folder, the
    link leads there, so that both paths start the same program.
    """
    programs: dict[str, str] = {}
    for path in present:
        folder, _, name = path.rpartition("/")
        if folder in PROGRAM_DIRS:
            programs.setdefault(name, path)
    links: dict[str, str] = {}
    for path in applets:
        name = path.rpartition("/")[2]
        if path in rules.without or programs.get(name) == path:
            continue
        if name in programs:
            links[path] = f"/{programs[name]}"
        elif name in rules.suid_applets:
            links[path] = f"/{rules.suid}"
        else:
            links[path] = "/bin/busybox"
    return links


def add_busybox(rules: Rules, architecture: Architecture, root: Path) -> None:
    """Add the set-uid copy of BusyBox and the links to both.  Raises `UserError` if BusyBox is missing."""
    program = next((name for name in rules.busybox.program if (root / name).is_file()), None)
    if program is None:
        raise UserError("no package has BusyBox", "add busybox to core.packages of the profile")
    applets = list_applets(architecture, root, program)
    (root / rules.busybox.suid).unlink(missing_ok=True)
    shutil.copy(root / program, root / rules.busybox.suid)
    present = [name for name, is_folder in _walk(root) if not is_folder]
    unknown = set(rules.busybox.suid_applets) - {path.rpartition("/")[2] for path in applets}
    if unknown:
        raise UserError(f"{RULES.name}: suid_applets: this BusyBox has no {', '.join(sorted(unknown))}")
    for path, target in applet_links(applets, present, rules.busybox).items():
        _link(root, path, target)


def loader_links(architecture: Architecture) -> dict[str, str]:
    """Return the links to ld.so: path -> target.

    Packages of newer suites have it below /usr.  Tiny Core's own programs ask for it in /lib.
    """
    loader = architecture.loader
    in_lib = f"lib/{Path(loader).name}"
    return {loader: f"/usr/{loader}"} | ({in_lib: f"/{loader}"} if in_lib != loader else {})


def _link(root: Path, name: str, target: str) -> None:
    _make_folder(root, Path(name).parent, RULES.name)
    if not os.path.lexists(root / name):
        (root / name).symlink_to(target)


# --- owners, modes, devices ------------------------------------------------


def read_ids(path: Path) -> dict[str, int]:
    """Return the numbers by name of an /etc/passwd or /etc/group."""
    ids = {}
    for line in path.read_text().splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            ids[fields[0]] = int(fields[2])
    return ids


class Owners:
    """Converts "user:group" to numbers by a root's own etc/passwd and etc/group."""

    def __init__(self, root: Path) -> None:
        self._users = read_ids(root / "etc/passwd")
        self._groups = read_ids(root / "etc/group")

    def __call__(self, owner: str, where: str) -> tuple[int, int]:
        user, colon, group = owner.partition(":")
        if not colon or user not in self._users or group not in self._groups:
            raise UserError(
                f"{RULES.name}: {where}: unknown owner {owner!r}",
                "write USER:GROUP, as in rootfs/files/etc/passwd and rootfs/files/etc/group",
            )
        return self._users[user], self._groups[group]


def members(rules: Rules, root: Path) -> list[Member]:
    """Return the archive's members: the content of `root` with owners and modes, and the devices.

    Raises `UserError` if a rule for files matches none, or names an unknown owner.
    """
    owners = Owners(root)
    special: dict[str, tuple[int, int, int]] = {}
    for name, entry in rules.folders.items():
        special[name] = (entry.mode, *owners(entry.owner, f"folders.{name}"))
    regular = [name for name, folder in _walk(root) if not folder and not (root / name).is_symlink()]
    for pattern, entry in rules.files.items():
        matching = [name for name in regular if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise UserError(f"{RULES.name}: files: {pattern!r} matches no file of the root")
        for name in matching:
            special[name] = (entry.mode, *owners(entry.owner, f"files.{pattern}"))
    mode, uid, gid = special.pop(".", (0o755, 0, 0))
    found = [cpio.directory(".", mode, uid, gid), *cpio.scan_folder(root, special=special)]
    for name, node in rules.devices.items():
        uid, gid = owners(node.owner, f"devices.{name}")
        found.append(cpio.device(name, node.type, node.major, node.minor, node.mode, uid, gid))
    return found


def check_set_id(rules: Rules, set_id: Mapping[str, str]) -> None:
    """Raise `UserError` for a package's set-id file that [files] of rootfs.toml does not list.

    set_id: path -> package.  Without a rule the file would lose its set-id bit and not work.
    """
    for name, package in sorted(set_id.items()):
        if not matches(name, rules.files):
            raise UserError(
                f"package {package}: {name} is set-uid or set-gid, but {RULES.name} does not say so",
                "give it a mode in [files], or leave it out by [keep] or drop",
            )


def check_links(root: Path) -> None:
    """Raise `UserError` for a link whose target is not in the root: the rules left the target out."""
    names = {name for name, _ in _walk(root)}
    for name in sorted(names):
        path = root / name
        if not path.is_symlink():
            continue
        target = os.path.normpath(os.path.join("/", os.path.dirname(name), os.readlink(path)))
        if not target.startswith(("/proc/", "/dev/", "/sys/")) and not _has_target(root, path):
            raise UserError(
                f"{name} leads to {target}, which is not in the root",
                f"keep the target or drop the link in {RULES.name}",
            )


def _has_target(root: Path, path: Path) -> bool:
    try:
        return os.path.lexists(_resolve_link(root, path))
    except UserError:
        return False


# --- the stage -------------------------------------------------------------


def unpack_packages(
    rules: Rules, packages: Mapping[str, Path], libraries_of: Mapping[str, Path], root: Path
) -> dict[str, str]:
    """Fill the folder `root` from `packages`.  Return the set-id files, path -> package.

    packages, libraries_of: name -> .deb.  Of those in `libraries_of`, only the libraries are taken
    that programs of the root need, and those that the rules name.
    """
    set_id: dict[str, str] = {}
    for package, deb in sorted(packages.items()):
        with scratch_folder(root.parent, "deb") as folder:
            unpacked = folder / "content"
            debian_package.unpack_deb(deb, unpacked)
            set_id |= dict.fromkeys(merge(rules, package, unpacked, root), package)
    with scratch_folder(root.parent, "libraries") as folder:
        pool = [libraries.unpacked(deb, folder / name) for name, deb in sorted(libraries_of.items())]
        files = libraries.files_below(root)
        for path, file in libraries.complete(files, {}, libraries.finder(pool), rules.libraries).items():
            _make_folder(root, Path(path.lstrip("/")).parent, "a library's package")
            os.rename(file, root / path.lstrip("/"))
    return set_id


def assemble(
    rules: Rules,
    architecture: Architecture,
    packages: Mapping[str, Path],
    libraries_of: Mapping[str, Path],
    overlays: Sequence[Path],
    root: Path,
    profile: str,
    cached: Path,
) -> None:
    """Create the folder `root` from packages, `overlays` and the rules.

    packages, libraries_of: as in `unpack_packages`.  overlays: folders, the last of which wins.
    cached: the folder that keeps the packages' files for the next build.  Raises `UserError` for
    files of the same path, missing libraries, dangling links and rules that match nothing.
    """
    set_id = package_tree.link_cached(
        cached,
        # A folder that other code has filled may hold other files.
        [
            code.digest(__name__),
            rules.drop,
            rules.keep,
            rules.libraries,
            {name: sha256_file(deb) for name, deb in sorted(packages.items())},
            {name: sha256_file(deb) for name, deb in sorted(libraries_of.items())},
        ],
        lambda folder: unpack_packages(rules, packages, libraries_of, folder),
        root,
    )
    check_set_id(rules, set_id)
    for overlay in overlays:
        add_overlay(overlay, root)
    for name in rules.folders:
        _make_folder(root, Path(name), RULES.name)
    for name, target in (rules.links | loader_links(architecture)).items():
        _link(root, name, target)
    add_busybox(rules, architecture, root)
    check_links(root)
    check_root(root, profile, cached.with_name("libraries.good"))


def build(settings: Settings) -> None:
    """Write the base root (rootfs64.gz or rootfs.gz) and rootfs.index from core.packages and `rootfs/`.

    Raises `UserError` as `assemble` does, for a package that was not fetched, and if there is a
    secret in the root.
    """
    rules = rootfs_rules.load()
    core = settings.profile.core
    part = settings.paths.lock_part("rootfs")
    debs = inputs.package_files(settings.paths, part, core.packages)
    more = inputs.library_packages(settings.paths, part, CORE)
    parts = of_profile(settings.paths, settings.profile, "rootfs")
    with scratch_folder(settings.paths.output, "rootfs") as scratch:
        root = scratch / "root"
        cached = settings.paths.core_parts / "packages"
        name = settings.paths.name
        assemble(rules, settings.profile.architecture, debs, more, overlays(), root, name, cached)
        found = arranged(members(rules, root))
    for overlay in overlays():
        # The mode of a tree's rootfs/ tells of the umask of the tree.
        secrets.refuse_private("the base root", overlay, RULES if overlay == OVERLAY else overlay.parent)
    secrets.refuse_in_members("the base root", found, settings.paths.core_parts / "rootfs.clean")
    (packed,) = parts.pack([found])
    write_atomic(settings.paths.rootfs, packed)
    parts.remove_unused()
    write_if_changed(settings.paths.output / "rootfs.index", index(found))
    count = f"{len(found)} members from {len({*debs, *more})} packages"
    logger.info(f"{settings.paths.rootfs.name}: {len(packed):,} bytes, {count}, {parts.summary()}")


def index(found: Iterable[Member]) -> str:
    """Return the text of rootfs.index: a line a member with mode, owner, path and what it is.

    The last is a link's target, or the sha256 of a library or of ld.so's configuration.
    Extensions depend on this file, so a change inside a script rebuilds none of them.
    """
    lines = []
    for member in found:
        more = "-"
        if member.kind == stat.S_IFLNK:
            more = f"-> {cpio.decode(member.data)!r}"
        elif ".so" in member.name.rsplit("/", 1)[-1] or member.name.startswith("etc/ld.so.conf.d/"):
            more = hashlib.sha256(member.data).hexdigest()
        lines.append(f"{member.mode:o} {member.uid}:{member.gid} {member.name!r} {more}\n")
    return "".join(sorted(lines))

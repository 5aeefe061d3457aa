# SPDX-License-Identifier: MIT
"""Build extensions: NAME.tcz and its side files .dep, .md5.txt, .info and .list.

A .tcz is a squashfs of paths below `/`, with 4 KiB blocks and no xattrs, as Tiny Core's page
"Creating extensions" requires.  `.dep` has one extension a line, `.md5.txt` is `md5sum` output,
and `.list` has one path a line.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.checks import conflicts, libraries, programs, secrets
from tasks.checks.left_out import LeftOut
from tasks.config import inputs, plan
from tasks.config import recipe as recipes
from tasks.config.architecture import Architecture
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.config.settings import Paths, Settings
from tasks.extensions import collect
from tasks.formats import elf, initramfs_file
from tasks.formats import libraries as shared
from tasks.formats.initramfs_unpacker import RootFs
from tasks.formats.squashfs import squashfs_members
from tasks.origins.kinds.base import ModuleBuilder, no_kernel
from tasks.toolchain import tools
from tasks.util import jobserver
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, atomic_path, remove_tree, scratch_folder, write_atomic
from tasks.util.log import logger
from tasks.util.text import NO_LINE, shortened

INSTALLED = "usr/local/tce.installed"
STAFF = 50  # Tiny Core's group of the users who may install extensions
SHOWN = 5


def build(settings: Settings, name: str, modules: ModuleBuilder = no_kernel) -> None:
    """Build the extension `name` in artifacts/PROFILE/tcz/.  The same inputs give the same bytes.

    modules: builds kernel modules, if the recipe has some.
    The base root and the extension's dependencies must exist.  Raises `UserError` if a path comes twice or
    is in a dependency too, if the base's BusyBox hides a program, if a library, a version of its symbols or
    a script's interpreter is missing, if a program is for another machine or has no x bit, if one has a
    set-id bit that the recipe does not declare, if a file holds a secret (tasks/checks/secrets.py), if the
    recipe's own files include a pipe, a socket or a device, or if there is no file at all.
    """
    recipes.refuse_special_files(name)
    recipe = plan.recipe_to_build(settings.profile, name)
    deps = plan.needed_by(settings.paths, settings.profile, name)
    base = base_root(settings.paths, settings.profile)
    listings = {dep: conflicts.listing(settings.paths, dep) for dep in deps}
    below = {"the base": list(base.members().values())}
    below |= {f"extension {dep}": squashfs_members(settings.paths.tcz / f"{dep}.tcz") for dep in deps}
    root = settings.paths.output / "tcz-root" / name
    left_out: list[LeftOut] = []
    with tempfile.TemporaryDirectory(prefix="tcbuild-libraries-") as extracted, atomic_dir(root) as top:
        for origin in recipe.origin:
            left_out += collect.collect(settings, name, origin, top, modules)
        copy_recipe_files(name, recipe, top)
        there = {
            owner: shared.extract(members, Path(extracted, str(number)))
            for number, (owner, members) in enumerate(below.items())
        }
        add_libraries(settings.paths, name, there, top)
        check_libraries(settings.paths, settings.profile.architecture, name, recipe, top, there, left_out)
    try:
        listing = sorted(f"{path.relative_to(root)}" for path in root.rglob("*") if not _is_folder(path))
        _check_names(name, listing)
        conflicts.refuse({**listings, name: listing})
        conflicts.refuse_hidden(name, listing, base, own_root=settings.profile.core.rootfs)
        top = recipes.folder(name) / "files"
        own = {str(path.relative_to(top)) for path in recipes.own_files(name)} | recipe.links.keys()
        programs.check(name, settings.profile.architecture, root, listing, below, own, left_out)
        check_set_id(name, recipe, root)
        folder = recipes.folder(name)
        secrets.refuse_in_table(f"extension {name}", {"info": dataclasses.asdict(recipe.info)})
        secrets.refuse_private(f"extension {name}", folder / "files", folder / "recipe.toml")
        secrets.refuse_in_files(f"extension {name}", [(path, root / path) for path in listing])
        _log_hidden_files(name, listing, base)
        pack(
            settings.paths,
            settings.profile,
            name,
            recipe,
            root,
            base,
            listing,
            stated_version(settings.paths, name, recipe),
        )
    finally:
        remove_tree(root)


def base_root(paths: Paths, profile: Profile) -> RootFs:
    """Return the profile's base root.  Raises `UserError` if it is neither built nor fetched."""
    files = inputs.base_archives(paths, profile)
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} does not exist, and extensions are checked against it", "./doit rootfs")
    return _read_root(tuple((path, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=1)
def _read_root(states: tuple[tuple[Path, int], ...]) -> RootFs:
    """Return the root of the archives.  All extensions of a run share it, and none changes it."""
    return initramfs_file.unpacked(
        archive for path, _ in states for archive in initramfs_file.read_core(path)
    )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def copy_recipe_files(name: str, recipe: Recipe, root: Path) -> None:
    """Copy extensions/NAME/files/ over the files from the origins, and make the recipe's links."""
    top = recipes.folder(name) / "files"
    for path in recipes.own_files(name):
        target = _cleared(root / path.relative_to(top))
        shutil.copyfile(path, target, follow_symlinks=False)
        if not path.is_symlink():
            target.chmod(0o755 if recipes.executable(path) else 0o644)
    for link, leads_to in recipe.links.items():
        _cleared(root / link).symlink_to(leads_to)


def _cleared(target: Path) -> Path:
    """Return `target`, whose folder exists, and at which no file does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        target.unlink()
    return target


def _check_names(name: str, listing: Sequence[str]) -> None:
    """Raise `UserError` if there is no path, or one that `.list` (a path a line) cannot hold."""
    if not listing:
        raise UserError(f"extension {name} would be empty", "check `keep` in its recipe")
    for path in listing:
        if NO_LINE.search(path):
            hint = "rename the file, or leave it out by `drop` in the recipe"
            raise UserError(f"extension {name}: a file has a name that no list can hold: {path!r}", hint)


def add_libraries(paths: Paths, name: str, below: Mapping[str, Mapping[str, Path]], root: Path) -> None:
    """Add the libraries that the files in `root` need, from the packages that the lock names for them.

    below: the libraries of the base and of the dependencies, which are not added again.
    """
    part = paths.extension_lock(name)
    debs = inputs.library_packages(paths, part, name)
    if not debs:
        return
    with scratch_folder(root.parent, "libraries") as folder:
        pool = [shared.unpacked(deb, folder / package) for package, deb in sorted(debs.items())]
        there = libraries.merged(below)
        for path, file in shared.complete(shared.files_below(root), there, shared.finder(pool)).items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(file, target)


def check_libraries(
    paths: Paths,
    architecture: Architecture,
    name: str,
    recipe: Recipe,
    root: Path,
    below: Mapping[str, Mapping[str, Path]],
    left_out: Sequence[LeftOut],
) -> None:
    files = shared.files_below(root)
    if not any(elf.is_elf(path) for path in files.values() if path.is_file() and not path.is_symlink()):
        return
    packages = {package for origin in recipe.origin for package in origin.apt_packages()}
    debs = inputs.package_files(paths, paths.extension_lock(name), packages) if packages else {}
    made_of = [debs[package] for package in sorted(packages)]
    libraries.check(name, architecture, files, below, made_of, left_out)


def check_set_id(name: str, recipe: Recipe, root: Path) -> None:
    """Raise `UserError` unless the set-id files are exactly those that the recipe declares."""
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_symlink() and path.is_file() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    }
    for path in sorted(found - set(recipe.setuid)):
        hint = f'leave it out by `drop`, or declare it in the recipe: setuid = ["{path}"]'
        raise UserError(f"extension {name}: {path} would run as its owner or group, whoever starts it", hint)
    for path in sorted(set(recipe.setuid) - found):
        raise UserError(f"extension {name}: {path} has no set-id bit", "correct `setuid` in its recipe")


def _log_hidden_files(name: str, listing: Sequence[str], base: RootFs) -> None:
    hidden = [path for path in listing if base.find(path) is not None]
    if hidden:
        logger.info(f"{name}.tcz: the base has {shortened(hidden, SHOWN)} too, and tce-load keeps the base's")


def pack(
    paths: Paths,
    profile: Profile,
    name: str,
    recipe: Recipe,
    root: Path,
    base: RootFs,
    listing: Sequence[str],
    version: str,
) -> None:
    """Write `root` as NAME.tcz with its side files.

    base: the root that decides the owners of folders; listing: the paths of all but folders, for
    .list.  Raises `UserError` if mksquashfs fails.
    """
    epoch = str(profile.source_date_epoch)
    final = paths.tcz / f"{name}.tcz"
    log = paths.logs / f"tcz-{name}.log"
    log.unlink(missing_ok=True)
    with (
        atomic_path(final) as partial,
        scratch_folder(paths.output, "owners") as scratch,  # the toolchain's programs see it
        jobserver.tokens() as processors,  # their number does not change the squashfs
    ):
        partial.unlink()  # mksquashfs would append to it
        owners = scratch / "owners.pseudo"
        owners.write_text("".join(f"{line}\n" for line in owner_lines(root, base)))
        tools.of_profile(paths, profile).run(
            [
                *("mksquashfs", root, partial, "-b", "4096", "-no-xattrs", "-noappend", "-no-progress"),
                *("-pf", owners, "-root-uid", "0", "-root-gid", "0", "-root-mode", "0755"),
                *("-mkfs-time", epoch, "-all-time", epoch, "-processors", str(processors)),
            ],
            log=log,
        )
        digest = hashlib.md5(partial.read_bytes()).hexdigest()
        size = partial.stat().st_size
    write_atomic(paths.tcz / f"{name}.tcz.dep", plan.dep_text(profile, recipe.deps))
    write_atomic(paths.tcz / f"{name}.tcz.md5.txt", f"{digest}  {name}.tcz\n")
    write_atomic(paths.tcz / f"{name}.tcz.list", "".join(f"{line}\n" for line in listing))
    info = info_text(name, recipe, version, size, profile.source_date_epoch)
    write_atomic(paths.tcz / f"{name}.tcz.info", info)
    logger.info(f"{name}.tcz: {size:,} bytes, {len(listing)} files")


def owner_lines(root: Path, base: RootFs) -> list[str]:
    """Return mode and owner of each path in an extension, as lines of a mksquashfs pseudo file.

    Owner is root:root and folders are 0755, with two exceptions.  A folder that the base has
    keeps the base's mode and owner, because tce-load sets those of the extension on it.
    tce.installed is 0775 and of group staff, as on Tiny Core.
    """
    lines = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        existing = base.find(name, follow=True)
        mode, uid, gid = stat.S_IMODE(path.lstat().st_mode), 0, 0
        if _is_folder(path):
            mode = 0o755
            if existing is not None and existing.is_dir:
                mode, uid, gid = stat.S_IMODE(existing.mode), existing.uid, existing.gid
            elif name == INSTALLED:
                mode, gid = 0o775, STAFF
        elif path.is_symlink():
            mode = 0o777
        elif path.parent == root / INSTALLED:
            mode, gid = mode | 0o020 | (0o010 if mode & 0o100 else 0), STAFF
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'"{quoted}" m {mode:o} {uid} {gid}')
    return lines


def stated_version(paths: Paths, name: str, recipe: Recipe) -> str:
    """Return the version that the first origin states, else that of the first apt package, else 1."""
    if recipe.origin and recipe.origin[0].stated_version():
        return recipe.origin[0].stated_version()
    packages = [package for origin in recipe.origin for package in origin.apt_packages()]
    if not packages:
        return "1"
    return inputs.locked_packages(paths.extension_lock(name), packages[:1])[0].version


def info_text(name: str, recipe: Recipe, version: str, size: int, epoch: int) -> str:
    """Return the text of the .info file in Tiny Core's layout: `Label:`, white space, the value.

    size: bytes; epoch: seconds since 1970, for the dates.
    """
    size_field = f"{size / 1024:.0f}K" if size < 1 << 20 else f"{size / (1 << 20):.1f}M"
    info = recipe.info
    fields = [
        ("Title", f"{name}.tcz"),
        ("Description", info.description),
        ("Version", version),
        ("Author", info.author),
        ("Original-site", info.original_site),
        ("Copying-policy", info.copying_policy),
        ("Size", size_field),
        ("Extension_by", "tcbuild"),
        ("Tags", " ".join(info.tags)),
    ]
    lines = [f"{label + ':':<16}{value}".rstrip() for label, value in fields]
    comments = [*info.comments, *(f"Needs the bootcode {code}." for code in recipe.bootcodes)]
    for number, comment in enumerate(comments):
        lines.append(f"{'Comments:' if number == 0 else '':<16}{comment}")
    stamp = time.strftime("%Y/%m/%d", time.gmtime(epoch))
    lines += [f"{'Change-log:':<16}{stamp} {version}", f"{'Current:':<16}{stamp} {version}"]
    return "\n".join(lines) + "\n"

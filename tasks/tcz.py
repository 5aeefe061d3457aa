"""Build extensions: NAME.tcz and beside it .dep, .md5.txt, .info and .list.

A tcz is a squashfs of paths below `/` (block size 4k, no xattrs, root:root, as
Tiny Core's "Creating extensions" page asks), `.dep` names one extension a line,
`.md5.txt` is `md5sum` output, `.list` holds one path a line.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import time
from pathlib import Path

from tasks import apt, fetch, recipe
from tasks.errors import UserError
from tasks.files import atomic_dir, atomic_path, remove_tree, write_atomic
from tasks.profile import Settings
from tasks.recipe import Recipe
from tasks.run import run, say

SIDE_FILES = (".dep", ".info", ".list", ".md5.txt")


def build(settings: Settings, name: str) -> None:
    """Make one extension in `artifacts/PROFILE/tcz/`.  Raises `UserError` if its files clash or lack."""
    made = recipe.load(name)
    root = settings.output / "tcz-root" / name
    with atomic_dir(root) as folder:
        for origin in made.origin:
            _from_apt(settings, folder, origin.packages, origin.keep)
        own = recipe.folder(name) / "files"
        if own.is_dir():
            shutil.copytree(own, folder, symlinks=True, dirs_exist_ok=True)
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        if not any(path.is_file() for path in folder.rglob("*")):
            raise UserError(f"extension {name} would be empty", "check `keep` in its recipe")
    _pack(settings, name, made, root)
    remove_tree(root)


def _from_apt(settings: Settings, folder: Path, packages: tuple[str, ...], keep: tuple[str, ...]) -> None:
    cached = fetch.package_files(settings)
    for package in packages:
        unpacked = folder.with_name(f".{folder.name}.deb")
        remove_tree(unpacked)
        try:
            apt.unpack_deb(cached[package], unpacked)
            for path in sorted(unpacked.rglob("*")):
                name = str(path.relative_to(unpacked))
                if (path.is_dir() and not path.is_symlink()) or not _kept(name, keep):
                    continue
                target = folder / name
                if os.path.lexists(target):
                    raise UserError(f"{package} brings {name} a second time")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)
        finally:
            remove_tree(unpacked)


def _kept(name: str, keep: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in keep)


def _pack(settings: Settings, name: str, made: Recipe, root: Path) -> None:
    epoch = str(settings.profile.source_date_epoch)
    final = settings.tcz / f"{name}.tcz"
    with atomic_path(final) as partial:
        partial.unlink()  # mksquashfs would append to it
        run(
            [
                *("mksquashfs", root, partial, "-b", "4096", "-no-xattrs", "-all-root", "-noappend"),
                *("-mkfs-time", epoch, "-all-time", epoch, "-no-progress"),
            ],
            log=settings.logs / f"tcz-{name}.log",
        )
        digest = hashlib.md5(partial.read_bytes()).hexdigest()
        size = partial.stat().st_size
    listing = sorted(f"{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir())
    write_atomic(settings.tcz / f"{name}.tcz.dep", "".join(f"{dep}.tcz\n" for dep in made.deps))
    write_atomic(settings.tcz / f"{name}.tcz.md5.txt", f"{digest}  {name}.tcz\n")
    write_atomic(settings.tcz / f"{name}.tcz.list", "".join(f"{line}\n" for line in listing))
    info = info_text(name, made, _version(settings, made), size, settings.profile.source_date_epoch)
    write_atomic(settings.tcz / f"{name}.tcz.info", info)
    say(f"{name}.tcz: {size:,} bytes, {len(listing)} files")


def _version(settings: Settings, made: Recipe) -> str:
    first = next((origin.packages[0] for origin in made.origin if origin.packages), "")
    versions = {package.name: package.version for package in fetch.used_lock(settings).package}
    return versions.get(first, "1")


def info_text(name: str, made: Recipe, version: str, size: int, epoch: int) -> str:
    """Return the .info file, in Tiny Core's layout: a label, a colon, tabs, the value."""
    human = f"{size / 1024:.0f}K" if size < 1 << 20 else f"{size / (1 << 20):.1f}M"
    info = made.info
    fields = [
        ("Title", f"{name}.tcz"),
        ("Description", info.description),
        ("Version", version),
        ("Author", info.author),
        ("Original-site", info.original_site),
        ("Copying-policy", info.copying_policy),
        ("Size", human),
        ("Extension_by", "tcbuild"),
        ("Tags", " ".join(info.tags)),
    ]
    lines = [f"{label + ':':<16}{value}".rstrip() for label, value in fields]
    for number, comment in enumerate(info.comments):
        lines.append(f"{'Comments:' if number == 0 else '':<16}{comment}")
    stamp = time.strftime("%Y/%m/%d", time.gmtime(epoch))
    lines += [f"{'Change-log:':<16}{stamp} {version}", f"{'Current:':<16}{stamp} {version}"]
    return "\n".join(lines) + "\n"

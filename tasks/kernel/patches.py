# SPDX-License-Identifier: MIT
"""Patch series on the kernel tree: applied in order, reverted in reverse order.

`patches/SERIES/series` lists one patch file a line, as quilt does.  The tree keeps a copy of
each applied patch.  A changed series therefore reverts only the patches that changed, and
`make` sees new mtimes for exactly the files that differ.  (A tree unpacked anew would have
old mtimes, and `make` would keep stale objects.)
"""

from __future__ import annotations

import re
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.process import run

APPLIED = ".tcbuild/applied"
"""In the tree: the folder of the applied patches, `NNNN-NAME`, in their order."""

# A line of a patch that names a file, without the first folder, as `patch -p1` reads it.
FILE_LINE = re.compile(r"^(?:---|\+\+\+) [^/\s]+/([^\t\n]+)", re.MULTILINE)


def series(profile: Profile) -> list[Path]:
    """Return the patch files of the profile's series, in order.

    Raises `UserError` if the series or one of its patches does not exist.
    """
    name = profile.kernel.patches
    if not name:
        return []
    folder = CHECKOUT.patches / name
    order = folder / "series"
    if not order.is_file():
        known = sorted(path.parent.name for path in CHECKOUT.patches.glob("*/series"))
        raise UserError(f"there is no patch series {name!r}", f"patches/ holds: {', '.join(known) or 'none'}")
    lines = [line.split("#")[0].strip() for line in order.read_text().splitlines()]
    files = [folder / line for line in lines if line]
    for file in files:
        if not file.is_file():
            raise UserError(f"{order} names {file.name}, which does not exist")
    return files


def apply(paths: Paths, profile: Profile) -> None:
    """Apply the profile's patch series to the kernel tree, and revert patches of an older series.

    Raises `UserError` naming the patch that does not apply.  The tree then has the
    patches before it, and the next run continues from there.
    """
    sync(paths.linux, series(profile), paths.logs / "patches.log")


def sync(tree: Path, wanted: list[Path], log: Path) -> None:
    """Make `wanted` the patches applied to `tree`, in that order.

    Raises `UserError` if a patch can be neither applied nor reverted.
    """
    folder = tree / APPLIED
    folder.mkdir(parents=True, exist_ok=True)
    applied = sorted(folder.iterdir())
    kept = 0
    for applied_patch, wanted_patch in zip(applied, wanted, strict=False):
        if applied_patch.read_bytes() != wanted_patch.read_bytes():
            break
        kept += 1
    for applied_patch in reversed(applied[kept:]):
        if _applies(tree, applied_patch, reverse=True):
            _patch(tree, applied_patch, log, reverse=True)
        elif not _applies(tree, applied_patch, reverse=False):
            raise UserError(
                f"the kernel tree no longer matches the patches applied to it ({applied_patch.name})",
                f"remove {tree} to unpack it again",
            )
        applied_patch.unlink()
    for number, wanted_patch in enumerate(wanted[kept:], kept + 1):
        # A run killed after it patched and before it recorded that has left the patch applied.
        if _applies(tree, wanted_patch, reverse=False):
            _patch(tree, wanted_patch, log, reverse=False)
            logger.info(f"applied {wanted_patch.name}")
        elif not _applies(tree, wanted_patch, reverse=True):
            raise _does_not_apply(tree, wanted_patch)
        write_atomic(folder / f"{number:04}-{wanted_patch.name}", wanted_patch.read_bytes())
    write_if_changed(tree / ".tcbuild/series", listing(wanted))


def touched_files(tree: Path) -> set[str]:
    """Return the paths of the files that the patches applied to `tree` change."""
    applied = (tree / APPLIED).glob("*")
    return {path for patch in applied for path in FILE_LINE.findall(patch.read_text(errors="replace"))}


def listing(wanted: list[Path]) -> str:
    """Return the checksums of a patch series: a line of sha256sum(1) for each patch, in order."""
    return "".join(f"{sha256_file(path)}  {path.name}\n" for path in wanted)


def _argv(patch: Path, reverse: bool) -> list[str | Path]:
    how = ["--batch", "--fuzz=0", "--no-backup-if-mismatch", "--reverse" if reverse else "--forward"]
    return ["patch", "-p1", *how, "-i", patch.absolute()]


def _applies(tree: Path, patch: Path, *, reverse: bool) -> bool:
    return run([*_argv(patch, reverse), "--dry-run"], cwd=tree, check=False).status == 0


def _patch(tree: Path, patch: Path, log: Path, *, reverse: bool) -> None:
    run(_argv(patch, reverse), cwd=tree, log=log)


def _does_not_apply(tree: Path, patch: Path) -> UserError:
    output = run([*_argv(patch, False), "--dry-run"], cwd=tree, check=False).stdout
    detail = "\n".join(f"  | {line}" for line in output.splitlines()[:20])
    return UserError(
        f"patch {patch.name} does not apply to this kernel source",
        "refresh it for this version, or take it out of the series",
        detail,
    )

"""Patch series on the kernel tree: applied in order, taken back in reverse.

`patches/SERIES/series` lists patch files one a line, as quilt does.  What has
been applied is kept inside the tree, so that a changed series undoes only what
changed and `make` sees new mtimes for exactly the files that differ.  (Unpacking
the tree anew would bring old mtimes back, and stale objects with them.)
"""

from __future__ import annotations

from pathlib import Path

from tasks.config.settings import Settings
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.process import run

APPLIED = ".tcbuild/applied"


def series(settings: Settings) -> list[Path]:
    """Return the patch files of the profile's series, in order.

    Raises `UserError` if the series or one of its patches does not exist.
    """
    name = settings.profile.kernel.patches
    if not name:
        return []
    folder = ROOT / "patches" / name
    order = folder / "series"
    if not order.is_file():
        known = sorted(path.parent.name for path in (ROOT / "patches").glob("*/series"))
        raise UserError(f"there is no patch series {name!r}", f"patches/ holds: {', '.join(known) or 'none'}")
    lines = [line.split("#")[0].strip() for line in order.read_text().splitlines()]
    files = [folder / line for line in lines if line]
    for file in files:
        if not file.is_file():
            raise UserError(f"{order} names {file.name}, which does not exist")
    return files


def apply(settings: Settings) -> None:
    """Bring the kernel tree from the patches it has to the patches of the profile.

    Raises `UserError` naming the patch that does not apply; the tree then holds
    the patches before it, and the next run goes on from there.
    """
    sync(settings.linux, series(settings), settings.logs / "patches.log")


def sync(tree: Path, wanted: list[Path], log: Path) -> None:
    """Make `tree` carry exactly `wanted`, in that order."""
    folder = tree / APPLIED
    folder.mkdir(parents=True, exist_ok=True)
    applied = sorted(folder.iterdir())
    keep = 0
    for have, want in zip(applied, wanted, strict=False):
        if have.read_bytes() != want.read_bytes():
            break
        keep += 1
    for have in reversed(applied[keep:]):
        if _try(tree, have, reverse=True):
            _patch(tree, have, log, reverse=True)
        elif not _try(tree, have, reverse=False):
            raise UserError(
                f"the kernel tree no longer matches the patches applied to it ({have.name})",
                f"remove {tree} to unpack it again",
            )
        have.unlink()
    for number, want in enumerate(wanted[keep:], keep + 1):
        # A run killed between patching and noting it down left the patch applied.
        if _try(tree, want, reverse=False):
            _patch(tree, want, log, reverse=False)
            logger.info(f"applied {want.name}")
        elif not _try(tree, want, reverse=True):
            raise _does_not_apply(tree, want)
        write_atomic(folder / f"{number:04}-{want.name}", want.read_bytes())
    write_if_changed(tree / ".tcbuild/series", listing(wanted))


def listing(wanted: list[Path]) -> str:
    """Return what tells one patch series from another: `sha256sum` lines, in order."""
    return "".join(f"{sha256_file(path)}  {path.name}\n" for path in wanted)


def _argv(patch: Path, reverse: bool) -> list[str | Path]:
    how = ["--batch", "--fuzz=0", "--no-backup-if-mismatch", "--reverse" if reverse else "--forward"]
    return ["patch", "-p1", *how, "-i", patch.absolute()]


def _try(tree: Path, patch: Path, *, reverse: bool) -> bool:
    return run([*_argv(patch, reverse), "--dry-run"], cwd=tree, check=False).status == 0


def _patch(tree: Path, patch: Path, log: Path, *, reverse: bool) -> None:
    run(_argv(patch, reverse), cwd=tree, log=log)


def _does_not_apply(tree: Path, patch: Path) -> UserError:
    said = run([*_argv(patch, False), "--dry-run"], cwd=tree, check=False).stdout
    detail = "\n".join(f"  | {line}" for line in said.splitlines()[:20])
    return UserError(
        f"patch {patch.name} does not apply to this kernel source",
        "refresh it for this version, or take it out of the series",
        detail,
    )

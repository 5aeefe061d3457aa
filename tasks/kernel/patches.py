# SPDX-License-Identifier: MIT
"""Patch series on the kernel tree: applied in order, reverted in reverse order.

`patches/SERIES/series` lists one patch file a line, as quilt does.  A patch may say in its header
for which releases it is: `Releases: 5.4 to 5.4.95`.  Other releases leave it out.  A patch that the
source has already is left out, too; only a conflict is an error.

The tree keeps a copy of each applied patch.  A changed series therefore reverts only the patches
that changed, and `make` sees new mtimes for exactly the files that differ.  (A tree unpacked anew
would have old mtimes, and `make` would keep stale objects.)
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from tasks.config.kernel_source import CONFIGURATION_SERIES, SERIES
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel import edited_tree
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.process import run, shell_command

APPLIED = ".tcbuild/applied"
"""In the tree: a folder with a copy of each patch of the series in their order, `NNNN-NAME`.  The name
of a patch that is left out ends with `OTHER_RELEASE` or `IN_SOURCE`."""
OTHER_RELEASE, IN_SOURCE = ".other-release", ".in-source"
OUTCOME = ".tcbuild/patches"
"""In the tree: a line for each patch of the series, which says whether it is applied."""
STARTED = ".tcbuild/patching"
"""In the tree: a copy of the patch that is being applied; a killed run leaves it."""
# Lines of a patch that name a file, without the first folder, as `patch -p1` reads it.  A patch of git
# that only renames, copies, empties or changes a mode has no `---` and `+++` (git-diff(1)).
FILE_LINES = (
    re.compile(r"^(?:---|\+\+\+) [^/\s]+/([^\t\n]+)", re.MULTILINE),
    re.compile(r"^diff --git [^/\s]+/([^\n]+) [^/\s]+/\1$", re.MULTILINE),
    re.compile(r"^(?:rename|copy) (?:from|to) ([^\n]+)", re.MULTILINE),
)
# The first line of a patch that is no header.
FIRST_FILE = re.compile(r"^(?:--- |diff --git )", re.MULTILINE)
# In the header of a patch: the first and the last release it is for.  However it is written, it counts:
# a misspelt one would make the patch one for all releases.
RELEASES = re.compile(r"^[ \t]*releases?[ \t]*:[ \t]*(.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
RANGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})*) to (\d{1,9}(?:\.\d{1,9})*)")
HINT = "write for example: Releases: 5.4 to 5.4.95"
VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL)[ \t]*=[ \t]*(\d+)", re.MULTILINE)


def series(profile: Profile) -> list[Path]:
    """Return the patch files of the profile's series, in order.

    Raises `UserError` if the series or one of its patches does not exist.
    """
    name = profile.kernel.patches
    if not name:
        return []
    order = CHECKOUT.find("patches", f"{name}/series")
    folder = order.parent
    if not order.is_file():
        known = [path.parent.name for path in CHECKOUT.found("patches", "*/series").values()]
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
    """Make `wanted` the patches of `tree`, in that order; leave out those that are not for its source.

    Raises `UserError` if a patch can be neither applied nor reverted, and if its header is wrong.
    """
    folder = tree / APPLIED
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted(folder.iterdir())
    source = release(tree)
    other_release = {patch for patch in wanted if not _is_for(patch, source)}
    kept = 0
    for known_patch, wanted_patch in zip(known, wanted, strict=False):
        same = known_patch.read_bytes() == wanted_patch.read_bytes()
        if not same or (known_patch.suffix == OTHER_RELEASE) != (wanted_patch in other_release):
            break
        kept += 1
    for known_patch in reversed(known[kept:]):
        if not known_patch.name.endswith((OTHER_RELEASE, IN_SOURCE)):
            _revert(tree, known_patch, log)
        known_patch.unlink()
    for number, patch in enumerate(wanted[kept:], kept + 1):
        ending = OTHER_RELEASE if patch in other_release else _apply(tree, wanted[number - 1 :], log)
        write_atomic(folder / f"{number:04}-{patch.name}{ending}", patch.read_bytes())
        (tree / STARTED).unlink(missing_ok=True)
        logger.info(f"patches: {_outcome(tree, patch, ending)}")
    outcomes = [
        _outcome(tree, patch, path.suffix)
        for path, patch in zip(sorted(folder.iterdir()), wanted, strict=True)
    ]
    write_if_changed(tree / OUTCOME, "".join(f"{line}\n" for line in outcomes))
    write_listings(tree, wanted)


def write_listings(tree: Path, wanted: list[Path]) -> None:
    """Write into a tree which patches are its series, and which of them the configuration depends on."""
    write_if_changed(tree / SERIES, listing(wanted))
    write_if_changed(tree / CONFIGURATION_SERIES, listing(for_configuration(wanted)))


def release(tree: Path) -> tuple[int, ...]:
    """Return VERSION, PATCHLEVEL and SUBLEVEL of the tree's Makefile; () if it has none."""
    try:
        found = dict(VERSION.findall((tree / "Makefile").read_text(errors="replace")))
        return int(found["VERSION"]), int(found["PATCHLEVEL"]), int(found.get("SUBLEVEL", "0"))
    except (OSError, KeyError):
        return ()


def _releases(patch: Path) -> str:
    """Return the `Releases:` of a patch's header, "" if it has none.  Raises `UserError` if it is empty."""
    found = RELEASES.search(FIRST_FILE.split(patch.read_text(errors="replace"), maxsplit=1)[0])
    if found and not found[1]:
        raise UserError(f"{patch}: Releases: is empty", HINT)
    return found[1] if found else ""


def _is_for(patch: Path, release: tuple[int, ...]) -> bool:
    """Tell whether a patch is for a release.  Raises `UserError` if its header is wrong."""
    text = _releases(patch)
    if not text:
        return True
    found = RANGE.fullmatch(text)
    if not found:
        raise UserError(f"{patch}: Releases: {text}: not a range", HINT)
    # "to 5.4" means all of 5.4.
    first, last = (
        [*map(int, part.split(".")), end, end][:3]
        for part, end in zip(found.groups(), (0, sys.maxsize), strict=True)
    )
    if first > last:
        raise UserError(f"{patch}: Releases: {text}: the first release is the later one")
    return not release or first <= [*release] <= last


def _outcome(tree: Path, patch: Path, ending: str) -> str:
    """Return what became of a patch, as a line for a person and for the manifest."""
    if ending == OTHER_RELEASE:
        source = ".".join(map(str, release(tree)))
        return f"{patch.name}: left out, it is for {_releases(patch)} and the source is {source}"
    return f"{patch.name}: {'left out, the source has it' if ending == IN_SOURCE else 'applied'}"


def _apply(tree: Path, rest: list[Path], log: Path) -> str:
    """Apply the first patch of `rest`; return `IN_SOURCE` if the source has it, else "".

    Raises `UserError` if it conflicts with the source.
    """
    patch = rest[0]
    if _applies(tree, patch, reverse=False):
        write_atomic(tree / STARTED, patch.read_bytes())
        _patch(tree, patch, log, reverse=False)
        return ""
    if not _is_in_source(tree, rest):
        raise _does_not_apply(tree, patch)
    # A run killed after it patched and before it recorded that has left the patch applied.
    started = tree / STARTED
    return "" if started.is_file() and started.read_bytes() == patch.read_bytes() else IN_SOURCE


def _is_in_source(tree: Path, rest: list[Path]) -> bool:
    """Tell whether the source has the first patch of `rest`, perhaps with later ones on top of it."""
    with scratch_folder(tree / ".tcbuild", "patches") as scratch:
        for path in _touched_by(rest):
            if (tree / path).is_file():
                (scratch / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / path, scratch / path)
        for patch in reversed(rest[1:]):
            if _applies(scratch, patch, reverse=True):
                _patch(scratch, patch, None, reverse=True)
        return _applies(scratch, rest[0], reverse=True)


def _revert(tree: Path, patch: Path, log: Path) -> None:
    if _applies(tree, patch, reverse=True):
        _patch(tree, patch, log, reverse=True)
    elif not _applies(tree, patch, reverse=False):
        raise UserError(
            f"the kernel tree no longer matches the patches applied to it ({patch.name})",
            f"remove {tree} to unpack it again",
        )


def outcome(tree: Path) -> str:
    """Return what became of each patch of the series: a line `NAME: applied`, or why it is left out."""
    path = tree / OUTCOME
    return path.read_text() if path.is_file() else ""


def commands(tree: Path, wanted: list[Path], outcomes: str) -> list[str]:
    """Return the command lines that apply those of the patches `wanted` which `outcomes` calls applied.

    outcomes: what `outcome` returned of some tree; tree: the new tree, which need not be there.
    """
    applied = set(outcomes.splitlines())
    files = [patch for patch in wanted if _outcome(tree, patch, "") in applied]
    return [shell_command([str(word) for word in _argv(patch, reverse=False)], tree, None) for patch in files]


def touched_files(tree: Path) -> set[str]:
    """Return the paths of the files on which the patches of `tree` depend: applied ones, or in its source."""
    known = [path for path in (tree / APPLIED).glob("*") if path.suffix != OTHER_RELEASE]
    headers = {"Makefile"} if any(_releases(path) for path in (tree / APPLIED).glob("*")) else set()
    return _touched_by(known) | headers


def _touched_by(files: Iterable[Path]) -> set[str]:
    texts = [file.read_text(errors="replace") for file in files]
    return {path for text in texts for pattern in FILE_LINES for path in pattern.findall(text)}


def for_configuration(wanted: Iterable[Path]) -> list[Path]:
    """Return the patches that may change what Kconfig reads: all but those of code and pages alone."""
    return [patch for patch in wanted if not _is_of_code_alone(patch)]


def _is_of_code_alone(patch: Path) -> bool:
    paths = _touched_by([patch])
    return bool(paths) and all(map(edited_tree.never_read_by_configuration, paths))


def listing(wanted: list[Path]) -> str:
    """Return the checksums of a patch series: a line of sha256sum(1) for each patch, in order."""
    return "".join(f"{sha256_file(path)}  {path.name}\n" for path in wanted)


def _argv(patch: Path, reverse: bool) -> list[str | Path]:
    # --batch would take a patch for reversed that looks so, and apply it where it is to be reverted.
    how = ["--reverse", "--force"] if reverse else ["--forward", "--batch"]
    return ["patch", "-p1", *how, "--fuzz=0", "--no-backup-if-mismatch", "-i", patch.absolute()]


def _applies(tree: Path, patch: Path, *, reverse: bool) -> bool:
    return run([*_argv(patch, reverse), "--dry-run"], cwd=tree, check=False).status == 0


def _patch(tree: Path, patch: Path, log: Path | None, *, reverse: bool) -> None:
    run(_argv(patch, reverse), cwd=tree, log=log)


def _does_not_apply(tree: Path, patch: Path) -> UserError:
    output = run([*_argv(patch, False), "--dry-run"], cwd=tree, check=False).stdout
    detail = "\n".join(f"  | {line}" for line in output.splitlines()[:20])
    return UserError(
        f"patch {patch.name} does not apply to this kernel source",
        "refresh it for this version, or say in its header which Releases: it is for",
        detail,
    )

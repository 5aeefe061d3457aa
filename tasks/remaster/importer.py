# SPDX-License-Identifier: MIT
"""`./doit import`: make a profile that builds the system on a medium again.

The kernel, the archives of the core, the extensions and the backup of the medium go into the cache.
The profile and its lock name them by sha256.  Nothing of the medium is run.
"""

from __future__ import annotations

import re
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.config import architecture, inheritance, inputs, plan
from tasks.config.profile import VOLUME_ID, Profile
from tasks.config.profile import load as load_profile
from tasks.formats.cpio import Member
from tasks.origins.lock import Lock, load_lock
from tasks.origins.sources.imported import ImportedSource
from tasks.remaster import core_difference, profile_file
from tasks.remaster.core_difference import Difference
from tasks.remaster.disks import open_medium
from tasks.remaster.take_over import Found, take
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, write_atomic, write_if_changed
from tasks.util.text import NO_LINE, as_typed, printable, shortened

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
AUTO = "auto"  # profile=auto chooses another profile
TOOLCHAIN = "debian12-images"  # nothing is compiled
FALLBACK_EPOCH = 1700000000
SHOWN = 20  # lines of a difference
MIB = 1 << 20


def table(found: Found, name: str, inherit: str) -> dict[str, Any]:
    """Return the profile for what was found, as TOML has it; name: of the medium, for its description."""
    made: dict[str, Any] = {"description": f"Imported from {name}", "imported": name}
    if found.kernel:
        made |= {"source_date_epoch": _epoch(found.root), "toolchain": TOOLCHAIN}
        if found.arch != architecture.DEFAULT:
            made["arch"] = found.arch
        release = {"release": found.release} if found.release else {}
        made["kernel"] = {"source": {"kind": "image", "vmlinuz": found.kernel}, **release}
        made["core"] = {"archives": found.archives}
        boot: dict[str, Any] = {"bootcodes": found.codes}
        if found.timeout is not None:
            boot["timeout"] = found.timeout
        if volume_id := _volume_id(found):
            boot["volume_id"] = volume_id
        made["boot"] = boot
    else:
        made["inherit"] = inherit
    if found.backup:
        made["system"] = {"mydata": found.backup}
    if found.size > 128 * MIB:
        made["disk"] = {"size_mib": 128 + found.size * 5 // 4 // MIB}
    made["extensions"] = [
        {"name": one, "place": place, "origin": "imported"} for one, place in found.places.items()
    ]
    return made


def _epoch(root: Mapping[str, Member]) -> int:
    """Return the newest time in a root that has passed: every file of the image gets it."""
    now = time.time()
    return max((member.mtime for member in root.values() if 0 < member.mtime < now), default=FALLBACK_EPOCH)


def _volume_id(found: Found) -> str:
    label = re.sub(r"[^A-Za-z0-9_.-]", "_", found.volume_id).lstrip(".-")
    if label != found.volume_id:
        found.unread.append(f"the label {found.volume_id!r}: a profile's is {label!r}")
    return label if VOLUME_ID.fullmatch(label) else ""


def check(text: str, lock: Lock, name: str) -> None:
    """Raise `UserError` if a profile's text and lock are no valid profile."""
    values = tomllib.loads(text)
    below: dict[str, Any] = {}
    if inherited_from := values.get(inheritance.KEY):
        *_, (_, below) = inheritance.layers(CHECKOUT.folders("profiles"), inherited_from)
    file = f"profiles/{name}.toml"
    whole = inheritance.completed(inheritance.merged(below, values), file)
    made: Profile = toml_schema.build(whole, Profile, file, "")
    found = plan.plan(made, lock)
    # What is inherited can still be locked.
    inherited = {one.name for one in made.extensions if one.origin != "imported"}
    for needed, by in found.missing.items():
        if needed in inherited:
            continue
        raise UserError(f"{by} needs {needed}, which is neither on the medium nor locked")


def import_system(
    cache: Path,
    folder: Path,
    names: Sequence[str],
    *,
    base: str = "",
    inherit: str = "tc11",
    force: bool = False,
) -> None:
    """Import the system at `names[0]` (a relative path begins at `folder`) as profile `names[1]`.

    Writes profiles/NAME.toml and its lock, in the last tree if there is one, and prints what it took
    over, what it could not, and what the core has apart from its release.  Raises `UserError` if there
    is another profile of that name and `force` is not set, or as `take` does.
    """
    if not 1 <= len(names) <= 2:
        raise UserError("import takes a medium and a name", "./doit import PATH [NAME]")
    path = folder / names[0]
    name = names[1] if len(names) == 2 else _profile_name(path)
    if not PROFILE_NAME.fullmatch(name) or name == AUTO:
        raise UserError(f"{name!r} cannot be the name of a profile", "use letters, digits, - and _")
    medium_name = NO_LINE.sub("_", path.resolve().name)
    _refuse_other(name, medium_name, force)
    load_profile(inherit)
    with scratch_folder(cache / "downloads", "import") as scratch:
        found = take(open_medium(path, scratch), cache, scratch)
    given = folder / base if base else None
    difference = core_difference.against_release(cache, found.root, given) if found.root else None
    text = profile_file.text(
        f"Written by `./doit import`, from {medium_name}.", table(found, medium_name, inherit)
    )
    lock = _lock(found, "" if found.kernel else inherit)
    check(text, lock, name)
    kept = _write(name, text, lock, force)
    _report(name, found, difference, kept, inherit)


def _profile_name(path: Path) -> str:
    stem = path.resolve().name.rpartition(".")[0] or path.resolve().name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_").lower()[:64]


def _file(name: str) -> Path:
    """Return the file of the imported profile: in the last tree, or in the checkout."""
    return CHECKOUT.folders("profiles")[0] / f"{name}.toml"


def _refuse_other(name: str, medium: str, force: bool) -> None:
    file = _file(name)
    CHECKOUT.refuse_installed(file, "the folder of profiles")
    if file.exists() and not force and toml_schema.read_toml(file).get("imported") != medium:
        hint = "choose another NAME; --force replaces that profile and its lock"
        raise UserError(f"{CHECKOUT.name_of(file)} exists, and was not imported from {medium}", hint)


def _lock(found: Found, inherit: str) -> Lock:
    below = load_lock(inheritance.pinned_lock(CHECKOUT.folders("profiles"), inherit)) if inherit else Lock()
    own = {one.name for one in found.extensions}
    extensions = (*(one for one in below.extension if one.name not in own), *found.extensions)
    return Lock(below.package, (*below.file, *found.files), extensions, below.archive, below.needs)


def _write(name: str, text: str, lock: Lock, force: bool) -> bool:
    """Write the profile and its lock, but keep one that was edited; return whether it was kept."""
    file = _file(name)
    if file.exists() and not force and file.read_text() != text:
        return True
    write_if_changed(file.with_suffix(".lock.toml"), lock.to_toml())
    write_if_changed(file, text)
    return False


def _absent(name: str, found: Found) -> list[str]:
    """Return the imported files that a profile which was kept names, and which this medium does not have."""
    made = load_profile(name)
    wanted = {one.sha256: one.name for one in inputs.sources(made) if isinstance(one, ImportedSource)}
    lock = load_lock(inheritance.pinned_lock(CHECKOUT.folders("profiles"), name))
    wanted |= {one.sha256: f"{one.name}.tcz" for one in lock.extension if made.is_imported(one.name)}
    here = {one.sha256 for one in found.files} | {one.sha256 for one in found.extensions}
    return sorted(wanted[sha256] for sha256 in wanted.keys() - here)


def _report(name: str, found: Found, difference: Difference | None, kept: bool, inherit: str) -> None:
    """Print what an import did, and write the whole of it to artifacts/NAME/import.txt."""
    file = CHECKOUT.name_of(_file(name))
    wrote = f"{file} and {file.removesuffix('.toml')}.lock.toml"
    lines = [
        f"{wrote} are kept: they were edited, or made from another medium (--force writes them anew)"
        if kept
        else f"wrote {wrote}"
    ]
    if kept and (absent := _absent(name, found)):
        lines.append(f"  but this medium has not all that they name: {shortened(absent, SHOWN)}")
    lines += ["taken over, into the cache by sha256:", *(f"  {line}" for line in found.lines)]
    changes = difference.lines if difference else ()
    if found.kernel:
        lines.append(f"  bootcodes: {' '.join(found.codes) or '-'}")
        lines.append(
            f"the core {difference.summary()}"
            if difference
            else "no core of its release is in the cache: --base FILE shows what this one has apart"
        )
    else:
        lines.append(f"kernel and core, and its extensions, are those of profile {inherit} (--inherit NAME)")
    record = CHECKOUT.results / name / "import.txt"

    def text(count: int) -> str:
        rest = _section(list(dict.fromkeys(found.unread)), count, record)
        rest = ["not taken over:", *rest] if rest else []
        whole = [*lines, *_section(changes, count, record), *rest]
        return printable("\n".join(NO_LINE.sub(lambda one: ascii(one[0])[1:-1], line) for line in whole))

    write_atomic(record, f"{text(sys.maxsize)}\n")
    print(text(SHOWN))
    image, why = ("disk", " (an ISO restores no backup)") if found.backup else ("iso", "")
    print(as_typed(f"build it: ./doit {image} profile={name}{why}"))


def _section(lines: Sequence[str], count: int, record: Path) -> list[str]:
    more = len(lines) - count
    shown = [f"  {line}" for line in lines[:count]]
    return [*shown, *([f"  and {more} more: {CHECKOUT.name_of(record)}"] if more > 0 else [])]

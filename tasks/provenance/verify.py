# SPDX-License-Identifier: MIT
"""`./doit verify ISO`: check an ISO and its parts against its manifest; offline, without root.

The manifest itself is trusted only if a key verifies its signature.  Without a key, the check
cannot detect that ISO and manifest were changed together.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.config import architecture
from tasks.formats import bzimage, iso_layout
from tasks.formats.iso_layout import File, Layout
from tasks.provenance import archive_members, manifest_schema, signature
from tasks.provenance.manifest_schema import ArchiveMember, CoreArchive, Manifest, Outputs
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import require_file, sha256_file
from tasks.util.log import logger

KERNELS = [f"boot/{one.files.kernel}" for one in architecture.every()]
CORES = [f"boot/{one.files.core}" for one in architecture.every()]
OPTIONAL = "cde/optional/"
SHOWN = 20
OVERHEAD = 64 << 20  # bytes that an unpacked extension may have in addition to its members


def check(folder: Path, paths: Sequence[str], manifest: str, key: str) -> None:
    """Check the ISOs `paths` (relative to `folder`) against their manifests, and log the results.

    manifest: the manifest if it is not ISO.manifest.json; key: the public key of its signature,
    "" for no check.  Raises `UserError` that names each part that differs, outermost first.
    """
    if not paths:
        raise UserError("verify needs an ISO", "./doit verify FILE.iso [--manifest FILE] [--key PUBLIC-KEY]")
    if manifest and len(paths) > 1:
        raise UserError("--manifest is for one ISO", "name one ISO at a time")
    for path in paths:
        where = folder / manifest if manifest else None
        _check_iso(folder / path, where, folder / key if key else None)


def _check_iso(iso: Path, where: Path | None, key: Path | None) -> None:
    require_file(iso)
    where = where or iso.with_name(iso.name + manifest_schema.ENDING)
    manifest, signed = read_signed(where, key)
    if manifest.outputs is None or not manifest.outputs.files:
        raise UserError(
            f"{where.name} is not the manifest of an ISO", "take ISO.manifest.json beside the ISO"
        )
    found = differences(iso, manifest.outputs)
    if found:
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        lines = [f"  {line}" for line in found[:SHOWN]]
        hint = "do not boot it: it is not the image that the manifest describes"
        raise UserError(f"{iso.name} differs from {where.name}", hint, "\n".join([*lines, *more]))
    out = manifest.outputs
    logger.info(f"{iso.name}: {out.images[0].size:,} bytes, sha256 {out.images[0].sha256}")
    count = sum(len(archive.members) for archive in out.core)
    inside = sum(len(item.members) for item in out.extensions)
    extensions = f"{len(out.extensions)} extensions with {inside}"
    logger.info(f"  {len(out.files)} files, {count} members of the core, {extensions}")
    logger.info(f"  all as {where.name} says; {signed}")


def read_signed(where: Path, key: Path | None) -> tuple[Manifest, str]:
    """Return a manifest, and whether it is signed as text for people.

    Raises `UserError` if `key` is given and did not sign it, or as `manifest_schema.load` does.
    """
    manifest_schema.load(where)  # reports a malformed manifest before the signature is checked
    data = where.read_bytes()
    signature_file = signature.find(where)
    if key is None:
        manifest = manifest_schema.parse(data, str(where))
        return (
            manifest,
            f"{signature_file.name} was not checked: no --key was given"
            if signature_file
            else "it is not signed",
        )
    who = signature.verify(data, where.name, signature_file, key)
    return manifest_schema.parse(data, str(where)), f"signed by {who}"


def differences(iso: Path, expected: Outputs) -> list[str]:
    """Return a line for each part of `iso` that differs from `expected`, outermost first."""
    found: list[str] = []
    if (iso.stat().st_size, sha256_file(iso)) != (expected.images[0].size, expected.images[0].sha256):
        found.append(f"the ISO as a whole: {_size_text(iso.stat().st_size, expected.images[0].size)}")
    try:
        layout = iso_layout.read(iso)
    except DiskFull:
        raise
    except UserError as error:
        return [*found, error.message]
    for path, kind in layout.others.items():
        found.append(f"{path}: is not a file (type {kind}); the manifest has only files")
    actual = iso_layout.areas_outside_files(iso, layout)
    for before, now in zip(expected.outside, actual, strict=False):
        if before != now:
            found.append(f"{now.path}: {_size_text(now.size, before.size)}")
    files = {file.path: file for file in iso_layout.files(iso, layout)}
    wrong = {file.path for file in expected.files if files.get(file.path) != file}
    known = {file.path for file in expected.files}
    found += [f"{path}: is not in the manifest" for path in files if path not in known]
    with tempfile.TemporaryDirectory(prefix="tcbuild-verify-") as folder:
        for file in expected.files:
            found += _file_differences(iso, layout, expected, file, files.get(file.path), Path(folder))
        found += _sidecar_differences(iso, layout, files, expected)
    missing = sorted(_contradictions(expected))
    return [*found, *missing] if not wrong else found


def _contradictions(expected: Outputs) -> Iterable[str]:
    """Yield the contradictions between a manifest's list of files and its kernel and extensions."""
    paths = {file.path: file.sha256 for file in expected.files}
    kernel = f"boot/{expected.kernel.vmlinuz.path}"
    if paths.get(kernel) != expected.kernel.vmlinuz.sha256:
        yield f"the manifest contradicts itself: kernel and {kernel} differ"
    for item in expected.extensions:
        if paths.get(f"{OPTIONAL}{item.name}.tcz", item.sha256) != item.sha256:
            yield f"the manifest contradicts itself: {item.name}.tcz has two sha256"


def _file_differences(
    iso: Path, layout: Layout, expected: Outputs, before: File, now: File | None, folder: Path
) -> list[str]:
    """Return how a file differs, and for kernel, core and extensions which of its parts."""
    if now is None:
        return [f"{before.path}: is missing"]
    same = now == before
    name = before.path.rpartition("/")[2]
    inner: Callable[[Path], list[str]] | None = None
    if before.path in KERNELS:
        inner = _kernel_comparison(expected)
    elif before.path in CORES:
        inner = _core_comparison(expected)
    elif name.endswith(".tcz"):
        inner = _extension_comparison(expected, name.removesuffix(".tcz"))
    inside = _part_differences(iso, layout, before.path, folder, inner) if inner else []
    if same:
        return [f"{before.path}: {line}" for line in inside]
    start, end = layout.extent(before.path)
    line = f"{before.path} (bytes {start:,} to {end:,} of the ISO): {_size_text(now.size, before.size)}"
    return [line, *(f"  {before.path}: {line}" for line in inside)]


def _part_differences(
    iso: Path, layout: Layout, path: str, folder: Path, compare: Callable[[Path], list[str]]
) -> list[str]:
    # A fixed name: the ISO's name for the file must not choose a path.
    work = folder / "part.tcz"
    with iso.open("rb") as stream, work.open("wb") as target:
        for block in iso_layout.content(stream, layout.files[path]):
            target.write(block)
    try:
        return compare(work)
    except DiskFull:
        raise
    except UserError as error:
        return [error.message.replace(f"{work}: ", "").replace(str(work), path)]
    finally:
        work.unlink()


def _kernel_comparison(expected: Outputs) -> Callable[[Path], list[str]]:
    def compare(path: Path) -> list[str]:
        bzimage.check_bzimage(path, release=expected.kernel.release)
        return []

    return compare


def _core_comparison(expected: Outputs) -> Callable[[Path], list[str]]:
    return lambda path: core_differences(archive_members.of_core(path), expected.core)


def _extension_comparison(expected: Outputs, name: str) -> Callable[[Path], list[str]]:
    listed = {item.name: item for item in expected.extensions}

    def compare(path: Path) -> list[str]:
        if name not in listed:
            return ["the manifest does not list its members"]
        known = listed[name]
        limit = sum(part.size for part in known.members) + 4096 * len(known.members) + OVERHEAD
        found = archive_members.of_squashfs(path, min(limit, archive_members.UNPACKED))
        return member_differences(found, known.members)

    return compare


def core_differences(actual: Sequence[CoreArchive], expected: Sequence[CoreArchive]) -> list[str]:
    """Return how the archives of two cores differ, member by member."""
    found = []
    if len(actual) != len(expected):
        found.append(f"has {len(actual)} archives, expected {len(expected)}")
    for number, (now, before) in enumerate(zip(actual, expected, strict=False), start=1):
        if now.method != before.method:
            found.append(f"archive {number}: is compressed by {now.method}, expected {before.method}")
        lines = member_differences(now.members, before.members)
        found += [f"archive {number}: {line}" for line in lines]
    return found


def member_differences(actual: Sequence[ArchiveMember], expected: Sequence[ArchiveMember]) -> list[str]:
    """Return how the members of two archives differ: added, missing, changed, or in another order."""
    now, before = {part.path: part for part in actual}, {part.path: part for part in expected}
    found = []
    for path in sorted(now.keys() | before.keys()):
        if path not in before:
            found.append(f"{path!r}: is not in the manifest")
        elif path not in now:
            found.append(f"{path!r}: is missing")
        elif now[path] != before[path]:
            found.append(f"{path!r}: {_change_text(now[path], before[path])}")
    if not found and [part.path for part in actual] != [part.path for part in expected]:
        found.append("the members are the same, but in another order or repeated")
    return found


def _change_text(now: ArchiveMember, before: ArchiveMember) -> str:
    if replace(now, sha256="", size=0) == replace(before, sha256="", size=0):
        return _size_text(now.size, before.size)
    names = ("mode", "owner", "mtime", "size", "target", "device", "xattrs", "sha256")
    name = next(name for name in names if getattr(now, name) != getattr(before, name))
    return f"{name} is {getattr(now, name)!r}, expected {getattr(before, name)!r}"


def _sidecar_differences(iso: Path, layout: Layout, files: dict[str, File], expected: Outputs) -> list[str]:
    """Return which extension differs from the .md5.txt or .list beside it.

    .md5.txt is the output of md5sum; .list has the paths of all members but folders.
    """
    listed = {item.name: item for item in expected.extensions}
    found = []
    with iso.open("rb") as stream:

        def text(path: str) -> bytes:
            return b"".join(iso_layout.content(stream, layout.files[path]))

        for path in (path for path in files if path.endswith(".tcz")):
            if f"{path}.md5.txt" in files:
                md5 = hashlib.md5(usedforsecurity=False)
                for block in iso_layout.content(stream, layout.files[path]):
                    md5.update(block)
                if text(f"{path}.md5.txt").split()[:1] != [md5.hexdigest().encode()]:
                    found.append(f"{path}.md5.txt: is not the md5 of {path}")
            known = listed.get(path.rpartition("/")[2].removesuffix(".tcz"))
            if known and f"{path}.list" in files:
                paths = sorted(part.path for part in known.members if not part.mode.startswith("d"))
                lines = "".join(f"{name}\n" for name in paths)
                if text(f"{path}.list") != lines.encode("utf-8", "surrogateescape"):
                    found.append(f"{path}.list: does not list the members of {path}")
    return found


def _size_text(now: int, before: int) -> str:
    return "content differs" if now == before else f"has {now:,} bytes, expected {before:,}"

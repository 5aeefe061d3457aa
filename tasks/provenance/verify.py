"""`./doit verify ISO`: check an ISO against its manifest, from its parts up; offline, without root.

Nothing is believed but the manifest, and that only as far as its signature goes: without a
key, an ISO and a manifest that were changed together fit each other.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.formats import bzimage, iso_layout
from tasks.formats.iso_layout import File, Layout
from tasks.provenance import archive_members, manifest_schema, signature
from tasks.provenance.manifest_schema import ArchiveMember, CoreArchive, Manifest, Outputs
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import sha256_file
from tasks.util.log import logger

KERNEL, CORE = "boot/vmlinuz64", "boot/corepure64.gz"
OPTIONAL = "cde/optional/"
SHOWN = 20
ROOM = 64 << 20  # bytes more than its members that an extension may have, unpacked


def check(folder: Path, paths: Sequence[str], manifest: str, key: str) -> None:
    """Check the ISOs `paths` (relative to `folder`), each against its manifest, and say what was proved.

    manifest: another file than ISO.manifest.json; key: a public key that must have signed
    it.  Raises `UserError` that names each part that differs, from the outside in.
    """
    paths, manifest, key = _options(paths, manifest, key)
    if not paths:
        raise UserError("verify: which ISO?", "./doit verify FILE.iso [--manifest FILE] [--key PUBLIC-KEY]")
    if manifest and len(paths) > 1:
        raise UserError("--manifest is for one ISO", "name one ISO at a time")
    for path in paths:
        where = folder / manifest if manifest else None
        _one(folder / path, where, folder / key if key else None)


def _options(words: Sequence[str], manifest: str, key: str) -> tuple[list[str], str, str]:
    """Return (paths, manifest, key): doit itself knows options only in front of the first path."""
    given = {"--manifest": manifest, "--key": key}
    paths, rest = [], list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in given:
            if not equals and not rest:
                raise UserError(f"{name}: which file?")
            given[name] = value if equals else rest.pop(0)
        elif name.startswith("--"):
            raise UserError(f"unknown option {name}", f"known: {', '.join(given)}")
        else:
            paths.append(f"{name}{equals}{value}")
    return paths, given["--manifest"], given["--key"]


def _one(iso: Path, where: Path | None, key: Path | None) -> None:
    if not iso.is_file():
        raise UserError(f"{iso} does not exist")
    where = where or iso.with_name(iso.name + manifest_schema.ENDING)
    manifest, signed = read_signed(where, key)
    if manifest.outputs is None or not manifest.outputs.files:
        raise UserError(f"{where.name} is not of an ISO", "the one beside the ISO is: ISO.manifest.json")
    found = differences(iso, manifest.outputs)
    if found:
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        lines = [f"  {line}" for line in found[:SHOWN]]
        hint = "it is not the image that the manifest describes; do not boot it"
        raise UserError(f"{iso.name} differs from {where.name}", hint, "\n".join([*lines, *more]))
    out = manifest.outputs
    logger.info(f"{iso.name}: {out.images[0].size:,} bytes, sha256 {out.images[0].sha256}")
    count = sum(len(archive.members) for archive in out.core)
    inside = sum(len(item.members) for item in out.extensions)
    extensions = f"{len(out.extensions)} extensions with {inside}"
    logger.info(f"  {len(out.files)} files, {count} members of the core, {extensions}")
    logger.info(f"  all as {where.name} says; {signed}")


def read_signed(where: Path, key: Path | None) -> tuple[Manifest, str]:
    """Return a manifest and what its signature is worth.

    Raises `UserError` if a key is given and did not sign it, or as `manifestfile.load` does.
    """
    manifest_schema.load(where)  # says what is wrong with it before anybody looks at signatures
    data = where.read_bytes()
    lies = signature.found(where)
    if key is None:
        manifest = manifest_schema.parse(data, str(where))
        return manifest, f"{lies.name} was not checked: no --key was given" if lies else "it is not signed"
    who = signature.verify(data, where.name, lies, key)
    return manifest_schema.parse(data, str(where)), f"signed by {who}"


def differences(iso: Path, expected: Outputs) -> list[str]:
    """Return what of `iso` is not as expected, from the outside in; nothing if all is."""
    found: list[str] = []
    if (iso.stat().st_size, sha256_file(iso)) != (expected.images[0].size, expected.images[0].sha256):
        found.append(f"the ISO as a whole: {_sizes(iso.stat().st_size, expected.images[0].size)}")
    try:
        layout = iso_layout.read(iso)
    except DiskFull:
        raise
    except UserError as error:
        return [*found, error.message]
    for path, kind in layout.others.items():
        found.append(f"{path}: is no file (type {kind}), the manifest knows none")
    actual = iso_layout.outside(iso, layout)
    for before, now in zip(expected.outside, actual, strict=False):
        if before != now:
            found.append(f"{now.path}: {_sizes(now.size, before.size)}")
    files = {file.path: file for file in iso_layout.files(iso, layout)}
    wrong = {file.path for file in expected.files if files.get(file.path) != file}
    known = {file.path for file in expected.files}
    found += [f"{path}: is not in the manifest" for path in files if path not in known]
    with tempfile.TemporaryDirectory(prefix="tcbuild-verify-") as folder:
        for file in expected.files:
            found += _file(iso, layout, expected, file, files.get(file.path), Path(folder))
        found += _beside(iso, layout, files, expected)
    missing = sorted(_absent(expected))
    return [*found, *missing] if not wrong else found


def _absent(expected: Outputs) -> Iterable[str]:
    """Say which parts a manifest has that its own list of files does not: then it is not whole."""
    paths = {file.path: file.sha256 for file in expected.files}
    if paths.get(KERNEL) != expected.kernel.vmlinuz.sha256:
        yield f"the manifest contradicts itself: kernel and {KERNEL} are not the same"
    for item in expected.extensions:
        if paths.get(f"{OPTIONAL}{item.name}.tcz", item.sha256) != item.sha256:
            yield f"the manifest contradicts itself: {item.name}.tcz has two sha256"


def _file(
    iso: Path, layout: Layout, expected: Outputs, before: File, now: File | None, folder: Path
) -> list[str]:
    """Return how one file differs, and for those with an inside, which part of it."""
    if now is None:
        return [f"{before.path}: is missing"]
    same = now == before
    name = before.path.rpartition("/")[2]
    inner: Callable[[Path], list[str]] | None = None
    if before.path == KERNEL:
        inner = _kernel(expected)
    elif before.path == CORE:
        inner = _core(expected)
    elif name.endswith(".tcz"):
        inner = _extension(expected, name.removesuffix(".tcz"))
    inside = _inside(iso, layout, before.path, folder, inner) if inner else []
    if same:
        return [f"{before.path}: {line}" for line in inside]
    start, end = layout.extent(before.path)
    line = f"{before.path} (bytes {start:,} to {end:,} of the ISO): {_sizes(now.size, before.size)}"
    return [line, *(f"  {before.path}: {line}" for line in inside)]


def _inside(
    iso: Path, layout: Layout, path: str, folder: Path, look: Callable[[Path], list[str]]
) -> list[str]:
    # A name of ours: what the ISO calls it must not decide where it goes.
    work = folder / "part.tcz"
    with iso.open("rb") as stream, work.open("wb") as target:
        for block in iso_layout.content(stream, layout.files[path]):
            target.write(block)
    try:
        return look(work)
    except DiskFull:
        raise
    except UserError as error:
        return [error.message.replace(f"{work}: ", "").replace(str(work), path)]
    finally:
        work.unlink()


def _kernel(expected: Outputs) -> Callable[[Path], list[str]]:
    def look(path: Path) -> list[str]:
        bzimage.check_bzimage(path, release=expected.kernel.release)
        return []

    return look


def _core(expected: Outputs) -> Callable[[Path], list[str]]:
    return lambda path: core_differences(archive_members.of_core(path), expected.core)


def _extension(expected: Outputs, name: str) -> Callable[[Path], list[str]]:
    listed = {item.name: item for item in expected.extensions}

    def look(path: Path) -> list[str]:
        if name not in listed:
            return ["the manifest does not say what is in it"]
        known = listed[name]
        limit = sum(part.size for part in known.members) + 4096 * len(known.members) + ROOM
        found = archive_members.of_squashfs(path, min(limit, archive_members.UNPACKED))
        return part_differences(found, known.members)

    return look


def core_differences(actual: Sequence[CoreArchive], expected: Sequence[CoreArchive]) -> list[str]:
    """Return how the archives of two cores differ, member by member."""
    found = []
    if len(actual) != len(expected):
        found.append(f"has {len(actual)} archives, expected {len(expected)}")
    for number, (now, before) in enumerate(zip(actual, expected, strict=False), start=1):
        if now.method != before.method:
            found.append(f"archive {number}: is compressed by {now.method}, expected {before.method}")
        lines = part_differences(now.members, before.members)
        found += [f"archive {number}: {line}" for line in lines]
    return found


def part_differences(actual: Sequence[ArchiveMember], expected: Sequence[ArchiveMember]) -> list[str]:
    """Return how the members of two archives differ: added, missing, changed, or in another order."""
    now, before = {part.path: part for part in actual}, {part.path: part for part in expected}
    found = []
    for path in sorted(now.keys() | before.keys()):
        if path not in before:
            found.append(f"{path!r}: is not in the manifest")
        elif path not in now:
            found.append(f"{path!r}: is missing")
        elif now[path] != before[path]:
            found.append(f"{path!r}: {_changed(now[path], before[path])}")
    if not found and [part.path for part in actual] != [part.path for part in expected]:
        found.append("the members are the same, in another order, or one of them twice")
    return found


def _changed(now: ArchiveMember, before: ArchiveMember) -> str:
    if replace(now, sha256="", size=0) == replace(before, sha256="", size=0):
        return _sizes(now.size, before.size)
    names = ("mode", "owner", "mtime", "size", "target", "device", "xattrs", "sha256")
    name = next(name for name in names if getattr(now, name) != getattr(before, name))
    return f"{name} is {getattr(now, name)!r}, expected {getattr(before, name)!r}"


def _beside(iso: Path, layout: Layout, files: dict[str, File], expected: Outputs) -> list[str]:
    """Return which extension does not fit what lies beside it.

    .md5.txt is md5sum's output, .list has every path but folders.
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
                    found.append(f"{path}.md5.txt: is not of {path}")
            known = listed.get(path.rpartition("/")[2].removesuffix(".tcz"))
            if known and f"{path}.list" in files:
                paths = sorted(part.path for part in known.members if not part.mode.startswith("d"))
                lines = "".join(f"{name}\n" for name in paths)
                if text(f"{path}.list") != lines.encode("utf-8", "surrogateescape"):
                    found.append(f"{path}.list: does not list what is in {path}")
    return found


def _sizes(now: int, before: int) -> str:
    return "content differs" if now == before else f"has {now:,} bytes, expected {before:,}"

# SPDX-License-Identifier: MIT
"""Entries of the shared cache: the files that a task made, stored under the digest of its inputs.

    entries/KEY.json            the manifest: names the archive and every file in it
    archives/SHA256.tar.zst     the files as a tar archive, named by the archive's sha256

A manifest is one line `tcbuild-cache 1 SHA256 MAC`, followed by JSON.  SHA256 is the digest of
the JSON.  MAC is its HMAC-SHA256 (RFC 2104) with the secret in $TCBUILD_CACHE_KEY, or `-`.
The manifest is written last, so no reader sees an entry without its archive.  If two writers
store the same key, each manifest names its own archive.

tcbuild does not trust a cache.  It checks the manifest, the archive and every file in it
before it moves the first file to the output folder.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import re
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard

from tasks.cache.store import Absent, Item, Refused, Store, TooLarge, Unreachable
from tasks.origins.lock import SHA256
from tasks.util.errors import UserError
from tasks.util.files import CHUNK, atomic_dir, atomic_path, scratch_folder, sha256_file
from tasks.util.log import logger

MAGIC = "tcbuild-cache 1"
SECRET_VARIABLE = "TCBUILD_CACHE_KEY"
ENTRIES, ARCHIVES = "entries", "archives"
ENTRY_NAME = re.compile(rf"{ENTRIES}/([0-9a-f]{{64}})\.json")
ARCHIVE_NAME = re.compile(rf"{ARCHIVES}/([0-9a-f]{{64}})\.tar\.zst")
LEVEL = 3
# Largest manifest, in bytes.  The manifest of a kernel with 4,000 modules has 800,000.
MANIFEST_LIMIT = 64 << 20
# A file without an entry counts as the leftover of a killed writer after so many seconds.
GRACE = 3600.0


class BadEntry(Exception):
    """An entry is damaged or not trusted; `names`: the files of the entry to remove."""

    def __init__(self, why: str, *names: str) -> None:
        super().__init__(why)
        self.names = names


@dataclass(frozen=True)
class File:
    """A file of an entry; path: below the output folder (`kernel/vmlinuz64`); size: in bytes."""

    path: str
    size: int
    sha256: str
    executable: bool = False

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path != "/".join(parts) or {"..", "/"} & set(parts) or "\0" in self.path:
            raise ValueError(f"{self.path!r} is no path below a folder")
        if not SHA256.fullmatch(self.sha256) or self.size < 0:
            raise ValueError(f"{self.path}: bad size or sha256")


@dataclass(frozen=True)
class Manifest:
    """The manifest of an entry.

    key: of the entry; task: the task that made it; archive, size: sha256 and bytes of the
    archive; files: in the order of the archive; commands: name of a log -> the commands in it that
    made them, as a manifest of an image has them.
    """

    key: str
    task: str
    archive: str
    size: int
    files: tuple[File, ...]
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.archive) or not isinstance(self.size, int):
            raise ValueError("archive: bad sha256 or size")
        for name, lines in self.commands.items():
            if isinstance(lines, str) or any("\n" in line for line in (name, *lines)):
                raise ValueError(f"commands: {name!r}: not a list of lines")

    def to_bytes(self, secret: bytes) -> bytes:
        body = json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"
        mac = _mac(body, secret) if secret else "-"
        return f"{MAGIC} {hashlib.sha256(body).hexdigest()} {mac}\n".encode() + body


def signing_secret() -> bytes:
    """Return the secret that signs entries, b"" for none."""
    return os.environ.get(SECRET_VARIABLE, "").encode()


def read_manifest(raw: bytes, key: str, secret: bytes) -> Manifest:
    """Return the manifest of the entry `key`.

    Raises `BadEntry` if it is damaged, belongs to another key, or is not signed with `secret`.
    """
    name = entry_name(key)
    line, _, body = raw.partition(b"\n")
    words = line.decode(errors="replace").split(" ")
    if " ".join(words[:2]) != MAGIC or len(words) != 4 or words[2] != hashlib.sha256(body).hexdigest():
        raise BadEntry("its manifest is damaged or cut short", name)
    if secret and not hmac.compare_digest(words[3].encode(), _mac(body, secret).encode()):
        # It is not removed: another user of this cache may have that other secret.
        raise BadEntry(f"it is not signed with the secret in ${SECRET_VARIABLE}")
    try:
        found = json.loads(body)
        files = tuple(File(**file) for file in found.pop("files"))
        manifest = Manifest(**found, files=files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadEntry(f"its manifest is malformed ({error})", name) from None
    if manifest.key != key:
        raise BadEntry("its manifest belongs to another entry", name)
    if len({file.path for file in files}) != len(files):
        raise BadEntry("its manifest names a file twice", name)
    return manifest


def entry_name(key: str) -> str:
    return f"{ENTRIES}/{key}.json"


def archive_name(sha256: str) -> str:
    return f"{ARCHIVES}/{sha256}.tar.zst"


def _mac(body: bytes, secret: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def put(
    store: Store,
    key: str,
    task: str,
    output: Path,
    made: Sequence[Path],
    secret: bytes,
    commands: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Store the files and folders `made` below `output` as the entry `key`; return its size in bytes.

    commands: as in `Manifest`.  Raises `Refused` and `Unreachable` as the store does, and `Refused` if
    one of `made` is neither a file nor a folder.
    """
    with scratch_folder(output, "shared") as scratch:
        packed = scratch / "archive"
        with packed.open("wb") as sink, zstandard.ZstdCompressor(LEVEL).stream_writer(sink) as stream:
            files = tuple(_pack(stream, output, _files(made)))
        manifest = Manifest(key, task, sha256_file(packed), packed.stat().st_size, files, commands or {})
        raw = manifest.to_bytes(secret)
        (scratch / "manifest").write_bytes(raw)
        store.write(archive_name(manifest.archive), packed)
        store.write(entry_name(key), scratch / "manifest")
    return manifest.size + len(raw)


def _files(made: Sequence[Path]) -> list[Path]:
    found = []
    for path in made:
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Refused(f"{path.name} is neither a file nor a folder")
    return sorted({path for path in found if path.is_file()})


def _pack(stream: IO[bytes], output: Path, files: Sequence[Path]) -> Iterator[File]:
    """Write a tar archive that depends only on each file's path, content and executable bit."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar:
        for path in files:
            with path.open("rb") as source:
                status = os.fstat(source.fileno())
                member = tarfile.TarInfo(str(path.relative_to(output)))
                member.size = status.st_size
                member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                # It is hashed while it is packed: the file could change between two reads.
                content = _HashingReader(source)
                tar.addfile(member, content)
            yield File(member.name, member.size, content.digest.hexdigest(), member.mode == 0o755)


class _HashingReader(io.RawIOBase):
    """A reader that computes the sha256 of the bytes it reads."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def get(store: Store, key: str, output: Path, made: Sequence[Path], secret: bytes) -> Manifest | None:
    """Restore the entry `key` to the files and folders `made` below `output`; return its manifest.

    A folder is replaced as a whole.  Returns None if there is no such entry.  Raises `BadEntry`
    if anything in the entry is wrong, and leaves `output` unchanged; raises `Unreachable` as
    the store does.
    """
    with scratch_folder(output, "shared") as scratch:
        try:
            store.read(entry_name(key), scratch / "manifest", MANIFEST_LIMIT)
            manifest = read_manifest((scratch / "manifest").read_bytes(), key, secret)
            _check_paths(manifest, output, made)
        except Absent:
            return None
        except TooLarge as error:
            raise BadEntry(f"its manifest is too large: {error}", entry_name(key)) from None
        archive = archive_name(manifest.archive)
        try:
            store.read(archive, scratch / "archive", manifest.size)
        except Absent:
            if not has(store, key, secret):  # another run has just pruned it
                return None
            raise BadEntry("its archive is missing", entry_name(key)) from None
        except TooLarge as error:
            raise BadEntry(f"its archive is too large: {error}", archive, entry_name(key)) from None
        if sha256_file(scratch / "archive") != manifest.archive:
            raise BadEntry("its archive is damaged or cut short", archive, entry_name(key))
        unpack(scratch / "archive", scratch / "files", manifest)
        _install(scratch / "files", output, made)
    try:
        for name in (entry_name(key), archive):
            store.touch(name)
    except (Refused, Unreachable):
        pass  # a reader without write access cannot record the use
    return manifest


def has(store: Store, key: str, secret: bytes) -> bool:
    """Return whether there is an entry `key` with a valid manifest.

    Raises `Unreachable` as the store does.
    """
    with tempfile.NamedTemporaryFile(prefix="tcbuild-entry-") as copy:
        try:
            store.read(entry_name(key), Path(copy.name), MANIFEST_LIMIT)
            read_manifest(Path(copy.name).read_bytes(), key, secret)
        except (Absent, BadEntry, TooLarge):
            return False
        return True


def _check_paths(manifest: Manifest, output: Path, made: Sequence[Path]) -> None:
    """Raise `BadEntry` unless the entry holds exactly what the task makes."""
    name = entry_name(manifest.key)
    wanted = {str(path.relative_to(output)) for path in made}
    seen = set()
    for file in manifest.files:
        places = [file.path, *map(str, PurePosixPath(file.path).parents)]
        place = next((place for place in places if place in wanted), "")
        if not place:
            raise BadEntry(f"it holds {file.path!r}, which the task does not make", name)
        seen.add(place)
    if missing := wanted - seen:
        raise BadEntry(f"it lacks {', '.join(sorted(missing))}", name)


def unpack(archive: Path, into: Path, manifest: Manifest) -> None:
    """Unpack an entry's archive to the new folder `into`.

    Raises `BadEntry` if the archive does not match the manifest.
    """

    def bad(why: str) -> BadEntry:
        return BadEntry(f"its archive does not match its manifest: {why}", entry_name(manifest.key))

    into.mkdir()
    todo = list(reversed(manifest.files))
    try:
        with (
            archive.open("rb") as source,
            zstandard.ZstdDecompressor().stream_reader(source) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar,
        ):
            for member in tar:
                file = todo.pop() if todo else None
                if file is None or not member.isreg() or (member.name, member.size) != (file.path, file.size):
                    raise bad(repr(member.name))
                content = tar.extractfile(member)
                assert content is not None
                target = into / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with target.open("xb") as sink:
                    while block := content.read(CHUNK):
                        digest.update(block)
                        sink.write(block)
                target.chmod(0o755 if file.executable else 0o644)
                if digest.hexdigest() != file.sha256:
                    raise bad(f"{file.path!r} has a different content")
    except (
        tarfile.TarError,
        zstandard.ZstdError,
        EOFError,
        ValueError,
        FileExistsError,
        NotADirectoryError,
    ) as error:
        raise bad(str(error)) from None
    if todo:
        raise bad(f"{todo[-1].path!r} is missing")
    for folder, _, _ in os.walk(into):
        os.chmod(folder, 0o755)  # independent of the caller's umask


def _install(files: Path, output: Path, made: Sequence[Path]) -> None:
    for final in made:
        place = files / final.relative_to(output)
        if place.is_dir():
            with atomic_dir(final) as partial:
                os.replace(place, partial)
        else:
            with atomic_path(final) as partial:
                os.replace(place, partial)


def discard(store: Store, names: Sequence[str]) -> None:
    """Remove the files of a bad entry if the store allows it."""
    try:
        for name in names:
            store.remove(name)
    except (Refused, Unreachable):
        pass


# --- listing and pruning -----------------------------------------------------


@dataclass(frozen=True)
class StoredEntry:
    """An entry in a store.

    manifest: None if it is damaged; size: bytes of manifest and archive; used: time of the
    last use (Unix time).
    """

    key: str
    manifest: Manifest | None
    size: int
    used: float


def entries(store: Store) -> tuple[list[StoredEntry], dict[str, Item], list[Item]]:
    """Return the entries, the most recently used first; the archives by sha256; unfinished files.

    Ignores files with other names.  Raises `UserError` if the store cannot list its files, and
    `Refused` and `Unreachable` as the store does.
    """
    # Entries are listed first, so the archive of each listed entry exists already.
    manifests, archives = store.items(ENTRIES), store.items(ARCHIVES)
    found = {match[1]: item for item in archives if (match := ARCHIVE_NAME.fullmatch(item.name))}
    listed = []
    for item in manifests:
        match = ENTRY_NAME.fullmatch(item.name)
        if match is None:
            continue
        try:
            manifest = _load(store, match[1])
        except Absent:  # removed since it was listed
            continue
        archive = found.get(manifest.archive) if manifest else None
        whole = manifest if manifest and archive and archive.size == manifest.size else None
        listed.append(StoredEntry(match[1], whole, item.size + (archive.size if archive else 0), item.used))
    unfinished = [item for item in (*manifests, *archives) if item.partial]
    return sorted(listed, key=lambda entry: (-entry.used, entry.key)), found, unfinished


def _load(store: Store, key: str) -> Manifest | None:
    with tempfile.NamedTemporaryFile(prefix="tcbuild-entry-") as copy:
        try:
            store.read(entry_name(key), Path(copy.name), MANIFEST_LIMIT)
            return read_manifest(Path(copy.name).read_bytes(), key, b"")
        except (BadEntry, TooLarge):
            return None


def keep_below(store: Store, limit: int) -> None:
    """Prune to four fifths of `limit` bytes if the cache has more, so that this is seldom done.

    Raises `UserError` as `prune` does.
    """
    if sum(item.size for folder in (ENTRIES, ARCHIVES) for item in store.items(folder)) > limit:
        prune(store, limit * 4 // 5)


def prune(store: Store, max_size: int, now: float | None = None) -> None:
    """Remove damaged and unfinished files, then the least recently used entries, down to `max_size` bytes.

    now: Unix time, by default the current time.  Raises `UserError` if the store cannot list
    its files or refuses to remove one.
    """
    now = time.time() if now is None else now
    try:
        found, archives, unfinished = entries(store)
        kept: set[str] = set()
        total = count = 0
        full = False
        for entry in found:
            archive = entry.manifest.archive if entry.manifest else ""
            size = entry.size - (archives[archive].size if archive in kept else 0)
            full = full or (entry.manifest is not None and total + size > max_size)
            if full or entry.manifest is None:
                store.remove(entry_name(entry.key))
            else:
                total, count = total + size, count + 1
                kept.add(archive)
        named = {entry.manifest.archive for entry in found if entry.manifest}
        for sha256, item in archives.items():
            # An archive that no entry names may belong to a writer that is still at work.
            if sha256 not in kept and (sha256 in named or now - item.used > GRACE):
                store.remove(item.name)
        for item in unfinished:
            if now - item.used > GRACE:
                store.remove(item.name)
    except (Refused, Unreachable) as error:
        raise UserError(f"shared cache {store.display_name}: {error}") from None
    logger.info(f"shared cache: {count} entries kept, {total:,} bytes; {len(found) - count} removed")

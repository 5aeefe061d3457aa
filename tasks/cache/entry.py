"""Entries of the shared cache: what a task made, under the digest of all it was made of.

    entries/KEY.json            manifest: which archive, and every file in it
    archives/SHA256.tar.zst     the files, as a tar archive, named by its own sha256

A manifest is one line `tcbuild-cache 1 SHA256 MAC` and then JSON; SHA256 is that of the
JSON, MAC its HMAC-SHA256 (RFC 2104) by the secret in $TCBUILD_CACHE_KEY, or `-`.  The
manifest is written last, so an entry without its archive is never seen, and of two writers
of one key either manifest fits its own archive.

Nothing that comes from a cache is believed: manifest, archive and every file in it are
checked before the first file gets its name in the output folder.
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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
# Bytes of a manifest; that of a kernel with 4,000 modules has 800,000.
MANIFEST_LIMIT = 64 << 20
# Seconds after which a file without an entry is taken for what a killed writer left.
GRACE = 3600.0


class Bad(Exception):
    """An entry that is not what it should be; `names`: the files of it to remove."""

    def __init__(self, why: str, *names: str) -> None:
        super().__init__(why)
        self.names = names


@dataclass(frozen=True)
class File:
    """A file of an entry: its path below the output folder (`kernel/vmlinuz64`), size in bytes, sha256."""

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
    """What an entry says of itself: whose it is, sha256 and bytes of its archive, and that one's files."""

    key: str
    task: str
    archive: str
    size: int
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.archive) or not isinstance(self.size, int):
            raise ValueError("archive: bad sha256 or size")

    def to_bytes(self, secret: bytes) -> bytes:
        body = json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"
        mac = _mac(body, secret) if secret else "-"
        return f"{MAGIC} {hashlib.sha256(body).hexdigest()} {mac}\n".encode() + body


def signing_secret() -> bytes:
    """Return the secret that entries are signed with, b"" for none."""
    return os.environ.get(SECRET_VARIABLE, "").encode()


def read_manifest(raw: bytes, key: str, secret: bytes) -> Manifest:
    """Return the manifest of `key`; raise `Bad` if it is damaged, another's, or not signed by `secret`."""
    name = entry_name(key)
    line, _, body = raw.partition(b"\n")
    words = line.decode(errors="replace").split(" ")
    if " ".join(words[:2]) != MAGIC or len(words) != 4 or words[2] != hashlib.sha256(body).hexdigest():
        raise Bad("its manifest is damaged or cut short", name)
    if secret and not hmac.compare_digest(words[3].encode(), _mac(body, secret).encode()):
        # Not removed: whoever shares this cache with another secret may believe it.
        raise Bad(f"it is not signed with the secret in ${SECRET_VARIABLE}")
    try:
        found = json.loads(body)
        files = tuple(File(**file) for file in found.pop("files"))
        manifest = Manifest(**found, files=files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Bad(f"its manifest makes no sense ({error})", name) from None
    if manifest.key != key:
        raise Bad("its manifest is that of another entry", name)
    if len({file.path for file in files}) != len(files):
        raise Bad("its manifest names a file twice", name)
    return manifest


def entry_name(key: str) -> str:
    return f"{ENTRIES}/{key}.json"


def archive_name(sha256: str) -> str:
    return f"{ARCHIVES}/{sha256}.tar.zst"


def _mac(body: bytes, secret: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def put(store: Store, key: str, task: str, output: Path, made: Sequence[Path], secret: bytes) -> int:
    """Store `made`, files and folders below `output`, as the entry `key`; return its size in bytes.

    Raises `Refused` and `Unreachable` as the store does, and `Refused` for what is
    neither a file nor a folder.
    """
    with scratch_folder(output, "shared") as scratch:
        packed = scratch / "archive"
        with packed.open("wb") as sink, zstandard.ZstdCompressor(LEVEL).stream_writer(sink) as stream:
            files = tuple(_pack(stream, output, _files(made)))
        manifest = Manifest(key, task, sha256_file(packed), packed.stat().st_size, files)
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
    """Write a tar archive in which nothing but the files' content, path and executable bit counts."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar:
        for path in files:
            with path.open("rb") as source:
                status = os.fstat(source.fileno())
                member = tarfile.TarInfo(str(path.relative_to(output)))
                member.size = status.st_size
                member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                # Hashed while it is packed: two readings could see two contents.
                content = _Hashed(source)
                tar.addfile(member, content)
            yield File(member.name, member.size, content.digest.hexdigest(), member.mode == 0o755)


class _Hashed(io.RawIOBase):
    """A file that takes the sha256 of what is read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def get(store: Store, key: str, output: Path, made: Sequence[Path], secret: bytes) -> Manifest | None:
    """Bring the entry `key` into `output`, where it may write `made` (files, folders) and nothing else.

    A folder is replaced as a whole.  Returns None if there is no such entry.  Raises `Bad`,
    and leaves `output` as it was, if anything about it is wrong; `Unreachable` as the store does.
    """
    with scratch_folder(output, "shared") as scratch:
        try:
            store.read(entry_name(key), scratch / "manifest", MANIFEST_LIMIT)
            manifest = read_manifest((scratch / "manifest").read_bytes(), key, secret)
            _check_places(manifest, output, made)
        except Absent:
            return None
        except TooLarge as error:
            raise Bad(f"its manifest has {error}", entry_name(key)) from None
        archive = archive_name(manifest.archive)
        try:
            store.read(archive, scratch / "archive", manifest.size)
        except Absent:
            raise Bad("its archive is missing", entry_name(key)) from None
        except TooLarge as error:
            raise Bad(f"its archive has {error}", archive, entry_name(key)) from None
        if sha256_file(scratch / "archive") != manifest.archive:
            raise Bad("its archive is damaged or cut short", archive, entry_name(key))
        unpack(scratch / "archive", scratch / "files", manifest)
        _install(scratch / "files", output, made)
    try:
        for name in (entry_name(key), archive):
            store.touch(name)
    except (Refused, Unreachable):
        pass  # whoever may only read cannot say that it did
    return manifest


def has(store: Store, key: str, secret: bytes) -> bool:
    """Tell whether there is an entry `key` with a good manifest.  Raises `Unreachable` as the store does."""
    with tempfile.NamedTemporaryFile(prefix="tcbuild-entry-") as copy:
        try:
            store.read(entry_name(key), Path(copy.name), MANIFEST_LIMIT)
            read_manifest(Path(copy.name).read_bytes(), key, secret)
        except (Absent, Bad, TooLarge):
            return False
        return True


def _check_places(manifest: Manifest, output: Path, made: Sequence[Path]) -> None:
    """Refuse an entry that does not hold exactly what the task makes."""
    name = entry_name(manifest.key)
    wanted = {str(path.relative_to(output)) for path in made}
    seen = set()
    for file in manifest.files:
        places = [file.path, *map(str, PurePosixPath(file.path).parents)]
        place = next((place for place in places if place in wanted), "")
        if not place:
            raise Bad(f"it holds {file.path!r}, which the task does not make", name)
        seen.add(place)
    if missing := wanted - seen:
        raise Bad(f"it lacks {', '.join(sorted(missing))}", name)


def unpack(archive: Path, into: Path, manifest: Manifest) -> None:
    """Unpack an entry's archive as the new folder `into`; raise `Bad` if it is not what the manifest says."""

    def bad(why: str) -> Bad:
        return Bad(f"its archive is not what the manifest says: {why}", entry_name(manifest.key))

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
                    raise bad(f"{file.path!r} has another content")
    except (tarfile.TarError, zstandard.ZstdError, EOFError, FileExistsError, NotADirectoryError) as error:
        raise bad(str(error)) from None
    if todo:
        raise bad(f"{todo[-1].path!r} is missing")
    for folder, _, _ in os.walk(into):
        os.chmod(folder, 0o755)  # whatever the caller's umask says


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
    """Remove the files of a bad entry, where that is possible."""
    try:
        for name in names:
            store.remove(name)
    except (Refused, Unreachable):
        pass


# --- what lies in a cache ----------------------------------------------------


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it lies in a store; manifest: None if that is damaged; size: bytes of both files."""

    key: str
    manifest: Manifest | None
    size: int
    used: float


def entries(store: Store) -> tuple[list[StoredEntry], dict[str, Item], list[Item]]:
    """Return all entries, the one used last first; all archives by sha256; what killed writers left.

    Files with other names are none of ours, and not returned.  Raises `UserError` if the
    store cannot list, and as a store does.
    """
    # Entries first: the archive of one that was listed is there already.
    manifests, archives = store.items(ENTRIES), store.items(ARCHIVES)
    found = {match[1]: item for item in archives if (match := ARCHIVE_NAME.fullmatch(item.name))}
    listed = []
    for item in manifests:
        match = ENTRY_NAME.fullmatch(item.name)
        if match is None:
            continue
        try:
            manifest = _load(store, match[1])
        except Absent:  # removed a moment ago
            continue
        archive = found.get(manifest.archive) if manifest else None
        whole = manifest if manifest and archive and archive.size == manifest.size else None
        listed.append(StoredEntry(match[1], whole, item.size + (archive.size if archive else 0), item.used))
    left = [item for item in (*manifests, *archives) if item.partial]
    return sorted(listed, key=lambda entry: (-entry.used, entry.key)), found, left


def _load(store: Store, key: str) -> Manifest | None:
    with tempfile.NamedTemporaryFile(prefix="tcbuild-entry-") as copy:
        try:
            store.read(entry_name(key), Path(copy.name), MANIFEST_LIMIT)
            return read_manifest(Path(copy.name).read_bytes(), key, b"")
        except (Bad, TooLarge):
            return None


def prune(store: Store, max_size: int, now: float | None = None) -> None:
    """Remove what is damaged or left behind, then the least recently used, until `max_size` bytes stay.

    Raises `UserError` if the store cannot list or does not let us remove.
    """
    now = time.time() if now is None else now
    try:
        found, archives, left = entries(store)
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
            # One that no entry ever named may be of a writer that is still at work.
            if sha256 not in kept and (sha256 in named or now - item.used > GRACE):
                store.remove(item.name)
        for item in left:
            if now - item.used > GRACE:
                store.remove(item.name)
    except (Refused, Unreachable) as error:
        raise UserError(f"shared cache {store.shown}: {error}") from None
    logger.info(f"shared cache: {count} entries kept, {total:,} bytes; {len(found) - count} removed")

# SPDX-License-Identifier: MIT
"""Scan the content of images, logs and manifests for secrets.

tasks/checks/secrets.toml holds the patterns.  The checkout's secrets.toml holds the allowed
findings with their reasons.  The scan also searches for the values of this machine's
environment variables whose names contain TOKEN, PASSWORD, SECRET or KEY, and for files that
are private on this machine but would be readable by all in the image.  A finding names file
and kind, never the secret.  Compressed content within a file is not scanned, and neither are
files that upstream publishes.

The library detect-secrets is made for source code: it reads line by line and guesses by
entropy.  Here most of the content is hundreds of megabytes of programs, and a wrong guess
would stop a build.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.formats import container_archive, cpio
from tasks.formats.cpio import Member
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.verified_digests import VerifiedDigests, digest

RULES = Path(__file__).with_name("secrets.toml")
MAX_SHOWN = 10
BLOCK_BYTES, OVERLAP_BYTES = 32 << 20, 4 << 10  # bytes of a stream searched at once, and searched again
# Shorter values are common words.
MIN_VALUE_LENGTH = 8
SECRET_VARIABLE = re.compile(
    r"(?i)TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|(^|_)KEY$|(API|ACCESS|PRIVATE|SIGNING)_?KEY"
)


@dataclass(frozen=True)
class Pattern:
    """A kind of secret: it contains one of `markers` and matches `regex`, a pattern over bytes.

    names: search only in files of these names; () means all files.
    """

    name: str
    markers: tuple[str, ...]
    regex: str
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex.encode())
        except re.error as error:
            raise ValueError(f"regex: {error}") from None
        if not self.markers or min(map(len, self.markers)) < 3:
            raise ValueError("markers: expected at least one, each of three bytes or more")

    @functools.cached_property
    def compiled(self) -> re.Pattern[bytes]:
        return re.compile(self.regex.encode())


@dataclass(frozen=True)
class Examples:
    """Placeholders that are no password."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Allow:
    """An allowed finding: `path`, a shell pattern, in the extension or folder `where`."""

    where: str
    path: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("reason: expected some words")


@dataclass(frozen=True)
class Rules:
    """The content of tasks/checks/secrets.toml, with `allow` of the checkout's secrets.toml."""

    pattern: tuple[Pattern, ...]
    examples: Examples = Examples()
    allow: tuple[Allow, ...] = ()


@dataclass(frozen=True)
class Allowed:
    """The content of the checkout's secrets.toml."""

    allow: tuple[Allow, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A secret of one kind at a byte offset of a file; path: relative to the scanned root."""

    path: str
    kind: str
    offset: int

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}, at byte {self.offset:,}"


@functools.cache
def rules() -> Rules:
    """Return the rules and allowed findings.  Raises `UserError` if one of the files is malformed."""
    allowed = toml_schema.load(CHECKOUT.secrets, Allowed).allow
    return dataclasses.replace(toml_schema.load(RULES, Rules), allow=allowed)


@dataclass(frozen=True)
class Scanner:
    """Searches content for the patterns of `rules` and for the `values` of variables (name -> value)."""

    rules: Rules
    values: Mapping[str, bytes] = field(default_factory=dict)

    def search(self, path: str, data: bytes) -> Iterator[Finding]:
        """Yield the first finding of each kind in the content `data` of the file `path`."""
        for pattern in self.rules.pattern:
            if pattern.names and PurePosixPath(path).name not in pattern.names:
                continue
            if not any(marker.encode() in data for marker in pattern.markers):
                continue
            for match in pattern.compiled.finditer(data):
                if not self._is_example(match):
                    yield Finding(path, pattern.name, match.start())
                    break
        for name, value in self.values.items():
            offset = data.find(value)
            if offset >= 0:
                yield Finding(path, f"the value of this machine's variable {name}", offset)

    def _is_example(self, match: re.Match[bytes]) -> bool:
        secret = match.groupdict().get("secret")
        if secret is None:
            return False
        text = secret.decode(errors="replace").lower()
        # Placeholders such as %s and ***, and repetitions of one letter.
        return text in self.rules.examples.words or "%" in text or len(set(text)) < 4


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return the environment variables whose values are secret: name -> value.

    Paths are not included: SIGNING_KEY=/root/key names a secret, but is none.
    """
    found = {}
    for name, value in (os.environ if environment is None else environment).items():
        if (
            SECRET_VARIABLE.search(name)
            and len(value) >= MIN_VALUE_LENGTH
            and not value.startswith(("/", "~", "./"))
        ):
            found[name] = value.encode(errors="surrogateescape")
    return found


def scanner() -> Scanner:
    """Return the scanner for this machine and checkout."""
    return Scanner(rules(), secret_values())


def refuse_in_files(where: str, files: Iterable[tuple[str, Path]]) -> None:
    """Raise `UserError` if one of `files`, (path below /, file), holds a secret.  Skip symlinks."""
    searcher = scanner()
    found = [
        finding
        for path, file in files
        if file.is_file() and not file.is_symlink()
        for finding in searcher.search(path, file.read_bytes())
    ]
    _refuse(where, found)


def refuse_in_members(where: str, members: Iterable[Member], clean: Path) -> None:
    """Raise `UserError` if one of an archive's members holds a secret.

    clean: a file that records the digests of clean members, so that they are not scanned again.
    """
    searcher = scanner()
    # Values of variables are searched in all members, because no digest of them may be stored.
    values_only = dataclasses.replace(searcher, rules=dataclasses.replace(searcher.rules, pattern=()))
    known = VerifiedDigests(
        clean, digest(RULES.read_bytes(), CHECKOUT.secrets.read_bytes(), Path(__file__).read_bytes())
    )
    found: list[Finding] = []
    keys = []
    for member in members:
        keys.append(digest(cpio.encode(member.name), member.data))
        chosen = values_only if keys[-1] in known else searcher
        found += chosen.search(member.name, member.data)
    _refuse(where, found)
    known.keep(keys)


def refuse_in_image(where: str, image: Path) -> None:
    """Raise `UserError` if a container image's tar or one of its unpacked layers holds a secret."""
    searcher = scanner()
    found: list[Finding] = []
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                found += _search_stream(searcher, member.name, container_archive.unpacked(content))
    _refuse(where, found)


def _search_stream(searcher: Scanner, path: str, stream: Any) -> list[Finding]:
    """Search a stream in overlapping blocks, so that a secret across two blocks is found."""
    found: dict[str, Finding] = {}
    offset, kept = 0, b""
    while block := stream.read(BLOCK_BYTES):
        for finding in searcher.search(path, kept + block):
            place = offset - len(kept) + finding.offset
            found.setdefault(finding.kind, dataclasses.replace(finding, offset=place))
        offset += len(block)
        kept = block[-OVERLAP_BYTES:]
    return list(found.values())


def refuse_private(where: str, folder: Path, reference: Path) -> None:
    """Raise `UserError` if only its owner may read a file below `folder`: in the image all may.

    reference: a file of the same checkout.  If only its owner may read it, the checkout was made
    with a umask of 077, so the modes have no meaning and nothing is checked.
    """
    if not reference.stat().st_mode & 0o044:
        return
    found = [
        Finding(
            str(path.relative_to(folder)), "a file that only its owner may read here, but all in the image", 0
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.stat().st_mode & 0o044
    ]
    _refuse(where, found, hint="run chmod 644 on it if all may read it, else remove it")


def _refuse(where: str, found: Iterable[Finding], hint: str = "") -> None:
    allowed = [item.path for item in rules().allow if item.where == where]
    left = [one for one in found if not any(fnmatch.fnmatchcase(one.path, pattern) for pattern in allowed)]
    if not left:
        return
    more = [f"  {one}" for one in left[:MAX_SHOWN]]
    more += [f"  and {len(left) - MAX_SHOWN} more"] if left[MAX_SHOWN:] else []
    hint = hint or "remove it"
    raise UserError(
        f"{where} holds what looks like a secret: {left[0]}",
        f'{hint}; if it is meant to be there, allow it under [[allow]] (where = "{where}") in secrets.toml',
        "\n".join(more) if left[1:] else "",
    )


def refuse_in_records(output: Path) -> None:
    """Raise `UserError` if a log, manifest or lock in the output folder `output` holds a secret."""
    patterns = ("logs/*.log", "*.json", "lock.toml", "origins/*.toml", "kconfig/*")
    files = sorted({path for pattern in patterns for path in output.glob(pattern)})
    refuse_in_files("logs", [(str(path.relative_to(output)), path) for path in files])

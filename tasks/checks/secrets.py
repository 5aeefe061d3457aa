"""No secret by accident: a scan of what goes into an image, and of logs and manifests.

What is looked for stands in tasks/checks/secrets.toml, what is allowed and why in the checkout's
secrets.toml; besides, the values
of this machine's own environment variables whose names say TOKEN, PASSWORD, SECRET or KEY,
and files that are private on this machine and would be readable for all in the image.  A
finding names file and kind, never the secret.  Looked at is content as it stands: not what
is compressed within a file, and not what upstream publishes for everybody anyway.

detect-secrets, the library for this, is made for sources: it reads line by line and guesses
by entropy.  Here hundreds of megabytes are programs, and a guess would stop a build.
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
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.verified_digests import Known, digest

RULES = Path(__file__).with_name("secrets.toml")
ALLOWED = ROOT / "secrets.toml"
SHOWN = 10
PIECE, OVERLAP = 32 << 20, 4 << 10  # bytes of a stream looked at together, and looked at again
# Shorter values are words that stand everywhere.
SHORTEST = 8
VARIABLE = re.compile(
    r"(?i)TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|(^|_)KEY$|(API|ACCESS|PRIVATE|SIGNING)_?KEY"
)


@dataclass(frozen=True)
class Pattern:
    """A kind of secret: every one has one of `markers` in it and fits `regex`, over bytes."""

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
            raise ValueError("markers: expected some, of three bytes or more")

    @functools.cached_property
    def compiled(self) -> re.Pattern[bytes]:
        return re.compile(self.regex.encode())


@dataclass(frozen=True)
class Examples:
    """Words that are no password, wherever they stand for one."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Allow:
    """What is meant to be there: `path`, a shell pattern, in the extension or folder `where`."""

    where: str
    path: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("reason: expected some words")


@dataclass(frozen=True)
class Rules:
    """tasks/checks/secrets.toml, and what the checkout's secrets.toml allows."""

    pattern: tuple[Pattern, ...]
    examples: Examples = Examples()
    allow: tuple[Allow, ...] = ()


@dataclass(frozen=True)
class Allowed:
    """The checkout's secrets.toml."""

    allow: tuple[Allow, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A secret of a kind, at a byte of a file; path: below the root of what was scanned."""

    path: str
    kind: str
    offset: int

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}, at byte {self.offset:,}"


@functools.cache
def rules() -> Rules:
    """Return the rules and what is allowed.  Raises `UserError` if a file of them is malformed."""
    allowed = toml_schema.load(ALLOWED, Allowed).allow
    return dataclasses.replace(toml_schema.load(RULES, Rules), allow=allowed)


@dataclass(frozen=True)
class Scanner:
    """Searches content for the patterns of `rules` and for the `values` of variables (name -> value)."""

    rules: Rules
    values: Mapping[str, bytes] = field(default_factory=dict)

    def search(self, path: str, data: bytes) -> Iterator[Finding]:
        """Yield the first finding of each kind in a file's content."""
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
        # A placeholder of a language, as %s or ***, and one letter again and again.
        return text in self.rules.examples.words or "%" in text or len(set(text)) < 4


def own_values(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return the variables of this machine whose values must not get out: name -> value.

    Paths are left out: SIGNING_KEY=/root/key names a secret, and is none.
    """
    found = {}
    for name, value in (os.environ if environment is None else environment).items():
        if VARIABLE.search(name) and len(value) >= SHORTEST and not value.startswith(("/", "~", "./")):
            found[name] = value.encode(errors="surrogateescape")
    return found


def scanner() -> Scanner:
    """Return the scanner for this machine and checkout."""
    return Scanner(rules(), own_values())


def refuse_in_files(where: str, files: Iterable[tuple[str, Path]]) -> None:
    """Raise `UserError` if one of `files`, (path below /, file), holds a secret; links are left out."""
    searching = scanner()
    found = [
        finding
        for path, file in files
        if file.is_file() and not file.is_symlink()
        for finding in searching.search(path, file.read_bytes())
    ]
    _refuse(where, found)


def refuse_in_members(where: str, members: Iterable[Member], clean: Path) -> None:
    """Raise `UserError` if one of an archive's members holds a secret.

    clean: a file that keeps what was found clean; only what is new is looked at next time.
    """
    searching = scanner()
    # The values of variables are looked for in all: a digest of them is not to be left anywhere.
    of_known = dataclasses.replace(searching, rules=dataclasses.replace(searching.rules, pattern=()))
    known = Known(clean, digest(RULES.read_bytes(), ALLOWED.read_bytes(), Path(__file__).read_bytes()))
    found: list[Finding] = []
    keys = []
    for member in members:
        keys.append(digest(cpio.encode(member.name), member.data))
        looking = of_known if keys[-1] in known else searching
        found += looking.search(member.name, member.data)
    _refuse(where, found)
    known.keep(keys)


def refuse_in_image(where: str, image: Path) -> None:
    """Raise `UserError` if a container image's tar holds a secret, in what its layers unpack to too."""
    searching = scanner()
    found: list[Finding] = []
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                found += _in_stream(searching, member.name, container_archive.unpacked(content))
    _refuse(where, found)


def _in_stream(searching: Scanner, path: str, stream: Any) -> list[Finding]:
    """Search a stream of any length, piece by piece; what lies across two pieces is found in both."""
    found: dict[str, Finding] = {}
    offset, kept = 0, b""
    while block := stream.read(PIECE):
        for finding in searching.search(path, kept + block):
            place = offset - len(kept) + finding.offset
            found.setdefault(finding.kind, dataclasses.replace(finding, offset=place))
        offset += len(block)
        kept = block[-OVERLAP:]
    return list(found.values())


def refuse_private(where: str, folder: Path, reference: Path) -> None:
    """Raise `UserError` if a file below `folder` is for its owner alone: in the image it is for all.

    In a checkout made with a umask of 077 all files are, and nothing follows from it:
    `reference`, a file of the same checkout, tells.
    """
    if not reference.stat().st_mode & 0o044:
        return
    found = [
        Finding(
            str(path.relative_to(folder)), "a file for its owner alone, which would be readable by all", 0
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.stat().st_mode & 0o044
    ]
    _refuse(where, found, hint="chmod 644 it if all may read it, else take it out")


def _refuse(where: str, found: Iterable[Finding], hint: str = "") -> None:
    allowed = [item.path for item in rules().allow if item.where == where]
    left = [one for one in found if not any(fnmatch.fnmatchcase(one.path, pattern) for pattern in allowed)]
    if not left:
        return
    more = [f"  {one}" for one in left[:SHOWN]]
    more += [f"  and {len(left) - SHOWN} more"] if left[SHOWN:] else []
    hint = hint or "take it out"
    raise UserError(
        f"{where} holds what looks like a secret: {left[0]}",
        f'{hint}; if it is meant to be there, say so under [[allow]] (where = "{where}") in secrets.toml',
        "\n".join(more) if left[1:] else "",
    )


def refuse_in_records(output: Path) -> None:
    """Raise `UserError` if a log, manifest or lock in the output folder `output` holds a secret."""
    patterns = ("logs/*.log", "*.json", "lock.toml", "origins/*.toml", "kconfig/*")
    files = sorted({path for pattern in patterns for path in output.glob(pattern)})
    refuse_in_files("logs", [(str(path.relative_to(output)), path) for path in files])

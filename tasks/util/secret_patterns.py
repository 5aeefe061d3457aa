# SPDX-License-Identifier: MIT
"""Find secrets in names, texts and files: keys, tokens and passwords of known forms.

secrets/tcbuild.toml holds tcbuild's own patterns, and secrets/detect-secrets.toml those that the
project of this name keeps for services.  The values of this machine's environment variables whose names
say that they are secret are searched, too.  A finding names place and kind, never the secret.

The library detect-secrets itself is made for source code: it reads line by line and guesses by
entropy.  Here most of the content is hundreds of megabytes of programs, and a wrong guess would
stop a build.  So tcbuild takes those of its rules that guess nothing, and applies them to bytes.
"""

from __future__ import annotations

import bisect
import codecs
import dataclasses
import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.util import toml_schema
from tasks.util.process import CREDENTIALS

FOLDER = Path(__file__).with_name("secrets")
FILES = (FOLDER / "tcbuild.toml", FOLDER / "detect-secrets.toml")
# Shorter values are common words.
MIN_VALUE_LENGTH = 8
SECRET_VARIABLE = re.compile(
    r"(?i)TOKEN|PASSWORD|PASSWD|PASSPHRASE|(?<!BY)(?<!COM)PASS(_|$)|SECRET|CREDENTIAL|(^|_)AUTH(_CONFIG)?$"
    r"|(^|_)KEY$|(API|ACCESS|PRIVATE|SIGNING)_?KEY"
)
# Words before a secret on a command line, in a header or in a setting.
SECRET_WORDS = re.compile(
    r"(?i)((?:password|passwd|secret|token|api[_-]?key|authorization)[\"']?\s*[:=]\s*[\"']?"
    r"(?:bearer\s+|basic\s+)?|--(?:password|secret|token|api-key)\s+)[^\s'\",;]+"
)
# crypt(5): the beginning of a password's hash.
PASSWORD_HASH = re.compile(r"\$(?:1|2[abxy]|5|6|7|y|gy|md5|sha1)\$[./0-9A-Za-z,=$]{4}")
HIDDEN = "***"
HEAD = 512  # bytes that tell whether a text is UTF-16
# Byte order marks.  That of UTF-32 begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
ELF = b"\x7fELF"
# A string of ASCII in UTF-16 within other content.  A pattern that begins with a byte is much faster.
WIDE_STRING = re.compile(rb"\x00(?:[\t\n\r\x20-\x7e]\x00){15,}[\t\n\r\x20-\x7e]?")


@dataclass(frozen=True)
class Pattern:
    """A kind of secret: it contains one of `markers` and matches `regex`, a pattern over bytes.

    markers: the characters U+0080 to U+00FF stand for the bytes of these numbers.
    names: search only in files of these names; () means all files.
    start: search only in content that begins so, in the characters of `markers`.
    examples: shell patterns of published values of the regex's group `secret` that are no secrets.
    """

    name: str
    regex: str
    markers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    start: str = ""
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex.encode())
        except re.error as error:
            raise ValueError(f"regex: {error}") from None
        if not (self.markers or self.names) or min(map(len, self.markers), default=3) < 3:
            raise ValueError("markers: expected at least one, each of three bytes or more")
        if any(ord(letter) > 0xFF for marker in (*self.markers, self.start) for letter in marker):
            raise ValueError("markers, start: expected characters up to U+00FF, one for each byte")

    @functools.cached_property
    def compiled(self) -> re.Pattern[bytes]:
        return re.compile(self.regex.encode())

    @functools.cached_property
    def marks(self) -> tuple[bytes, ...]:
        return tuple(marker.encode("latin-1") for marker in self.markers)


@dataclass(frozen=True)
class Examples:
    """Placeholders that are no password."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """The content of a file of tasks/util/secrets/: patterns, and words that are no password."""

    pattern: tuple[Pattern, ...]
    examples: Examples = Examples()


@dataclass(frozen=True)
class Finding:
    """A secret of one kind in a file, in its name or in a value.

    path: relative to what is searched, with `***` for a secret in the name itself; offset: in
    bytes, None where there is none to tell.
    """

    path: str
    kind: str
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}" + ("" if self.offset is None else f", at byte {self.offset:,}")


@functools.cache
def rules() -> Rules:
    """Return the patterns.  Raises `UserError` if one of their files is malformed."""
    first, *others = (toml_schema.load(file, Rules) for file in FILES)
    more = tuple(pattern for other in others for pattern in other.pattern)
    return dataclasses.replace(first, pattern=first.pattern + more)


@dataclass(frozen=True)
class Scanner:
    """Searches content for the patterns of `rules` and for the `values` of variables (name -> value)."""

    rules: Rules
    values: Mapping[str, bytes] = field(default_factory=dict)

    def search(self, path: str, data: bytes) -> Iterator[Finding]:
        """Yield the first finding of each kind in the name and the content `data` of the file `path`."""
        shown = path
        # Each round hides one secret, so that a second one of its kind is not told either.
        while found := next(self._matches(path, shown.encode(errors="surrogatepass")), None):
            kind, _, secret = found
            hidden = shown.replace(secret.decode(errors="replace"), "***")
            shown = hidden if hidden != shown else "***"
            yield Finding(shown, f"{kind}, in its name")
        for kind, offset, _ in self._matches(path, data):
            yield Finding(shown, kind, offset)
        text, place = _wide_text(data)
        for kind, offset, _ in self._matches(path, text):
            yield Finding(shown, kind, place(offset))

    @functools.cached_property
    def _marks(self) -> list[tuple[bytes, Pattern]]:
        """The markers of the patterns that are searched everywhere."""
        return [
            (mark, pattern)
            for pattern in self.rules.pattern
            for mark in pattern.marks
            if not pattern.names and not pattern.start
        ]

    @functools.cached_property
    def _others(self) -> list[Pattern]:
        return [pattern for pattern in self.rules.pattern if pattern.names or pattern.start]

    def _special(self, path: str, data: bytes) -> Iterator[Pattern]:
        """Yield the patterns for files of this name or this beginning whose markers are in them."""
        name = path.rpartition("/")[2]
        for pattern in self._others:
            if pattern.names and name not in pattern.names:
                continue
            if not data.startswith(pattern.start.encode("latin-1")):
                continue
            if not pattern.marks or any(mark in data for mark in pattern.marks):
                yield pattern

    def _matches(self, path: str, data: bytes) -> Iterator[tuple[str, int, bytes]]:
        """Yield (kind, offset, the secret) of the first match of each kind."""
        if not data:
            return
        # Plain searches are much faster than a pattern, and most content has no marker.
        marked = dict.fromkeys(pattern for mark, pattern in self._marks if mark in data)
        for pattern in (*marked, *self._special(path, data)):
            for match in pattern.compiled.finditer(data):
                if not self._is_example(pattern, match):
                    yield pattern.name, match.start(), match[0]
                    break
        for name, value in self.values.items():
            offset = data.find(value)
            if offset >= 0:
                yield f"the value of this machine's variable {name}", offset, value

    def _is_example(self, pattern: Pattern, match: re.Match[bytes]) -> bool:
        secret = match.groupdict().get("secret")
        if secret is None:
            return False
        whole = secret.decode(errors="replace").strip('"')
        if any(fnmatch.fnmatchcase(whole, example) for example in pattern.examples):
            return True
        text = whole.lower()
        # Placeholders such as %s and ***, and repetitions of one letter.  %40 is a letter of an address.
        has_format = "%" in re.sub("%[0-9a-f]{2}", "", text)
        return text in self.rules.examples.words or has_format or len(set(text)) < 4


def _wide_text(data: bytes) -> tuple[bytes, Callable[[int], int]]:
    """Return what `data` has in UTF-16 or UTF-32, as UTF-8, and where in `data` an offset of that is.

    That is all of it, or the strings of ASCII in UTF-16 that stand among other content, as in
    programs of .NET and in databases, a line each.  ELF files are left out: they are most of an image,
    and the search would take a third longer.  A whole text without a byte order mark is known by its
    zeros: half of the bytes of ASCII.
    """
    head = data[:HEAD]
    even, odd = (head[first::2].count(0) for first in (0, 1))
    found = [name for mark, name in MARKS if head.startswith(mark)]
    found += ["utf-16-le"] if odd * 4 > len(head) > 15 and not even else []
    found += ["utf-16-be"] if even * 4 > len(head) > 15 and not odd else []
    if found:
        text = data.decode(found[0], "replace").encode(errors="replace")
        width = len("0".encode(found[0]))
        return text, lambda offset: len(text[:offset].decode(errors="replace")) * width
    strings, starts, offsets, length = [], [], [], 0
    for match in () if data.startswith(ELF) else WIDE_STRING.finditer(data):
        # In little endian, the first zero belongs to the character before it.
        first = data[match.start() - 1] if match.start() else 0
        starts.append(match.start() - 1 if 0x20 <= first < 0x7F else match.start() + 1)
        offsets.append(length)
        strings.append(data[starts[-1] : match.end() : 2])
        length += len(strings[-1]) + 1

    def place(offset: int) -> int:
        number = bisect.bisect_right(offsets, offset) - 1
        return starts[number] + (offset - offsets[number]) * 2

    return b"\n".join(strings), place


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return the environment variables whose values are secret: name -> value without space around it.

    Paths are not included: SIGNING_KEY=/root/key names a secret, but is none.  Nor are the words of
    examples: a database of tests has the password `postgres` or `password`, and so has every README.
    """
    examples = rules().examples.words
    found = {}
    for name, value in (os.environ if environment is None else environment).items():
        value = value.strip()
        if value.lower() in examples:
            continue
        if SECRET_VARIABLE.search(name) and len(value) >= MIN_VALUE_LENGTH and not _is_path(value):
            found[name] = value.encode(errors="surrogateescape")
    return found


def _is_path(value: str) -> bool:
    """Tell whether a value is a path.  A secret in Base64 may begin with `/`, but names no folder."""
    if value.startswith(("~/", "./", "../")):
        return True
    return value.startswith("/") and os.path.lexists("/" + value.split("/")[1])


def scanner() -> Scanner:
    """Return the scanner for this machine."""
    return Scanner(rules(), secret_values())


@functools.cache
def _without_values() -> Scanner:
    return Scanner(rules())


def is_secret(text: str, *, values: bool = True) -> bool:
    """Tell whether a text of a profile or a task holds what nobody may read.

    That is: what `Scanner` finds, a password's hash, user and password in an address, and what
    follows a word such as `password=`.  values: whether to look for values of variables, too.
    """
    if CREDENTIALS.search(text) or SECRET_WORDS.search(text):
        return True
    return _has_secret(text, scanner() if values else _without_values())


def _has_secret(text: str, searcher: Scanner) -> bool:
    if PASSWORD_HASH.search(text):
        return True
    return next(searcher.search("", text.encode(errors="surrogatepass")), None) is not None


def redacted(text: str) -> str:
    """Return `text` without users and passwords in addresses and without values after secret words."""
    return SECRET_WORDS.sub(r"\1***", CREDENTIALS.sub("://***@", text))


def publishable(text: str) -> str:
    """Return a message for others' eyes: `redacted`, and `***` alone if there is another secret in it."""
    text = redacted(text)
    return HIDDEN if _has_secret(text, scanner()) else text

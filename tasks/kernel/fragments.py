# SPDX-License-Identifier: MIT
"""Config fragments: read them strictly, find conflicts, apply them to a config.

A fragment is a piece of `.config` (kernel Documentation/kbuild/kconfig.rst): lines
`CONFIG_X=value` and `# CONFIG_X is not set`, comments, blank lines.  The kernel's
reader is lenient: it reads `CONFIG_X=yes` as y, and skips lines that it cannot read.
Here every other line is an error.

One comment has a meaning: `# override`, or `# override: REASON`, stands directly above a line that
replaces a line of a fragment before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config.profile import Profile
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.text import did_you_mean

SET = re.compile(r'CONFIG_(\w+)=([ymn]|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*")', re.ASCII)
UNSET = re.compile(r"# CONFIG_(\w+) is not set", re.ASCII)
# The kernel reads such a line as a comment; its author surely meant a request.
NEARLY_UNSET = re.compile(r"#+\s*CONFIG_\w+\s+(is\s+)?not\s+set\b", re.ASCII | re.IGNORECASE)
OVERRIDE = re.compile(r"# override(: .*)?")
CONFIG_LINE = re.compile(r"CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set", re.ASCII)


@dataclass(frozen=True)
class Request:
    """One line of a fragment: the value requested for a symbol (named without CONFIG_).

    `value` is spelled as in `.config`: y, m, a number, a string in quotes; n stands
    for `is not set`.  `line` is 0 for a request that is no line of a file.  `overrides`: whether it
    may replace a line of a fragment before it.
    """

    symbol: str
    value: str
    file: str
    line: int = 0
    overrides: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def text(self) -> str:
        return config_line(self.symbol, self.value)


def config_line(symbol: str, value: str) -> str:
    """Return the line a `.config` has for `symbol` with `value`."""
    return f"# CONFIG_{symbol} is not set" if value == "n" else f"CONFIG_{symbol}={value}"


def known_fragments() -> list[str]:
    """Return the names of the fragments in kconfig/ (base configs, `base-*`, are not fragments)."""
    files = CHECKOUT.found("kconfig", "*.config").values()
    return sorted(file.stem for file in files if not file.stem.startswith("base-"))


def fragment_files(profile: Profile) -> list[Path]:
    """Return the fragments' files in the order in which they apply.

    A name is that of a file in kconfig/ without `.config`; with a slash it is a path relative
    to the checkout, or to a tree.
    Raises `UserError` if one does not exist.
    """
    return [fragment_file(name) for name in profile.kernel.fragments]


def with_fragment(profile: Profile, name: str) -> Profile:
    """Return the profile with the fragment `name` as its last one, unless it has that already.

    Raises `UserError` if there is no such fragment.
    """
    if fragment_file(name) in fragment_files(profile):
        return profile
    kernel = replace(profile.kernel, fragments=(*profile.kernel.fragments, name))
    return replace(profile, kernel=kernel)


def fragment_file(name: str) -> Path:
    """Return the file of a fragment, by its name in a profile.  Raises `UserError` if there is none."""
    if "/" in name:
        path = CHECKOUT.path(name)
        if not path.is_file():
            roots = " or ".join(map(str, CHECKOUT.roots().values()))
            hint = f"a name with a slash is a path relative to {roots}"
            raise UserError(f"fragment {name} does not exist", hint)
        return path
    path = CHECKOUT.find("kconfig", f"{name}.config")
    if name in known_fragments():
        return path
    near = did_you_mean(name.removesuffix(".config"), known_fragments())
    hint = f"{near} in kconfig/: {', '.join(known_fragments())}; a path needs a slash".lstrip()
    raise UserError(f"unknown fragment {name!r}", hint)


def display_path(path: Path) -> str:
    """Return `path` as messages and diff.txt show it: relative to the checkout or the tree it lies in."""
    return CHECKOUT.label_of(path.absolute())


def read_fragment(path: Path) -> list[Request]:
    """Return the requests of a fragment, in its order.

    Raises `UserError` with file and line for the first line that is not valid.
    """
    try:
        return parse_fragment(path.read_bytes(), display_path(path))
    except FileNotFoundError:
        raise UserError(f"{display_path(path)} does not exist") from None


def parse_fragment(data: bytes, name: str) -> list[Request]:
    """Return the requests in a fragment's content; `name` is its file, for messages.

    Raises `UserError` as `read_fragment` does.
    """
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text (byte {error.start})") from None
    requests = []
    marked = 0  # the number of the line above, if that is `# override`
    for number, raw in enumerate([*lines, ""], 1):
        line = raw.rstrip("\r \t")
        request = _parse_line(line, name, number)
        if request:
            requests.append(replace(request, overrides=bool(marked)))
        elif marked:
            raise UserError(
                f"{name}:{marked}: `# override` stands above no config line",
                "put it directly above the line that overrides one of an earlier fragment",
            )
        marked = number if OVERRIDE.fullmatch(line) else 0
    return requests


def _parse_line(line: str, file: str, number: int) -> Request | None:
    if match := SET.fullmatch(line):
        return Request(match[1], match[2], file, number)
    if match := UNSET.fullmatch(line):
        return Request(match[1], "n", file, number)
    if not line or (line.startswith("#") and not NEARLY_UNSET.match(line)):
        return None
    expected = 'CONFIG_X=y, =m, =n, =NUMBER, ="TEXT", "# CONFIG_X is not set", a comment or a blank line'
    raise UserError(f"{file}:{number}: not a config line: {line!r}", f"expected {expected}")


def parse_config(text: str) -> dict[str, str]:
    """Return the values of a whole `.config`, symbols without CONFIG_, n for `is not set`.

    Other lines are skipped: the text was written by `conf`, or is an imported config.
    """
    values = {}
    for line in text.splitlines():
        if match := CONFIG_LINE.fullmatch(line.rstrip()):
            values[match[1] or match[3]] = match[2] if match[1] else "n"
    return values


def apply_requests(base: str, requests: Iterable[Request]) -> str:
    """Return `base` (a `.config`'s text) with its lines for the requested symbols replaced.

    The requested lines go to the end, in order: of several members of a choice the kernel
    takes the one that it reads last.
    """
    asked: dict[str, str] = {}
    for request in requests:
        asked.pop(request.symbol, None)
        asked[request.symbol] = request.text
    kept = []
    for line in base.splitlines():
        match = CONFIG_LINE.fullmatch(line.rstrip())
        if not match or (match[1] or match[3]) not in asked:
            kept.append(line)
    return "\n".join([*kept, *asked.values()]) + "\n"


def split_overridden(requests: Iterable[Request]) -> tuple[list[Request], list[Request]]:
    """Return the requests that count, and those that a line of a later fragment overrides.

    A line overrides those of other files only, and no request that is no line of a file.
    """
    kept: list[Request] = []
    overridden: list[Request] = []
    for request in requests:
        if request.overrides:
            lost = [
                one for one in kept if one.symbol == request.symbol and one.line and one.file != request.file
            ]
            overridden += lost
            kept = [one for one in kept if one not in lost]
        kept.append(request)
    return kept, overridden


def find_conflicts(requests: Iterable[Request]) -> list[tuple[Request, Request]]:
    """Return the pairs of requests for one symbol whose values differ: the first, and a later one."""
    first: dict[str, Request] = {}
    conflicts = []
    for request in requests:
        earlier = first.setdefault(request.symbol, request)
        if not same_value(earlier.value, request.value):
            conflicts.append((earlier, request))
    return conflicts


def same_value(asked: str, got: str) -> bool:
    """Tell whether two spellings mean the same value; only numbers have several (0x1F, 0X1f; 7, 07)."""
    if asked == got:
        return True
    for pattern, base in ((r"-?[0-9]+", 10), (r"0[xX][0-9a-fA-F]+", 16)):
        if re.fullmatch(pattern, asked) and re.fullmatch(pattern, got):
            return int(asked, base) == int(got, base)
    return False


def find_misses(requests: Iterable[Request], config: Mapping[str, str]) -> list[Request]:
    """Return the requests whose value differs in `config` (see `parse_config`).

    A symbol absent from a `.config` is n.
    """
    return [request for request in requests if not same_value(request.value, config.get(request.symbol, "n"))]

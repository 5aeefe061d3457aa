# SPDX-License-Identifier: MIT
"""Text for people and terminals."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence

# Control characters but tab and newline, marks that reorder a line, and halves of characters
# (bytes of a file name that are not UTF-8).
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What no line of a list or of an .info file can hold: characters that control a terminal or end a
# line (str.splitlines), and halves of characters.
NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
"""The same of a whole text in TOML, which has no halves of characters; editors check it by the schemas."""
DOIT = re.compile(r"(?<![\w./-])\./doit(?![\w./-])")
COMMAND = "TCBUILD_COMMAND"
"""Environment variable: the command that a person has typed, where it is not ./doit."""


def as_typed(text: str) -> str:
    """Return `text` with the command that runs tcbuild here in place of each `./doit`.

    The command `tcbuild` of a wheel says so.  In a checkout, and in a tree with a `doit` of its own, it
    is ./doit.
    """
    return DOIT.sub(os.environ.get(COMMAND) or "./doit", text)


def printable(text: str) -> str:
    """Return `text` with escapes (`\\x1b`) for what a terminal would obey or cannot print.

    Names in archives, images and manifests are others' words.
    """
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def check_line(key: str, value: str) -> None:
    """Raise `ValueError`, which names `key`, if a value is not one line of text."""
    if NO_LINE.search(value):
        raise ValueError(f"{key}: expected one line of text, got {value!a}")


def check_pattern(value: str) -> None:
    """Raise `ValueError` if a value is no regular expression of Python."""
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error}: {value!r}") from None


def did_you_mean(name: str, known: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """Return the question about the name nearest to one that does not exist, "" if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {shown(near[0])}?" if near else ""


def shortened(names: Sequence[str], shown: int) -> str:
    """Return the first `shown` names and the number of the others, as one text: `a, b and 3 more`."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")

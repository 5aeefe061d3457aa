# SPDX-License-Identifier: MIT
"""Reasons why a task runs, as data for `explain`, for run records and for the report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tasks.util.secret_patterns import is_secret


class Kind(StrEnum):
    """The kinds of reasons.  The values stand in run records; `WORDS` has the texts for a person."""

    NOT_DONE = "not-done"
    NO_RECORD = "no-record"
    EVERY_TIME = "every-time"
    VALUE = "value"
    CODE = "code"
    DAMAGED = "damaged"
    MISSING = "missing"
    CHANGED = "changed"
    MISSING_INPUT = "missing-input"
    NEW_INPUT = "new-input"
    FORMER_INPUT = "former-input"
    TEXT = "text"


SECRET_CHANGE = "changed"
"""Stands for `OLD -> NEW` where one of the values is secret."""

WORDS = {
    Kind.NOT_DONE: "it has not been done yet",
    Kind.NO_RECORD: "there is no record of an earlier success",
    Kind.EVERY_TIME: "it runs every time",
    Kind.CODE: "tcbuild's code changed",
    Kind.DAMAGED: "no longer as it was made",
    Kind.MISSING: "missing",
    Kind.CHANGED: "changed",
    Kind.MISSING_INPUT: "missing input",
    Kind.NEW_INPUT: "new input",
    Kind.FORMER_INPUT: "no longer an input",
}


@dataclass(frozen=True)
class Reason:
    """One reason.  `str` of it is the line for a person.

    path: the file, relative to the checkout if it lies there; more: the number of further files,
    which are not named; text: of a changed value, `NAME: OLD -> NEW`, or `NAME: changed` if it is
    secret; of a record that an earlier version of tcbuild wrote, the whole line.
    """

    kind: Kind
    path: str = ""
    more: int = 0
    text: str = ""

    def __str__(self) -> str:
        about = f"and {self.more} more" if self.more else self.path
        return ": ".join(filter(None, (WORDS.get(self.kind), about, self.text)))

    def record(self) -> dict[str, Any]:
        """Return the reason as a run record keeps it."""
        facts = {"kind": str(self.kind), "path": self.path, "more": self.more, "text": self.text}
        return {name: value for name, value in facts.items() if value}


def read(value: Any) -> Reason:
    """Return the reason of a run record; a record of an earlier version has lines of text instead.

    Raises `ValueError` or `KeyError` for anything else.
    """
    if isinstance(value, str):
        return Reason(Kind.TEXT, text=_without_secret(value))
    if not isinstance(value, dict):
        raise ValueError(f"no reason: {value!r}")
    path, more, text = value.get("path", ""), value.get("more", 0), value.get("text", "")
    if not isinstance(path, str) or not isinstance(text, str) or not isinstance(more, int):
        raise ValueError(f"no reason: {value!r}")
    return Reason(Kind(value["kind"]), path, more, _without_secret(text))


def _without_secret(text: str) -> str:
    """Return a change without its values if one is secret: earlier versions of tcbuild recorded them."""
    return f"{text.partition(': ')[0]}: {SECRET_CHANGE}" if is_secret(text.partition(": ")[2]) else text

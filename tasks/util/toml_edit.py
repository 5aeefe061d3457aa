# SPDX-License-Identifier: MIT
"""Change one string of a TOML file that a person wrote: every other byte of it stays."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from tasks.util.errors import UserError


def with_string(text: str, keys: Sequence[str | int], new: str, what: str) -> str:
    """Return a TOML document in which the string at `keys` is `new`.

    keys: of tables and numbers in arrays, from the top.  new: without quotes and backslashes.
    what: the file, for messages.  Raises `UserError` if the string is not written as one word in quotes.
    """
    wanted = tomllib.loads(text)
    table: Any = wanted
    for key in keys[:-1]:
        table = table[key]
    old, table[keys[-1]] = table[keys[-1]], new
    for found in re.finditer(rf"(?P<quote>[\"']){re.escape(old)}(?P=quote)", text):
        quote = found["quote"]
        changed = f"{text[: found.start()]}{quote}{new}{quote}{text[found.end() :]}"
        # Whatever else is written like it: this document says what is wanted, and nothing else.
        if _loaded(changed) == wanted:
            return changed
    raise UserError(f"{what}: cannot find where {keys[-1]} = {old!r} is written", f"write {new!r} there")


def _loaded(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}

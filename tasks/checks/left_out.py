# SPDX-License-Identifier: MIT
"""What the recipe of an extension leaves out of its origins, for the hints of errors."""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LeftOut:
    """A path that an origin has and the extension has not.

    label: the package or file that has it; path: without a leading slash; key: of the recipe.
    """

    label: str
    path: str
    key: Literal["keep", "drop"]


def hint_for(names: Collection[str], left_out: Collection[LeftOut]) -> str:
    """Return a hint if a file with one of the names `names` is left out; "" if none is."""
    for item in left_out:
        if posixpath.basename(item.path) in names:
            return f"{item.label} has it as {item.path}, which `{item.key}` in the recipe leaves out"
    return ""

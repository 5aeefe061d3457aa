# SPDX-License-Identifier: MIT
"""Sources of kind `recipe`: a container image that tcbuild makes by a recipe in images/."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tasks.origins.lock import Lock
from tasks.origins.sources.base import Access, Source
from tasks.util.toml_schema import PATTERN

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, kw_only=True)
class RecipeSource(Source):
    """A container image that tcbuild makes.  Only `images` of a profile take this kind.

    recipe: the name of a folder in images/.
    """

    recipe: str = field(metadata={PATTERN: NAME})
    kind: Literal["recipe"] = "recipe"

    is_fetched: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not NAME.fullmatch(self.recipe):
            raise ValueError(f"recipe: expected the name of a folder in images/, got {self.recipe!r}")

    def label(self) -> str:
        return f"images/{self.recipe}"

    def locked_in(self, lock: Lock) -> None:
        """Return None: the lock holds what the recipe is made of, by its own name."""

    def pinned_in(self, lock: Lock, access: Access) -> None:
        """Return None, as `locked_in` does."""

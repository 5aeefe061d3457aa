# SPDX-License-Identifier: MIT
"""What a check of `./doit doctor` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.config.settings import Settings

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Verdict:
    """The result of a check: what it looked at, its state, the finding, and a fix ("" if it is ok)."""

    name: str
    state: State
    finding: str
    fix: str = ""


Check = Callable[[Settings], Iterator[Verdict]]

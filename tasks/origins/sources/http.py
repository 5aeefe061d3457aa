# SPDX-License-Identifier: MIT
"""Sources of kind `http`: a file below the profile's mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tasks.origins.sources.base import ServedSource


@dataclass(frozen=True, kw_only=True)
class HttpSource(ServedSource):
    """A file below the profile's mirrors.

    path: the path of the file below the address of each mirror; mirrors are asked in order.
    """

    path: str
    kind: Literal["http"] = "http"

    server_kind: ClassVar[str] = "mirrors"

    def label(self) -> str:
        return self.path

    def mirror_path(self) -> str:
        return self.path

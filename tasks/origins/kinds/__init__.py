# SPDX-License-Identifier: MIT
"""The kinds of origins in a recipe, one module each.

To add a kind, write a module with a dataclass derived from `LockedOrigin` (or from `Origin`, if
recipes do not lock it), and add the class to `AnyOrigin`.  That union defines the keys of a
recipe, `./doit lock:NAME` and `fetch:NAME`, licences and package URLs.
"""

from __future__ import annotations

import typing

from tasks.origins.kinds.apt import AptOrigin
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import LockedOrigin, Origin
from tasks.origins.kinds.go import GoOrigin
from tasks.origins.kinds.module import ModuleOrigin
from tasks.origins.kinds.npm import NpmOrigin
from tasks.origins.kinds.source import SourceOrigin
from tasks.origins.kinds.wheel import WheelOrigin

AnyOrigin = AptOrigin | ArchiveOrigin | WheelOrigin | NpmOrigin | GoOrigin | ModuleOrigin | SourceOrigin

ALL: tuple[type[Origin], ...] = typing.get_args(AnyOrigin)


def kind_of(identity: str) -> type[LockedOrigin] | None:
    """Return the kind of the origin with that identity, None if no kind owns it."""
    locked = [kind for kind in ALL if issubclass(kind, LockedOrigin)]
    return next((kind for kind in locked if kind.owns(identity)), None)

"""The kinds of origins that a recipe can name, one module each.

A new kind is a module with a dataclass derived from `LockedOrigin` (or from `Origin`, if the
recipe does not lock it), and its name in `AnyOrigin`.  All else follows from that union: the
keys a recipe may have, `./doit lock:NAME` and `fetch:NAME`, licences and package URLs.
"""

from __future__ import annotations

import typing

from tasks.origins.kinds.apt import AptOrigin
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import LockedOrigin, Origin
from tasks.origins.kinds.npm import NpmOrigin
from tasks.origins.kinds.wheel import WheelOrigin

AnyOrigin = AptOrigin | ArchiveOrigin | WheelOrigin | NpmOrigin

ALL: tuple[type[Origin], ...] = typing.get_args(AnyOrigin)


def kind_of(identity: str) -> type[LockedOrigin] | None:
    """Return the kind whose origins have such an identity, None if no kind here has."""
    locked = [kind for kind in ALL if issubclass(kind, LockedOrigin)]
    return next((kind for kind in locked if kind.owns(identity)), None)

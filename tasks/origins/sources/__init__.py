"""Where a profile takes a file from: the kernel's source, a base config, the core's archives, images.

One module a kind.  A new kind is a module with a dataclass derived from `Source`, and its name
in `AnySource`.
"""

from __future__ import annotations

import typing

from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.base import Source
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.http import HttpSource

AnySource = AptSource | HttpSource | FileSource

ALL: tuple[type[Source], ...] = typing.get_args(AnySource)

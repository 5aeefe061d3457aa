# SPDX-License-Identifier: MIT
"""The sources of a profile's files: the kernel's source, a base config, core archives, images.

Each kind has one module.  To add a kind, write a module with a dataclass derived from `Source`,
and add the class to `AnySource`.
"""

from __future__ import annotations

import typing

from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.base import Source
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.imported import ImportedSource
from tasks.origins.sources.kernel_org import KernelOrgSource

AnySource = AptSource | HttpSource | FileSource | KernelOrgSource | ImportedSource

ALL: tuple[type[Source], ...] = typing.get_args(AnySource)

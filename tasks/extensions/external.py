# SPDX-License-Identifier: MIT
"""Extensions with kernel modules from elsewhere: only their tasks stand on the code that compiles kernels."""

from __future__ import annotations

import functools

from tasks.config.settings import Settings
from tasks.extensions import build as extension
from tasks.kernel import external_modules


def build(settings: Settings, name: str) -> None:
    """Build the extension `name` as tasks/extensions/build.py does.

    Raises `UserError` as that does, and as tasks/kernel/external_modules.py does.
    """
    extension.build(settings, name, functools.partial(external_modules.build, settings))

# SPDX-License-Identifier: MIT
"""The stages of tcbuild, one module each; `dodo.py` only declares tasks from them.

The modules are always compiled from their source.  Python takes a compiled file for current if mtime
and size of the source are those in it, so an edit that keeps both would run the code of before.
"""

import os
import sys
import time
from importlib.abc import PathEntryFinder
from importlib.machinery import FileFinder, SourceFileLoader
from typing import Any, NoReturn

IMPORTED = time.time_ns()
"""When the first module of tcbuild was imported, in ns since 1970: a later edit may have come too late."""
HERE = os.path.dirname(os.path.abspath(__file__))


class FromSource(SourceFileLoader):
    """Compiles a module from its source, and writes no compiled file."""

    def path_stats(self, path: Any) -> NoReturn:
        """Say that there is nothing to compare a compiled file with (importlib.abc.SourceLoader)."""
        raise OSError(f"{path}: compiled files are not used")


def _finder(path: str) -> PathEntryFinder:
    """Return the finder of modules in `path`, for the folders of tcbuild alone (sys.path_hooks)."""
    full = os.path.abspath(path)
    if full != os.path.dirname(HERE) and full != HERE and not full.startswith(f"{HERE}/"):
        raise ImportError(f"{path} is no folder of tcbuild")
    return FileFinder(path, (FromSource, [".py"]))


sys.path_hooks.insert(0, _finder)
for known in [path for path in sys.path_importer_cache if os.path.abspath(path) == os.path.dirname(HERE)]:
    del sys.path_importer_cache[known]

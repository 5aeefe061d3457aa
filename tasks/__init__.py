# SPDX-License-Identifier: MIT
"""The stages of tcbuild, one module each; `dodo.py` only declares tasks from them.

A compiled module is used only if the hash of its source is in it.  By default Python takes it for
current if mtime and size of the source are those in it, so an edit that keeps both would run the code
of before.
"""

import marshal
import os
import sys
import time
from contextlib import suppress
from importlib.abc import PathEntryFinder
from importlib.machinery import FileFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from types import CodeType

IMPORTED = time.time_ns()
"""When the first module of tcbuild was imported, in ns since 1970: a later edit may have come too late."""
HERE = os.path.dirname(os.path.abspath(__file__))
CHECKED_HASH = (3).to_bytes(4, "little")
"""The flags of a compiled file with a hash that is to be checked (PEP 552)."""


class HashLoader(SourceFileLoader):
    """Loads a module from its source, or from a compiled file with the hash of that source (PEP 552)."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the module's code (importlib.abc.InspectLoader)."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        compiled = cache_from_source(path)
        head = MAGIC_NUMBER + CHECKED_HASH + source_hash(source)
        with suppress(OSError, EOFError, ValueError, TypeError):  # there is none, or it is damaged
            data = self.get_data(compiled)
            if data.startswith(head):
                code: CodeType = marshal.loads(data[len(head) :])
                return code
        made: CodeType = self.source_to_code(source, path)
        if not sys.dont_write_bytecode:
            self.set_data(compiled, head + marshal.dumps(made))
        return made


def _finder(path: str) -> PathEntryFinder:
    """Return the finder of modules in `path`, for the folders of tcbuild alone (sys.path_hooks)."""
    full = os.path.abspath(path)
    if full != os.path.dirname(HERE) and full != HERE and not full.startswith(f"{HERE}/"):
        raise ImportError(f"{path} is no folder of tcbuild")
    return FileFinder(path, (HashLoader, [".py"]))


sys.path_hooks.insert(0, _finder)
for known in [path for path in sys.path_importer_cache if os.path.abspath(path) == os.path.dirname(HERE)]:
    del sys.path_importer_cache[known]

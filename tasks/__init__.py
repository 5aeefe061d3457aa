# SPDX-License-Identifier: MIT
"""The stages of tcbuild, one module each; `dodo.py` only declares tasks from them."""

import time

IMPORTED = time.time_ns()
"""When the first module of tcbuild was imported, in ns since 1970: a later edit may have come too late."""

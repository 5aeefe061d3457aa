# SPDX-License-Identifier: MIT
"""The command `tcbuild` of a wheel (docs/install.md): it is `./doit` of what the wheel installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

WRAPPER = Path(__file__).resolve().parents[2] / "doit"


def main() -> NoReturn:
    """Run the words of the command line by the wrapper `doit`, in place of this process."""
    os.environ["TCBUILD_COMMAND"] = "tcbuild"  # messages name it (tasks/util/text.py)
    os.execv(WRAPPER, [str(WRAPPER), *sys.argv[1:]])

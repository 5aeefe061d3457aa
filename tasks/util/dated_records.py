# SPDX-License-Identifier: MIT
"""Records that are named by their time: `20261129T213456.789Z.ENDING`.  A folder keeps the newest."""

from __future__ import annotations

import re
import time
from pathlib import Path

MAX_RECORDS = 20
DATE = r"\d{8}T\d{6}\.\d{3}Z"


def name(at: float, ending: str) -> str:
    """Return the name of the record of a time in seconds since the epoch; ending: without a dot."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at))
    return f"{stamp}.{int(at * 1000) % 1000:03d}Z.{ending}"


def paths(folder: Path, ending: str) -> list[Path]:
    """Return the records in a folder, oldest first."""
    named = re.compile(rf"{DATE}\.{re.escape(ending)}")
    return sorted(path for path in folder.glob(f"*.{ending}") if named.fullmatch(path.name))


def remove_oldest(folder: Path, ending: str) -> None:
    """Remove the oldest records of a folder beyond `MAX_RECORDS`."""
    for old in paths(folder, ending)[:-MAX_RECORDS]:
        old.unlink(missing_ok=True)

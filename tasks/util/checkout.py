"""The two folders of tcbuild: the checkout (which holds `dodo.py`) and the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """Return the user cache folder: $TCBUILD_CACHE, or tcbuild below $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("TCBUILD_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base).absolute() / "tcbuild"

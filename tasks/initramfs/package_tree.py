"""A folder that is long in the making, kept, and given out as hard links to what is in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.util.files import atomic_dir, write_atomic


def linked(kept: Path, inputs: Any, make: Callable[[Path], dict[str, str]], target: Path) -> dict[str, str]:
    """Make `target` a copy of the folder that `make` fills, and return what `make` returned.

    The folder is kept in `kept` with `inputs` (of what JSON can hold), and filled again when
    they differ from the last time.  Its files are those of `target` by another name: replace
    them there, never write into them.
    """
    about = kept / "about.json"
    asked = json.dumps(inputs, sort_keys=True)
    if not about.is_file() or json.loads(about.read_text())["inputs"] != asked:
        with atomic_dir(kept) as folder:
            (folder / "tree").mkdir()
            made = make(folder / "tree")
            write_atomic(folder / about.name, json.dumps({"inputs": asked, "made": made}))
    shutil.copytree(kept / "tree", target, symlinks=True, copy_function=_link)
    known: dict[str, str] = json.loads(about.read_text())["made"]
    return known


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)

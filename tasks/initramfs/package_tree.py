# SPDX-License-Identifier: MIT
"""A cache of one folder that takes long to fill.  Copies of it are hard links to its files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.util.files import atomic_dir, write_atomic


def link_cached(
    cached: Path, inputs: Any, fill: Callable[[Path], dict[str, str]], target: Path
) -> dict[str, str]:
    """Create the folder `target` as a copy of what `fill` writes.  Return what `fill` returned.

    cached: where the filled folder stays; inputs: JSON values that decide its content.  If they
    differ from those of the last call, `fill` is called again.  The files of `target` are hard
    links to the cached ones: replace them, never write into them.
    """
    record = cached / "about.json"
    key = json.dumps(inputs, sort_keys=True)
    if not record.is_file() or json.loads(record.read_text())["inputs"] != key:
        with atomic_dir(cached) as folder:
            (folder / "tree").mkdir()
            result = fill(folder / "tree")
            write_atomic(folder / record.name, json.dumps({"inputs": key, "made": result}))
    shutil.copytree(cached / "tree", target, symlinks=True, copy_function=_link)
    recorded: dict[str, str] = json.loads(record.read_text())["made"]
    return recorded


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)

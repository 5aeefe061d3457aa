# SPDX-License-Identifier: MIT
"""The part of a kernel tree that its configuration reads."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

# What Kconfig and `make kernelrelease` read of a kernel tree.
READ = re.compile(r"(Kconfig|Makefile|Kbuild)[^/]*|(scripts|tools/build|tools/scripts)/.*")


def kconfig_part(tree: Path, into: Path) -> Path:
    """Copy what the tests need of a kernel tree, so that they leave the tree alone."""
    for folder, folders, files in os.walk(tree):
        if Path(folder) == tree:
            folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            path = Path(folder) / name
            inside = str(path.relative_to(tree))
            if READ.fullmatch(name) or READ.fullmatch(inside):
                (into / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into / inside, follow_symlinks=False)
    return into

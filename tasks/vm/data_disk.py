# SPDX-License-Identifier: MIT
"""A disk of the user's for a guest: `./doit qemu --disk FILE[:SIZE]`.

The name of the file says its format, never its content: the guest writes that, and a qcow2 may
name another file of this machine as its base.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.util.errors import UserError
from tasks.util.files import atomic_path
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.sizes import parse_size
from tasks.vm.machine import Disk

SIZE = re.compile(r"(?P<file>.+):(?P<size>\d+[A-Za-z]*)", re.DOTALL)
DEFAULT_SIZE = "1GiB"
SECTOR = 512
SMALLEST = 1 << 20
QCOW2_MAGIC = b"QFI\xfb"


def parse(words: Sequence[str], caller: Path) -> dict[Path, int]:
    """Return the files that words FILE[:SIZE] mean, with the bytes of the disks that they may become.

    caller: the folder that a relative FILE is below.
    Raises `UserError` for what can be no disk, and for a file that is named twice.
    """
    found: dict[Path, int] = {}
    for word in words:
        match = SIZE.fullmatch(word)
        name, size = (match["file"], match["size"]) if match else (word, DEFAULT_SIZE)
        path = Path(os.path.realpath(caller / name))
        count = parse_size(size, f"--disk {name}:")
        if path in found:
            raise UserError(f"--disk {word}: the file is named twice")
        if count < SMALLEST or count % SECTOR:
            raise UserError(f"--disk {word}: a disk has at least {SMALLEST:,} bytes, in sectors of {SECTOR}")
        if path.exists() and not path.is_file():
            raise UserError(f"--disk {word}: {path} is no file")
        if not path.parent.is_dir():
            raise UserError(f"--disk {word}: {path.parent} is no folder")
        if path.is_file():
            _check(word, path)
        found[path] = count
    return found


def _check(word: str, path: Path) -> None:
    """Raise `UserError` if a file that is there has not the format that its name says."""
    with path.open("rb") as stream:
        is_qcow2 = stream.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC
    if is_qcow2 != (_format(path) == "qcow2"):
        what = "a qcow2 image, but its name does not end in .qcow2" if is_qcow2 else "no qcow2 image"
        raise UserError(f"--disk {word}: it is {what}", "rename it")
    if not is_qcow2 and path.stat().st_size % SECTOR:
        raise UserError(f"--disk {word}: its size is no multiple of {SECTOR} bytes")


def prepare(files: dict[Path, int], *, snapshot: bool) -> tuple[Disk, ...]:
    """Return the disks; make those that are absent.  snapshot: what the guest writes is lost."""
    for path, size in files.items():
        if not path.exists():
            with atomic_path(path) as partial:
                run(["qemu-img", "create", "-q", "-f", _format(path), partial, str(size)])
            logger.info(f"{path}: an empty disk of {size:,} bytes")
    return tuple(Disk(path, format=_format(path), snapshot=snapshot) for path in files)


def _format(path: Path) -> Literal["raw", "qcow2"]:
    return "qcow2" if path.suffix == ".qcow2" else "raw"

# SPDX-License-Identifier: MIT
"""Edits of tcbuild's own code: what is built after one is what a build from nothing gives."""

from __future__ import annotations

import ast
import random
from pathlib import Path

from tasks.util.files import sha256_file
from tests.faults.world import World

# Packages whose numbers are modes, sizes and formats: another one breaks a build, but no machine.
PACKAGES = ("formats", "initramfs", "extensions", "image")
MADE = ("kernel/vmlinuz64", "kernel/modules.sha256", "corepure64.gz", "tcbuild-small.iso", "tcz/*.tcz")
HANGS = 600  # seconds after which a build with a wrong number counts as failed


def code(world: World, rng: random.Random) -> str:
    """A number in tcbuild's code is another one for two runs and a build from nothing."""
    file, line, text = edit(world.checkout / "tasks", rng)
    with world.edited(file, text):
        status, said = world.start("iso").end(HANGS)
        made = digests(world)
        if status == 0:
            _, again = world.start("iso").end(HANGS)
            assert "everything is up to date" in again, f"{line}\n{again}"
        with world.from_nothing():
            afresh, told = world.start("iso").end(HANGS)
            assert (status == 0) == (afresh == 0), f"{line}\n{said}\n{told}"
            if status == 0:
                assert digests(world) == made, f"{line}\n{said}\n{told}"
    ran = [word[3:] for word in said.splitlines() if word.startswith("=> ")]
    return f"{line}: exit status {status} after {', '.join(ran) or 'nothing'}"


def edit(top: Path, rng: random.Random) -> tuple[Path, str, str]:
    """Return a module below `top`, the edited place in words, and its text with another number in it."""
    modules = sorted(path for package in PACKAGES for path in (top / package).rglob("*.py"))
    while True:
        file = rng.choice(modules)
        lines = file.read_bytes().splitlines(keepends=True)
        if found := numbers(b"".join(lines)):
            break
    node, value = rng.choice(found)
    row, start, end = node.lineno - 1, node.col_offset, node.end_col_offset
    written = lines[row][start:end].decode()
    other = f"0o{value + 1:o}" if written.startswith("0o") else str(value + 1)
    lines[row] = lines[row][:start] + other.encode() + lines[row][end:]
    where = f"{file.relative_to(top.parent)}:{node.lineno}: {written} -> {other}"
    return file, where, b"".join(lines).decode()


def numbers(module: bytes) -> list[tuple[ast.Constant, int]]:
    """Return the numbers of a module, without 0, 1 and 2, which are indexes or counts of few."""
    nodes = (node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Constant))
    return [(node, node.value) for node in nodes if type(node.value) is int and node.value > 2]


def digests(world: World) -> dict[str, str]:
    """Return the sha256 of what the small profile makes, by path below its output folder."""
    found = sorted(path for pattern in MADE for path in world.output.glob(pattern))
    return {str(path.relative_to(world.output)): sha256_file(path) for path in found}

# SPDX-License-Identifier: MIT
"""The documents' code blocks, run in a copy of the checkout, page by page, in their order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tasks.report import docs_check
from tasks.util.checkout import CHECKOUT
from tests.support.built import copy_checkout

BLOCKS = {path: docs_check.blocks(path.read_text()) for path in docs_check.pages()}
RUN = [path for path, blocks in BLOCKS.items() if any(block.mark == "run" for block in blocks)]


def shown(line: str, output: str) -> bool:
    """Tell whether a line of a document stands in `output`; `…` is any text, blanks count as one."""
    pieces = (r"\s+".join(map(re.escape, piece.split())) for piece in line.split("…"))
    return re.search(".*".join(pieces), output) is not None


@pytest.mark.parametrize("page", RUN, ids=lambda path: str(path.relative_to(CHECKOUT.root)))
def test_the_code_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """What a reader would type from top to bottom works; what is said to fail does, by a message."""
    checkout = copy_checkout(tmp_path / "copy")
    said = ""
    for block in BLOCKS[page]:
        if block.mark == "file":
            path = checkout / block.about
            assert not path.exists(), f"{page.name}:{block.line}: {block.about} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.mark == "run":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=checkout,
                env={**os.environ, "CI": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            said = f"{page.name}:{block.line}:\n{done.stdout}{done.stderr}"
            assert done.returncode == int(block.about.endswith("fails")), said
            assert "Traceback" not in said
        elif block.mark == "output":
            for line in block.text.splitlines():
                assert shown(line, said), f"{page.name}:{block.line}: {line!r} is not in {said}"

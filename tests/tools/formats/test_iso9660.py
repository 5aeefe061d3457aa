# SPDX-License-Identifier: MIT
"""The start of an ISO 9660 image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.formats import iso9660
from tasks.util.errors import UserError
from tasks.util.process import run


def test_iso_that_is_cut_short_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/large").write_bytes(os.urandom(1 << 20))
    image = tmp_path / "x.iso"
    run(["xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", image, tmp_path / "tree"])
    os.truncate(image, image.stat().st_size - (800 << 10))
    with pytest.raises(UserError):
        iso9660.extents(image)

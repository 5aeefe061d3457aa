# SPDX-License-Identifier: MIT
"""What is brought into a guest: owned by root, unpacked by a shell."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

from tasks.vm import bundle


def packed() -> bytes:
    stream = io.BytesIO()
    with bundle.writer(stream) as tar:
        bundle.add_folder(tar, "bin")
        bundle.add(tar, "bin/program", 0o755, b"#!/bin/sh\necho here\n")
        bundle.add_link(tar, "bin/link", "program")
    return stream.getvalue()


def test_a_shell_unpacks_it(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    script = f"{bundle.unpack(str(folder))}exec {folder}/bin/link\n"
    done = subprocess.run(["sh", "-c", script], input=packed(), capture_output=True, check=True)
    assert done.stdout == b"here\n"
    assert (folder / "bin").stat().st_mode & 0o777 == 0o755
    assert os.readlink(folder / "bin/link") == "program"

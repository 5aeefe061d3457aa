# SPDX-License-Identifier: MIT
"""Ask the real QEMU; its machine stands still before its first instruction, so nothing boots."""

from __future__ import annotations

import os
import signal
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tasks.util.process import end_group, spawn
from tasks.vm import monitor
from tasks.vm.machine import listens


@pytest.fixture
def scratch() -> Iterator[Path]:
    """The folder of a QEMU whose machine has a screen; the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="a,b") as name:
        folder = Path(name)
        words = ["qemu-system-x86_64", "-S", "-nodefaults", "-vga", "std", "-display", "none"]
        process = spawn([*words, *monitor.options(folder), "-pidfile", folder / "pid"])
        while not listens(folder / monitor.SOCKET):
            time.sleep(0.05)
        try:
            yield folder
        finally:
            end_group(process)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def test_a_screenshot_is_a_png(scratch: Path, tmp_path: Path) -> None:
    """Also below a folder whose name is not UTF-8; each call has a connection of its own."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    for name in ("one.png", "two.png"):
        monitor.screenshot(scratch, folder / name)
        content = (folder / name).read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of IHDR, the first chunk of a PNG
        assert (content[:8], content[12:16]) == (b"\x89PNG\r\n\x1a\n", b"IHDR")
        assert (width, height) == (640, 480)
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]


def test_a_refusal_is_told_in_qemus_words(scratch: Path) -> None:
    assert monitor.ask(scratch, "query-status")["status"] == "prelaunch"
    with pytest.raises(UserError, match="QEMU refuses no-such-command: The command"):
        monitor.ask(scratch, "no-such-command")


def test_a_qemu_that_has_ended_does_not_answer(scratch: Path, tmp_path: Path) -> None:
    os.kill(int((scratch / "pid").read_text()), signal.SIGKILL)
    with pytest.raises(monitor.NoAnswer, match="QEMU does not answer"):
        monitor.screenshot(scratch, tmp_path / "no.png")
    assert not any(tmp_path.iterdir())


def test_one_that_hangs_is_not_waited_for(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SECONDS", 0.3)
    number = int((scratch / "pid").read_text())
    os.kill(number, signal.SIGSTOP)
    try:
        with pytest.raises(monitor.NoAnswer, match="QEMU does not answer: timed out"):
            monitor.ask(scratch, "query-status")
    finally:
        os.kill(number, signal.SIGCONT)

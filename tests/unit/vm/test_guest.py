# SPDX-License-Identifier: MIT
"""What a guest's console says, as it comes: a program in QEMU's place writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.vm.guest import Guest, Panicked
from tasks.vm.machine import Machine


@pytest.mark.parametrize(
    "line",
    [
        "Kernel panic - not syncing: sysrq triggered crash",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    ],
)
def test_a_panic_is_told_by_its_whole_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """A serial console writes a line in pieces."""
    slow = 'for piece in "$1" "$2" "$3"; do printf %s "$piece"; sleep 0.2; done; echo; sleep 60'
    pieces = (line[:26], line[26:50], line[50:])
    monkeypatch.setattr("tasks.vm.guest.argv", lambda *_: ["sh", "-c", slow, "sh", *pieces])
    with Guest(Machine("direct"), tmp_path / "log", limit=30) as guest:
        with pytest.raises(Panicked) as caught:
            guest.expect("a prompt", 20)
        assert caught.value.message == f"the guest's kernel panicked: {line}"

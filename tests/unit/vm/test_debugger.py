# SPDX-License-Identifier: MIT
"""What gdb is told of a guest, and which kernels stay where gdb looks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tasks.vm import debugger
from tasks.vm.debugger import Symbols
from tasks.vm.machine import Machine, argv

MOVES = "CONFIG_RELOCATABLE=y\nCONFIG_RANDOMIZE_BASE=y\n"
STAYS = "CONFIG_RELOCATABLE=y\n# CONFIG_RANDOMIZE_BASE is not set\n"
DIRECT = Machine("direct", append="quiet")


def test_a_kernel_that_moves_itself_is_kept_from_it_or_refused() -> None:
    assert debugger.fixed(DIRECT, MOVES).append == "quiet nokaslr"
    assert debugger.fixed(DIRECT, STAYS) == DIRECT
    assert debugger.fixed(Machine("bios"), STAYS) == Machine("bios")
    with pytest.raises(UserError, match="CONFIG_RANDOMIZE_BASE") as caught:
        debugger.fixed(Machine("uefi"), MOVES)
    assert "--firmware direct" in caught.value.hint


def test_gdb_gets_symbols_source_scripts_and_modules() -> None:
    whole = Symbols(Path("/b/vmlinux"), Path("/linux"), Path("/b/vmlinux-gdb.py"), debug=True)
    lines = debugger.script(whole, Machine("direct", gdb=1235, halted=True)).splitlines()
    assert lines[1:] == [
        *("file /b/vmlinux", "directory /linux", "source /b/vmlinux-gdb.py"),
        *("target remote 127.0.0.1:1235", "thbreak start_kernel", "continue", "cd /b", "lx-symbols"),
    ]
    bare = Symbols(Path("/b/vmlinux"), Path("/linux"), None, debug=False)
    lines = debugger.script(bare, Machine("direct", gdb=1234)).splitlines()
    assert lines[1:] == ["file /b/vmlinux", "directory /linux", "target remote 127.0.0.1:1234"]


def test_qemu_answers_gdb_at_the_loopback_address_alone(tmp_path: Path) -> None:
    words = argv(Machine("bios", gdb=1234), tmp_path)
    assert words[words.index("-gdb") + 1] == "tcp:127.0.0.1:1234"
    assert "-S" not in words
    assert "-S" in argv(Machine("bios", gdb=1234, halted=True), tmp_path)
    assert "-gdb" not in argv(Machine("bios"), tmp_path)

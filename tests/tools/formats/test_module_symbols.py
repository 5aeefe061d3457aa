# SPDX-License-Identifier: MIT
"""The symbols that an object of the real assembler needs, and their CRCs in both forms."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tasks.formats import module_symbols

# struct modversion_info: an unsigned long and a name, 64 bytes together (include/linux/module.h).
SOURCE = """
    .text
    call needed
    call more
    .weak perhaps
    call perhaps
    .section __versions,"a"
    .quad 0x92997ed8
    .asciz "needed"
    .balign 64
    .quad 0x1e57f1b5
    .asciz "module_layout"
    .balign 64
"""
SINCE_6_13 = """
    .section __version_ext_crcs,"a"
    .long 0x12, 0x34
    .section __version_ext_names,"a"
    .asciz "more"
    .asciz "a_name_that_is_longer_than_the_fifty_six_bytes_of_the_old_array"
"""


def made(folder: Path, source: str, *options: str) -> Path:
    path = folder / "it.ko"
    subprocess.run(["as", *options, "-o", path, "-"], input=source, text=True, check=True)
    return path


def test_symbols_that_a_module_needs(tmp_path: Path) -> None:
    assert module_symbols.needed(made(tmp_path, SOURCE)) == {
        "needed": 0x92997ED8,
        "more": None,
        "module_layout": 0x1E57F1B5,
    }


def test_crcs_of_newer_kernels(tmp_path: Path) -> None:
    found = module_symbols.needed(made(tmp_path, SOURCE + SINCE_6_13))
    assert found["more"] == 0x12
    assert found["a_name_that_is_longer_than_the_fifty_six_bytes_of_the_old_array"] == 0x34


def test_the_array_of_a_32_bit_module(tmp_path: Path) -> None:
    source = SOURCE.replace(".quad", ".long")
    assert module_symbols.needed(made(tmp_path, source, "--32"))["needed"] == 0x92997ED8

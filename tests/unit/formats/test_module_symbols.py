# SPDX-License-Identifier: MIT
"""Symbols that modules need: what Module.symvers says, and what is compared with it."""

from __future__ import annotations

import pytest

from tasks.formats import module_symbols
from tasks.util.errors import UserError

SYMVERS = (
    "0x1e57f1b5\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n"
    "0x00000000\tplain\tdrivers/a/b\tEXPORT_SYMBOL_GPL\tNAMESPACE\n"
    "0x92997ed8\t_printk\tvmlinux\tEXPORT_SYMBOL\n"
)
THERE = {"module_layout": 0x1E57F1B5, "plain": 0, "_printk": 0x92997ED8}


def test_what_is_exported() -> None:
    assert module_symbols.exported(SYMVERS, "it") == THERE
    assert module_symbols.exported("", "it") == {}


@pytest.mark.parametrize("text", ["0x1\n", "0x1\ta\n", "0x1\t\tvmlinux\n", "one\ta\tvmlinux\n", "<html>"])
def test_what_is_no_list_of_symbols(text: str) -> None:
    with pytest.raises(UserError, match=r"^it is no Module\.symvers: "):
        module_symbols.exported(text, "it")


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        ({}, ""),
        ({"_printk": 0x92997ED8, "plain": 0x5, "module_layout": None}, ""),
        ({"lost": None}, "it needs the symbol lost, which the kernel does not export"),
        (
            {"_printk": 0x1},
            "it was built for a _printk of CRC 0x00000001, and the kernel's has 0x92997ed8",
        ),
    ],
    ids=["nothing", "all-there", "not-exported", "another"],
)
def test_what_is_unmet(needs: dict[str, int | None], problem: str) -> None:
    assert module_symbols.unmet(needs, THERE) == problem

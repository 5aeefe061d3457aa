# SPDX-License-Identifier: MIT
"""Explanations of missed lines, from records as kconfig/explain.c prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.kernel.fragments import Request, parse_config
from tasks.kernel.kconfig_explain import Symbol, describe, load_notes, near_names, parse_records

# One symbol a paragraph; columns are set apart by tabs.
RECORDS = """
name\tOVERLAY_FS
name\tOVERLAY_FS_INDEX
name\tNET_CORE
name\tNET_CORE

symbol\tGONE
type\tunknown

symbol\tOVERLAY_FS_INDEX
type\tbool
value\tn
at\tfs/overlayfs/Kconfig:53
prompt\tn
need\tn\tOVERLAY_FS [=n]
of\tOVERLAY_FS\tn\ttristate\t1\t fs/overlayfs/Kconfig:2
need\tn\tVIRTIO [=n] || UNDEFINED [=UNDEFINED]
of\tVIRTIO\tn\ttristate\t0\t drivers/virtio/Kconfig:5 drivers/other/Kconfig:7
by\tVIRTIO_PCI
by\tVIRTIO_MMIO
of\tUNDEFINED\tn\tunknown\t0\t

symbol\tCAPPED
type\ttristate
value\tm
at\tfs/9p/Kconfig:2
prompt\tm
need\tm\tNET_9P [=m]
of\tNET_9P\tm\ttristate\t1\t net/9p/Kconfig:6

symbol\tTWICE
type\tbool
value\tn
at\ta/Kconfig:1
at\tb/Kconfig:2
prompt\tn
need\tn\tA [=n]
of\tA\tn\tbool\t1\t a/Kconfig:9
prompt\tn
need\tn\tB [=n]
of\tB\tn\tbool\t1\t b/Kconfig:9

symbol\tNR
type\tinteger
value\t64
at\tarch/x86/Kconfig:3
prompt\ty
range\t2\t512

symbol\tADDRESS
type\thex
value\t0x100
at\tarch/x86/Kconfig:4
prompt\ty
range\t0x10\t0x2000

symbol\tTEXT
type\tstring
value\t(none)
at\tinit/Kconfig:4
prompt\ty

symbol\tKERNEL_XZ
type\tbool
value\tn
at\tinit/Kconfig:245
prompt\ty
choice\tKernel compression mode\tKERNEL_GZIP

symbol\tKERNEL_GZIP
type\tbool
value\ty
at\tinit/Kconfig:220
prompt\ty
choice\tKernel compression mode\tKERNEL_GZIP

symbol\tHIDDEN
type\ttristate
value\tn
at\tlib/Kconfig:1
default\ty\tm
select\tn\tFAR [=n] && NET [=n]
select\tn\tNEARER [=n] && NET [=y]
imply\ty\tSOMETHING [=y]

symbol\tRAISED
type\ttristate
value\ty
at\tfs/ext4/Kconfig:29
prompt\ty
select\ty\tEXT3_FS [=y] && BLOCK [=y]
select\tn\tOTHER [=n]
imply\ty\tWEAK [=y]

symbol\tIMPLIED
type\ttristate
value\ty
at\tx/Kconfig:1
prompt\ty
imply\ty\tWEAK [=y]

symbol\tPLAIN
type\ttristate
value\ty
at\tx/Kconfig:2
prompt\ty

end
"""
SYMBOLS, NAMES = parse_records("\n".join(line for line in RECORDS.splitlines() if line))
NOTES = {"GONE": "it is called HERE"}
CONFIG = parse_config(
    'CONFIG_CAPPED=m\nCONFIG_NR=64\nCONFIG_TEXT="(none)"\nCONFIG_KERNEL_GZIP=y\nCONFIG_HIDDEN=m\n'
    "CONFIG_RAISED=y\nCONFIG_IMPLIED=y\nCONFIG_PLAIN=y\nCONFIG_ADDRESS=0x100\n"
)
GZIP = Request("KERNEL_GZIP", "y", "qemu.config", 9)


def explained(symbol: str, value: str, config: dict[str, str] | None = None) -> str:
    miss = Request(symbol, value, "my.config", 3)
    asked = {symbol: miss, "OVERLAY_FS": Request("OVERLAY_FS", "n", "my.config", 8)} | {"KERNEL_GZIP": GZIP}
    return describe(miss, SYMBOLS[symbol], config or CONFIG, NAMES, NOTES, asked)


def test_names_are_each_told_once() -> None:
    assert NAMES == ["NET_CORE", "OVERLAY_FS", "OVERLAY_FS_INDEX"]


def test_unmet_dependencies_are_told_with_value_and_position() -> None:
    assert explained("OVERLAY_FS_INDEX", "y").splitlines() == [
        "my.config:3: CONFIG_OVERLAY_FS_INDEX=y: got n",
        "    bool, defined at fs/overlayfs/Kconfig:53",
        "    depends on OVERLAY_FS [=n]: unmet",
        "      OVERLAY_FS=n (fs/overlayfs/Kconfig:2), asked n at my.config:8",
        "    depends on VIRTIO [=n] || UNDEFINED [=UNDEFINED]: unmet",
        "      VIRTIO=n (drivers/virtio/Kconfig:5, drivers/other/Kconfig:7), "
        "no prompt: only selected by VIRTIO_PCI, VIRTIO_MMIO",
        "      UNDEFINED: not defined in this kernel version or architecture",
    ]


@pytest.mark.parametrize(
    ("symbol", "value", "said"),
    [
        ("GONE", "y", "unknown symbol in this kernel version\n    note: it is called HERE"),
        (
            "CAPPED",
            "y",
            "got m\n    tristate, defined at fs/9p/Kconfig:2\n    depends on NET_9P [=m]: allows only m",
        ),
        ("TWICE", "y", "A=n (a/Kconfig:9)\n    or, where it is defined again:\n    depends on B [=n]: unmet"),
        ("OVERLAY_FS_INDEX", "m", "type mismatch: bool takes y or n, not m (it cannot be a module)"),
        ("NR", "y", "type mismatch: integer takes a decimal number, not y"),
        ("NR", "0x10", "type mismatch: integer takes a decimal number, not 0x10"),
        ("NR", "4096", "out of range: 4096 is not within 2 to 512"),
        ("NR", "-1", "out of range"),
        ("NR", "65", "the kernel writes the value differently; request it as 64"),
        ("ADDRESS", "100", "type mismatch: hex takes 0x..., not 100"),
        ("ADDRESS", "0x2001", "out of range: 0x2001 is not within 0x10 to 0x2000"),
        ("TEXT", "y", "type mismatch: string takes a text in quotes, not y"),
        ("PLAIN", '"y"', "type mismatch: tristate takes y, m or n"),
        ("KERNEL_XZ", "y", 'the choice "Kernel compression mode" holds KERNEL_GZIP (asked at qemu.config:9)'),
        ("KERNEL_GZIP", "n", 'the choice "Kernel compression mode" must have a member'),
        ("HIDDEN", "y", "no prompt: it cannot be set by hand, only by select or default\n"),
        ("HIDDEN", "y", "selected by NEARER [=n] && NET [=y]\n    would be selected by FAR"),
        ("HIDDEN", "n", "(no visible prompt)\n    raised by imply from SOMETHING [=y]\n    its default: m"),
        (
            "RAISED",
            "n",
            "got y\n    tristate, defined at fs/ext4/Kconfig:29\n    raised by select from EXT3_FS [=y]",
        ),
        ("IMPLIED", "m", "raised by imply from WEAK [=y]"),
        ("PLAIN", "m", "MODULES is off, which turns m into y"),
    ],
)
def test_each_reason_is_told(symbol: str, value: str, said: str) -> None:
    assert said in explained(symbol, value)


def test_only_what_raises_is_told() -> None:
    text = explained("RAISED", "n")
    assert "OTHER" not in text
    assert "WEAK" not in text
    assert "MODULES" not in explained("IMPLIED", "m", CONFIG | {"MODULES": "y"})


def test_many_selectors_are_counted() -> None:
    symbol = Symbol("S", "bool", selects=[("n", f"X{number} [=n]") for number in range(11)])
    text = describe(Request("S", "y", "f", 1), symbol, {}, [], {}, {})
    assert text.count("would be selected") == 8
    assert "... and by 3 more" in text


def test_a_symbol_that_has_a_note_but_exists_shows_none() -> None:
    symbol = Symbol("GONE", "bool", at=["a/Kconfig:1"])
    assert "HERE" not in describe(Request("GONE", "y", "f", 1), symbol, {}, [], NOTES, {})


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("RETPOLINE", ["MITIGATION_RETPOLINE", "RETPOLINES_X"], ["MITIGATION_RETPOLINE", "RETPOLINES_X"]),
        ("MITIGATION_RETPOLINE", ["RETPOLINE", "MITIGATION_X"], ["RETPOLINE"]),
        ("SQUASH_FS", ["SQUASHFS", "NFS_FS"], ["SQUASHFS"]),
        ("DEVMEN", ["DEVMEM", "DEVPORT"], ["DEVMEM"]),
        ("ZZZZZ", ["DEVMEM", "FS"], []),
    ],
)
def test_near_names(name: str, names: list[str], near: list[str]) -> None:
    assert near_names(name, names) == near


@pytest.mark.parametrize(
    "text",
    [
        "",
        "symbol\tA\ntype\tbool\n",
        "symbol\tA\ntype\tbool\textra\nend",
        "symbol\tA\nsurprise\tx\nend",
        "by\tA\nend",
    ],
)
def test_output_that_is_not_complete_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ends early|unexpected record|out of place"):
        parse_records(text)


@given(st.lists(st.sampled_from([line for line in RECORDS.splitlines() if line])))
def test_records_in_any_order_are_read_or_refused(lines: list[str]) -> None:
    try:
        symbols, _ = parse_records("\n".join([*lines, "end"]))
    except ValueError:
        return
    assert set(symbols) <= set(SYMBOLS)


def test_notes_are_whole_sentences_about_symbols() -> None:
    notes = load_notes()
    assert {"EXT3_FS_XATTR", "RETPOLINE", "NF_NAT_IPV4", "AUFS_FS", "MEMCG_SWAP"} <= set(notes)
    assert all(name.isidentifier() and name.isupper() and len(text) > 20 for name, text in notes.items())
    assert "EXT4_FS_SECURITY" in notes["EXT3_FS_XATTR"]

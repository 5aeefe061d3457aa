# SPDX-License-Identifier: MIT
"""What is said of symbols, from records as kconfig/explain.c prints them."""

from __future__ import annotations

import pytest

from tasks.kernel.fragments import Request
from tasks.kernel.kconfig_explain import Entry, Need, Operand, Prompt, Symbol, parse_records
from tasks.kernel.kconfig_search import Setting, causes, describe, text_of

RECORDS = """\
name\tRAID6_PQ
symbol\tRAID6_PQ
type\ttristate
value\tm
at\tlib/Kconfig:11
entry\t\t
select\tn\tMD_RAID456 [=n] && MD [=n]
select\tm\tBTRFS_FS [=m] && BLOCK [=y]
symbol\tBTRFS_FS
type\ttristate
value\tm
at\tfs/btrfs/Kconfig:3
entry\tBtrfs filesystem support\tBLOCK [=y]
help\tBtrfs is a general purpose
help\t
help\tcopy-on-write filesystem.
prompt\ty
end
"""
SYMBOLS, _NAMES = parse_records(RECORDS)
ASKED = Request("BTRFS_FS", "m", "kconfig/mine.config", 3)


def setting(*asked: Request, base: dict[str, str] | None = None, **final: str) -> Setting:
    return Setting({one.symbol: one for one in asked}, base or {}, final)


def test_records_have_prompts_dependencies_and_helps() -> None:
    assert SYMBOLS["RAID6_PQ"].entries == [Entry("", "")]
    lines = ["Btrfs is a general purpose", "", "copy-on-write filesystem."]
    assert SYMBOLS["BTRFS_FS"].entries == [Entry("Btrfs filesystem support", "BLOCK [=y]", lines)]
    words = text_of(SYMBOLS["BTRFS_FS"])
    assert all(word in words for word in ("btrfs_fs", "filesystem support", "copy-on-write"))


def test_a_symbol_is_described() -> None:
    known = setting(ASKED, BTRFS_FS="m")
    assert describe(SYMBOLS["BTRFS_FS"], known, with_help=True) == [
        'BTRFS_FS [=m]  tristate, "Btrfs filesystem support"',
        "    defined at fs/btrfs/Kconfig:3",
        "    depends on BLOCK [=y]",
        "    asked at kconfig/mine.config:3: CONFIG_BTRFS_FS=m",
        "        Btrfs is a general purpose",
        "",
        "        copy-on-write filesystem.",
    ]
    assert len(describe(SYMBOLS["BTRFS_FS"], known, with_help=False)) == 4
    assert describe(SYMBOLS["RAID6_PQ"], known, with_help=True)[0] == "RAID6_PQ [=m]  tristate, no prompt"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (setting(RAID6_PQ="m"), ["selected by BTRFS_FS [=m] && BLOCK [=y]"]),
        (
            setting(RAID6_PQ="n"),
            [
                "selected by BTRFS_FS [=m] && BLOCK [=y]",
                "it cannot be set by hand (no prompt), only by select or default",
                "would be selected by MD_RAID456 [=n] && MD [=n]",
            ],
        ),
    ],
)
def test_a_symbol_without_prompt_is_selected(known: Setting, said: list[str]) -> None:
    assert causes(SYMBOLS["RAID6_PQ"], known) == said


def limited(kind: str, value: str) -> Symbol:
    """Return a symbol that depends on NET=m and on an unmet INET."""
    needs = [
        Need("m", "NET [=m]", [Operand("NET", "m", "tristate", 1, ("net/Kconfig:6",))]),
        Need("n", "INET [=n]", [Operand("INET", "n", "bool", 1, ("net/Kconfig:9",))]),
    ]
    return Symbol("X", kind, value, ["f:1"], prompts=[Prompt("n", needs)])


def test_only_what_keeps_a_symbol_at_its_value_is_said() -> None:
    """A bool that depends on m can be y; what is m could have been y but for that."""
    unmet = ["depends on INET [=n]: unmet", "  INET=n (net/Kconfig:9)"]
    assert causes(limited("bool", "n"), setting()) == unmet
    allows = ["depends on NET [=m]: allows only m", "  NET=m (net/Kconfig:6)"]
    assert causes(limited("tristate", "m"), setting(X="m")) == allows
    assert causes(limited("tristate", "y"), setting(X="y")) == []


def test_a_value_comes_from_the_base_a_line_a_default_or_a_choice() -> None:
    one = Symbol("X", "bool", "y", ["f:1"], prompts=[Prompt("y")], default=("y", "y"))
    assert causes(one, setting(base={"X": "y"}, X="y")) == [
        "the base config has this value",
        "its default: y",
    ]
    assert causes(one, setting(X="y")) == ["its default: y"]
    one.choice = ("Compression", "XZ")
    assert causes(one, setting(Request("X", "y", "f", 2), X="n")) == [
        "asked at f:2: CONFIG_X=y, which gave n",
        'member of the choice "Compression", which holds XZ',
    ]

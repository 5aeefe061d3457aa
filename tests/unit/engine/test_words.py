# SPDX-License-Identifier: MIT
"""The words of the command line: options before and after names, unknown names."""

from __future__ import annotations

import pytest

from tasks.engine import words

OPTIONS = words.cmd_options(
    [
        {"name": "memory", "long": "memory", "short": "m", "type": int, "default": 1},
        {"name": "kvm", "long": "kvm", "type": bool, "default": False},
        {"name": "hidden", "default": ""},
    ]
)


def test_options_without_a_word_are_left_out() -> None:
    assert [option.name for option in OPTIONS] == ["memory", "kvm"]


def test_what_follows_two_dashes_is_no_own_word() -> None:
    assert words.own(["a", "-h"]) == ["a", "-h"]
    assert words.own(["a", "--", "-h", "--", ""]) == ["a"]


def test_options_stand_before_and_after_names() -> None:
    found, names = words.split(OPTIONS, ["a", "--memory", "2", "b", "--kvm"], "qemu", interleaved=True)
    assert names == ["a", "b"]
    assert words.join(found, OPTIONS) == ["--memory", "2", "--kvm"]


def test_or_before_names_alone() -> None:
    found, names = words.split(OPTIONS, ["--kvm", "a", "--memory", "2"], "qemu", interleaved=False)
    assert words.join(found, OPTIONS) == ["--kvm"]
    assert names == ["a", "--memory", "2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--memry", "2"], "did you mean --memory?"),
        (["--zzz"], "./doit help qemu"),
        (["--memory", "much"], "--memory much: expected a number"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(given: list[str], said: str) -> None:
    with pytest.raises(words.UsageError) as caught:
        words.split(OPTIONS, given, "qemu", interleaved=True)
    assert said in caught.value.message


def test_an_unknown_name_has_the_near_one() -> None:
    assert "did you mean kernel?" in words.unknown("krnel", ["kernel", "iso"]).message
    assert "./doit list --all" in words.unknown("zzz", ["kernel", "iso"]).message
    assert "list is a command" in words.unknown("list", ["kernel"], ["list"]).message

# SPDX-License-Identifier: MIT
"""The host's side of the guest's agent: marks in a stream, in whatever pieces they come."""

from __future__ import annotations

import random

import pytest

from tasks.vm.agent import _Stream

TOKEN = "0123456789abcdef"
BEGIN, END = f"{TOKEN}<".encode(), f"{TOKEN}>".encode()


def passed(blocks: list[bytes]) -> tuple[bytes, bool]:
    """Return what a stream passes on of `blocks`, and whether it has ended."""
    found: list[bytes] = []
    stream = _Stream(TOKEN, found.append)
    for block in blocks:
        stream.feed(block)
    return b"".join(found), stream.ended


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BEGIN + b"a\r\n\0b" + END, (b"a\r\n\0b", True)),
        (b"of another program" + BEGIN + END, (b"", True)),
        (BEGIN + END + b"later", (b"", True)),
        (BEGIN + BEGIN + END[:-1] + END, (BEGIN + END[:-1], True)),
        (BEGIN + b"0123", (b"", False)),
        (END + BEGIN[:-1], (b"", False)),
    ],
)
def test_what_is_between_the_marks_is_passed_on(content: bytes, said: tuple[bytes, bool]) -> None:
    assert passed([content]) == said
    assert passed([content[at : at + 1] for at in range(len(content))]) == said


def test_nothing_is_kept_longer_than_a_mark() -> None:
    """A command that prints and then waits is seen at once, but for as much as a mark has."""
    shown, ended = passed([BEGIN + b"x" * 1000])
    assert not ended
    assert len(shown) > 1000 - len(END)


def test_pieces_of_any_size_give_the_same() -> None:
    chance = random.Random(4)
    inside = bytes(chance.choices(b"0123456789abcdef<>\n\0", k=5000))
    whole = b"before" + BEGIN + inside + END
    for _ in range(50):
        cuts = sorted(chance.sample(range(len(whole)), 40))
        blocks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert passed(blocks) == (inside, True)

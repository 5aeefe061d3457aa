# SPDX-License-Identifier: MIT
"""Lines for a person: whole, on the standard output of the moment, warnings marked."""

from __future__ import annotations

import contextlib
import io
import os

import pytest

from tasks.util.log import logger


class Writes(io.StringIO):
    """Remembers what each call of `write` was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write(self, text: str) -> int:
        self.calls.append(text)
        return super().write(text)


def test_lines_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logger.info("core: 100% of %s {done}")
    logger.warning("two\nlines")
    logger.debug("not for a person")
    out, err = capsys.readouterr()
    assert (out, err) == ("core: 100% of %s {done}\nwarning: two\nlines\n", "")


def test_a_line_is_written_in_one_piece_to_the_output_of_that_moment() -> None:
    with contextlib.redirect_stdout(Writes()) as captured:
        logger.info("one")
        logger.warning("two")
    assert [text for text in captured.calls if text] == ["one\n", "warning: two\n"]


def test_a_forked_child_writes_to_its_own_output(capfd: pytest.CaptureFixture[str]) -> None:
    child = os.fork()
    if not child:
        logger.info("of the child")
        os._exit(0)
    os.waitpid(child, 0)
    assert capfd.readouterr().out == "of the child\n"

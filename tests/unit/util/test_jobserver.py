# SPDX-License-Identifier: MIT
"""The jobserver's tokens: never more than there are, all given back, and whose they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit import doit_cmd

from tasks.cli import variables
from tasks.util import jobserver
from tasks.util.errors import UserError
from tasks.util.jobserver import Jobserver


@pytest.fixture
def server() -> Iterator[Jobserver]:
    made = jobserver.create(4)
    yield made
    made.close()


def test_one_job_is_everybodys_own_and_the_rest_are_tokens(server: Jobserver) -> None:
    assert server.free() == 3
    with server.tokens(2) as first, server.tokens(8) as second, server.tokens(8) as third:
        assert (first, second, third) == (2, 3, 1)
        assert (server.free(), server.take()) == (0, b"")
    assert server.free() == 3


@pytest.mark.parametrize("left_by", [ValueError, KeyboardInterrupt, SystemExit])
def test_tokens_are_given_back_however_they_are_left(server: Jobserver, left_by: type[BaseException]) -> None:
    with pytest.raises(left_by), server.tokens(4) as count:
        assert count == 4
        raise left_by
    assert server.free() == 3


def test_a_token_comes_back_as_the_byte_it_was(server: Jobserver) -> None:
    """make may give them meanings (its manual: "write back the same character")."""
    while server.take():
        pass
    os.write(server.writer, b"xy")
    with server.tokens(4) as count:
        assert count == 3
    assert sorted([server.take(), server.take()]) == [b"x", b"y"]


def test_reads_of_ours_do_not_block_and_leave_the_pipe_as_make_has_it(server: Jobserver) -> None:
    with server.tokens(9):
        assert server.take() == b""
    assert os.get_blocking(server.reader)


def test_lost_tokens_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobserver, "_current", jobserver.create(4))
    lost, same = jobserver.current().take(), jobserver.current()
    assert lost
    jobserver.renew()
    assert jobserver.current() is not same
    assert jobserver.current().free() == 3
    whole = jobserver.current()
    jobserver.renew()
    assert jobserver.current() is whole
    whole.close()


def test_a_fifo_of_make_4_4_is_handed_on_as_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    outer = os.open(fifo, os.O_RDWR)
    os.write(outer, b"++")
    server = jobserver.inherited(f" -j3 --jobserver-auth=fifo:{fifo} --no-print-directory")
    assert server is not None
    assert (server.slots, server.own, server.free()) == (3, False, 2)
    assert server.make_flags == f"-j3 --jobserver-auth={server.reader},{server.writer}"
    with server.tokens(9) as count:
        assert count == 3
    assert os.read(outer, 9) == b"++"
    server.close()
    os.close(outer)


@pytest.mark.parametrize(
    ("flags", "slots"),
    [
        ("-j3 --jobserver-auth={r},{w}", 3),
        ("kj16 --jobserver-fds={r},{w} -- CC=gcc", 16),
        ("-j3 --jobserver-auth={w},{r}", 0),
        ("-j3 --jobserver-auth={r},{null}", 0),
        ("-j3 --jobserver-auth=98765,98766", 0),
        ("-j3 --jobserver-auth=-2,-2", 0),
        ("-j3", 0),
        ("", 0),
    ],
)
def test_what_make_says_is_believed_if_it_is_a_pipe(flags: str, slots: int, server: Jobserver) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    found = jobserver.inherited(flags.format(r=server.reader, w=server.writer, null=null))
    os.close(null)
    assert (found.slots if found else 0) == slots
    if found:
        os.close(found.fileno())


def test_the_number_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobserver, "_current", None)
    monkeypatch.setattr(jobserver, "_slots", 0)
    assert jobserver.slots() == len(os.sched_getaffinity(0))
    jobserver.set_slots(7)
    assert jobserver.slots() == jobserver.current().slots == 7
    assert jobserver.make_flags(7)[0].startswith("-j7 --jobserver-auth=")
    assert jobserver.make_flags(3) == ("-j3", ())
    jobserver.current().close()


@pytest.mark.parametrize(
    ("given", "slots"), [("1", 1), ("12", 12), ("0", 0), ("-2", 0), ("all", 0), ("9999999", 0)]
)
def test_jobs_on_the_command_line(
    given: str, slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobserver, "_current", None)
    monkeypatch.setattr(jobserver, "_slots", 0)
    monkeypatch.setattr(doit_cmd, "_CMDLINE_VARS", {"profile": "apt", "jobs": given})
    if slots:
        variables.settings(tmp_path)
        assert jobserver.slots() == slots
    else:
        with pytest.raises(UserError, match=f"jobs={given}: expected a number from 1 to"):
            variables.settings(tmp_path)

# SPDX-License-Identifier: MIT
"""A text that forks share."""

from __future__ import annotations

import os

from tasks.util.note import SIZE, Note


def in_fork(note: Note, text: str) -> bool:
    """Write the text in a fork, and return what `write_first` said there."""
    pid = os.fork()
    if pid == 0:
        os._exit(int(note.write_first(text)))
    return bool(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def test_the_first_of_all_processes_writes_and_all_read_it() -> None:
    note = Note()
    assert note.text == ""
    assert [in_fork(note, text) for text in ("one", "two")] == [True, False]
    assert note.text == "one"
    assert not note.write_first("three")
    assert note.text == "one"


def test_a_note_is_replaced_and_cut() -> None:
    note = Note()
    note.text = "x" * 500
    assert note.text == "x" * SIZE
    note.text = "short"
    assert note.text == "short"


def test_notes_leave_no_file_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Note().write_first("x")
    assert len(os.listdir("/proc/self/fd")) == before

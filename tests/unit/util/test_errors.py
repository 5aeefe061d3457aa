# SPDX-License-Identifier: MIT
"""The edge: every user error is a line, a hint and an exit code."""

from __future__ import annotations

import errno
import resource
import shutil
import signal
from pathlib import Path

import pytest

from tasks.util import errors
from tasks.util.errors import UserError
from tasks.util.process import CommandFailed


def test_edge_prints_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, errors.report_errors():
        raise UserError("no such thing", "make one", "  | detail")
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: no such thing\n  hint: make one\n  | detail\n"


@pytest.mark.parametrize(
    ("number", "text", "hint"),
    [
        (errno.ENOSPC, "No space left on device: /x", "free some space"),
        (errno.EACCES, "Permission denied: /x", "permissions"),
        (errno.EROFS, "Read-only file system: /x", "read-only"),
    ],
)
def test_operating_system_faults_have_words(number: int, text: str, hint: str) -> None:
    said = errors.from_os_error(OSError(number, __import__("os").strerror(number), "/x"))
    assert said.message == text
    assert hint in said.hint


def test_a_copy_that_cannot_grow_names_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(100_000))
    limits, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            shutil.copyfile(tmp_path / "source", tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, action)
    assert errors.from_os_error(caught.value).message == f"File too large: {tmp_path / 'copy'}"


def test_an_error_with_other_words_keeps_its_class_and_fields() -> None:
    error: UserError = CommandFailed("tar failed", "look", "  | end", "tar -x", Path("log"))
    said = error.reworded("attr: tar failed", detail="  | the end")
    assert isinstance(said, CommandFailed)
    assert (said.command, said.log) == ("tar -x", Path("log"))
    assert str(said) == "attr: tar failed\n  hint: look\n  | the end"
    assert said.args == ("attr: tar failed",)

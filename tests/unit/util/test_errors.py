"""The edge: every user error is a line, a hint and an exit code."""

from __future__ import annotations

import errno

import pytest
from doit.exceptions import TaskFailed

from tasks.util import errors
from tasks.util.errors import UserError


def test_edge_prints_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, errors.edge():
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


def test_action_turns_user_errors_into_failed_tasks() -> None:
    def failing() -> None:
        raise UserError("broken", "mend it")

    result = errors.action(failing)()
    assert isinstance(result, TaskFailed)
    assert result.get_msg().rstrip("\n") == "broken\n  hint: mend it"


def test_action_lets_programming_errors_through() -> None:
    def wrong() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        errors.action(wrong)()


def test_action_passes_values_on_and_nothing_else() -> None:
    assert errors.action(lambda: {"a": 1})() == {"a": 1}
    assert errors.action(lambda: "text")() is None

# SPDX-License-Identifier: MIT
"""What reaches a terminal."""

from __future__ import annotations

import pytest

from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.text import as_typed, check_pattern, did_you_mean, printable, shortened

HOSTILE = "a\x1b[2Jb\ud800c\udc80\r\x9b\u202e"
ESCAPED = "a\\x1b[2Jb\\ud800c\\udc80\\r\\x9b\\u202e"


def test_only_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("plain, tab\t, newline\n, ő, 木, \N{NO-BREAK SPACE}😀") == (
        "plain, tab\t, newline\n, ő, 木, \N{NO-BREAK SPACE}😀"
    )


def test_errors_and_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert str(UserError(HOSTILE, HOSTILE, HOSTILE)) == f"{ESCAPED}\n  hint: {ESCAPED}\n{ESCAPED}"
    logger.warning(HOSTILE)
    assert capsys.readouterr().out == f"warning: {ESCAPED}\n"


def test_messages_name_the_command_that_was_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "run ./doit lock:NAME, then ./doit; in a tree TREE/doit, or run ../doit, x/./doit, ./doit.old"
    monkeypatch.delenv("TCBUILD_COMMAND", raising=False)
    assert as_typed(text) == text
    monkeypatch.setenv("TCBUILD_COMMAND", "tcbuild")
    typed = text.replace("run ./doit lock:NAME, then ./doit;", "run tcbuild lock:NAME, then tcbuild;")
    assert as_typed(text) == typed
    # A detail may be what a script of somebody else has printed.
    assert str(UserError("no lock: ./doit lock", "./doit fetch", "./doit")) == (
        "no lock: tcbuild lock\n  hint: tcbuild fetch\n./doit"
    )
    logger.info("./doit lock keeps it")
    assert capsys.readouterr().out == "tcbuild lock keeps it\n"


def test_of_many_names_the_first_are_shown() -> None:
    assert shortened("abcdefg", 5) == "a, b, c, d, e and 2 more"
    assert shortened(("a", "b"), 2) == "a, b"


def test_the_nearest_name_is_asked_about() -> None:
    assert did_you_mean("kernal", ("core", "kernel")) == "did you mean 'kernel'?"
    assert did_you_mean("kernal", {"kernel": 1}, "--{}".format) == "did you mean --kernel?"
    assert did_you_mean("x", ("core", "kernel")) == ""


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "[z-a]"])
def test_what_is_no_regular_expression_is_shown(pattern: str) -> None:
    check_pattern("a|b")
    with pytest.raises(ValueError, match="no regular expression: ") as caught:
        check_pattern(pattern)
    assert str(caught.value).endswith(repr(pattern))

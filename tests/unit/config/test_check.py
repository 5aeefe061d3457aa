# SPDX-License-Identifier: MIT
"""A check is read as it stands, and each mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config.check import Check, CheckFile
from tasks.util import toml_schema
from tasks.util.errors import UserError


def load(folder: Path, text: str) -> CheckFile:
    (folder / "c.toml").write_text(text)
    return toml_schema.load(folder / "c.toml", CheckFile)


def test_a_check_needs_a_name_and_a_command(tmp_path: Path) -> None:
    (made,) = load(tmp_path, '[[check]]\nname = "a"\ncommand = "true"\n').check
    assert made == Check("a", command="true")
    assert (made.status, made.user, made.firmware, made.media) == (0, "tc", ("bios", "uefi", "direct"), ())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('comand = "x"', "unknown key 'check[0].comand'"),
        ('command = ""', "check[0].command: expected either a command or a script"),
        ('command = " \\n"', "check[0].command: expected either a command or a script"),
        ('command = "x"\nscript = "x"', "check[0].script: expected either a command or a script"),
        ('command = "x"\noutput = "(a"', "check[0].output: no regular expression: missing ), unterminated"),
        ('command = "x"\noutput = "a{999999999999}"', "check[0].output: no regular expression"),
        ('command = "x"\nstatus = 256', "check[0].status: expected 0 to 255, got 256"),
        ('command = "x"\nstatus = -1', "check[0].status: expected 0 to 255, got -1"),
        ('command = "x"\nstatus = "0"', "check[0].status: expected an integer"),
        ('command = "x"\ntimeout = 0', "check[0].timeout: expected 1 to 86400 seconds, got 0"),
        ('command = "x"\nuser = "bob"', "check[0].user: expected one of 'tc', 'root', got 'bob'"),
        ('command = "x"\nfirmware = ["efi"]', "check[0].firmware[0]: expected one of 'bios', 'uefi'"),
        ('command = "x"\nmedia = ["dvd"]', "check[0].media[0]: expected one of 'cd', 'stick'"),
        ('command = "x"\nkconfig = ["CONFIG_A"]', "check[0].kconfig: expected symbols without CONFIG_"),
        ('script = "/etc/passwd"', "check[0].script: expected a path below the folder"),
        ('script = "a/../../b"', "check[0].script: expected a path below the folder"),
        ('name = "a\\nb"\ncommand = "x"', "check[0].name: expected one line of text"),
        ('name = " "\ncommand = "x"', "check[0].name: expected a line of text"),
        ('name = "é"\ncommand = "x"\n[[check]]\nname = "é"\noff = true', "there is a check 'é' already"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, lines: str, words: str) -> None:
    name = "" if lines.startswith("name") else 'name = "a"\n'
    with pytest.raises(UserError) as caught:
        load(tmp_path, f"[[check]]\n{name}{lines}\n")
    assert caught.value.message.startswith(f"{tmp_path}/c.toml: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_misspelt_key_gets_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, '[[check]]\nname = "a"\ncomand = "x"\n')
    assert caught.value.hint == "did you mean 'command'?"

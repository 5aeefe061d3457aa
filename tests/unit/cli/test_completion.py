# SPDX-License-Identifier: MIT
"""The words that a shell may complete."""

from __future__ import annotations

import pytest

from tasks.cli import completion, variables
from tasks.cli.main import Main
from tasks.util.errors import UserError
from tests.support.tasknodes import node


def test_words_for_completion() -> None:
    option = {"name": "m", "long": "memory", "help": "MiB"}
    commands = {made.get_name(): made for made in Main.DOIT_CMDS}
    params = [option, variables.FIRMWARE]
    found = list(completion.lines({"qemu": node("qemu", doc="boot\tit\nmore", params=params)}, commands))
    assert ("task", "qemu", "boot it") in found
    assert ("option", "qemu", "--memory", "MiB") in found
    assert ("value", "profile", "tc11") in found
    assert ("values", "fragments", "ext3-xattr") in found
    assert ("value", "--format", "mermaid") in found
    assert ("value", "--firmware", "direct") in found
    assert not [line for line in found if any("\t" in part or "\n" in part for part in line)]
    assert not [line for line in found if line[0] == "values" and line[2].startswith("base-")]


def test_an_unknown_shell_is_an_error() -> None:
    with pytest.raises(UserError, match="bash and zsh, not fish"):
        completion.print_for(["fish"], {}, {})

# SPDX-License-Identifier: MIT
"""One string of a TOML file is changed, wherever else it stands, and nothing else."""

from __future__ import annotations

import pytest

from tasks.util.errors import UserError
from tasks.util.toml_edit import with_string

TEXT = """\
# version = "1.2" is in a comment
title = "1.2"

[[origin]]
version = "1.2"  # of the first

[[origin]]
version = '1.2'
urls = ["http://x/1.2"]
inline = { version = "1.2" }
"""


@pytest.mark.parametrize(
    ("keys", "line", "becomes"),
    [
        (("origin", 0, "version"), 'version = "1.2"  # of the first', 'version = "1.3"  # of the first'),
        (("origin", 1, "version"), "version = '1.2'", "version = '1.3'"),
        (("origin", 1, "inline", "version"), '{ version = "1.2" }', '{ version = "1.3" }'),
        (("title",), 'title = "1.2"', 'title = "1.3"'),
    ],
)
def test_only_the_named_string_changes(keys: tuple[str | int, ...], line: str, becomes: str) -> None:
    assert with_string(TEXT, keys, "1.3", "a file") == TEXT.replace(line, becomes)


def test_a_string_that_is_written_otherwise_is_left_to_a_person() -> None:
    with pytest.raises(UserError, match=r"a\.toml: cannot find where version = '1\.2' is written") as caught:
        with_string('version = "1\\u002e2"\n', ("version",), "1.3", "a.toml")
    assert "'1.3'" in caught.value.hint

# SPDX-License-Identifier: MIT
"""Files below mirrors: their addresses, and the md5 that a mirror publishes beside them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tasks.origins.mirrors import Mirrors, parse_md5
from tasks.util.errors import UserError


def test_addresses_are_in_the_mirrors_order() -> None:
    mirrors = Mirrors(("http://one/", "http://two/tc"))
    assert mirrors.urls_of("16.x/core.gz") == ["http://one/16.x/core.gz", "http://two/tc/16.x/core.gz"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{'a' * 32}  x.tcz\n", "a" * 32),
        (f"{'A' * 32} *x.tcz\r\n", "a" * 32),
        (f"{'a' * 32}  /tmp/built-under/another.tcz\n", "a" * 32),
        (f"{'a' * 32}\n", "a" * 32),
        (f"\n{'b' * 32}  y.tcz\n{'a' * 32}  x.tcz\n", "a" * 32),
    ],
)
def test_md5sums_output_is_read(text: str, expected: str) -> None:
    assert parse_md5(text, "x.tcz", "x.md5.txt") == expected


@pytest.mark.parametrize("text", ["", "\n", "<html>", f"{'a' * 31}  x", f"{'b' * 32}  y\n{'a' * 32}  z\n"])
def test_what_is_no_md5sum_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.md5\.txt is not output of md5sum"):
        parse_md5(text, "x.tcz", "x.md5.txt")


def test_what_md5sum_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    said = subprocess.run(["md5sum", "f"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert parse_md5(said, "f", "") == hashlib.md5(b"content").hexdigest()

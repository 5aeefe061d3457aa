# SPDX-License-Identifier: MIT
"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from tasks.util.errors import UserError
from tasks.util.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("0", 0),
        ("500MB", 500_000_000),
        ("10GiB", 10 << 30),
        ("1.5 GiB", 3 << 29),
        ("10g", 10 << 30),
        ("2T", 2 << 40),
        ("7kB", 7000),
        ("12 B", 12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--size=") == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "10 XB", "1,5GB", "1e9", "10GiBB", "10 G B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"--size=.*: expected a size like 500MB or 10GiB"):
        parse_size(text, "--size=")


@pytest.mark.parametrize(
    ("size", "text"), [(812, "812 B"), (1024, "1.0 KiB"), (11_429_477, "10.9 MiB"), (5 << 42, "20.0 TiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text

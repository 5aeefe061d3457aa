# SPDX-License-Identifier: MIT
"""Links of a root that is not this machine's."""

from __future__ import annotations

import pytest

from tasks.util.links import follow_links, is_below

LINKS = {
    "/bin": "usr/bin",
    "/usr/bin/sh": "../../opt/shell",
    "/opt": "/usr/local",
    "/a": "b",
    "/b": "a",
    "/up": "../../../usr",
}


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/bin/sh", "/usr/local/shell"),
        ("/usr/bin/other", "/usr/bin/other"),
        ("/bin", "/usr/bin"),
        ("/up/x", "/usr/x"),
        ("/a/x", ""),
        ("/nothing/../bin", "/usr/bin"),
        ("/", ""),
    ],
)
def test_links_are_followed_inside_the_root(path: str, real: str) -> None:
    assert follow_links(path, lambda step: LINKS.get(step, "")) == real


@pytest.mark.parametrize("path", ["usr/local/bin", "a", "a/", "..a/b.."])
def test_paths_below_the_root(path: str) -> None:
    assert is_below(path)


@pytest.mark.parametrize("path", ["", "/", "/usr", "../a", "a/..", "a/../b"])
def test_other_paths(path: str) -> None:
    assert not is_below(path)

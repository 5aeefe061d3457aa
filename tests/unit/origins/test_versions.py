# SPDX-License-Identifier: MIT
"""The order of versions, and versions in listings of real servers' forms."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.origins import versions
from tasks.util.errors import UserError
from tasks.util.process import run

ORDER = "0.9 1.0-alpha2 1.0-beta 1.0.0-rc92 1.0.0-rc93 1.0.0 1.0.1 1.0.9 1.0.10 1.0.10.post1 1.1 10 2024.1"
APACHE = '<a href="v1.2/">v1.2/</a> <a href="v1.10/">v1.10/</a> <a href="v1.11-rc1/">v1.11-rc1/</a> v9x!'
SUMS = "a1  linux-5.4.302.tar.xz\nb2  linux-5.4.302.tar.gz\nc3  patch-5.4.303.xz\nd4 *linux-5.4.tar.xz\n"


def test_each_version_is_newer_than_the_one_before() -> None:
    for earlier, later in pairwise(ORDER.split()):
        assert versions.order(earlier) < versions.order(later), (earlier, later)


@pytest.mark.parametrize(
    ("locked", "offered", "newest"),
    [
        ("1.2", ["1.1", "1.10", "1.9"], "1.10"),
        ("1.2", ["1.1"], "1.2"),
        ("1.2", [], "1.2"),
        ("1.2", ["2.0-rc1", "1.3"], "1.3"),
        ("2.0-rc1", ["2.0-rc2", "1.3"], "2.0-rc2"),
        ("2.0-rc1", ["2.0", "2.0-rc2"], "2.0"),
    ],
)
def test_the_newest_is_no_early_version_unless_the_locked_one_is(
    locked: str, offered: list[str], newest: str
) -> None:
    assert versions.newest(offered, locked) == newest


@pytest.mark.parametrize(
    ("text", "template", "found"),
    [
        (APACHE, "v{version}", ["1.2", "1.10", "1.11-rc1"]),
        (SUMS, "linux-{version}.tar.xz", ["5.4.302", "5.4"]),
        ('<a href="t-1.tgz">t-1.tgz</a> xt-2.tgz t-3.tgz.sig', "t-{version}.tgz", ["1"]),
        ("v1/t-v1 v2/t-v3", "v{version}/t-v{version}", ["1"]),
        ("", "v{version}", []),
    ],
)
def test_versions_are_found_in_listings(text: str, template: str, found: list[str]) -> None:
    assert versions.named_in(text, template) == found


def test_the_tags_of_a_repository_are_asked_for(tmp_path: Path) -> None:
    run(["git", "init", "--quiet", "--bare", tmp_path / "t"])
    who = ["-c", "user.name=n", "-c", "user.email=n@invalid"]
    tree = run(["git", "-C", tmp_path / "t", "hash-object", "-t", "tree", "-w", "/dev/null"]).stdout.strip()
    commit = run(["git", "-C", tmp_path / "t", *who, "commit-tree", tree, "-m", "one"]).stdout.strip()
    for tag in ("v1.0", "v1.1", "release-3"):
        run(["git", "-C", tmp_path / "t", *who, "tag", "-a", "-m", "tag", tag, commit])
    assert versions.of_tags(f"file://{tmp_path}/t", "v{version}") == ["1.0", "1.1"]
    with pytest.raises(UserError, match=r"^git: .*none"):
        versions.of_tags(f"file://{tmp_path}/none", "v{version}")

# SPDX-License-Identifier: MIT
"""What an npm-shrinkwrap.json says is to be installed, and where."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tasks.formats.shrinkwrap import read_shrinkwrap
from tasks.util.errors import UserError

SUM = "sha512-" + base64.b64encode(bytes(range(64))).decode()


def shrinkwrap(root: dict[str, Any], **entries: dict[str, Any]) -> bytes:
    """Return a lock file; names of entries are paths below node_modules, `__` for `/node_modules/`."""
    packages: dict[str, Any] = {"": root}
    for name, entry in entries.items():
        path = "node_modules/" + name.replace("__", "/node_modules/")
        packages[path] = {"version": "1.0.0", "integrity": SUM, **entry}
    return json.dumps({"lockfileVersion": 3, "packages": packages}).encode()


def folders(content: bytes, *skip: str) -> list[str]:
    return [package.folder for package in read_shrinkwrap(content, skip, "lock")]


def test_what_the_root_depends_on_is_taken_parents_first() -> None:
    content = shrinkwrap(
        {"dependencies": {"b": "1", "a": "1"}, "devDependencies": {"tool": "1"}},
        a={"dependencies": {"c": "2"}},
        a__c={"version": "2.0.0"},
        b={"dependencies": {"c": "1"}},
        c={},
        tool={"dev": True},
    )
    found = read_shrinkwrap(content, (), "lock")
    assert [(package.folder, package.name, package.version) for package in found] == [
        ("node_modules/a", "a", "1.0.0"),
        ("node_modules/a/node_modules/c", "c", "2.0.0"),
        ("node_modules/b", "b", "1.0.0"),
        ("node_modules/c", "c", "1.0.0"),
    ]
    assert found[0].sha512 == bytes(range(64)).hex()


def test_what_is_skipped_takes_what_only_it_needs_with_it() -> None:
    content = shrinkwrap(
        {"dependencies": {"a": "1", "win-x": "1"}, "optionalDependencies": {"win-y": "1"}},
        a={"dependencies": {"shared": "1"}},
        shared={},
        **{"win-x": {"dependencies": {"shared": "1", "only": "1"}}, "win-y": {}, "only": {}},
    )
    assert folders(content, "win-*") == ["node_modules/a", "node_modules/shared"]


@pytest.mark.parametrize(
    ("about", "taken"),
    [
        ({}, True),
        ({"os": ["linux"], "cpu": ["x64"], "libc": ["glibc"]}, True),
        ({"os": ["darwin", "linux"]}, True),
        ({"os": "linux"}, True),
        ({"os": ["!win32"]}, True),
        ({"os": ["!linux"]}, False),
        ({"os": ["darwin"]}, False),
        ({"cpu": ["arm64"]}, False),
        ({"libc": ["musl"]}, False),
    ],
)
def test_only_packages_for_this_platform_are_taken(about: dict[str, Any], taken: bool) -> None:
    content = shrinkwrap({"optionalDependencies": {"a": "1"}}, a=about)
    assert folders(content) == (["node_modules/a"] if taken else [])


def test_peers_are_taken_unless_they_are_optional_and_may_be_absent() -> None:
    root = {
        "dependencies": {"a": "1"},
        "peerDependencies": {"p": "1", "q": "1", "absent": "1"},
        "peerDependenciesMeta": {"q": {"optional": True}},
    }
    assert folders(shrinkwrap(root, a={}, p={}, q={})) == ["node_modules/a", "node_modules/p"]


def test_what_a_package_brings_itself_is_not_fetched() -> None:
    content = shrinkwrap(
        {"dependencies": {"a": "1"}}, a={"dependencies": {"b": "1"}}, a__b={"inBundle": True}
    )
    assert folders(content) == ["node_modules/a"]


def test_an_alias_is_fetched_by_its_name() -> None:
    content = shrinkwrap({"dependencies": {"a": "npm:real@1"}}, a={"name": "@scope/real"})
    package = read_shrinkwrap(content, (), "lock")[0]
    assert (package.folder, package.name) == ("node_modules/a", "@scope/real")
    assert package.file_name == "@scope+real@1.0.0.tgz"


def test_circles_end() -> None:
    content = shrinkwrap(
        {"dependencies": {"a": "1"}}, a={"dependencies": {"b": "1"}}, b={"dependencies": {"a": "1"}}
    )
    assert folders(content) == ["node_modules/a", "node_modules/b"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"integrity": ""}, "no sha512 of a"),
        ({"integrity": "sha1-abcd"}, "no sha512 of a"),
        ({"integrity": "sha512-%%%"}, "not a lock file"),
        ({"integrity": "sha512-YWJj"}, "no sha512 of a"),
        ({"version": "../1"}, "no package that could be installed"),
        ({"name": "../../etc"}, "no package that could be installed"),
        ({"dependencies": {"lost": "1"}}, "lacks lost, which node_modules/a needs"),
        ({"dependencies": 3}, "not a lock file"),
        ({"version": None}, "not a lock file"),
    ],
)
def test_what_nobody_vouches_for_is_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        folders(shrinkwrap({"dependencies": {"a": "1"}}, a=entry))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"lockfileVersion": 1, "dependencies": {}}', b"\xff", b"[" * 100_000]
)
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="not a lock file of version 2 or 3"):
        folders(content)


def test_a_folder_outside_the_package_is_refused() -> None:
    packages = {
        "": {"dependencies": {"../../x": "1"}},
        "node_modules/../../x": {"version": "1.0.0", "integrity": SUM, "name": "x"},
    }
    with pytest.raises(UserError, match="no package that could be installed"):
        folders(json.dumps({"packages": packages}).encode())

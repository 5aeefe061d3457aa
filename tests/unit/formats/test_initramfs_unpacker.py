# SPDX-License-Identifier: MIT
"""The model of the kernel's unpacker, case by case.

Every expectation here was also seen in a booted kernel; tests/vm/test_initramfs.py
does that for random archives.
"""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest
from hypothesis import given

from tasks.formats import cpio
from tasks.formats.cpio import Member, device, directory, hard_links, regular, symlink
from tasks.formats.initramfs_unpacker import FOLDER_STAYS, RootFs
from tests.support.trees import trees

DIR = directory("d", 0o755)
FULL = [DIR, regular("d/x", b"x")]


def unpack(*archives: list[Member]) -> RootFs:
    root = RootFs()
    for archive in archives:
        root.unpack(archive)
    return root


def shown(root: RootFs) -> dict[str, str]:
    """Each name with type, permissions, uid and content in one line."""
    return {name: _line(member) for name, member in root.members().items()}


def _line(member: Member) -> str:
    rdev = f"{member.rdevmajor}:{member.rdevminor}" if member.rdevmajor else ""
    return f"{stat.filemode(member.mode)} {member.uid} {member.data.decode()}{rdev}"


@pytest.mark.parametrize(
    ("archives", "becomes", "lost"),
    [
        pytest.param(
            [[regular("f", b"old", 0o600, 1)], [regular("f", b"", 0o4755, 2)]],
            {"f": "-rwsr-xr-x 2 "},
            [],
            id="later-file-replaces-earlier",
        ),
        pytest.param(
            [[*FULL], [directory("d", 0o1777, 5)]],
            {"d": "drwxrwxrwt 5 ", "d/x": "-rw-r--r-- 0 x"},
            [],
            id="folder-given-again-keeps-children",
        ),
        pytest.param(
            [[DIR], [regular("d", b"f")]], {"d": "-rw-r--r-- 0 f"}, [], id="file-replaces-empty-folder"
        ),
        pytest.param(
            [[*FULL], [regular("d", b"f", 0o600, 9)]],
            {"d": "drwxr-xr-x 0 ", "d/x": "-rw-r--r-- 0 x"},
            [f"'d': {FOLDER_STAYS}"],
            id="file-does-not-replace-full-folder",
        ),
        pytest.param(
            [[*FULL], [symlink("d", "e", 9)]],
            {"d": "drwxr-xr-x 9 ", "d/x": "-rw-r--r-- 0 x"},
            [f"'d': {FOLDER_STAYS}"],
            id="symlink-on-full-folder-changes-its-owner",
        ),
        pytest.param(
            [[*FULL], [device("d", "c", 1, 3, 0o600, 9)]],
            {"d": "drw------- 9 ", "d/x": "-rw-r--r-- 0 x"},
            [f"'d': {FOLDER_STAYS}"],
            id="device-on-full-folder-changes-owner-and-mode",
        ),
        pytest.param(
            [[regular("d", b"f")], [*FULL]],
            {"d": "drwxr-xr-x 0 ", "d/x": "-rw-r--r-- 0 x"},
            [],
            id="folder-replaces-file",
        ),
        pytest.param(
            [[directory("e"), symlink("d", "e")], [*FULL]],
            {"d": "drwxr-xr-x 0 ", "d/x": "-rw-r--r-- 0 x", "e": "drwxr-xr-x 0 "},
            [],
            id="folder-replaces-symlink-to-folder",
        ),
        pytest.param(
            [[directory("e"), symlink("d", "e")], [regular("d/x", b"x")]],
            {"d": "lrwxrwxrwx 0 e", "e": "drwxr-xr-x 0 ", "e/x": "-rw-r--r-- 0 x"},
            [],
            id="symlink-in-a-path-is-followed",
        ),
        pytest.param(
            [[directory("a"), directory("e"), symlink("a/d", "../e")], [regular("a/d/x", b"x")]],
            {
                "a": "drwxr-xr-x 0 ",
                "a/d": "lrwxrwxrwx 0 ../e",
                "e": "drwxr-xr-x 0 ",
                "e/x": "-rw-r--r-- 0 x",
            },
            [],
            id="dotdot-in-a-symlink",
        ),
        pytest.param(
            [[regular("f", b"1"), symlink("l", "f/..")], [regular("l/x", b"x")]],
            {"f": "-rw-r--r-- 0 1", "l": "lrwxrwxrwx 0 f/.."},
            ["'l/x': its folder does not exist"],
            id="dotdot-of-a-file",
        ),
        pytest.param(
            [[DIR, directory("e"), symlink("d/l", "/e/../../e")], [regular("d/l/x", b"x")]],
            {
                "d": "drwxr-xr-x 0 ",
                "d/l": "lrwxrwxrwx 0 /e/../../e",
                "e": "drwxr-xr-x 0 ",
                "e/x": "-rw-r--r-- 0 x",
            },
            [],
            id="absolute-symlink-and-dotdot-of-the-root",
        ),
        pytest.param(
            [[symlink("l", "l")], [regular("l/x", b"x")]],
            {"l": "lrwxrwxrwx 0 l"},
            ["'l/x': its folder does not exist"],
            id="symlink-loop",
        ),
        pytest.param(
            [[symlink("d", "e")], [regular("d", b"f")]],
            {"d": "-rw-r--r-- 0 f"},
            [],
            id="file-replaces-symlink",
        ),
        pytest.param(
            [[regular("no/x", b"x")]],
            {},
            ["'no/x': its folder does not exist"],
            id="file-without-folder-is-lost",
        ),
        pytest.param(
            [[regular("f", b"x")], [regular("f/x", b"x")]],
            {"f": "-rw-r--r-- 0 x"},
            ["'f/x': its folder does not exist"],
            id="file-below-a-file-is-lost",
        ),
        pytest.param(
            [[device("n", "c", 1, 3, 0o600)], [device("n", "c", 1, 5, 0o666, 7)]],
            {"n": "crw-rw-rw- 7 1:3"},
            ["'n': the earlier device 1:3 stays, instead of 1:5"],
            id="device-keeps-its-number",
        ),
        pytest.param(
            [[device("n", "c", 1, 3)], [device("n", "b", 8, 1)]],
            {"n": "brw------- 0 8:1"},
            [],
            id="device-of-another-type-replaces",
        ),
        pytest.param(
            [hard_links(regular("a", b"1"), ["a", "b"], 1), [regular("a", b"2", 0o600, 3)]],
            {"a": "-rw------- 3 2", "b": "-rw------- 3 2"},
            [],
            id="a-linked-file-is-written-through",
        ),
        pytest.param(
            [hard_links(regular("a", b"1"), ["a", "b"], 1), [symlink("a", "b"), regular("a", b"2")]],
            {"a": "-rw-r--r-- 0 2", "b": "-rw-r--r-- 0 1"},
            [],
            id="a-replaced-link-is-a-file-of-its-own",
        ),
        pytest.param(
            [[*FULL], hard_links(regular("a", b"1"), ["a", "d"], 1)],
            {"a": "-rw-r--r-- 0 1", "d": "drwxr-xr-x 0 ", "d/x": "-rw-r--r-- 0 x"},
            [f"'d': {FOLDER_STAYS}"],
            id="a-link-does-not-replace-a-full-folder",
        ),
        pytest.param(
            [hard_links(regular("a", b"1"), ["a", "no/b", "c"], 1)],
            {"a": "-rw-r--r-- 0 1", "c": "-rw-r--r-- 0 1"},
            ["'no/b': its folder does not exist"],
            id="a-link-in-a-missing-folder",
        ),
        pytest.param(
            [hard_links(regular("no/a", b"1"), ["no/a", "b"], 1)],
            {},
            [
                "'no/a': its folder does not exist",
                "'b': it cannot be linked to 'no/a', which was replaced or lost",
            ],
            id="a-lost-first-name-loses-the-others",
        ),
        pytest.param(
            [hard_links(regular("a", b"1"), ["a", "a"], 1)],
            {},
            ["'a': it cannot be linked to 'a', which was replaced or lost"],
            id="a-name-linked-to-itself-vanishes",
        ),
        pytest.param(
            [[regular("a" * 256, b"")]], {}, [f"'{'a' * 256}': its name is too long"], id="name-too-long"
        ),
        pytest.param(
            [[Member("l", stat.S_IFLNK | 0o777)]], {}, ["'l': a symlink without a target"], id="no-target"
        ),
        pytest.param(
            [[Member(".", stat.S_IFREG)]], {}, ["'.': a folder is in its place"], id="root-stays-a-folder"
        ),
    ],
)
def test_as_the_kernel_does(archives: list[list[Member]], becomes: dict[str, str], lost: list[str]) -> None:
    root = unpack(*archives)
    assert shown(root) == becomes
    assert root.lost == lost


def test_data_may_stand_at_any_link_and_the_last_says_owner_and_mode() -> None:
    one, two, three = hard_links(regular("a", b""), ["a", "b", "c"], 1)
    root = unpack([one, replace(two, data=b"text"), replace(three, uid=9)])
    assert set(shown(root).values()) == {"-rw-r--r-- 9 text"}
    assert {(m.nlink, m.ino) for m in root.members().values()} == {(3, 1)}


def test_hard_linked_devices_are_one_node() -> None:
    members = unpack(hard_links(device("a", "b", 8, 1), ["a", "b"], 1)).members()
    assert [(m.nlink, m.ino) for m in members.values()] == [(2, 1), (2, 1)]


def test_links_end_with_their_archive() -> None:
    """TRAILER!!! resets the tuple buffer: the same inode number means another file afterwards."""
    one = replace(regular("a", b"1"), nlink=2, ino=1)
    two = replace(regular("b", b"2"), nlink=2, ino=1)
    assert shown(unpack([one], [two])) == {"a": "-rw-r--r-- 0 1", "b": "-rw-r--r-- 0 2"}


def test_the_root_folder_itself_is_kept_only_if_given() -> None:
    assert shown(unpack([regular("a", b"1")])) == {"a": "-rw-r--r-- 0 1"}
    assert shown(unpack([directory(".", 0o700, 3)])) == {".": "drwx------ 3 "}


def test_find_and_remove() -> None:
    root = unpack([*FULL, symlink("l", "d"), symlink("dangling", "nowhere")])
    node = root.find("/l", follow=True)
    assert node is not None
    assert node.is_dir
    link = root.find("l")
    assert link is not None
    assert link.kind == stat.S_IFLNK
    found = root.find("l/x")
    assert found is not None
    assert found.data == b"x"
    assert root.find("dangling", follow=True) is None
    assert root.find("d/x/y") is None
    root.remove("d")
    assert list(root.members()) == ["dangling", "l"]


@given(trees())
def test_one_whole_archive_comes_out_as_it_is(members: list[Member]) -> None:
    """Unpacking what we write loses nothing, and the result written again is the same archive."""
    once = cpio.write(members, mtime=None)
    root = unpack(cpio.read(memoryview(once))[0])
    assert root.lost == []
    assert cpio.write(root.members().values(), mtime=None) == once

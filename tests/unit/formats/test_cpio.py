# SPDX-License-Identifier: MIT
"""cpio archives: what is written is read back, the bytes are fixed, damage is named."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.formats import cpio
from tasks.formats.cpio import Member, device, directory, hard_links, regular, symlink
from tasks.util.errors import UserError
from tests.support.trees import trees

EPOCH = 1700000000


def read(data: bytes) -> list[Member]:
    members, end = cpio.read(memoryview(data))
    assert not data[end:].strip(b"\0")
    return members


def facts(members: list[Member]) -> dict[str, tuple[object, ...]]:
    """What must survive: everything but inode numbers, and which names are one file."""
    groups: dict[object, list[str]] = {}
    for member in members:
        if member.link_key is not None:
            groups.setdefault(member.link_key, []).append(member.name)
    return {
        member.name: (
            *(member.mode, member.uid, member.gid, member.data, member.rdevmajor, member.rdevminor),
            *(member.mtime, sorted(groups.get(member.link_key, [member.name]))),
        )
        for member in members
    }


# --- write, read -----------------------------------------------------------


@given(trees(), st.none() | st.integers(0, cpio.MAX_FIELD))
def test_what_is_written_is_read_back(members: list[Member], mtime: int | None) -> None:
    expected = [member if mtime is None else replace(member, mtime=mtime) for member in members]
    found = cpio.share_links(read(cpio.write(members, mtime=mtime)))
    assert facts(found) == facts(expected)
    assert [member.name for member in found] == sorted((m.name for m in members), key=cpio.by_path)


@given(trees(), st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(members: list[Member], shuffle: random.Random) -> None:
    shuffled = list(members)
    shuffle.shuffle(shuffled)
    assert cpio.write(shuffled, mtime=EPOCH) == cpio.write(members, mtime=EPOCH)


@given(trees())
def test_read_and_written_again_gives_the_same_bytes(members: list[Member]) -> None:
    once = cpio.write(members, mtime=None)
    assert cpio.write(read(once), mtime=None) == once
    assert len(once) % 512 == 0


@given(trees())
def test_parents_come_first_and_data_at_the_last_link(members: list[Member]) -> None:
    seen: set[str] = set()
    last: dict[object, Member] = {}
    inodes: dict[int, object] = {}
    for member in read(cpio.write(members, mtime=EPOCH)):
        parent = os.path.dirname(member.name)
        assert parent == "" or parent in seen
        seen.add(member.name)
        assert inodes.setdefault(member.ino, member.link_key) == member.link_key
        if member.link_key is not None:
            assert member.link_key not in last or last[member.link_key].data == b""
            last[member.link_key] = member


def test_the_bytes_are_those_of_the_format() -> None:
    """By hand from buffer-format.rst: header fields, NUL, padding to 4, trailer, padding to 512."""
    fields = "00000001 000089ED 00000001 00000002 00000001 6553F100 00000003 00000000"
    fields += " 00000000 00000000 00000000 00000002 00000000"
    member = b"070701" + fields.replace(" ", "").encode() + b"f\0" + b"abc\0"
    trailer = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"
    expected = (member + trailer).ljust(512, b"\0")
    assert cpio.write([regular("f", b"abc", 0o4755, 1, 2)], mtime=EPOCH) == expected


def test_hard_links_count_only_names_in_the_archive() -> None:
    names = hard_links(regular("a", b"data"), ["a", "b", "c"], ino=7)
    kept = read(cpio.write(names[:2], mtime=0))
    assert [(m.name, m.nlink, m.data) for m in kept] == [("a", 2, b""), ("b", 2, b"data")]
    assert [(m.nlink, m.data) for m in read(cpio.write(names[:1], mtime=0))] == [(1, b"data")]


def test_links_of_other_types_or_devices_are_not_one_file() -> None:
    one = replace(regular("a", b"1"), nlink=2, ino=5)
    other_type = replace(device("b", "c", 1, 3), nlink=2, ino=5)
    other_device = replace(regular("c", b"2"), nlink=2, ino=5, devminor=1)
    found = read(cpio.write([one, other_type, other_device], mtime=0))
    assert [(m.nlink, m.data) for m in found] == [(1, b"1"), (1, b""), (1, b"2")]


def test_share_links_follows_the_kernel() -> None:
    """Data may stand at any name; owner and mode come from the last, a device's from the first."""
    first, second, third = hard_links(regular("a", b""), ["a", "b", "c"], ino=1)
    second = replace(second, data=b"text")
    third = replace(third, uid=9, mode=stat.S_IFREG | 0o4755)
    shared = cpio.share_links([first, second, third])
    assert {(m.data, m.uid, m.mode) for m in shared} == {(b"text", 9, stat.S_IFREG | 0o4755)}
    nodes = hard_links(device("x", "b", 8, 1), ["x", "y"], ino=2)
    shared = cpio.share_links([nodes[0], replace(nodes[1], uid=9)])
    assert [(m.name, m.uid) for m in shared] == [("x", 0), ("y", 0)]


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (regular("TRAILER!!!", b""), "ends an archive"),
        (regular("a\0b", b""), "no NUL"),
        (regular("a" * 256, b""), "255 between slashes"),
        (regular("/".join(["a" * 250] * 17), b""), "at most 4095"),
        (regular("/a", b""), "relative"),
        (regular("./a", b""), "relative"),
        (regular("a/../b", b""), "relative"),
        (regular("a//b", b""), "relative"),
        (regular("", b""), "relative"),
        (regular(".", b""), "root must be a folder"),
        (Member("a", 0o644), "no file type"),
        (symlink("a", ""), "target"),
        (symlink("a", "x" * 4096), "target"),
        (symlink("a", "x\0y"), "target"),
        (replace(directory("a"), data=b"x"), "have data"),
        (regular("a", b"", uid=-1), "32 bits"),
        (regular("a", b"", gid=1 << 32), "32 bits"),
    ],
)
def test_what_the_kernel_would_lose_is_not_written(member: Member, says: str) -> None:
    with pytest.raises(UserError, match="cpio: ") as caught:
        cpio.write([member], mtime=0)
    assert says in caught.value.message


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"'a/b' is given twice"):
        cpio.write([regular("a/b", b"1"), directory("a"), regular("a/b", b"2")], mtime=0)


# --- reading what others write ---------------------------------------------


def member_bytes(name: bytes, mode: int, data: bytes = b"", magic: bytes = b"070701", **set_: int) -> bytes:
    """Make a member field by field, as a foreign writer would."""
    fields = ["ino", "mode", "uid", "gid", "nlink", "mtime", "size", "maj", "min", "rmaj", "rmin"]
    fields += ["namesize", "check"]
    values = {"mode": mode, "nlink": 1, "size": len(data), "namesize": len(name) + 1} | set_
    head = magic + b"".join(b"%08x" % values.get(field, 0) for field in fields) + name + b"\0"
    head += bytes(-len(head) % 4) + data
    return head + bytes(-len(head) % 4)


END = member_bytes(b"TRAILER!!!", 0)


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        (b"a/b", "a/b"),
        (b"./a", "a"),
        (b"/a", "a"),
        (b"a//b/./c/", "a/b/c"),
        (b".", "."),
        (b"./", "."),
        (b"odd\xff\n", "odd\udcff\n"),
        (b"padded\0\0\0", "padded"),
        (b"cut\0here", "cut"),
    ],
)
def test_names_lose_what_stands_before_them(name: bytes, becomes: str) -> None:
    assert [m.name for m in read(member_bytes(name, stat.S_IFDIR) + END)] == [becomes]


def test_a_symlink_target_may_end_with_a_nul() -> None:
    """gen_init_cpio counts the NUL as data, GNU cpio has none."""
    data = member_bytes(b"a", stat.S_IFLNK, b"b\0") + member_bytes(b"c", stat.S_IFLNK, b"d") + END
    assert [m.data for m in read(data)] == [b"b", b"d"]


def test_crc_archives_are_checked() -> None:
    good = member_bytes(b"a", stat.S_IFREG, b"\x01\xff", b"070702", check=0x100)
    assert read(good + END)[0].data == b"\x01\xff"
    # GNU cpio leaves the sum zero where a hard link has no data.
    assert read(member_bytes(b"a", stat.S_IFREG, b"", b"070702", check=5) + END)[0].data == b""
    with pytest.raises(UserError, match=r"'a' at offset 0: checksum 00000100, header says 00000101"):
        read(member_bytes(b"a", stat.S_IFREG, b"\x01\xff", b"070702", check=0x101) + END)


FIRST = member_bytes(b"first", stat.S_IFREG, b"data")
AT = f"at offset {len(FIRST)}"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends at offset 0, before its first member"),
        (
            FIRST[:-1],
            "cut off in the data of 'first' (header at offset 0): it needs 120 bytes, there are 119",
        ),
        (FIRST + END[:112], f"cut off in the name of the member {AT} (after 'first')"),
        (FIRST + END[:60], f"cut off in the header {AT} (after 'first')"),
        (FIRST + END[:3], f"cut off in the header {AT} (after 'first')"),
        (FIRST, "ends at offset 120, after 'first', without its TRAILER!!!"),
        (b"070707" + bytes(70), "old portable (odc) format"),
        (b"\xc7\x71" + bytes(70), "old binary format"),
        (b"\x71\xc7" + bytes(70), "old binary format"),
        (b"garbage" + bytes(200), "at offset 0: no cpio header: found b'garbag'"),
        (FIRST + b"07070x" + bytes(200), f"(after 'first') {AT}: no cpio header"),
        (FIRST + END[:20] + b"g" + END[21:], f"(after 'first') {AT}: header is not hexadecimal"),
        (FIRST + END[:20] + b" " + END[21:], f"{AT}: header is not hexadecimal"),
        (FIRST + member_bytes(b"x", stat.S_IFREG, namesize=0), f"{AT}: name of 0 bytes"),
        (FIRST + member_bytes(b"x" * 5000, stat.S_IFREG), f"{AT}: name of 5001 bytes; the kernel takes"),
        (FIRST + member_bytes(b"xy", stat.S_IFREG, namesize=2) + END, "does not end with a NUL"),
        (FIRST + member_bytes(b"", stat.S_IFREG) + END, f"{AT}: empty name"),
        (FIRST + member_bytes(b"a/../b", stat.S_IFREG) + END, f"'a/../b' {AT}: '..'"),
        (FIRST + member_bytes(b"x", 0o644) + END, f"'x' {AT}: mode 644 has no known file type"),
        (FIRST + member_bytes(b"x", 0o170644) + END, "has no known file type"),
        (FIRST + member_bytes(b"x", stat.S_IFDIR, b"abc") + END, f"'x' {AT}: has 3 bytes of data"),
        (FIRST + member_bytes(b"TRAILER!!!", 0, b"abc"), "TRAILER!!! with 3 bytes"),
    ],
)
def test_damage_is_named_with_its_place(data: bytes, says: str) -> None:
    with pytest.raises(UserError) as caught:
        cpio.read(memoryview(data))
    assert says in caught.value.message
    assert caught.value.hint


def test_every_cut_is_noticed() -> None:
    members = [directory("d"), regular("d/file", b"content"), symlink("d/link", "file")]
    members += [device("d/null", "c", 1, 3), *hard_links(regular("x", b"123"), ["x", "y"], 1)]
    whole = cpio.write(members, mtime=EPOCH)
    end = cpio.read(memoryview(whole))[1]
    for cut in range(end):
        with pytest.raises(UserError, match=r"cpio archive (is cut off in|ends at)"):
            cpio.read(memoryview(whole[:cut]))
    assert len(read(whole[:end])) == len(members)


@given(st.binary(max_size=400), st.integers(0, 600))
def test_junk_gives_members_or_a_user_error(junk: bytes, place: int) -> None:
    whole = cpio.write([regular("d", b"content" * 20), symlink("e", "f")], mtime=EPOCH)
    damaged = whole[:place] + junk + whole[place + len(junk) :]
    try:
        members, end = cpio.read(memoryview(damaged))
    except UserError as error:
        assert "offset" in error.message
    else:
        assert 0 < end <= len(damaged)
        assert all(member.kind in cpio.TYPES for member in members)


def test_a_second_archive_is_left_alone() -> None:
    one, two = cpio.write([regular("a", b"1")], mtime=0), cpio.write([regular("b", b"2")], mtime=0)
    members, end = cpio.read(memoryview(one + two))
    assert [m.name for m in members] == ["a"]
    members, _ = cpio.read(memoryview(one + two), len(one))
    assert [m.name for m in members] == ["b"]
    assert end <= len(one)


# --- folders ---------------------------------------------------------------


def make_folder(root: Path, names: list[str], umask: int) -> Path:
    """Make the same folder as a checkout under another umask would."""
    before = os.umask(umask)
    try:
        (root / "bin").mkdir(parents=True)
        for name in names:
            (root / name).write_text(name)
        for name in ("bin/run", "bin/tool"):
            (root / name).touch()
            (root / name).chmod(0o777 & ~umask)
        (root / "link").symlink_to("bin/run")
        os.link(root / "plain", root / "bin/plain")
        Path(os.fsdecode(os.fsencode(root) + b"/odd\xff")).write_text("odd")
    finally:
        os.umask(before)
    return root


def test_scan_folder_does_not_depend_on_umask_or_order(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "one", ["plain", "bin/run", "secret"], 0o022)
    two = make_folder(tmp_path / "two", ["secret", "bin/run", "plain"], 0o077)
    for folder in (one, two):
        os.link(folder / "secret", folder / "shared")  # special files are files of their own
    (two / "bin").chmod(0o2700)  # a set-gid folder hands the bit down to what is made in it
    special = {"secret": (0o600, 3, 4), "bin/run": (0o4755, 0, 0)}
    members = cpio.scan_folder(one, special=special)
    assert cpio.scan_folder(two, special=special) == members
    shown = [(m.name, stat.filemode(m.mode), m.uid, m.gid, m.nlink, m.data) for m in members]
    assert shown == [
        ("bin", "drwxr-xr-x", 0, 0, 2, b""),
        ("bin/plain", "-rw-r--r--", 0, 0, 2, b"plain"),
        ("bin/run", "-rwsr-xr-x", 0, 0, 1, b"bin/run"),
        ("bin/tool", "-rwxr-xr-x", 0, 0, 1, b""),
        ("link", "lrwxrwxrwx", 0, 0, 1, b"bin/run"),
        ("odd\udcff", "-rw-r--r--", 0, 0, 1, b"odd"),
        ("plain", "-rw-r--r--", 0, 0, 2, b"plain"),
        ("secret", "-rw-------", 3, 4, 1, b"secret"),
        ("shared", "-rw-r--r--", 0, 0, 1, b"secret"),
    ]


def test_scan_folder_keeps_exact_modes_where_asked(tmp_path: Path) -> None:
    make_folder(tmp_path / "one", ["plain", "bin/run"], 0o022)
    (tmp_path / "one/bin/run").chmod(0o4711)
    members = {m.name: m for m in cpio.scan_folder(tmp_path / "one", owner=(7, 8), exact_modes=True)}
    assert members["bin/run"].mode == stat.S_IFREG | 0o4711
    assert members["link"].mode == stat.S_IFLNK | 0o777
    assert {(m.uid, m.gid) for m in members.values()} == {(7, 8)}


def test_links_out_of_the_folder_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_text("x")
    os.link(tmp_path / "in/a", tmp_path / "outside")
    (member,) = cpio.scan_folder(tmp_path / "in")
    assert member == regular("a", b"x")


def _socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize(
    ("prepare", "special", "says"),
    [
        (_socket, {}, "device nodes and sockets cannot be taken"),
        (Path.touch, {"nowhere": (0o600, 0, 0)}, "special modes are set for missing paths: nowhere"),
    ],
)
def test_scan_folder_refuses(
    tmp_path: Path, prepare: Callable[[Path], None], special: dict[str, tuple[int, int, int]], says: str
) -> None:
    prepare(tmp_path / "x")
    with pytest.raises(UserError, match=says):
        cpio.scan_folder(tmp_path, special=special)

# SPDX-License-Identifier: MIT
"""Archives that unpack well, and archives made to do harm."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.formats import container_archive, unpack_limits
from tasks.formats.archive import unpack_tar
from tasks.util.errors import UserError

MTIME = 1_500_000_000
PACKERS = {"gz": ["gzip"], "xz": ["xz", "-T2", "--block-size=4096"], "zst": ["zstd", "-q"], "bz2": ["bzip2"]}


def file(name: str, content: bytes = b"content", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.mtime, made.uid = len(content), mode, MTIME, 1234
    return made, content


def other(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mtime, made.mode = kind, link, MTIME, 0o755
    made.devmajor = made.devminor = 1
    return made, b""


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return other(name, tarfile.DIRTYPE)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return other(name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return other(name, tarfile.LNKTYPE, target)


def tar(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def pack(path: Path, kind: str) -> Path:
    packed = path.with_name(f"{path.name}.{kind}")
    done = subprocess.run([*PACKERS[kind], "-c", str(path)], check=True, capture_output=True)
    packed.write_bytes(done.stdout)
    return packed


GOOD = [
    folder("top"),
    file("top/Makefile", b"VERSION = 5\n" * 3000),
    file("top/run.sh", b"#!/bin/sh\n", 0o755),
    folder("top/a"),
    symlink("top/a/up", "../Makefile"),
    symlink("top/self", "."),
    hard("top/hard", "top/Makefile"),
    file("top/set-id", mode=0o4755),
]


@pytest.mark.parametrize("kind", ["", *PACKERS])
def test_every_compression(tmp_path: Path, kind: str) -> None:
    archive = tar(tmp_path / "good.tar", GOOD)
    into = tmp_path / "into"
    unpack_tar(pack(archive, kind) if kind else archive, into, label="good")
    assert (into / "top/Makefile").read_bytes() == b"VERSION = 5\n" * 3000
    assert os.readlink(into / "top/a/up") == "../Makefile"
    assert (into / "top/hard").samefile(into / "top/Makefile")
    assert {path.lstat().st_mtime for path in into.rglob("*")} == {MTIME}
    assert stat.S_IMODE((into / "top/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((into / "top/set-id").stat().st_mode) == 0o755
    assert (into / "top/Makefile").stat().st_uid == os.geteuid()


def test_strip_cuts_components_as_tar_does(tmp_path: Path) -> None:
    archive = tar(tmp_path / "good.tar", GOOD)
    unpack_tar(archive, tmp_path / "into", strip=1, label="good")
    names = {path.name for path in (tmp_path / "into").iterdir()}
    assert names == {"Makefile", "run.sh", "a", "self", "hard", "set-id"}
    assert (tmp_path / "into/hard").samefile(tmp_path / "into/Makefile")


def test_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "into/stale").write_text("")
    unpack_tar(tar(tmp_path / "good.tar", GOOD), tmp_path / "into", label="good")
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["top"]


def test_both_passes_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack_tar(tar(tmp_path / "good.tar", GOOD), tmp_path / "into", label="linux")
    said = capsys.readouterr().out
    assert said.startswith(f"linux: {len(GOOD)} members checked in ")
    assert ", unpacked in " in said


HOSTILE = {
    "absolute": ([file("/tmp/evil")], "'/tmp/evil' is an absolute path"),
    "parent": ([file("../evil")], "'../evil' leaves"),
    "parent-inside": ([file("a/../../evil")], "'a/../../evil' leaves"),
    "long-name": ([file("a/" * 90 + "../" * 91 + "evil")], "leaves the folder"),
    "symlink-absolute": ([symlink("link", "/etc")], "'link' points to '/etc', an absolute"),
    "symlink-parent": ([symlink("a/link", "../../etc")], "'a/link' points to '../../etc', outside"),
    "symlink-and-back": ([symlink("link", "../into/x")], "'link' points to '../into/x', outside"),
    # By its letters `here/../x` stays inside; through `here -> .` it does not.
    "symlink-by-symlink": ([symlink("here", "."), symlink("link", "here/../x")], "'link' points to"),
    "symlink-chain": (
        [symlink("a/b/deep", "../.."), symlink("link", "a/b/deep/../x")],
        "'link' points to 'a/b/deep/../x', outside",
    ),
    "symlink-circle": ([symlink("a", "b"), symlink("b", "a/../..")], "'a' points to 'b', in a loop"),
    "hard-absolute": ([hard("link", "/etc/passwd")], "'link' is a hard link to '/etc/passwd'"),
    "hard-parent": ([hard("link", "a/../../etc/passwd")], "'link' is a hard link to 'a/../../etc"),
    "hard-by-symlink": (
        [file("d/x"), symlink("s", "d"), hard("link", "s/x")],
        "'s/x' (target of hard link 'link') is reached through the symlink 's'",
    ),
    "character-device": ([other("null", tarfile.CHRTYPE)], "'null' is a character device"),
    "block-device": ([other("disk", tarfile.BLKTYPE)], "'disk' is a block device"),
    "fifo": ([other("pipe", tarfile.FIFOTYPE)], "'pipe' is a FIFO"),
    "unknown-type": ([other("odd", b"Z")], "'odd' is of an unknown type"),
    "volume-label": ([other("label", b"V")], "'label' is of an unknown type"),
    "through-symlink": (
        [folder("d"), symlink("s", "d"), file("s/evil")],
        "'s/evil' is written through the symlink 's'",
    ),
    "through-symlink-deep": (
        [folder("d"), symlink("s", "d"), folder("s/x"), file("s/x/evil")],
        "is written through the symlink 's'",
    ),
    "through-later-symlink": ([file("s/evil"), symlink("s", "d")], "'s/evil' is written through"),
    "over-symlink": ([file("d"), symlink("s", "d"), file("s")], "'s' is written through a symlink"),
    "symlink-over-file": ([file("s"), symlink("s", "d")], "'s' is written through a symlink"),
}


@pytest.mark.parametrize("members, expected", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], expected: str
) -> None:
    place = tmp_path / "place"
    (place / "into").mkdir(parents=True)
    (place / "into/before").write_text("kept")
    archive = tar(tmp_path / "evil.tar", [*GOOD, *members, file("late")])
    with pytest.raises(UserError) as caught:
        unpack_tar(archive, place / "into", label="evil")
    assert caught.value.message.startswith("evil.tar: ")
    assert expected in caught.value.message
    assert sorted(path.name for path in place.rglob("*")) == ["before", "into"]


@pytest.mark.parametrize("kind", PACKERS)
def test_hostile_archive_is_refused_however_packed(tmp_path: Path, kind: str) -> None:
    """The check ends long before the archive does, with the unpacking program still writing."""
    archive = tar(tmp_path / "evil.tar", [file("/evil"), file("large", bytes(1 << 20))])
    with pytest.raises(UserError, match="absolute path"):
        unpack_tar(pack(archive, kind), tmp_path / "into", label="evil")
    assert not (tmp_path / "into").exists()


def test_bomb_is_refused_at_its_first_large_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)
    archive = tar(tmp_path / "evil.tar", [file("small"), file("zeros", bytes(8 << 20)), file("late")])
    packed = pack(archive, "gz")
    assert packed.stat().st_size * unpack_limits.MAX_RATIO < 8 << 20
    with pytest.raises(UserError, match=r"evil\.tar\.gz: with 'zeros' it unpacks to 8,388,615 bytes"):
        unpack_tar(packed, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_sparse_bomb_is_refused(tmp_path: Path) -> None:
    """GNU tar's sparse files: a few bytes of archive, an exbibyte of file."""
    with (tmp_path / "sparse").open("wb") as holes:
        holes.truncate(1 << 42)
    subprocess.run(["tar", "-C", tmp_path, "-S", "-cf", tmp_path / "evil.tar", "sparse"], check=True)
    with pytest.raises(UserError, match="with 'sparse' it unpacks to 4,398,046,511,104 bytes"):
        unpack_tar(tmp_path / "evil.tar", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_limits, "MAX_MEMBERS", 3)
    unpack_tar(tar(tmp_path / "a.tar", [file("a"), file("b"), file("c")]), tmp_path / "into")
    archive = tar(tmp_path / "b.tar", [file("a"), file("b"), file("c"), file("d")])
    with pytest.raises(UserError, match="more than 3 members; the next one is 'd'"):
        unpack_tar(archive, tmp_path / "other")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_header_too_large_for_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    made = tarfile.TarInfo("text")
    made.type, made.size = kind, 1 << 40
    (tmp_path / "evil.tar").write_bytes(made.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(UserError, match="'text' is a header with 1,099,511,627,776 bytes of text"):
        unpack_tar(tmp_path / "evil.tar", tmp_path / "into")


def test_strip_moves_what_links_may_reach(tmp_path: Path) -> None:
    """`top/link -> ../x` stays inside the archive, but not inside the stripped folder."""
    archive = tar(tmp_path / "good.tar", [file("x"), symlink("top/link", "../x")])
    unpack_tar(archive, tmp_path / "whole", label="good")
    with pytest.raises(UserError, match=r"'link' points to '../x', outside"):
        unpack_tar(archive, tmp_path / "stripped", strip=1, label="good")


def damage(path: Path, kind: str) -> Path:
    """Make a damaged archive of the given kind beside `path`."""
    raw = tar(path, [file("a", b"x" * 3000), file("b", b"y" * 3000)]).read_bytes()
    if kind in PACKERS:
        packed = pack(path, kind)
        packed.write_bytes(packed.read_bytes()[:-20])
        return packed
    if kind == "flipped":
        packed = pack(path, "gz")
        flipped = bytearray(packed.read_bytes())
        flipped[-8] ^= 0xFF  # the CRC32 of gzip's trailer
        packed.write_bytes(flipped)
        return packed
    header = 512 + 3072
    broken = bytearray(raw)
    broken[header : header + 4] = b"evil"
    content = {
        "in-data": raw[: header + 1000],
        "in-header": raw[: header + 100],
        "after-member": raw[:header],
        "no-end": raw[: 2 * header],
        "broken-header": bytes(broken),
        "empty": b"",
        "text": b"not an archive\n" * 100,
        "junk-behind": raw[: 2 * header + 512] + b"junk" * 1000,
    }[kind]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        *PACKERS,
        *("flipped", "in-data", "in-header", "after-member", "no-end", "broken-header", "empty", "text"),
        "junk-behind",
    ],
)
def test_damaged_archive_is_named(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    archive = damage(tmp_path / "bad.tar", kind)
    with pytest.raises(UserError, match="damaged, cut short") as caught:
        unpack_tar(archive, place / "into", label="bad")
    assert str(archive) in caught.value.message
    assert caught.value.hint
    assert "tar --extract" not in caught.value.detail  # the check alone finds it
    assert list(place.iterdir()) == []


def test_what_gnu_tar_cannot_unpack_leaves_nothing(tmp_path: Path) -> None:
    """Well-formed for the check, yet a file cannot be a folder too."""
    archive = tar(tmp_path / "bad.tar", [file("a"), file("a/b")])
    place = tmp_path / "place"
    with pytest.raises(UserError, match="damaged") as caught:
        unpack_tar(archive, place / "into", label="bad")
    assert "tar" in caught.value.detail
    assert list(place.iterdir()) == []


STEPS = st.lists(st.sampled_from(["..", ".", "a", "b", "c"]), min_size=1, max_size=4).map("/".join)
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=100, deadline=None)
@example({"a": "a", "b": "a/../.."})
@given(st.dictionaries(NAMES, STEPS, min_size=1, max_size=5))
def test_no_symlink_of_an_accepted_archive_leads_outside(links: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        archive = tar(Path(name) / "links.tar", [symlink(*link) for link in links.items()])
        into = Path(name).resolve() / "into"
        try:
            unpack_tar(archive, into, label="links")
        except UserError:
            return
        for path in into.rglob("*"):
            assert Path(os.path.realpath(path)).is_relative_to(into)


SPARSE_MAPS = {
    "0.1": {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,x"},
    "0.0": {"GNU.sparse.size": "no number", "GNU.sparse.numblocks": "1"},
    "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
    "digits": {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "9" * 5000 + ",1"},
}


@pytest.mark.parametrize("kind", SPARSE_MAPS)
def test_a_map_of_a_sparse_file_that_is_none_is_damage(tmp_path: Path, kind: str) -> None:
    """tarfile raises a plain ValueError for such a number."""
    packed = tmp_path / "sparse.tar"
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("file")
        member.size, member.pax_headers = 512, SPARSE_MAPS[kind]
        tar.addfile(member, io.BytesIO(b"map\n" + b"x" * 508))
    with pytest.raises(ValueError), tarfile.open(packed, "r|") as tar:
        tar.getmembers()
    with pytest.raises(UserError, match=r"sparse\.tar: the archive is damaged"):
        unpack_tar(packed, tmp_path / "into")
    assert not (tmp_path / "into").exists()
    with pytest.raises(UserError, match="it is damaged, cut short or no tar archive"):
        container_archive.read(packed)

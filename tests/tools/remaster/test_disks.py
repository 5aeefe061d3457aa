# SPDX-License-Identifier: MIT
"""Disks, partitions, sticks and ISOs, made by the real tools and read without mounting them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.formats import unpack_limits
from tasks.remaster import importer, take_over
from tasks.remaster.disks import open_medium
from tasks.remaster.medium import Budget
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.media import disc, tcz, write
from tests.support.smallimage import make_iso

MIB = 1 << 20
SIZE = 8 * MIB  # of a partition


def run(*argv: str | Path, stdin: str = "") -> None:
    env = {**os.environ, "MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}
    words = [str(word) for word in argv]
    subprocess.run(words, input=stdin, text=True, check=True, capture_output=True, env=env)


def ext(tree: Path, image: Path, kind: str = "ext4") -> Path:
    run("mke2fs", "-q", "-t", kind, "-d", tree, image, f"{SIZE // MIB}M")
    return image


def fat(tree: Path, image: Path) -> Path:
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    run("mformat", "-i", image, "::")
    run("mcopy", "-s", "-i", image, *sorted(tree.iterdir()), "::/")
    return image


def disk(image: Path, table: str, *parts: Path) -> Path:
    """Write a disk whose partitions begin at each multiple of 16 MiB, from 1 MiB on."""
    with image.open("wb") as stream:
        stream.truncate((len(parts) * 16 + 2) * MIB)
    places = [(1 + 16 * number) * MIB for number in range(len(parts))]
    lines = [f"start={place // 512}, size={SIZE // 512}" for place in places]
    run("sfdisk", "-q", image, stdin="\n".join([f"label: {table}", *lines, ""]))
    with image.open("r+b") as stream:
        for place, part in zip(places, parts, strict=True):
            stream.seek(place)
            stream.write(part.read_bytes())
    return image


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = disc(tmp_path_factory.mktemp("tree"), folder="tce")
    write(folder, {"tce/optional/it's [odd].tcz": tcz("x"), "deep/" * 9 + "file": b"x"})
    return folder


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(CHECKOUT.profiles, tmp_path / "checkout/profiles")
    monkeypatch.setattr(CHECKOUT, "root", tmp_path / "checkout")
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "checkout/profiles")
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path / "checkout/artifacts")
    return tmp_path


def made(kind: str, tree: Path, folder: Path) -> Path:
    """Return a medium of a kind with what is in `tree`."""
    image = folder / "medium"
    if kind == "iso":
        return make_iso(shutil.copytree(tree, folder / "copy"), image)
    if kind in ("ext2", "ext3", "ext4"):
        return ext(tree, image, kind)
    if kind == "fat":
        return fat(tree, image)
    empty = folder / "empty"
    empty.mkdir()
    first, second = fat(empty, folder / "first"), (fat if "fat" in kind else ext)(tree, folder / "second")
    disk(image, kind.split("-")[0], first, second)
    if not kind.endswith("qcow2"):
        return image
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", image, folder / "medium.qcow2")
    return folder / "medium.qcow2"


KINDS = ["iso", "ext2", "ext3", "ext4", "fat", "dos-ext", "gpt-ext", "dos-fat", "gpt-fat", "gpt-ext-qcow2"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_medium_gives_the_same_profile(kind: str, tree: Path, mine: Path, tmp_path: Path) -> None:
    importer.import_system(tmp_path / "cache", tmp_path, [str(tree), "folder"])
    medium = made(kind, tree, tmp_path)
    before = (medium.stat().st_mtime_ns, medium.read_bytes())
    importer.import_system(tmp_path / "cache", tmp_path, [str(medium), "medium"])
    assert (medium.stat().st_mtime_ns, medium.read_bytes()) == before
    one, other = profile.load("folder"), profile.load("medium")
    assert [item.name for item in other.extensions] == ["a", "b", "c"]
    assert (one.kernel, one.core, one.extensions) == (other.kernel, other.core, other.extensions)
    assert one.boot.bootcodes == other.boot.bootcodes
    assert other.boot.volume_id == ("SMALL" if kind == "iso" else "TINYCORE")
    locks = [(CHECKOUT.profiles / f"{name}.lock.toml").read_text() for name in ("folder", "medium")]
    assert locks[0] == locks[1]


def test_a_disk_that_was_cut_off_says_so(tree: Path, mine: Path, tmp_path: Path) -> None:
    """Its partition with the system is missing, and the other one is empty."""
    os.truncate(made("dos-ext", tree, tmp_path), 17 * MIB)
    with pytest.raises(UserError, match="has no Tiny Core on it") as caught:
        importer.import_system(tmp_path / "cache", tmp_path, ["medium"])
    assert caught.value.detail == "partition 2: lies beyond the end of the disk"


def test_a_hostile_ext_writes_nowhere_else(tmp_path: Path) -> None:
    """Names that lead out of a folder, links, and a file of a size that no disk has."""
    (tmp_path / "tree").mkdir()
    write(tmp_path / "tree", {"tce/onboot.lst": b"a\n", "tce/x": b"1"})
    (tmp_path / "tree/tce/link").symlink_to("/etc/passwd")
    image = ext(tmp_path / "tree", tmp_path / "disk.img", "ext2")
    commands = 'ln tce/x "tce/..y"\nset_inode_field tce/x size 0xffffffffff\nln tce/x "tce/a;b \'c"\n'
    run("debugfs", "-w", "-f", "/dev/stdin", image, stdin=commands)
    data = image.read_bytes().replace(b"..y", b"../")
    image.write_bytes(data)
    found = open_medium(image, tmp_path)
    (volume,) = found.volumes
    assert volume.others == ["tce/link"]
    assert volume.files["tce/x"] == volume.files["tce/a;b 'c"] == 0xFFFFFFFFFF
    assert not [path for path in volume.files if ".." in path]
    with pytest.raises(UserError, match=r"with 'tce/x' it holds more than"):
        Budget(found).copy(volume, "tce/x", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    (tmp_path / "copy").write_bytes(b"")
    volume.files["tce/x"] = 100  # as if its inode had changed
    with pytest.raises(UserError):
        volume.copy("tce/x", tmp_path / "copy", 100)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "tree", {"tce/onboot.lst": b"", "other/file": b""})
    image = ext(tmp_path / "tree", tmp_path / "disk.img")
    image.write_bytes(image.read_bytes().replace(b"onboot.lst", b"onboot.xxx"))  # ext4 has checksums
    found = open_medium(image, tmp_path)
    assert found.unread == ["disk.img: the folder 'tce' cannot be read"]
    assert list(found.volumes[0].files) == ["other/file"]


def test_folders_that_contain_themselves_end(tmp_path: Path) -> None:
    write(tmp_path / "tree", {"a/b/onboot.lst": b""})
    image = ext(tmp_path / "tree", tmp_path / "disk.img")
    run("debugfs", "-w", "-f", "/dev/stdin", image, stdin="ln a a/b/again\n")
    assert list(open_medium(image, tmp_path).volumes[0].files) == ["a/b/onboot.lst"]


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (8, struct.pack(">Q", 512), "refers to another file"),
        (72, struct.pack(">Q", 4), "refers to another file"),
        (32, struct.pack(">I", 2), "is encrypted"),
    ],
)
def test_qcow2_refers_to_no_other_file(offset: int, value: bytes, words: str, tmp_path: Path) -> None:
    """It could be any file of this machine."""
    image = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    data = bytearray(image.read_bytes())
    data[offset : offset + len(value)] = value
    image.write_bytes(data)
    with pytest.raises(UserError, match=words):
        open_medium(image, tmp_path)


def test_a_qcow2_that_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"x" * 4 * MIB)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, tmp_path / "disk.qcow2")
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", MIB)
    monkeypatch.setattr(unpack_limits, "MAX_RATIO", 1)
    with pytest.raises(UserError, match=r"unpacks to 4,194,304 bytes, more than the"):
        open_medium(tmp_path / "disk.qcow2", tmp_path)
    assert not (tmp_path / "disk.raw").exists()


def test_what_is_not_read_is_named(tree: Path, tmp_path: Path) -> None:
    luks, ntfs, none = (tmp_path / name for name in ("luks", "ntfs", "none"))
    luks.write_bytes(b"LUKS\xba\xbe" + bytes(1000))
    ntfs.write_bytes(b"\xeb\x52\x90NTFS    " + bytes(1000))
    none.write_bytes(b"x" * 1000)
    dirty = ext(tree, tmp_path / "dirty")
    with dirty.open("r+b") as stream:
        stream.seek(1024 + 0x60)
        features = int.from_bytes(stream.read(4), "little")
        stream.seek(1024 + 0x60)
        stream.write((features | 4).to_bytes(4, "little"))
    image = disk(tmp_path / "disk.img", "gpt", luks, ntfs, none, dirty)
    found = open_medium(image, tmp_path)
    assert [volume.name for volume in found.volumes] == ["partition 4"]
    assert found.unread == [
        "partition 1: is encrypted (LUKS), and is not read",
        "partition 2: has NTFS, which is not read",
        "partition 3: no file system that is known",
        "partition 4: was not unmounted; its last changes may be missing",
    ]
    with image.open("r+b") as stream:
        stream.truncate(40 * MIB)
    with pytest.raises(UserError, match="has no file system to read") as caught:
        open_medium(image, tmp_path)
    assert "no file system that is known" in caught.value.detail


@pytest.mark.parametrize("name", ["a?offset=1.img", "a@@1.img"])
def test_names_with_a_meaning_to_the_tools_are_refused(name: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="take no path with"):
        open_medium(ext(tree, tmp_path / "x").rename(tmp_path / name), tmp_path)


def test_a_cut_disk_or_iso_is_one_line(tree: Path, tmp_path: Path) -> None:
    for kind in ("ext4", "fat", "iso"):
        folder = tmp_path / kind
        folder.mkdir()
        medium = made(kind, tree, folder)
        data = medium.read_bytes()
        for size in (len(data) // 2, 3_000):
            medium.write_bytes(data[:size])
            # What lies in the first half of a file system may be whole.
            with suppress(UserError) if size > 3_000 else pytest.raises(UserError):
                take_over.take(open_medium(medium, folder), tmp_path / "cache", folder)

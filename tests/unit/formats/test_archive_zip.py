# SPDX-License-Identifier: MIT
"""Zip archives: what is written, and what is refused before it could leave the folder."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from tasks.formats import unpack_limits
from tasks.formats.archive import unpack_zip
from tasks.util.errors import UserError

FILE, LINK, FIFO = stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO


def packed(path: Path, *members: tuple[str, int, bytes]) -> Path:
    """Write a zip archive of (name, st_mode, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def test_files_folders_and_what_is_executable(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "a.whl",
        ("pkg/", stat.S_IFDIR | 0o700, b""),
        ("pkg/bin/tool", FILE | 0o4711, b"tool"),
        ("pkg/data", FILE | 0o600, b"data"),
        ("pkg/plain", 0, b"no mode, as Windows writes it"),
        ("empty/", stat.S_IFDIR | 0o755, b""),
    )
    unpack_zip(archive, tmp_path / "into/deep", label="a.whl")
    found = {
        str(path.relative_to(tmp_path / "into/deep")): stat.filemode(path.stat().st_mode)
        for path in (tmp_path / "into/deep").rglob("*")
    }
    assert found == {
        "empty": "drwxr-xr-x",
        "pkg": "drwxr-xr-x",
        "pkg/bin": "drwxr-xr-x",
        "pkg/bin/tool": "-rwxr-xr-x",
        "pkg/data": "-rw-r--r--",
        "pkg/plain": "-rw-r--r--",
    }
    assert (tmp_path / "into/deep/pkg/bin/tool").read_bytes() == b"tool"


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("../outside", FILE | 0o644, "does not stay in the folder"),
        ("a/../../outside", FILE | 0o644, "does not stay in the folder"),
        ("/outside", FILE | 0o644, "does not stay in the folder"),
        ("a//b", FILE | 0o644, "does not stay in the folder"),
        ("link", LINK | 0o777, "is neither a file nor a folder"),
        ("fifo", FIFO | 0o644, "is neither a file nor a folder"),
    ],
)
def test_what_could_leave_the_folder_is_refused(tmp_path: Path, name: str, mode: int, words: str) -> None:
    """Nothing of the archive is left, not even what came before."""
    archive = packed(tmp_path / "a.whl", ("good", FILE | 0o644, b"x"), (name, mode, b"target"))
    with pytest.raises(UserError, match=words) as caught:
        unpack_zip(archive, tmp_path / "into", label="a.whl")
    assert "do not trust this" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.whl"]


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = packed(tmp_path / "a.whl", ("x", FILE | 0o644, b"1"), ("x", FILE | 0o644, b"2"))
    with pytest.raises(UserError, match="damaged"):
        unpack_zip(archive, tmp_path / "into", label="a.whl")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("where", ["cut", "flipped", "no zip", "starts late", "encrypted"])
def test_a_damaged_archive_is_told(tmp_path: Path, where: str) -> None:
    archive = packed(tmp_path / "a.whl", ("x", FILE | 0o644, bytes(range(256)) * 64))
    data = bytearray(archive.read_bytes())
    if where == "flipped":
        data[60] ^= 0xFF
    if where == "encrypted":
        data[6] |= 1  # APPNOTE 4.4.4: bit 0, in the file's own header and in the directory
        data[data.index(b"PK\x01\x02") + 8] |= 1
    late = bytes(data[60:])  # the directory then points before the first byte
    archive.write_bytes(
        {
            "starts late": late,
            "encrypted": bytes(data),
            "cut": bytes(data[:-30]),
            "flipped": bytes(data),
            "no zip": b"<html>",
        }[where]
    )
    with pytest.raises(UserError, match="the archive is damaged, cut short or not a zip archive"):
        unpack_zip(archive, tmp_path / "into", label="a.whl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.whl"]


def test_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)
    archive = packed(tmp_path / "a.whl", ("small", FILE | 0o644, b"1"), ("zeros", FILE, bytes(4 << 20)))
    assert archive.stat().st_size * unpack_limits.MAX_RATIO < 4 << 20
    with pytest.raises(UserError, match=r"a\.whl: with 'zeros' it unpacks to 4,194,305 bytes"):
        unpack_zip(archive, tmp_path / "into", label="a.whl")
    assert not (tmp_path / "into").exists()


def test_bomb_that_lies_about_its_size_is_damaged(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.whl", ("zeros", FILE | 0o644, bytes(4 << 20)))
    content = archive.read_bytes()
    archive.write_bytes(content.replace((4 << 20).to_bytes(4, "little"), (7).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged"):
        unpack_zip(archive, tmp_path / "into", label="a.whl")
    assert not (tmp_path / "into").exists()

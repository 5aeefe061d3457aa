# SPDX-License-Identifier: MIT
"""Folders as media: nothing in them leads out of them, and nothing is too large."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tasks.formats import unpack_limits
from tasks.remaster import medium
from tasks.remaster.medium import Budget, of_folder
from tasks.util.errors import UserError
from tests.support.media import Files, write


def test_links_devices_and_deep_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"tce/a": b"12", "tce/..b": b"3", "out/secret": b"x", "/".join("abcdefgh"): b"deep"})
    top = tmp_path / "tce"
    (top / "link").symlink_to(tmp_path / "out/secret")
    (top / "folder").symlink_to(tmp_path / "out")
    os.mkfifo(top / "fifo")
    found = of_folder(top)
    assert (found.size, found.volumes[0].files) == (3, {"..b": 1, "a": 2})
    assert found.volumes[0].others == ["fifo", "folder", "link"]
    assert "a/b/c/d/e/f/g/h" not in of_folder(tmp_path).volumes[0].files


def test_a_folder_that_may_not_be_listed_is_named() -> None:
    """A mounted stick has lost+found, which only root may list."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write(top, {"tce/onboot.lst": b"a", "lost+found/x": b"y"})
        top.chmod(0o755)
        (top / "lost+found").chmod(0)
        user = os.geteuid()
        try:
            os.seteuid(65534 if user == 0 else user)
            found = of_folder(top)
            with pytest.raises(PermissionError):
                of_folder(top / "lost+found")
        finally:
            os.seteuid(user)
            (top / "lost+found").chmod(0o700)
    assert found.volumes[0].files == {"tce/onboot.lst": 1}
    assert found.unread == ["the folder 'lost+found' cannot be read"]


def test_upper_and_lower_case_are_one_unless_both_are_there() -> None:
    volume = Files({"BOOT/A": b"", "boot/b": b"", "boot/B": b""})
    assert volume.find("/boot//./a") == "BOOT/A"
    assert (volume.find("boot/B"), volume.find("boot/b")) == ("boot/B", "boot/b")
    assert volume.find("x/../boot/b") is None


@pytest.mark.parametrize("made", ["link", "fifo", "folder"])
def test_a_file_that_became_something_else_is_not_read(made: str, tmp_path: Path) -> None:
    """Between the listing and the copy; a FIFO would wait for ever."""
    write(tmp_path, {"top/a": b"1", "secret": b"s"})
    volume = of_folder(tmp_path / "top").volumes[0]
    path = tmp_path / "top/a"
    path.unlink()
    if made == "link":
        path.symlink_to(tmp_path / "secret")
    elif made == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((UserError, OSError)):
        volume.copy("a", tmp_path / "copy", 100)
    assert not (tmp_path / "copy").exists() or (tmp_path / "copy").read_bytes() == b""


def test_a_file_that_grew_is_not_read_to_its_end(tmp_path: Path) -> None:
    write(tmp_path, {"top/a": b"123"})
    with pytest.raises(UserError, match="too large while it was read"):
        of_folder(tmp_path / "top").volumes[0].copy("a", tmp_path / "copy", 2)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"d{n}/f": b"" for n in range(5)})
    monkeypatch.setattr(medium, "MAX_ENTRIES", 9)
    with pytest.raises(UserError, match="has more than 9 files and folders") as caught:
        of_folder(tmp_path)
    assert "tce" in caught.value.hint


def test_what_is_copied_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names of one extent of a small disc are a bomb, too."""
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 10)
    monkeypatch.setattr(unpack_limits, "MAX_RATIO", 1)
    volume = Files(dict.fromkeys("abcd", b"1234") | {"text": b"x" * 100})
    budget = Budget(medium.Medium(Path("disc.iso"), 3, [volume]))
    budget.copy(volume, "a", tmp_path / "copy")
    budget.copy(volume, "b", tmp_path / "copy")
    with pytest.raises(UserError, match=r"with 'c' it holds more than the 10 bytes that a medium of 3 may"):
        budget.copy(volume, "c", tmp_path / "copy")
    volume.files["d"] = -1  # FAT does not say before
    with pytest.raises(UserError, match="with 'd' it holds more"):
        volume.contents["d"] = b"x" * 100
        volume.copy = lambda path, target, limit: target.write_bytes(b"x" * 100)  # type: ignore[assignment, method-assign]
        budget.copy(volume, "d", tmp_path / "copy")


def test_only_small_files_are_read_as_text(tmp_path: Path) -> None:
    volume = Files({"list": b"a\xffb", "huge": b""})
    volume.files["huge"] = 1 << 40
    budget = Budget(medium.Medium(Path("x"), 3, [volume]))
    assert budget.text(volume, "list", tmp_path) == "a\ufffdb"
    with pytest.raises(UserError, match=r"'huge' has 1,099,511,627,776 bytes, which is no list or menu"):
        budget.text(volume, "huge", tmp_path)


def test_copies_are_plain_files(tmp_path: Path) -> None:
    write(tmp_path, {"top/a": b"1"})
    (tmp_path / "top/a").chmod(0o4755)
    of_folder(tmp_path / "top").volumes[0].copy("a", tmp_path / "copy", 10)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) & 0o7111 == 0

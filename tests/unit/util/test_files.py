# SPDX-License-Identifier: MIT
"""Files are either whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tasks.util import files
from tasks.util.errors import UserError


def test_atomic_path_leaves_nothing_on_failure(tmp_path: Path) -> None:
    final = tmp_path / "a" / "file"
    with pytest.raises(KeyboardInterrupt), files.atomic_path(final) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list((tmp_path / "a").iterdir()) == []


def test_atomic_path_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(ValueError, match="cut"), files.atomic_path(final) as partial:
        partial.write_text("new")
        raise ValueError("cut")
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_atomic_path_mode_does_not_depend_on_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "file", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_write_if_changed_keeps_the_mtime_of_an_equal_file(tmp_path: Path) -> None:
    path = tmp_path / ".config"
    assert files.write_if_changed(path, "A=y\n")
    os.utime(path, (1, 1))
    assert not files.write_if_changed(path, "A=y\n")
    assert path.stat().st_mtime == 1
    assert files.write_if_changed(path, "A=n\n")
    assert path.stat().st_mtime != 1


def test_atomic_dir_replaces_the_whole_folder(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    for content in ("one", "two"):
        with files.atomic_dir(final) as partial:
            (partial / content).write_text(content)
    assert [path.name for path in final.iterdir()] == ["two"]


def test_atomic_dir_keeps_the_old_folder_on_failure(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    final.mkdir()
    (final / "kept").touch()
    with pytest.raises(KeyboardInterrupt), files.atomic_dir(final) as partial:
        (partial / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in final.iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_atomic_dir_puts_the_old_folder_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "folder"
    final.mkdir()
    (final / "kept").touch()
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if source.suffix == ".part":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"), files.atomic_dir(final) as partial:
        (partial / "new").touch()
    assert [path.name for path in final.iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_remove_tree_follows_no_link_and_takes_read_only_folders(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "link").symlink_to(outside)
    (tree / "sub" / "file").touch()
    (tree / "sub").chmod(0o500)
    files.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "file").exists()
    link = tmp_path / "link"
    link.symlink_to(outside)
    files.remove_tree(link)
    assert not link.is_symlink()
    assert outside.is_dir()


def test_all_temporary_names_are_recognised(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "is kept").touch()
    with (
        files.atomic_path(tmp_path / ".config") as path,
        files.atomic_dir(final) as folder,
        files.scratch_folder(tmp_path / "made", "efi") as scratch,
    ):
        made = [path, folder, scratch]
        assert files.leftovers(tmp_path) == sorted(made)
        said = files.with_final_names(" ".join(f"--x={one}/y" for one in made))
        assert said == " ".join(f"--x={tmp_path}/{name}/y" for name in (".config", "final", "made/efi"))
    assert files.leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["file.part", ".file.part", ".config.old", ".x.abcd123.part", "a.abcd_123.part"]
)
def test_other_names_are_not_temporary(name: str) -> None:
    assert not files.is_temporary(name)


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_a_person_names_must_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files.require_file(tmp_path / "file")
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "gone", "does not exist"),
        (Path("/dev/null"), "is no regular file"),
    ):
        with pytest.raises(UserError, match=f"^{path} {says}"):
            files.require_file(path)

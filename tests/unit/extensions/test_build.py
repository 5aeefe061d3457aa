# SPDX-License-Identifier: MIT
"""What an extension needs before it is packed: owners, the .info file, the base root."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import recipe
from tasks.config.settings import Settings
from tasks.extensions import build
from tasks.formats import cpio
from tasks.formats.initramfs_unpacker import RootFs
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import both


def test_info_has_tiny_cores_fields_in_order() -> None:
    made = recipe.Recipe(recipe.Info("t", "what it is", tags=("cli", "xattr"), comments=("one", "two")))
    text = build.info_text("attr", made, "2.5.1", 34567, 1700000000)
    labels = [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert labels == [
        *("Title", "Description", "Version", "Author", "Original-site", "Copying-policy", "Size"),
        *("Extension_by", "Tags", "Comments", "Change-log", "Current"),
    ]
    assert "Size:           34K\n" in text
    assert "                two\n" in text
    assert "2023/11/14 2.5.1" in text


def test_a_missing_base_is_named(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=r"rootfs64\.gz does not exist") as caught:
        build.base_root(*both(make_settings()))
    assert caught.value.hint == "./doit rootfs"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_special_file_among_a_recipes_own_is_named(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    folder = tmp_path / "extensions/odd/files"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)  # the path of a socket is short
    (folder / "link").symlink_to("special")
    recipe.refuse_special_files("odd")
    with socket.socket(socket.AF_UNIX) as server:
        os.mkfifo("special") if kind == "pipe" else server.bind("special")
        with pytest.raises(UserError) as caught:
            build.build(make_settings(), "odd")
    assert caught.value.message == f"extension odd: {folder}/special is no regular file, folder or link"


def put(root: Path, name: str, mode: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    path.chmod(mode)


def test_owners_and_modes(tmp_path: Path) -> None:
    """root:root, folders 0755 or as in the base (through its links), tce.installed of staff."""
    base = RootFs()
    opt = cpio.Member("opt", 0o042775, gid=50)
    real = cpio.Member("real", 0o041777, uid=7)
    base.unpack([opt, real, cpio.symlink("link", "real"), cpio.regular("srv", b"")])
    put(tmp_path, "opt/sub/tool", 0o755)
    put(tmp_path, "link/file", 0o600)
    put(tmp_path, "srv/file", 0o4755)
    put(tmp_path, "usr/local/tce.installed/plain", 0o644)
    put(tmp_path, "usr/local/tce.installed/script", 0o755)
    put(tmp_path, 'usr/a "b\\', 0o644)
    (tmp_path / "opt/link").symlink_to("sub")
    (tmp_path / "opt/sub").chmod(0o700)
    os.chown(tmp_path / "opt", os.getuid(), os.getgid())
    assert build.owner_lines(tmp_path, base) == [
        '"link" m 1777 7 0',
        '"link/file" m 600 0 0',
        '"opt" m 2775 0 50',
        '"opt/link" m 777 0 0',
        '"opt/sub" m 755 0 0',
        '"opt/sub/tool" m 755 0 0',
        '"srv" m 755 0 0',
        '"srv/file" m 4755 0 0',
        '"usr" m 755 0 0',
        '"usr/a \\"b\\\\" m 644 0 0',
        '"usr/local" m 755 0 0',
        '"usr/local/tce.installed" m 775 0 50',
        '"usr/local/tce.installed/plain" m 664 0 50',
        '"usr/local/tce.installed/script" m 775 0 50',
    ]

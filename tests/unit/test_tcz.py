"""What of an extension is decided without packing it: clashes, owners, the .info file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import cpio, recipe, tcz
from tasks.errors import UserError
from tasks.initramfs import RootFs
from tasks.profile import Settings


def test_info_has_tiny_cores_fields_in_order() -> None:
    made = recipe.Recipe(recipe.Info("t", "what it is", tags=("cli", "xattr"), comments=("one", "two")))
    text = tcz.info_text("attr", made, "2.5.1", 34567, 1700000000)
    labels = [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert labels == [
        *("Title", "Description", "Version", "Author", "Original-site", "Copying-policy", "Size"),
        *("Extension_by", "Tags", "Comments", "Change-log", "Current"),
    ]
    assert "Size:           34K\n" in text
    assert "                two\n" in text
    assert "2023/11/14 2.5.1" in text


@pytest.mark.parametrize(
    ("listings", "words"),
    [
        ({"a": ["usr/bin/x", "etc/a"], "b": ["usr/bin/x"]}, "a.tcz and b.tcz both bring usr/bin/x$"),
        ({"a": ["1"], "b": ["2"], "c": ["2", "1"]}, "b.tcz and c.tcz both bring 2$"),
        (
            {"a": [str(number) for number in range(8)], "b": [str(number) for number in range(7)]},
            "both bring 0, 1, 2, 3, 4 and 2 more$",
        ),
    ],
)
def test_a_path_of_two_extensions_is_refused(listings: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UserError) as caught:
        tcz.refuse_clashes(listings)
    assert re.search(words, caught.value.message)


def test_paths_of_one_extension_each_are_fine() -> None:
    tcz.refuse_clashes({"a": ["usr/bin/x"], "b": ["usr/bin/y", "usr/bin"], "c": []})


def test_clashes_are_looked_for_in_list_files(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    settings.tcz.mkdir(parents=True)
    (settings.tcz / "a.tcz.list").write_text("usr/bin/x\nusr/bin/z\n")
    with pytest.raises(UserError, match="b is not built yet") as caught:
        tcz.check_clashes(settings, ["a", "b"])
    assert caught.value.hint == "./doit tcz:b"
    (settings.tcz / "b.tcz.list").write_text("usr/bin/z\n")
    with pytest.raises(UserError, match=r"a\.tcz and b\.tcz both bring usr/bin/z"):
        tcz.check_clashes(settings, ["a", "b"])
    (settings.tcz / "b.tcz.list").write_text("usr/bin/y\n")
    tcz.check_clashes(settings, ["a", "b"])


def test_a_missing_base_is_named(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match=r"rootfs64\.gz does not exist") as caught:
        tcz.base_root(make_settings())
    assert caught.value.hint == "./doit rootfs"


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
    assert tcz.owner_lines(tmp_path, base) == [
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

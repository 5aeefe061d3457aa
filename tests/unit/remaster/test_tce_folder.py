# SPDX-License-Identifier: MIT
"""Folders of extensions: which are there, which are loaded at boot, and what is odd in the lists."""

from __future__ import annotations

import pytest

from tasks.remaster import tce_folder
from tasks.remaster.tce_folder import choose, find_folders, parse_list, places, scan
from tasks.util.errors import UserError
from tests.support.media import Files


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("cde",), "cde"),
        ((), "tce"),
        (("tce=sda1/my/tce",), "my/tce"),
        (("tce=UUID=1-2/My/TCE/",), "my/tce"),
        (("tce=sda1",), "tce"),
    ],
)
def test_the_bootcodes_choose_the_folder(codes: tuple[str, ...], expected: str) -> None:
    volume = Files({"cde/onboot.lst": b"", "my/tce/optional/a.tcz": b"", "tce/Optional/a.tcz": b""})
    folders = find_folders([volume])
    assert [folder.path for folder in folders] == ["cde", "my/tce", "tce"]
    chosen = choose(folders, codes)
    assert chosen and chosen.path == expected


def test_a_folder_tce_itself_is_one() -> None:
    (folder,) = find_folders([Files({"optional/a.tcz": b""}, "partition 1")])
    assert (folder.path, folder.name) == ("", "partition 1: .")
    scan(folder)
    assert folder.extensions == {"a": "optional/a.tcz"}
    assert choose([], ()) is None


def test_what_is_in_a_folder() -> None:
    names = [
        "optional/a.tcz",
        "optional/a.tcz.dep",
        "ondemand/b.tcz",
        "ondemand/b",
        "mydata.tgz",
        "onboot.lst",
    ]
    odd = [
        "optional/it's.tcz",
        "optional/x.tcz.tcz",
        "optional/upgrade/a.tcz",
        "my.gz",
        "mydata.tgz.bfe",
        "x\x1b",
    ]
    more = ["images/a.tar", "images/b.tar", "boot/vmlinuz", "optional/deep/er/c.tcz", "xwbar.lst", ".swp"]
    volume = Files({f"tce/{name}": b"" for name in [*names, *odd, *more]} | {"tcex/optional/z.tcz": b""})
    volume.others.append("tce/optional/link.tcz")
    folder = next(one for one in find_folders([volume]) if one.path == "tce")
    scan(folder)
    assert folder.extensions == {"a": "tce/optional/a.tcz", "b": "tce/ondemand/b.tcz"}
    assert folder.backup == "tce/mydata.tgz"
    assert sorted(folder.unread) == sorted(
        [
            "'my.gz' is unpacked at boot: add it to core.archives if it is needed",
            "'mydata.tgz.bfe': the backup is encrypted (bootcode protect)",
            "'tce/optional/link.tcz' is a link or no file",
            "'tce/optional/upgrade/a.tcz' would replace a at the next boot",
            "'tce/optional/x.tcz.tcz' has a name that no extension may have",
            "'x\\x1b' is in the folder of extensions",
            '"tce/optional/it\'s.tcz" has a name that no extension may have',
            "the folder 'images' with 2 files",
            "the folder 'ondemand' with 1 files",
        ]
    )


def test_too_many_extensions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tce_folder, "MAX_EXTENSIONS", 2)
    (folder,) = find_folders([Files({f"optional/{name}.tcz": b"" for name in "abc"})])
    with pytest.raises(UserError, match="more than 2 extensions"):
        scan(folder)


def test_lists_are_read_as_tce_setup_reads_them() -> None:
    text = (
        "a.tcz\n# all\n  b.tcz # why\nc\n\na.tcz\nd.tcz e.tcz\nit's.tcz\n;x\n../../x.tcz\nx\0y\n$(id).tcz\n"
    )
    names, odd = parse_list(text, "onboot.lst")
    assert names == ["a", "b", "c", "d"]
    assert odd == [
        "onboot.lst: Tiny Core ignores what follows d: 'e.tcz'",
        'onboot.lst: "it\'s.tcz" names no extension',
        "onboot.lst: ';x' names no extension",
        "onboot.lst: '../../x.tcz' names no extension",
        "onboot.lst: 'x\\x00y' names no extension",
        "onboot.lst: '$(id).tcz' names no extension",
    ]


def test_the_lists_give_the_places() -> None:
    deps = {"a": ["b"], "b": ["a", "c"], "e": ["d"]}
    there = ["a", "b", "c", "d", "e", "f"]
    found, lines = places(there, ["f", "a", "gone"], ["c", "d", "f", "other"], deps, all_copied=False)
    assert list(found.items()) == [
        ("f", "copy2fs"),
        ("a", "onboot"),
        ("c", "copy2fs"),
        ("b", "ondemand"),
        ("d", "ondemand"),
        ("e", "ondemand"),
    ]
    assert lines == [
        "onboot.lst: gone is not on the medium",
        "copy2fs.lst: d is loaded on demand, and will be mounted, not copied",
    ]


def test_the_flag_copies_all_that_is_loaded_at_boot() -> None:
    found, lines = places(["a", "b", "c"], ["a"], [], {"a": ["b"]}, all_copied=True)
    assert found == {"a": "copy2fs", "b": "copy2fs", "c": "ondemand"}
    assert lines == ["copy2fs.flg: what is loaded on demand will be mounted, not copied"]

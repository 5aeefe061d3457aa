# SPDX-License-Identifier: MIT
"""A kernel tree that somebody edits: which of its files are sources, and what of them is noticed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import edited_tree
from tasks.origins.sources.file import FileSource
from tasks.util import files
from tasks.util.errors import UserError
from tests.support.settings import both


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of three files and a link."""
    top = tmp_path / "tree"
    for name in ("Makefile", "fs/dir.c", "drivers/core/tags.c"):
        write(top / name)
    (top / "fs/link").symlink_to("dir.c")
    return top


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def of_tree(settings: Settings, tree: Path) -> Settings:
    kernel = replace(settings.profile.kernel, source=FileSource(path=str(tree)))
    return replace(settings, profile=replace(settings.profile, kernel=kernel))


@pytest.mark.parametrize(
    "path",
    [
        "fs/dir.o",
        "fs/.dir.o.cmd",
        "fs/ext4/ext4.ko",
        "fs/ext4/ext4.mod.c",
        "fs/built-in.a",
        "fs/modules.order",
        "lib/.tmp_gen.h",
        ".tmp_versions/a.mod",
        "net/nf.asn1.c",
        "fs/dir.c.orig",
        "fs/dir.c~",
        ".config",
        ".config.old",
        "Module.symvers",
        "vmlinux",
        "include/config/auto.conf",
        "include/generated/autoconf.h",
        "arch/x86/include/generated/asm/x.h",
        "tools/objtool/objtool",
        "tags",
        ".git/HEAD",
        ".tcbuild/source",
    ],
)
def test_a_build_product_is_no_source(tree: Path, path: str) -> None:
    before = edited_tree.scan(tree).keys()
    write(tree / path)
    assert edited_tree.scan(tree).keys() == before


@pytest.mark.parametrize(("folder", "link"), [("build", ".."), ("out/x86", "../.."), ("out/x86", "")])
def test_a_folder_built_by_make_with_o_is_no_source(tree: Path, folder: str, link: str) -> None:
    """kbuild's link to the tree is relative or, in older releases and from deeper folders, absolute."""
    before = edited_tree.scan(tree).keys()
    write(tree / folder / "Makefile")
    write(tree / folder / "drivers/core/generated.c")
    (tree / folder / "source").symlink_to(link or tree)
    assert edited_tree.scan(tree).keys() == before


def test_a_folder_with_another_link_of_that_name_is_one(tree: Path) -> None:
    (tree / "fs/source").symlink_to("../drivers")
    assert {"fs/dir.c", "fs/source"} <= edited_tree.scan(tree).keys()


@pytest.mark.parametrize(
    "path", ["fs/new.c", ".clang-format", "drivers/tags", "firmware/my.bin", "fs/vmlinux", "fs/core/a.c"]
)
def test_other_files_are_sources_whatever_their_names(tree: Path, path: str) -> None:
    before = edited_tree.scan(tree).keys()
    write(tree / path)
    assert edited_tree.scan(tree).keys() - before == {path}


def test_a_file_that_may_change_without_a_trace_is_not_certain(tree: Path) -> None:
    """An edit within a tick of the file system's clock that keeps the size keeps all that stat(2) says."""
    assert edited_tree.scan(tree)["fs/dir.c"] == ""
    time.sleep(2 * files.FINE_STEP / 1e9)
    state = edited_tree.scan(tree)
    assert state["fs/dir.c"] != ""
    assert state["fs/link"] == "-> dir.c"
    assert edited_tree.scan(tree) == state


def test_an_edit_that_keeps_size_and_mtime_is_noticed(tree: Path) -> None:
    time.sleep(2 * files.FINE_STEP / 1e9)
    before, status = edited_tree.scan(tree), (tree / "Makefile").stat()
    write(tree / "Makefile", "")
    os.utime(tree / "Makefile", ns=(status.st_atime_ns, status.st_mtime_ns))
    time.sleep(2 * files.FINE_STEP / 1e9)
    after = edited_tree.scan(tree)
    assert {path for path in after if after[path] != before[path]} == {"Makefile"}


def test_what_the_check_saw_serves_the_action_once(
    tree: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = of_tree(make_settings(), tree)
    assert not edited_tree.is_current(settings.paths, settings.profile)
    write(tree / "fs/new.c")
    assert "fs/new.c" not in edited_tree.seen_or_scan(tree, [])
    assert "fs/new.c" in edited_tree.seen_or_scan(tree, [])


def test_what_is_no_file_is_named(tree: Path, make_settings: Callable[..., Settings]) -> None:
    os.mkfifo(tree / "fs/pipe")
    assert not edited_tree.is_current(*both(of_tree(make_settings(), tree)))
    expected = f"the kernel tree {tree} cannot be used: fs/pipe is neither a file, a folder nor a link"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        edited_tree.scan(tree)


def test_a_folder_is_compared_for_such_sources_alone(make_settings: Callable[..., Settings]) -> None:
    assert edited_tree.is_current(*both(make_settings()))


def test_texts_of_paths_are_kept_whatever_is_in_a_name(tmp_path: Path) -> None:
    texts = {"a\nb\\c": "-> d\te", "fs/\udcff.c": "", "": "x"}
    edited_tree.write_texts(tmp_path / "texts", texts)
    assert edited_tree.read_texts(tmp_path / "texts") == texts
    for some in ({}, {"": ""}):
        edited_tree.write_texts(tmp_path / "texts", some)
        assert edited_tree.read_texts(tmp_path / "texts") == some
    assert edited_tree.read_texts(tmp_path / "none") == {}
    for damaged in (b"a", b"a\0", b"a\0b", b"a\0b\0c\0"):
        (tmp_path / "texts").write_bytes(damaged)
        assert edited_tree.read_texts(tmp_path / "texts") == {}


def test_a_damaged_summary_counts_as_none(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"other": 1}'):
        write(tmp_path / edited_tree.SUMMARY, text)
        assert edited_tree.summary(tmp_path) == edited_tree.Summary()


def test_a_file_that_vanishes_meanwhile_hides_no_other(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editor's scratch file: the rest of its folder is still there."""
    write(tree / "fs/.dir.c.swp")
    real = edited_tree._is_build_folder

    def vanish(top: Path, entries: list[os.DirEntry[str]]) -> bool:
        (tree / "fs/.dir.c.swp").unlink(missing_ok=True)  # listed by now, and not looked at yet
        return real(top, entries)

    monkeypatch.setattr(edited_tree, "_is_build_folder", vanish)
    assert edited_tree.scan(tree).keys() == {"Makefile", "fs/dir.c", "fs/link", "drivers/core/tags.c"}

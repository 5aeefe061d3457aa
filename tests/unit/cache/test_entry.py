# SPDX-License-Identifier: MIT
"""Entries of the shared cache: whole or refused, whatever happened to their bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.cache import entry
from tasks.cache.entry import BadEntry, File
from tasks.cache.store import Folder, Refused
from tests.support.cacheentries import KEY, OTHER, SECRET, content, damage, make, stored, taken


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store")


@pytest.mark.parametrize("secret", [b"", SECRET], ids=["plain", "signed"])
def test_what_was_put_comes_back_elsewhere(store: Folder, tmp_path: Path, secret: bytes) -> None:
    stored(store, tmp_path / "one", secret=secret)
    there = tmp_path / "two" / "out"
    there.mkdir(parents=True)
    (there / "kernel").mkdir()
    (there / "kernel" / "stale.ko").write_text("of an older kernel")
    old = os.umask(0o077)
    try:
        assert taken(store, there, secret=secret) is not None
    finally:
        os.umask(old)
    assert content(there) == content(tmp_path / "one")
    folders = [path for path in there.rglob("*") if path.is_dir()]
    assert folders
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o755}
    assert (there / "list").stat().st_mode & 0o777 == 0o644


def test_there_is_nothing_under_another_key(store: Folder, tmp_path: Path) -> None:
    stored(store, tmp_path / "one")
    assert taken(store, tmp_path / "two", OTHER) is None
    assert list((tmp_path / "two").iterdir()) == []


def test_two_folders_give_one_archive(store: Folder, tmp_path: Path) -> None:
    first = stored(store, tmp_path / "one")
    for path in make(tmp_path / "elsewhere" / "out"):
        os.utime(path, (1, 1))
    second = stored(store, tmp_path / "elsewhere" / "out", OTHER)
    assert first.archive == second.archive
    assert len(list((store.top / "archives").iterdir())) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    which=st.sampled_from(["entries", "archives"]),
    how=st.sampled_from(["cut", "flip"]),
    at=st.floats(0, 1),
    secret=st.sampled_from([b"", SECRET]),
)
def test_any_damage_is_refused_and_leaves_the_output(
    tmp_path_factory: pytest.TempPathFactory, which: str, how: str, at: float, secret: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    store = Folder(folder / "store")
    stored(store, folder / "one", secret=secret)
    (path,) = (store.top / which).iterdir()
    line = len(path.read_bytes().partition(b"\n")[0])
    damage(path, how, at)
    there = folder / "two"
    make(there, "what was there before")
    before = content(there)
    # Without a secret nobody reads the MAC's field, a single `-`.
    unread = which == "entries" and how == "flip" and not secret and int(at * path.stat().st_size) == line - 1
    if unread:
        return
    with pytest.raises(BadEntry):
        taken(store, there, secret=secret)
    assert content(there) == before
    assert sorted(path.name for path in there.iterdir()) == ["kernel", "list"]


def test_a_bad_entry_is_removed_and_can_be_put_again(store: Folder, tmp_path: Path) -> None:
    manifest = stored(store, tmp_path / "one")
    damage(store.top / entry.archive_name(manifest.archive), "flip", 0.5)
    with pytest.raises(BadEntry) as error:
        taken(store, tmp_path / "two")
    entry.discard(store, error.value.names)
    assert content(store.top) == {}
    stored(store, tmp_path / "one")
    assert taken(store, tmp_path / "two") is not None


def test_an_entry_whose_archive_is_gone(store: Folder, tmp_path: Path) -> None:
    manifest = stored(store, tmp_path / "one")
    (store.top / entry.archive_name(manifest.archive)).unlink()
    with pytest.raises(BadEntry, match="archive is missing"):
        taken(store, tmp_path / "two")


# --- entries made to harm ----------------------------------------------------


def forge(
    store: Folder, files: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] | None = None
) -> None:
    """Store an entry that is consistent with itself, as whoever may write to the cache can."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change:
                change(member)
            tar.addfile(member, io.BytesIO(data))
    archive = zstandard.ZstdCompressor().compress(packed.getvalue())
    listed = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "executable": False}
        for name, data in files
    ]
    sha256 = hashlib.sha256(archive).hexdigest()
    about = {"key": KEY, "task": "kernel", "archive": sha256, "size": len(archive), "files": listed}
    body = json.dumps(about).encode()
    for folder in ("entries", "archives"):
        (store.top / folder).mkdir(parents=True, exist_ok=True)
    (store.top / entry.archive_name(sha256)).write_bytes(archive)
    line = f"{entry.MAGIC} {hashlib.sha256(body).hexdigest()} -\n".encode()
    (store.top / entry.entry_name(KEY)).write_bytes(line + body)


GOOD = [("kernel/vmlinuz64", b"new"), ("list", b"l")]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([*GOOD, ("../outside", b"x")], "no path below a folder"),
        ([*GOOD, ("kernel/../../outside", b"x")], "no path below a folder"),
        ([*GOOD, ("/tmp/outside", b"x")], "no path below a folder"),
        ([*GOOD, ("kernel//twice", b"x")], "no path below a folder"),
        ([*GOOD, ("", b"x")], "no path below a folder"),
        ([*GOOD, ("corepure64.gz", b"x")], "which the task does not make"),
        ([*GOOD, ("kernel-evil/x", b"x")], "which the task does not make"),
        ([*GOOD, ("list", b"again")], "names a file twice"),
        ([*GOOD, ("list/below", b"x")], "does not match its manifest"),
        (GOOD[:1], "lacks list"),
        ([], "lacks kernel, list"),
    ],
    ids=[
        "parent",
        "inner-parent",
        "absolute",
        "doubled",
        "empty",
        "other",
        "near",
        "twice",
        "below",
        "part",
        "none",
    ],
)
def test_entries_that_would_write_something_else(
    store: Folder, tmp_path: Path, files: list[tuple[str, bytes]], says: str
) -> None:
    forge(store, files)
    there = tmp_path / "a" / "two"
    with pytest.raises(BadEntry, match=says):
        taken(store, there)
    assert [path for path in (tmp_path / "a").rglob("*") if path.is_file()] == []


def test_the_forged_entry_would_be_taken_if_it_were_honest(store: Folder, tmp_path: Path) -> None:
    forge(store, GOOD)
    assert taken(store, tmp_path / "two") is not None
    assert (tmp_path / "two/kernel/vmlinuz64").read_bytes() == b"new"


def link(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    return change


def grow(member: tarfile.TarInfo) -> None:
    member.name = f"{member.name}x"


@pytest.mark.parametrize(
    "change",
    [link(tarfile.SYMTYPE), link(tarfile.LNKTYPE), link(tarfile.CHRTYPE), grow],
    ids=["symlink", "hard-link", "device", "other-name"],
)
def test_archives_that_are_not_what_the_manifest_says(
    store: Folder, tmp_path: Path, change: Callable[[tarfile.TarInfo], None]
) -> None:
    forge(store, GOOD, change)
    with pytest.raises(BadEntry, match="does not match its manifest"):
        taken(store, tmp_path / "two")
    assert content(tmp_path / "two") == {}


def test_a_file_with_another_content_than_the_manifest_says(store: Folder, tmp_path: Path) -> None:
    manifest = stored(store, tmp_path / "one")
    wrong = dataclasses.replace(manifest.files[0], sha256="0" * 64)
    lie = dataclasses.replace(manifest, files=(wrong, *manifest.files[1:]))
    (store.top / entry.entry_name(KEY)).write_bytes(lie.to_bytes(b""))
    with pytest.raises(BadEntry, match="has a different content"):
        taken(store, tmp_path / "two")


def test_more_bytes_than_the_manifest_says_are_not_read(store: Folder, tmp_path: Path) -> None:
    manifest = stored(store, tmp_path / "one")
    with (store.top / entry.archive_name(manifest.archive)).open("ab") as file:
        file.truncate(1 << 40)  # sparse: it would take a day to read
    with pytest.raises(BadEntry, match="more than"):
        taken(store, tmp_path / "two")


def test_the_entry_of_another_key_is_refused(store: Folder, tmp_path: Path) -> None:
    stored(store, tmp_path / "one")
    (store.top / entry.entry_name(KEY)).rename(store.top / entry.entry_name(OTHER))
    with pytest.raises(BadEntry, match="belongs to another entry"):
        taken(store, tmp_path / "two", OTHER)


@pytest.mark.parametrize(
    "change",
    [{"size": "10"}, {"archive": "../../x"}, {"files": 3}, {"files": [{"path": "list"}]}, {"more": 1}],
    ids=["size", "archive", "files", "file", "unknown"],
)
def test_manifests_that_make_no_sense(change: dict[str, object]) -> None:
    about = {"key": KEY, "task": "kernel", "archive": OTHER, "size": 10, "files": []}
    body = json.dumps(about | change).encode()
    raw = f"{entry.MAGIC} {hashlib.sha256(body).hexdigest()} -\n".encode() + body
    with pytest.raises(BadEntry, match="malformed"):
        entry.read_manifest(raw, KEY, b"")


@pytest.mark.parametrize("signed", [b"", b"another secret"], ids=["unsigned", "by-another"])
def test_with_a_secret_only_what_is_signed_by_it_is_believed(
    store: Folder, tmp_path: Path, signed: bytes
) -> None:
    stored(store, tmp_path / "one", secret=signed)
    with pytest.raises(BadEntry, match="not signed") as error:
        taken(store, tmp_path / "two", secret=SECRET)
    assert error.value.names == (), "it may be good for others"
    assert not entry.has(store, KEY, SECRET)
    stored(store, tmp_path / "one", secret=SECRET)
    assert taken(store, tmp_path / "two", secret=SECRET) is not None
    assert taken(store, tmp_path / "three") is not None, "without a secret any is"


def test_links_are_not_stored(store: Folder, tmp_path: Path) -> None:
    made = make(tmp_path / "one")
    (tmp_path / "one/kernel/build").symlink_to("/somewhere")
    with pytest.raises(Refused, match="build is neither a file nor a folder"):
        entry.put(store, KEY, "kernel", tmp_path / "one", made, b"")
    assert content(store.top) == {}


def test_files_of_a_manifest_stay_below_the_folder() -> None:
    for path in ("..", ".", "a/./b", "a/", "a\0b"):
        with pytest.raises(ValueError, match="no path below"):
            File(path, 1, "0" * 64)

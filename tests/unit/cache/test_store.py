# SPDX-License-Identifier: MIT
"""Places to keep a shared cache in: a folder, and what fsspec has drivers for (its own memory, here)."""

from __future__ import annotations

import itertools
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from tasks.cache.store import (
    DAY,
    Absent,
    Folder,
    Http,
    Refused,
    Remote,
    Store,
    TooLarge,
    Unreachable,
    is_folder,
    open_store,
)
from tasks.util.errors import UserError

NUMBERS = itertools.count()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind = request.param
    return open_store(str(tmp_path / "a store") if kind == "folder" else f"memory://store-{next(NUMBERS)}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def test_a_file_comes_back(store: Store, file: Path, tmp_path: Path) -> None:
    store.write("entries/a.json", file)
    store.write("entries/a.json", file)
    store.read("entries/a.json", tmp_path / "copy", 10)
    assert (tmp_path / "copy").read_bytes() == b"0123456789"
    (item,) = store.items("entries")
    assert (item.name, item.size, item.partial) == ("entries/a.json", 10, False)
    assert abs(item.used - datetime.now(UTC).timestamp()) < 600
    store.touch("entries/a.json")
    store.remove("entries/a.json")
    assert store.items("entries") == []


def test_no_more_is_read_than_was_said(store: Store, file: Path, tmp_path: Path) -> None:
    store.write("entries/a.json", file)
    with pytest.raises(TooLarge, match="more than 9 bytes"):
        store.read("entries/a.json", tmp_path / "copy", 9)


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Absent):
        store.read("entries/a.json", tmp_path / "copy", 10)
    store.remove("entries/a.json")
    assert store.items("entries") == []


def test_what_a_killed_writer_leaves_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir()
    for name in (".a.json.x1y2_3z4.part", "a.json", ".hidden"):
        (tmp_path / "entries" / name).write_text("")
    found = {item.name: item.partial for item in Folder(tmp_path).items("entries")}
    assert found == {"entries/.a.json.x1y2_3z4.part": True, "entries/a.json": False, "entries/.hidden": False}


def test_an_object_is_written_anew_to_say_that_it_was_used(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a day: no store of objects lets a file's time be set."""
    store = open_store("memory://touched")
    store.write("entries/a.json", file)
    memory = fsspec.filesystem("memory")
    stored = memory.store["/touched/entries/a.json"]
    stored.modified = old = datetime(2026, 1, 1, tzinfo=UTC)
    store.touch("entries/a.json")
    assert store.items("entries")[0].used > old.timestamp() + DAY
    memory.store["/touched/entries/a.json"].modified = recent = datetime.now(UTC)
    store.touch("entries/a.json")
    assert memory.store["/touched/entries/a.json"].modified == recent


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("/var/cache/x", Folder),
        ("relative", Folder),
        ("file:///var/cache/a%20b", Folder),
        ("http://host/x", Http),
        ("https://host/x", Http),
        ("memory://x", Remote),
    ],
)
def test_addresses(address: str, kind: type) -> None:
    store = open_store(address)
    assert isinstance(store, kind)
    assert is_folder(address) == (kind is Folder)
    if "%20" in address:
        assert store.display_name == "/var/cache/a b"


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("s3://bucket/x", "cache=s3://bucket/x: the driver for s3 is not installed", "pip install s3fs"),
        ("gs://bucket/x", "the driver for gs is not installed", "pip install gcsfs"),
        ("sftp://me:secret@host/x", r"cache=sftp://\*\*\*@host/x: the driver for sftp", "paramiko"),
        ("s4://bucket/x", "cache=s4://bucket/x: .*s4", "s3://"),
    ],
)
def test_a_driver_that_is_missing_is_named(
    address: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # this venv may have it
    with pytest.raises(UserError, match=message) as error:
        open_store(address)
    assert hint in error.value.hint
    assert "secret" not in str(error.value)


def test_passwords_in_addresses_are_not_shown() -> None:
    assert open_store("https://me:secret@host/cache/").display_name == "https://***@host/cache"


def test_a_folder_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    """A file where the folder should be stops root as well."""
    (tmp_path / "store").write_text("")
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(Refused, match=r"File exists|Not a directory"):
        store.write("entries/a.json", file)
    with pytest.raises(Absent):
        store.read("entries/a.json", tmp_path / "copy", 10)


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "entries/a.json").mkdir(parents=True)
    with pytest.raises(Unreachable, match="Is a directory"):
        open_store(str(tmp_path)).read("entries/a.json", tmp_path / "copy", 10)


def test_nothing_is_left_of_a_write_that_failed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "store/entries/a.json").mkdir(parents=True)
    with pytest.raises(Refused):
        open_store(str(tmp_path / "store")).write("entries/a.json", file)
    assert os.listdir(tmp_path / "store/entries") == ["a.json"]


def test_a_web_server_cannot_be_listed() -> None:
    with pytest.raises(UserError, match="does not list") as error:
        open_store("http://host/cache").items("entries")
    assert "cache=FOLDER" in error.value.hint


def test_a_web_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        open_store("http://127.0.0.1:1/cache").read("entries/a.json", tmp_path / "copy", 10)

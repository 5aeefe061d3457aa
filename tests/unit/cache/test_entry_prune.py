# SPDX-License-Identifier: MIT
"""Many writers of a shared cache, killed ones, and what pruning keeps."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.cache.entry import archive_name, entries, entry_name, prune, put
from tasks.cache.store import Folder, Refused
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.cacheentries import KEY, OTHER, content, damage, make, stored, taken


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store")


# --- several writers, killed writers -----------------------------------------


def test_writers_and_readers_of_one_key_at_once(store: Folder, tmp_path: Path) -> None:
    """Each writer makes other bytes, which a key should rule out: whatever is read is one of them, whole."""
    texts = [f"text {number}" for number in range(4)]
    made = {text: make(tmp_path / text, text) for text in texts}
    expected = [content(tmp_path / text) for text in texts]
    wrong: list[object] = []

    def write(text: str) -> None:
        for _ in range(5):
            put(store, KEY, "kernel", tmp_path / text, made[text], b"")

    def read(number: int) -> None:
        there = tmp_path / f"reader {number}"
        for _ in range(10):
            try:
                if taken(store, there) and content(there) not in expected:
                    wrong.append(content(there))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=write, args=[text]) for text in texts]
    threads += [threading.Thread(target=read, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert taken(store, tmp_path / "after") is not None


SLOW = """
import shutil, sys, time
from pathlib import Path
from tasks.cache import entry as cache; from tasks.cache import store as cachestore
from tests.support.cacheentries import KEY, make
whole = shutil.copyfile
def copyfile(source, target):
    if Path(target).parent.name != {stop!r}:
        return whole(source, target)
    Path(target).write_bytes(Path(source).read_bytes()[:20])
    print("now", flush=True)
    time.sleep(600)
shutil.copyfile = copyfile
top = Path({top!r})
cache.put(cachestore.Folder(top / "store"), KEY, "kernel", top / "one", make(top / "one"), b"")
"""


@pytest.mark.parametrize("stop", ["archives", "entries"])
def test_a_writer_killed_in_the_middle_leaves_no_entry(store: Folder, tmp_path: Path, stop: str) -> None:
    script = SLOW.format(stop=stop, top=str(tmp_path))
    writer = subprocess.Popen(
        [sys.executable, "-c", script], cwd=CHECKOUT.root, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == "now\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert taken(store, tmp_path / "two") is None
    prune(store, 1 << 30)
    assert len(content(store.top)) == (1 if stop == "archives" else 2), "it may still be at work"
    for path in store.top.rglob("*"):
        os.utime(path, (1, 1))
    prune(store, 1 << 30)
    assert content(store.top) == {}


# --- listing and pruning -----------------------------------------------------


def aged(store: Folder, tmp_path: Path, ages: dict[str, int]) -> dict[str, str]:
    """Put an entry for each name (its key is the sha256 of it), last used so many seconds after 1000."""
    keys = {name: hashlib.sha256(name.encode()).hexdigest() for name in ages}
    for name, age in ages.items():
        manifest = stored(store, tmp_path / "one", keys[name], name)
        for path in (entry_name(keys[name]), archive_name(manifest.archive)):
            os.utime(store.top / path, (1000 + age, 1000 + age))
    return keys


def names_left(store: Folder, keys: dict[str, str]) -> set[str]:
    return {name for name, key in keys.items() if (store.top / entry_name(key)).exists()}


def test_pruning_drops_what_was_used_least_recently(
    store: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = aged(store, tmp_path, {"old": 1, "middle": 2, "new": 3})
    sizes = [entry.size for entry in entries(store)[0]]
    prune(store, sum(sizes))
    assert names_left(store, keys) == {"old", "middle", "new"}
    taken(store, tmp_path / "two", keys["old"])  # a hit makes it the newest
    prune(store, sum(sizes) - 1)
    assert names_left(store, keys) == {"old", "new"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("shared cache: 2 entries kept, ")
    assert len(list((store.top / "archives").iterdir())) == 2
    prune(store, 0)
    assert content(store.top) == {}


def test_an_older_entry_that_would_fit_does_not_outlive_a_newer_one(store: Folder, tmp_path: Path) -> None:
    keys = aged(store, tmp_path, {"tiny": 1, "x" * 9000: 2, "new": 3})
    by_key = {entry.key: entry.size for entry in entries(store)[0]}
    prune(store, by_key[keys["new"]] + by_key[keys["tiny"]])
    assert names_left(store, keys) == {"new"}


def test_an_archive_of_two_entries_stays_while_one_of_them_does(store: Folder, tmp_path: Path) -> None:
    stored(store, tmp_path / "one", KEY)
    os.utime(store.top / entry_name(KEY), (1, 1))
    stored(store, tmp_path / "one", OTHER)
    newest = entries(store)[0][0]
    assert newest.key == OTHER
    prune(store, newest.size)
    assert taken(store, tmp_path / "two", KEY) is None
    assert taken(store, tmp_path / "two", OTHER) is not None


def test_pruning_removes_what_is_damaged_and_nothing_of_others(store: Folder, tmp_path: Path) -> None:
    keys = aged(store, tmp_path, {"good": 1, "cut": 2, "gone": 3})
    damage(store.top / entry_name(keys["cut"]), "cut", 0.5)
    gone = {entry.key: entry.manifest for entry in entries(store)[0]}[keys["gone"]]
    assert gone is not None
    (store.top / archive_name(gone.archive)).unlink()
    foreign = [store.top / "mine.txt", store.top / "entries/notes.txt", store.top / "archives/photo.tar.zst"]
    for path in foreign:
        path.write_text("mine")
        os.utime(path, (1, 1))
    prune(store, 1 << 40)
    assert names_left(store, keys) == {"good"}
    assert all(path.exists() for path in foreign)
    assert len(content(store.top)) == 2 + len(foreign), "the archive that nobody names is old, and gone"


def test_pruning_what_may_not_be_written_is_an_error_in_words(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(store, tmp_path / "one")

    def refuse(name: str) -> None:
        raise Refused("Permission denied")

    monkeypatch.setattr(store, "remove", refuse)
    with pytest.raises(UserError, match=r"shared cache .*Permission denied"):
        prune(store, 0)

# SPDX-License-Identifier: MIT
"""Use one shared cache by many clients: `python -m tests.bench.clients ADDRESS [CLIENTS ROUNDS KEYS]`.

Each client is a process of its own, as a machine of CI would be.  In each round it takes one of KEYS
entries, drawn by lot, or makes and stores it.  The lines count what happened.  An entry that is lost, or not
what it was made of, is an error.

`... FOLDER entries N [ADDRESS]` adds N other entries to a folder, and prints what each operation costs beside
them; ADDRESS is that of a server of the folder.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tasks.cache import entry
from tasks.cache.store import Folder, Refused, Store, Unreachable, open_store
from tasks.util.errors import UserError, report_errors

CLIENTS, ROUNDS, KEYS = 50, 20, 40
SIZES = (1_000, 100_000, 3_000_000)  # bytes, from a configuration to an extension
REPEATS = 9


@cache
def content(number: int) -> bytes:
    """Return what the entry of a number holds: the same bytes on every machine, which do not compress."""
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def key(number: int) -> str:
    return hashlib.sha256(f"entry {number}".encode()).hexdigest()


def take(store: Store, folder: Path, number: int) -> str:
    """Take an entry, or make and store it.  Returns what happened."""
    made = folder / "made"
    made.unlink(missing_ok=True)
    try:
        if entry.get(store, key(number), folder, [made], b""):
            return "taken" if made.read_bytes() == content(number) else "wrong"
        made.write_bytes(content(number))
        entry.put(store, key(number), "bench", folder, [made], b"")
    except entry.BadEntry as error:
        return f"bad entry: {error}"
    except (Refused, Unreachable) as error:
        return f"not reached: {error}"
    return "stored"


def client(address: str, seed: int, rounds: int, keys: int) -> None:
    """Go the rounds of one client, and print what happened as JSON."""
    draw, store, counts = random.Random(seed), open_store(address), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="tcbuild-client-") as name:
        for _ in range(rounds):
            counts[take(store, Path(name), draw.randrange(keys))] += 1
    print(json.dumps(counts))


def many(address: str, clients: int = CLIENTS, rounds: int = ROUNDS, keys: int = KEYS) -> Counter[str]:
    """Run clients at once, then read every entry.  Returns the counts.

    Raises `UserError` if one fails, and if an entry is lost or wrong.
    """
    words = [sys.executable, "-m", "tests.bench.clients", "client", address]
    before = time.monotonic()
    started = [
        subprocess.Popen([*words, str(seed), str(rounds), str(keys)], stdout=subprocess.PIPE, text=True)
        for seed in range(clients)
    ]
    counts = Counter[str]()
    for one in started:
        said, _ = one.communicate()
        if one.returncode:
            raise UserError(f"a client ended with status {one.returncode}")
        counts.update(json.loads(said))
    seconds = time.monotonic() - before
    store = open_store(address)
    with tempfile.TemporaryDirectory(prefix="tcbuild-client-") as name:
        kept = Counter(take(store, Path(name), number) for number in range(keys))
    print(f"{clients} clients, {rounds} rounds each, {keys} entries: {seconds:.1f} s")
    for outcome, count in sorted(counts.items()):
        print(f"  {outcome}: {count}")
    print(f"  read at the end: {dict(kept)}")
    unexpected = set(counts) | set(kept) - {"taken"}
    if unexpected - {"taken", "stored"} or kept["taken"] != keys:
        raise UserError("an entry is lost or wrong")
    return counts


def fill(folder: Path, count: int) -> None:
    """Give the cache in a folder `count` small entries, without its own code: that would take hours."""
    store, archive = Folder(folder), b"no archive is read here"
    name = hashlib.sha256(archive).hexdigest()
    with tempfile.NamedTemporaryFile() as file:
        file.write(archive)
        file.flush()
        store.write(entry.archive_name(name), Path(file.name))
    (folder / entry.ENTRIES).mkdir(exist_ok=True)
    for number in range(count):
        wanted = hashlib.sha256(f"other {number}".encode()).hexdigest()
        manifest = entry.Manifest(wanted, "bench", name, len(archive), ())
        (folder / entry.entry_name(wanted)).write_bytes(manifest.to_bytes(b""))
        (folder / entry.archive_name(wanted)).write_bytes(archive)


def costs(folder: Path, count: int, address: str) -> None:
    """Print the milliseconds of each operation beside `count` other entries."""
    fill(folder, count)
    store = open_store(address)
    with tempfile.TemporaryDirectory(prefix="tcbuild-client-") as name:
        place = Path(name)
        for number in range(REPEATS):
            take(store, place, number)

        def timed(what: str, work: Callable[[int], object], repeats: int = REPEATS) -> None:
            values = []
            for number in range(repeats):
                before = time.monotonic()
                work(number)
                values.append((time.monotonic() - before) * 1000)
            print(f"{count:,} entries: {what}: {statistics.median(values):.1f} ms", flush=True)

        timed("a miss", lambda number: entry.has(store, key(10**6 + number), b""))
        timed("a hit of 1 kB", lambda _: take(store, place, 0))
        timed("a hit of 3 MB", lambda _: take(store, place, 2))
        timed("storing 1 kB", lambda number: take(store, place, 3 * (10**5 + count + number)))
        if address == str(folder):
            timed("the size of all", lambda _: entry.keep_below(store, 1 << 60), 3)
            timed("cache:list", lambda _: entry.entries(store), 1)


def main(address: str, *words: str) -> None:
    """Do what the words of the command line say."""
    if address == "client":
        client(words[0], *map(int, words[1:]))
    elif words[:1] == ("entries",):
        served = words[2] if len(words) > 2 else address
        costs(Path(address), int(words[1]), served)
    else:
        many(address, *map(int, words))


if __name__ == "__main__":
    with report_errors():
        main(*sys.argv[1:])

# SPDX-License-Identifier: MIT
"""The shared cache at real places (the user's own folder, another, WebDAV, S3), under a real doit.

What passes through it is an extension made by mksquashfs, and a file made of that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tasks import bootstrap
from tasks.config.settings import SHARED_VARIABLE
from tasks.engine import run_history
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.files import sha256_file
from tasks.util.process import require_tool
from tests.support.built import Outcome, outcome

DODO = """
from pathlib import Path
from doit import get_var
from tasks.cli import variables as commandline
from tasks.cache.task import SharedCache, shared
from tasks.engine.task import changed
from tasks.util.errors import report_errors
from tasks.util.files import atomic_path, sha256_file
from tasks.util.log import logger
from tasks.util.process import run

HERE = Path(__file__).parent
with report_errors():
    S = commandline.settings(HERE / "artifacts")
CACHE = SharedCache.of(S)
DOIT_CONFIG = {"dep_file": ".doit", "verbosity": 2, "default_tasks": ["sum"]}
TCZ, SUM = S.paths.tcz / "x.tcz", S.paths.output / "sum"

def squash():
    logger.info("really squashing")
    S.paths.tcz.mkdir(parents=True, exist_ok=True)
    with atomic_path(TCZ) as partial:
        partial.unlink()
        how = ["-noappend", "-no-progress", "-all-root", "-mkfs-time", "1", "-all-time", "1"]
        run(["mksquashfs", HERE / "files", partial, *how])

def digest():
    logger.info("really summing")
    SUM.write_text(sha256_file(TCZ))

def task_tcz():
    inputs = [str(path) for path in sorted((S.paths.output / "in").iterdir())]
    yield shared(CACHE, S, {"basename": "tcz", "name": "x", "actions": [(squash, [])], "file_dep": inputs,
                     "targets": [str(TCZ)], "uptodate": changed(epoch=1)})

def task_sum():
    made = {"actions": [(digest, [])], "file_dep": [str(TCZ)], "targets": [str(SUM)],
            "uptodate": changed()}
    return shared(CACHE, S, {"basename": "sum", **made})
"""


@dataclass
class Place:
    """A shared cache: its address, how to change a file of it behind its back, and who can reach it."""

    address: str
    overwrite: Callable[[str, bytes], None]
    names: Callable[[str], list[str]]
    python: Path = Path(sys.executable)
    env: dict[str, str] = field(default_factory=dict)
    called: str = "the shared cache"

    def checkout(self, folder: Path, text: str = "one") -> Path:
        """Make a tiny checkout, whose extension holds `text`."""
        for name in ("files/usr/local/bin/tool", "artifacts/apt/in/tool"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text(text * 1000)
        (folder / "dodo.py").write_text(DODO)
        return folder

    def doit(self, folder: Path, *words: str) -> Outcome:
        command = [str(self.python), "-m", "tasks.cli.main", *words, "profile=apt", f"cache={self.address}"]
        return outcome(command, folder, {**os.environ, "PYTHONPATH": str(CHECKOUT.root), **self.env})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(argv: list[str], url: str) -> Iterator[None]:
    """Run a server until the block ends; begin when it answers at `url`."""
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert server.poll() is None, f"{argv[0]} ended"
            with contextlib.suppress(requests.ConnectionError):
                requests.get(url, timeout=120)
                break
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def in_folder(top: Path, address: str) -> Place:
    """Return the place whose files lie in `top` of this machine."""

    def overwrite(name: str, data: bytes) -> None:
        (top / name).write_bytes(data)

    return Place(
        address,
        overwrite,
        lambda folder: sorted(path.name for path in (top / folder).iterdir()),
    )


@contextlib.contextmanager
def webdav(top: Path, *options: str) -> Iterator[str]:
    """Serve a folder by WebDAV, which has PUT and DELETE; yield its address."""
    top.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    # Without its own cache of what lies in the folder: the test looks and writes there too.
    argv = [require_tool("rclone"), "serve", "webdav", str(top), "--addr", address, "--dir-cache-time", "0"]
    with serving([*argv, "--config", "/dev/null", *options], f"http://{address}/"):
        yield f"http://{address}"


@contextlib.contextmanager
def s3() -> Iterator[Place]:
    """Run moto's S3 server with a bucket; driver and server live in a venv of their own."""
    venv = bootstrap.make_venv(cache_folder(), ["s3", "s3-server"])
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    with serving([str(venv / "bin/moto_server"), "-p", str(port)], server):
        requests.put(f"{server}/bucket", timeout=60).raise_for_status()

        def overwrite(name: str, data: bytes) -> None:
            # moto lets anybody write what is signed, by whomever.
            signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
            url = f"{server}/bucket/ci/{name}"
            requests.put(url, data=data, headers=signed, timeout=60).raise_for_status()

        def names(folder: str) -> list[str]:
            listing = requests.get(f"{server}/bucket?list-type=2&prefix=ci/{folder}/", timeout=60).text
            return sorted(part.split("</Key>")[0].rpartition("/")[2] for part in listing.split("<Key>")[1:])

        env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "FSSPEC_S3_ENDPOINT_URL": server}
        yield Place("s3://bucket/ci", overwrite, names, venv / "bin/python", env)


@pytest.fixture(params=["own", "folder", "http", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    top = tmp_path / "store"
    if request.param == "own":  # nobody names one
        found = in_folder(tmp_path / "cache/results", "")
        found.env = {"TCBUILD_CACHE": str(tmp_path / "cache"), SHARED_VARIABLE: ""}
        found.called = "your own cache"
        yield found
    elif request.param == "folder":
        yield in_folder(top, str(top))
    elif request.param == "http":
        with webdav(top) as address:
            yield in_folder(top, address)
    else:
        with s3() as found:
            yield found


def test_one_builds_and_all_others_take(place: Place, tmp_path: Path) -> None:
    first = place.checkout(tmp_path / "first")
    done = place.doit(first)
    assert done.status == 0, done.output
    assert done.output.count("really") == 2, done.output
    assert done.output.count("stored in the shared cache") == (2 if place.address else 0), done.output
    assert len(place.names("entries")) == len(place.names("archives")) == 2
    made = [Path("artifacts/apt/tcz/x.tcz"), Path("artifacts/apt/sum")]
    assert "would come from" not in place.doit(first, "explain").output
    digests = [sha256_file(first / path) for path in made]
    for path in made:  # somebody edits them where they are
        with (first / path).open("r+b") as file:
            file.write(b"poison")
    said = place.doit(first, "explain").output
    assert said.count(f"it would come from {place.called}") == 1, said

    second = place.checkout(tmp_path / "elsewhere" / "second")
    for path in (second / "artifacts/apt/in").iterdir():
        os.utime(path, (1, 1))
    done = place.doit(second)
    assert (done.status, done.output.count("really")) == (0, 0), done.output
    assert done.output.count(f"from {place.called}") == 2
    records, faults = run_history.load(second)
    assert ([task.outcome for task in records[-1].tasks], faults) == (["from cache", "from cache"], [])
    assert [sha256_file(second / path) for path in made] == digests
    assert place.doit(second).ran == []
    assert place.doit(second, "explain").output == "everything is up to date\nfrom a cache: tcz:x, sum\n"
    assert place.doit(first).output.count(f"from {place.called}") == 2, "the edited ones are mended"
    assert [sha256_file(first / path) for path in made] == digests
    done = place.doit(second, "-a")
    assert (done.status, done.output.count("really")) == (0, 2), "-a: do all again"
    assert "from a cache" not in place.doit(second, "explain").output

    # One poisoned, one cut: both are built and stored anew.
    for folder, name in (("archives", place.names("archives")[0]), ("entries", place.names("entries")[0])):
        place.overwrite(f"{folder}/{name}", b"poison")
        other = place.checkout(tmp_path / f"with bad {folder}")
        done = place.doit(other)
        assert done.status == 0, done.output
        assert (done.output.count("warning: "), done.output.count("really")) == (1, 1), done.output
        assert "is refused" in done.output
        assert [sha256_file(other / path) for path in made] == digests
        shutil.rmtree(other)
        assert "really" not in place.doit(place.checkout(other)).output
    assert len(place.names("entries")) == len(place.names("archives")) == 2

    changed = place.doit(place.checkout(tmp_path / "changed", "two"))
    assert changed.output.count("really") == 2, changed.output
    assert len(place.names("entries")) == 4

    listed = place.doit(first, "cache:list")
    pruned = place.doit(first, "cache:prune", "--max-size", "1B")
    if place.address.startswith("http"):
        assert "does not list its files" in listed.output
        assert (listed.status, pruned.status) == (1, 1)
        return
    assert "tcz:x" in listed.output, listed.output
    assert "4 entries, " in listed.output
    assert "0 entries kept, 0 bytes; 4 removed" in pruned.output, pruned.output
    assert (place.names("entries"), place.names("archives")) == ([], [])


def test_a_server_that_takes_nothing_serves_all_the_same(tmp_path: Path) -> None:
    top = tmp_path / "store"
    with webdav(top, "--read-only") as address:
        place = in_folder(top, address)
        done = place.doit(place.checkout(tmp_path / "one"))
        assert (done.status, done.output.count("really")) == (0, 2), done.output
        assert done.output.count("warning: ") == 1
        assert "cannot be written to" in done.output
        folder = in_folder(top, str(top))
        assert folder.doit(folder.checkout(tmp_path / "two")).output.count("stored") == 2
        done = place.doit(place.checkout(tmp_path / "three"))
        assert done.output.count("from the shared cache") == 2, done.output
        assert "warning" not in done.output


def test_a_server_that_is_gone_costs_one_line(tmp_path: Path) -> None:
    place = in_folder(tmp_path, f"http://127.0.0.1:{free_port()}/cache")
    done = place.doit(place.checkout(tmp_path / "one"))
    assert (done.status, done.output.count("really")) == (0, 2), done.output
    assert done.output.count("warning: ") == 1
    assert "connection refused" in done.output


@pytest.mark.slow
def test_fifty_clients_at_once_lose_nothing(place: Place) -> None:
    """Each takes or stores what it draws of 40 entries; the bench's program reads them all at the end."""
    if not place.address:
        pytest.skip("your own cache is a folder, as another case has it")
    command = [str(place.python), "-m", "tests.bench.clients", place.address, "50", "10", "40"]
    done = outcome(command, CHECKOUT.root, {**os.environ, **place.env})
    assert done.status == 0, done.output
    assert "read at the end: {'taken': 40}" in done.output

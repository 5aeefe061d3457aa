"""sccache: a server that compiles and keeps what it compiled, and a client that asks it.

A server keeps its settings as long as it runs, so each build has one of its own.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.util.errors import UserError
from tasks.util.process import end_group, run, spawn

BASE = "TCBUILD_BASE"
"""For tasks/toolchain/sccache-relative: the folder whose paths are made relative."""
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server: what its clients need in their environment, and the line at the end."""

    env: dict[str, str]
    report: Callable[[], str]


def wrapper() -> Path:
    """Return the program that stands before the compiler in CC=.

    Raises `UserError` if make cannot live with its path.
    """
    path = Path(__file__).with_name("sccache-relative")
    if any(character.isspace() or character in ":'\"$#\\" for character in str(path)):
        raise UserError(
            f"{path}: launcher = 'sccache' cannot handle spaces, colons or quotes in its path",
            "move the checkout, or use launcher = 'ccache'",
        )
    return path


@contextmanager
def server(kept: Path, folder: Path) -> Iterator[Server]:
    """Yield a server that keeps its objects in the folder `kept`; scratch files lie in `folder`.

    Raises `UserError` if it does not start.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    clients = {
        "SCCACHE_SERVER_PORT": str(port),
        # A server that died costs time, no build.
        "SCCACHE_IGNORE_SERVER_IO_ERROR": "1",
    }
    log = folder / "sccache.log"
    own = clients | {
        "SCCACHE_DIR": str(kept),
        "SCCACHE_CACHE_SIZE": "2G",
        "SCCACHE_CONF": str(folder / "no.config"),  # the user's is for another cache
        "SCCACHE_IDLE_TIMEOUT": "0",
        "SCCACHE_START_SERVER": "1",
        "SCCACHE_NO_DAEMON": "1",
        "SCCACHE_ERROR_LOG": str(log),
        "TMPDIR": str(folder),
    }
    with spawn(["sccache"], env=own) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    said = log.read_text(errors="replace") if log.exists() else ""
                    raise UserError("sccache's server does not start", "launcher=ccache does without", said)
                time.sleep(0.05)
            yield Server(clients, lambda: _report(clients))
        finally:
            end_group(process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _report(env: dict[str, str]) -> str:
    printed = run(["sccache", "--show-stats", "--stats-format", "json"], env=env).stdout
    stats = json.loads(printed)["stats"]
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return f"sccache: {hits} hits, {misses} misses"

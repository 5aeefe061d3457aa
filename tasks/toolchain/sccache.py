# SPDX-License-Identifier: MIT
"""sccache: a server that compiles and caches objects, and a client that sends it the commands.

A server does not change its settings while it runs, so each build starts its own.
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
"""Variable of tasks/toolchain/sccache-relative: it makes paths below this folder relative."""
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server.

    env: for its clients; report: returns the line to log after the build.
    """

    env: dict[str, str]
    report: Callable[[], str]


def wrapper() -> Path:
    """Return the program that CC= runs with the compiler as its argument.

    Raises `UserError` if make cannot handle its path.
    """
    path = Path(__file__).with_name("sccache-relative")
    if any(character.isspace() or character in ":'\"$#\\" for character in str(path)):
        raise UserError(
            f"{path}: launcher = 'sccache' cannot handle spaces, colons or quotes in its path",
            "move the checkout, or use launcher = 'ccache'",
        )
    return path


@contextmanager
def server(store: Path, folder: Path) -> Iterator[Server]:
    """Yield a server that keeps its objects in the folder `store`, and scratch files in `folder`.

    Raises `UserError` if it does not start.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    client_env = {
        "SCCACHE_SERVER_PORT": str(port),
        # If the server dies, the client compiles itself: the build takes longer but does not fail.
        "SCCACHE_IGNORE_SERVER_IO_ERROR": "1",
    }
    log = folder / "sccache.log"
    server_env = client_env | {
        "SCCACHE_DIR": str(store),
        "SCCACHE_CACHE_SIZE": "2G",
        "SCCACHE_CONF": str(folder / "no.config"),  # not the user's, which is for another cache
        "SCCACHE_IDLE_TIMEOUT": "0",
        "SCCACHE_START_SERVER": "1",
        "SCCACHE_NO_DAEMON": "1",
        "SCCACHE_ERROR_LOG": str(log),
        "TMPDIR": str(folder),
    }
    with spawn(["sccache"], env=server_env) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    output = log.read_text(errors="replace") if log.exists() else ""
                    raise UserError(
                        "sccache's server does not start", "launcher=ccache builds without it", output
                    )
                time.sleep(0.05)
            yield Server(client_env, lambda: _report(client_env))
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

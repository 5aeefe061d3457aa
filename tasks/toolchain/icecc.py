# SPDX-License-Identifier: MIT
"""A compile farm of icecc: a scheduler, a daemon on each host, and a daemon here for the build.

icecc sends this machine's compiler to the hosts, packed by icecc-create-env(1), so they need no
compiler of the same version.  The scheduler gives each job to a free host (iceccd(1)).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.toolchain import build_root
from tasks.toolchain.distcc import describe_jobs
from tasks.toolchain.farm import Farm, Object, compile_probe, difference
from tasks.toolchain.identity import compiler as compiler_identity
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir
from tasks.util.log import logger
from tasks.util.parallel import each
from tasks.util.process import end_group, run, spawn

# The client compiles on this machine, and connects to no daemon (icecc --help).
ENVIRONMENT = {"ICECC": "disable"}
START_SECONDS = 30
ANSWER_SECONDS = 10
MAX_SOCKET_PATH = 100  # bytes; the kernel takes 107 (unix(7))
LISTED = re.compile(r"^ (?P<name>\S+) \((?P<address>[^:)]+):(?P<port>\d+)\) .* jobs=\d+/(?P<slots>\d+) ")
SENT = re.compile(r"Have to use host (\S+?):\d+ ")
HERE = "<building_local>"


@dataclass(frozen=True)
class Host:
    """A daemon that the scheduler lists: its name, its address, and how many jobs it runs at a time."""

    name: str
    address: str
    slots: int


@contextmanager
def farm(address: tuple[str, int], folder: Path, logs: Path, packed: Path) -> Iterator[Farm]:
    """Yield the farm of the scheduler at `address` (with its port).

    `folder` is for scratch files and must exist; `packed` keeps packed compilers.

    If the scheduler cannot be reached or a host makes other bytes, this machine compiles
    everything: the scheduler alone chooses hosts.
    """
    try:
        hosts = list_hosts(*address)
    except OSError as error:
        where = f"{address[0]}:{address[1] + 1}"
        logger.warning(f"farm: icecc's scheduler does not answer at {where}: {error.strerror or error}")
        hosts = []
    if not hosts:
        logger.warning("farm: there is no host to compile on, so all is compiled here")
        yield Farm({}, 0, str)
        return
    compiler = pack_compiler(packed, logs)
    with daemon(folder, address) as link:
        log = folder / "icecc.log"
        env = {
            "ICECC": "",
            "ICECC_TEST_SOCKET": str(link),
            "ICECC_VERSION": str(compiler),
            "ICECC_DEBUG": "debug",  # the least verbose level that names the host
            "ICECC_LOGFILE": str(log),
            # Else icecc compiles files with warnings here again, for coloured output.
            "ICECC_CARET_WORKAROUND": "0",
        }
        here = compile_probe(["gcc"], folder / "here", {})
        made = each(lambda host: probe(host, folder, env), hosts, len(hosts))
        if not _usable(hosts, made, here):
            yield Farm({}, 0, str)
            return
        yield Farm(env, sum(host.slots for host in hosts), lambda: summary(log))


def probe(host: Host, folder: Path, env: Mapping[str, str]) -> Object | None:
    """Return the probe as `host` compiles it; None if it took no job (it may be busy)."""
    log = folder / f"{host.name}.log"
    one = {**env, "ICECC_PREFERRED_HOST": host.name, "ICECC_LOGFILE": str(log)}
    made = compile_probe(["icecc", "gcc"], folder / f"probe-{host.name}", one)
    text = log.read_text(errors="replace") if log.exists() else ""
    there = made.content and HERE not in text and SENT.findall(text) == [host.address]
    return made if there else None


def _usable(hosts: list[Host], made: list[Object | None], here: Object) -> bool:
    """Tell whether the farm is usable; log a warning for each host that is not."""
    differing = 0
    for host, there in zip(hosts, made, strict=True):
        if there is None:
            logger.warning(f"farm: {host.name} ({host.address}) took no job")
        elif why := difference(here, there):
            logger.warning(f"farm: {host.name} ({host.address}): {why}")
            differing += 1
    if differing:
        logger.warning("farm: icecc cannot leave a host out, so all is compiled here")
    elif not any(made):
        logger.warning("farm: there is no host to compile on, so all is compiled here")
    return not differing and any(made)


def list_hosts(address: str, port: int) -> list[Host]:
    """Return the daemons that take jobs, as the scheduler lists them.

    Raises `OSError` if the scheduler does not answer.
    """
    return parse_hosts(query_daemons(address, port))


def query_daemons(address: str, port: int) -> str:
    """Return the scheduler's answer to `listcs` at its text port (one above its own): all daemons.

    Raises `OSError` if the scheduler does not answer.
    """
    text = b""
    with socket.create_connection((address, port + 1), ANSWER_SECONDS) as link:
        link.sendall(b"listcs\nquit\n")
        while block := link.recv(4096):
            text += block
    return text.decode(errors="replace")


def parse_hosts(text: str) -> list[Host]:
    """Return the hosts in the scheduler's answer to `listcs`; daemons with port 0 take no jobs."""
    found = (LISTED.match(line) for line in text.splitlines())
    return [
        Host(one["name"], one["address"], int(one["slots"]))
        for one in found
        if one and int(one["port"]) and int(one["slots"])
    ]


def pack_compiler(packed: Path, logs: Path) -> Path:
    """Return this machine's compiler packed for the hosts; pack it if there is no archive of it yet.

    packed: the folder of the archives; logs: the folder of icecc-create-env.log.
    """
    key = hashlib.sha256(repr(compiler_identity(build_root.HOST)).encode()).hexdigest()[:16]
    folder = packed / key
    if not folder.is_dir():
        logger.info("icecc: packing the compiler for the farm (once)")
        with atomic_dir(folder) as partial:
            gcc, gxx = (shutil.which(tool) or tool for tool in ("gcc", "g++"))
            log = logs / "icecc-create-env.log"
            run(["icecc-create-env", "--gcc", gcc, gxx], cwd=partial, log=log)
    return next(folder.glob("*.tar.gz"))


@contextmanager
def daemon(folder: Path, scheduler: tuple[str, int]) -> Iterator[Path]:
    """Yield the socket of a daemon for this build; it takes no jobs of other machines.

    Raises `UserError` if the daemon does not start.
    """
    link, log = folder / "iceccd", folder / "iceccd.log"
    if len(os.fsencode(link)) > MAX_SOCKET_PATH:
        raise UserError(
            f"{link}: this path is too long for the socket of icecc's daemon",
            "choose a shorter folder with out=DIR, or use distcc",
        )
    address, name = f"{scheduler[0]}:{scheduler[1]}", f"tcbuild-{os.getpid()}"
    argv: list[str | Path] = ["iceccd", "--no-remote", "-s", address, "-N", name, "-l", log, "-v"]
    argv += ["-b", folder / "compilers"]
    if os.geteuid() == 0:
        # As root, iceccd changes to user icecc, who may not read this folder.
        argv = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *argv]
    with spawn(argv, env={"ICECC_TEST_SOCKET": str(link)}) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while not _is_registered(scheduler, name):
                if process.poll() is not None or time.monotonic() > end:
                    output = log.read_text(errors="replace") if log.exists() else ""
                    hint = "launcher=ccache scheduler= on the command line compiles here"
                    raise UserError(f"icecc's daemon does not reach the scheduler at {address}", hint, output)
                time.sleep(0.1)
            yield link
        finally:
            end_group(process)


def _is_registered(scheduler: tuple[str, int], name: str) -> bool:
    try:
        return f" {name} (" in query_daemons(*scheduler)
    except OSError:
        return False  # busy: it answered a moment ago


def summary(log: Path) -> str:
    """Return the line with the number of files that each host compiled, from the clients' log."""
    jobs: Counter[str] = Counter()
    failed = 0
    if log.exists():
        with log.open(errors="replace") as stream:
            for line in stream:
                if found := SENT.search(line):
                    jobs[found[1]] += 1
                failed += HERE in line
    return "icecc: " + describe_jobs(jobs, failed)

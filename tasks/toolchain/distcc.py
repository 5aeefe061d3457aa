# SPDX-License-Identifier: MIT
"""A compile farm of distcc hosts (distcc(1), distccd(1)).

distcc preprocesses on this machine and sends the text to a host.  If that fails, it compiles on
this machine, and does not use the host for a while.  Only its verbose log names the host of a job.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.config.compiler import Host
from tasks.toolchain.farm import Farm, Object, compile_probe, difference
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.parallel import each

HERE = "localhost"
DONE = re.compile(r"^distcc\[\d+\] compile (?!\(null\))\S+ on (\S+?)(?::\d+)?(?:/\d+)? completed ok")
# Hosts failed, or the compiler on one did: it lacks the file that an .incbin names.
FAILED = re.compile(r"Warning: failed to distribute.*running locally instead")
KEPT_LINE = re.compile(r" completed ok$|\b(ERROR|Warning|CRITICAL)\b")


def environment(folder: Path) -> dict[str, str]:
    """Return distcc's settings; its locks are in `folder`, which must exist.

    distcc compiles on this machine until `farm` names the hosts.
    """
    return {
        "DISTCC_DIR": str(folder),
        "DISTCC_HOSTS": HERE,
        # Else it runs `x86_64-linux-gnu-gcc` instead of `gcc`.
        "DISTCC_NO_REWRITE_CROSS": "1",
        # Seconds for one file: the time until distcc notices that a host is gone.
        "DISTCC_IO_TIMEOUT": "120",
        # Seconds.  A file with .incbin fails on any host, and the default would exclude it for a minute.
        "DISTCC_BACKOFF_PERIOD": "10",
    }


@contextmanager
def farm(hosts: Sequence[Host], folder: Path, logs: Path) -> Iterator[Farm]:
    """Yield the farm of the usable ones of `hosts`.

    `folder` is for scratch files and must exist.  Afterwards distcc.log of the folder `logs`
    lists the jobs of each host, and the failures.
    """
    here = compile_probe(["gcc"], folder / "here", {})
    usable = []
    reasons = each(lambda host: unusable_reason(host, here, folder), hosts, len(hosts))
    for host, why in zip(hosts, reasons, strict=True):
        if why:
            logger.warning(f"farm: {host.address} is not used: {why}")
        else:
            usable.append(host)
    elsewhere = [host for host in usable if host.address != HERE]
    if not elsewhere:
        logger.warning("farm: there is no host to compile on, so all is compiled here")
    raw, kept = folder / "distcc.raw", logs / "distcc.log"
    env = {"DISTCC_HOSTS": hosts_line(usable), "DISTCC_LOG": str(raw), "DISTCC_VERBOSE": "1"}
    slots = sum(host.slots for host in usable) if elsewhere else 0
    try:
        yield Farm(env if elsewhere else {}, slots, lambda: summary(_read_lines(raw)))
    finally:
        kept.unlink(missing_ok=True)
        if raw.exists():
            write_atomic(kept, "".join(line for line in _read_lines(raw) if KEPT_LINE.search(line)))


def hosts_line(hosts: Iterable[Host]) -> str:
    """Return `$DISTCC_HOSTS`, with twice as many preprocessing jobs as this machine has processors."""
    processors = len(os.sched_getaffinity(0))
    words = [f"{HERE}/{host.slots}" if host.address == HERE else str(host) for host in hosts]
    return " ".join([f"--localslots={processors}", f"--localslots_cpp={2 * processors}", *words])


def unusable_reason(host: Host, here: Object, folder: Path) -> str:
    """Return why `host` is unusable, "" if it is usable; `here` is the probe compiled on this machine."""
    if host.address == HERE:
        return ""
    where = folder / f"{host.address}-{host.port}"
    state = (
        folder / f"state-{where.name}"
    )  # its own, as a failure of the probe must not exclude the host from the build
    state.mkdir()
    env = environment(state) | {"DISTCC_HOSTS": str(host), "DISTCC_FALLBACK": "0"}
    return difference(here, compile_probe(["distcc", "gcc"], where, env))


def summary(log: Iterable[str]) -> str:
    """Return the line with the number of files that each host compiled, from a verbose log."""
    jobs: Counter[str] = Counter()
    failed = 0
    for line in log:
        if found := DONE.search(line):
            jobs[found[1]] += 1
        elif FAILED.search(line):
            failed += 1
    return "distcc: " + describe_jobs(jobs, failed)


def describe_jobs(jobs: Mapping[str, int], failed: int) -> str:
    """Return in words how many jobs ran on each host, and how many of them failed there and ran here."""
    places = [
        f"{count} jobs {'here' if host == HERE else f'on {host}'}" for host, count in sorted(jobs.items())
    ]
    note = f" ({failed} of them came back from a host)" if failed else ""
    return (", ".join(places) or "no jobs") + note


def _read_lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open(errors="replace") as stream:
            yield from stream

"""A compile farm of distcc hosts (distcc(1), distccd(1)).

distcc preprocesses here and sends the text to a host; if that fails, it compiles here, and
leaves the host alone for a while.  Only its verbose log says which host did what.
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
# A host or all of them at fault, or the compiler there, which misses the file of an .incbin.
FAILED = re.compile(r"Warning: failed to distribute.*running locally instead")
WORTH_KEEPING = re.compile(r" completed ok$|\b(ERROR|Warning|CRITICAL)\b")


def environment(folder: Path) -> dict[str, str]:
    """Return distcc's settings; its locks lie in `folder`, which must exist.

    It compiles here until `farm` names the hosts.
    """
    return {
        "DISTCC_DIR": str(folder),
        "DISTCC_HOSTS": HERE,
        # Else it turns `gcc` into `x86_64-linux-gnu-gcc`, which is not what was asked for.
        "DISTCC_NO_REWRITE_CROSS": "1",
        # For one file.  A host that vanished without a word is noticed no earlier.
        "DISTCC_IO_TIMEOUT": "120",
        # A file with .incbin fails on any host, and must not cost one for a minute.
        "DISTCC_BACKOFF_PERIOD": "10",
    }


@contextmanager
def farm(hosts: Sequence[Host], folder: Path, logs: Path) -> Iterator[Farm]:
    """Yield the farm of `hosts`, those left out that cannot be used.

    `folder` is for scratch files and exists.  What each host did, and what went wrong, is
    in distcc.log of the folder `logs` afterwards.
    """
    here = compile_probe(["gcc"], folder / "here", {})
    usable = []
    troubles = each(lambda host: trouble(host, here, folder), hosts, len(hosts))
    for host, why in zip(hosts, troubles, strict=True):
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
        yield Farm(env if elsewhere else {}, slots, lambda: summary(_lines(raw)))
    finally:
        kept.unlink(missing_ok=True)
        if raw.exists():
            write_atomic(kept, "".join(line for line in _lines(raw) if WORTH_KEEPING.search(line)))


def hosts_line(hosts: Iterable[Host]) -> str:
    """Return `$DISTCC_HOSTS`; as many jobs are preprocessed at a time as keep the processors busy."""
    processors = len(os.sched_getaffinity(0))
    words = [f"{HERE}/{host.slots}" if host.address == HERE else str(host) for host in hosts]
    return " ".join([f"--localslots={processors}", f"--localslots_cpp={2 * processors}", *words])


def trouble(host: Host, here: Object, folder: Path) -> str:
    """Return why `host` cannot be used, "" if it can; `here` is the probe compiled on this machine."""
    if host.address == HERE:
        return ""
    where = folder / f"{host.address}-{host.port}"
    state = folder / f"state-{where.name}"  # of its own: a failure here is not to bar it from the build
    state.mkdir()
    env = environment(state) | {"DISTCC_HOSTS": str(host), "DISTCC_FALLBACK": "0"}
    return difference(here, compile_probe(["distcc", "gcc"], where, env))


def summary(log: Iterable[str]) -> str:
    """Return the line that says which host compiled how many files, from a verbose log."""
    jobs: Counter[str] = Counter()
    failed = 0
    for line in log:
        if found := DONE.search(line):
            jobs[found[1]] += 1
        elif FAILED.search(line):
            failed += 1
    return "distcc: " + told(jobs, failed)


def told(jobs: Mapping[str, int], failed: int) -> str:
    """Say how many jobs ran on which host, and how many came back to this machine."""
    places = [
        f"{count} jobs {'here' if host == HERE else f'on {host}'}" for host, count in sorted(jobs.items())
    ]
    note = f" ({failed} of them came back from a host)" if failed else ""
    return (", ".join(places) or "no jobs") + note


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open(errors="replace") as stream:
            yield from stream

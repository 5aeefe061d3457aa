# SPDX-License-Identifier: MIT
"""Run one command and write what it and all it started cost, as JSON.

Started as `python3 -I -S meter.py REPORT COMMAND...`, once for each measurement, so that the
kernel's own accounting of waited-for children (getrusage(2), RUSAGE_CHILDREN) covers one
command and nothing else.  Unlike a control group that needs no root, no mount, and works the
same on cgroup v1, v2 and in containers.  Processes whose parent ended first are adopted
(prctl(2), PR_SET_CHILD_SUBREAPER) and waited for too, else their CPU time would be lost.

Peak memory is ru_maxrss: the resident set of the largest single process of the tree, in bytes
here.  Pages that processes share are thus never counted twice, and what runs side by side is
not added up.  A child starts as a copy of this process: below some 10 MiB nothing is told.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ORPHANS_SECONDS = 10.0


def main(report: str, command: list[str]) -> None:
    """Run `command`, and write status, wall seconds, CPU seconds and peak bytes to `report`."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    # A child's death by Ctrl-C is told by its status; this process has a report to write.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = None
    while status is None:
        pid, code = os.wait()
        if pid == child:
            status = os.waitstatus_to_exitcode(code)
    wall = time.monotonic() - started
    left = wait_for_orphans()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "status": status,
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "left": left,
    }
    with open(report, "w", encoding="utf-8") as sink:
        json.dump(result, sink)


def wait_for_orphans() -> bool:
    """Wait for what the command left running; true if something still runs after that."""
    deadline = time.monotonic() + ORPHANS_SECONDS
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            time.sleep(0.02)
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

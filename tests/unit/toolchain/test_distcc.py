# SPDX-License-Identifier: MIT
"""distcc: its log and its hosts."""

from __future__ import annotations

from tasks.config.compiler import Compiler
from tasks.toolchain import distcc


def test_a_distcc_log_becomes_one_line() -> None:
    log = """\
distcc[11] compile a.c on 10.1.0.2:3632/4 completed ok
distcc[11] cpp a.c on localhost completed ok
distcc[12] compile b.c on 10.1.0.3:3632/4 completed ok
distcc[13] (dcc_build_somewhere) Warning: failed to distribute, running locally instead
distcc[13] compile c.c on localhost completed ok
distcc[14] Warning: failed to distribute d.c to 10.1.0.3:3632/4, running locally instead
distcc[14] compile d.c on localhost completed ok
distcc[15] compile e.c on 10.1.0.2:3632/4 completed ok
distcc[16] compile (null) on localhost completed ok
"""
    line = distcc.summary(log.splitlines(keepends=True))
    told = "2 jobs on 10.1.0.2, 1 jobs on 10.1.0.3, 2 jobs here (2 of them came back from a host)"
    assert line == f"distcc: {told}"
    assert distcc.summary([]) == "distcc: no jobs"


def test_this_machine_may_be_one_of_the_hosts() -> None:
    line = distcc.hosts_line(Compiler(hosts=("10.1.0.2:99/3", "localhost/2")).distcc_hosts)
    assert line.split()[2:] == ["10.1.0.2:99/3", "localhost/2"]

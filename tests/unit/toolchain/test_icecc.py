# SPDX-License-Identifier: MIT
"""icecc: what its scheduler says."""

from __future__ import annotations

from tasks.toolchain import icecc


def test_the_scheduler_lists_the_hosts_that_take_jobs() -> None:
    answer = """\
200-ICECC 1.4.0: 13s uptime, 3 hosts, 0 jobs in queue (0 total).
200 Use 'help' for help and 'quit' to quit.
 left (10.1.0.2:10245) [x86_64] speed=0.00 jobs=0/4 load=795
 right (10.1.0.3:10245) [x86_64] speed=1.20 jobs=1/8 load=12
 client (127.0.0.1:0) [x86_64] speed=0.00 jobs=0/2 load=795
200 done
"""
    assert icecc.parse_hosts(answer) == [
        icecc.Host("left", "10.1.0.2", 4),
        icecc.Host("right", "10.1.0.3", 8),
    ]

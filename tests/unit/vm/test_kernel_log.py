# SPDX-License-Identifier: MIT
"""Faults in kernels' logs.  The logs are those of real kernels, but for their middles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.vm import kernel_log
from tasks.vm.kernel_log import Rules

QUIET = """\
[    0.000000] Linux version 6.12.1 (a@b) (gcc 12.2.0) #1 SMP PREEMPT
[    0.051000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible
[    0.100000] random: crng init done
[    1.200000] EXT4-fs warning (device vda): ext4_multi_mount_protect: MMP interval
[    1.300000] tcbuild: the word DEBUG: is no fault
"""
WARNING = """\
[    2.000000] ------------[ cut here ]------------
[    2.000001] WARNING: CPU: 0 PID: 77 at kernel/softirq.c:369 __local_bh_enable_ip+0x6f/0x80
[    2.000002] Modules linked in: overlay
[    2.000003] Call Trace:
[    2.000004]  <TASK>
[    2.000005] ---[ end trace 0000000000000000 ]---
"""
OOPS = """\
[    3.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    3.000001] #PF: supervisor write access in kernel mode
[    3.000002] Oops: 0002 [#1] PREEMPT SMP NOPTI
[    3.000003] Call Trace:
[    3.000004] ---[ end trace 0000000000000000 ]---
"""
PANIC = """\
[    4.000000] Kernel panic - not syncing: sysrq triggered crash
[    4.000001] CPU: 0 UID: 0 PID: 99 Comm: sh Not tainted 6.12.1 #1
[    4.000002] Call Trace:
[    4.000003] Kernel Offset: disabled
[    4.000004] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""


def titles(log: str) -> list[str]:
    return [fault.title for fault in kernel_log.faults(log)]


def test_a_log_without_faults_passes() -> None:
    assert titles(QUIET) == []
    assert kernel_log.result(QUIET).outcome == "passed"
    assert kernel_log.result("").outcome == "passed"


def test_each_fault_is_one_whatever_its_lines_say() -> None:
    assert titles(WARNING + QUIET + OOPS + OOPS + PANIC) == [
        "WARNING: CPU: 0 PID: 77 at kernel/softirq.c:369 __local_bh_enable_ip+0x6f/0x80",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "Kernel panic - not syncing: sysrq triggered crash",
    ]
    (fault,) = kernel_log.faults(QUIET + OOPS + QUIET)
    assert "\n".join(fault.lines) + "\n" == OOPS


@pytest.mark.parametrize(
    "line",
    [
        "BUG: soft lockup - CPU#0 stuck for 26s! [sh:77]",
        "kernel BUG at fs/ext4/inode.c:2700!",
        "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        "INFO: task mount:77 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
        "WARNING: possible circular locking dependency detected",
        "Call Trace:",
    ],
)
def test_every_kind_of_fault_is_known(line: str) -> None:
    assert titles(f"{QUIET}[   12.345678] {line}\n{QUIET}") == [line]
    assert titles(f"[   12.345678][   T77] {line}\r\n") == [line]


def test_a_warning_of_one_line_hides_no_later_fault() -> None:
    """It has no end: the next one with a mark of its own begins anew, and so does one far behind."""
    one = "[    1.000000] WARNING: the clock is odd\n"
    assert len(titles(one + WARNING)) == 2
    assert len(titles(one + QUIET * 20 + OOPS)) == 2


def test_faults_are_failures_of_their_own_or_are_allowed() -> None:
    result = kernel_log.result(WARNING + OOPS)
    assert (result.outcome, [part.outcome for part in result.results]) == ("failed", ["failed", "failed"])
    assert "  | [    3.000002] Oops: 0002" in result.results[1].detail
    result = kernel_log.result(WARNING + OOPS, allowed=True)
    assert (result.outcome, [part.outcome for part in result.results]) == ("passed", ["skipped", "skipped"])
    assert {part.message for part in result.results} == {"allowed by --allow-warnings"}


def test_a_rule_that_is_no_regular_expression_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("end = 'x'\nlines = 1\n[[fault]]\npattern = '('\n")
    with pytest.raises(UserError, match=r"rules.toml: no regular expression: missing \), .*: '\('"):
        toml_schema.load(tmp_path / "rules.toml", Rules)

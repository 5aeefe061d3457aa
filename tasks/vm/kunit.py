# SPDX-License-Identifier: MIT
"""Run the kernel's unit tests, KUnit, in a guest: `./doit kunit`.

They are in the kernel itself (tasks/kernel/kunit.py) and run while it boots, before there is a root.  Their
KTAP is read from the console.  The kernel powers off after the last one.  Source of the
parameters: lib/kunit/executor.c in the kernel's tree.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import ktap
from tasks.kernel import kunit
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.vm import boots, checks, kernel_log, kselftest, ktap_results, qemu, results
from tasks.vm.boots import Reports
from tasks.vm.guest import Ended, Guest, GuestError, TimedOut
from tasks.vm.machine import Machine
from tasks.vm.results import FOLDER, Record, Result, whole

NAME = "kunit"
ENDS = "the kernel powers off after the tests"
THERE = "there are tests"
# ignore_loglevel: results are printed at the level of information, which `quiet` would hide.
APPEND = "console=ttyS0,115200 ignore_loglevel panic=-1 kunit.enable=1 kunit_shutdown=poweroff"
CHECK_SECONDS = 0.2
# A kernel without ACPI says so, too, and goes on to look for a root.
OFF = re.compile(r"^(\[ *\d+\.\d+\] )?reboot: Power down$", re.MULTILINE)


def asked(
    paths: Paths,
    profile: Profile,
    suites: Sequence[str],
    junit: str = "",
    tap: str = "",
    memory: int = 1024,
    timeout: int = 600,
) -> None:
    """Do what the options of `./doit kunit` ask for.

    suites: patterns of names, as in kunit.filter_glob; each has a boot.  memory: MiB.  timeout: seconds for
    each boot.  Raises `UserError` for a bad pattern, and for tests that failed.
    """
    for word in suites:
        check_pattern(word)
    if timeout < 1:
        raise UserError(f"--timeout {timeout}: expected at least 1 second")
    own = kunit.paths_of(paths)
    accel = qemu.accelerator(own, profile, initrd=None)
    results.clear(paths.output, NAME)
    started, clock, parts = time.time(), time.monotonic(), []
    for number, suite in enumerate(suites or [""]):
        append = f"{APPEND} kunit.filter_glob={suite}" if suite else APPEND
        changes = {"initrd": None, "append": append, "memory": memory}
        machine = qemu.machine(own, profile, "direct", accel, **changes)
        log = paths.output / FOLDER / NAME / (f"console{number or ''}.log")
        made = run(machine, log, timeout)
        parts += [whole(suite, made, sum(part.seconds for part in made))] if suite else made
    result = whole(NAME, parts, time.monotonic() - clock)
    logger.info(kselftest.summary(paths, result))
    record = Record(started, time.monotonic() - clock, (result,), NAME)
    boots.conclude(paths, record, Reports.of(junit, tap))


def check_pattern(word: str) -> None:
    """Raise `UserError` for what can be no pattern: it would be another parameter of the kernel."""
    if not word or not word.isascii() or not word.isprintable() or set(word) & set(" \"'"):
        raise UserError(f"kunit: {word!r} is no name of a suite", "./doit kunit 'list*'")


def run(machine: Machine, log: Path, seconds: float) -> list[Result]:
    """Boot a kernel with tests; return the results of its suites, and that of its end.

    log: the file for the console's output.
    """
    started = time.monotonic()
    console = ""
    try:
        with Guest(machine, log, limit=seconds) as guest:
            try:
                _wait(guest, seconds)
                ended = Result(ENDS, "passed", time.monotonic() - started)
            except GuestError as error:
                ended = boots.failure(ENDS, started, error, checks.detail({"console": guest.tail}))
            console = guest.console
    except UserError as error:  # no QEMU
        return [boots.failure(ENDS, started, error, error.detail or error.hint)]
    return [*read(console), ended]


def _wait(guest: Guest, seconds: float) -> None:
    """Wait until the guest has powered off.  Raises `Panicked`, or `TimedOut`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if OFF.search(guest.console):
            return
        try:
            guest.check()
        except Ended:
            return
        time.sleep(CHECK_SECONDS)
    raise TimedOut(f"the tests did not end within {seconds:.0f} s")


def read(console: str) -> list[Result]:
    """Return the results in the text of a console; one that has failed if there are none."""
    lines = (kernel_log.STAMP.sub("", line) for line in console.splitlines())
    # What the kernel says before the tests is none of them, whatever it looks like.
    output = ktap.parse(itertools.dropwhile(lambda line: not ktap.VERSION.fullmatch(line), lines))
    made = ktap_results.of_output(output)
    if not made:
        message = "the kernel printed no result: no suite has such a name, or none is in the kernel"
        detail = checks.detail({"console": console})
        return [Result(THERE, "failed", message=message, detail=detail)]
    return made

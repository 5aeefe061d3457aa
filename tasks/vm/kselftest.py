# SPDX-License-Identifier: MIT
"""Run the kernel's self tests in a guest that boots the profile's kernel and core: `./doit kselftest`.

The guest's agent takes the tests' programs (tasks/kernel/selftests.py) and runs each for itself, as root.
The exit status of a program counts, and the KTAP that it prints.  Source of the statuses: kselftest.h in the
kernel's tools/testing/selftests.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from tasks.config.settings import Paths, Settings
from tasks.formats import ktap
from tasks.kernel import selftests
from tasks.kernel.selftests import Target
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.text import printable
from tasks.vm import boots, bundle, checks, ktap_results, qemu, results
from tasks.vm.boots import Boot, Reports, Step
from tasks.vm.guest import GuestError, TimedOut
from tasks.vm.guest_kernel import GuestKernel, hint_for
from tasks.vm.results import FOLDER, Record, Result, whole
from tasks.vm.run import Asker

NAME = "kselftest"
AGENT = {"VIRTIO_CONSOLE": "virtio_console"}
IN_GUEST = "/usr/lib/kselftest"
BROUGHT = "the tests are in the guest"
BRINGING_SECONDS = 600.0  # an emulated guest on a busy machine takes megabytes slowly
UNLIMITED = 3600  # seconds for a test that asks for no limit
KEPT = 4 << 20  # bytes of a test's output
SKIPPED = 4
EXPECTED_FAILURE = 2
# checks.LIMITED stands before it.
PROGRAM = "cd {folder} && exec $with ./{name} 2>&1\n"


@dataclass
class Kept:
    """The output of a test, as far as it is kept.  lost: whether there was more."""

    data: bytearray = field(default_factory=bytearray)
    lost: bool = False

    def write(self, block: bytes) -> None:
        """Take more of it."""
        self.lost |= len(self.data) + len(block) > KEPT
        self.data += block[: max(0, KEPT - len(self.data))]


@dataclass
class Selection:
    """The tests of targets, and what they printed in a guest."""

    targets: Sequence[Target]
    timeout: int = 0
    said: list[str] = field(default_factory=list)

    def limit(self, target: Target) -> int:
        """Return the seconds that a test of a target gets."""
        return self.timeout or target.timeout or UNLIMITED

    def steps(self) -> tuple[Step, ...]:
        """Return a step for each test that was built, and one before them that brings them."""
        made = [
            Step(
                step_name(target, test), self.limit(target) + checks.GRACE, partial(self._make, target, test)
            )
            for target in self.targets
            for test in target.tests
            if test not in target.missing
        ]
        return (Step(BROUGHT, BRINGING_SECONDS, self._bring), *made)

    def _bring(self, asker: Asker) -> Result:
        started = time.monotonic()
        if asker.agent is None:
            raise GuestError("the guest's agent does not answer, which alone can take the tests")
        errors = io.BytesIO()
        with tempfile.TemporaryFile() as stream:
            size = pack(stream, self.targets)
            stream.seek(0)
            program = bundle.unpack(IN_GUEST).encode()
            status = asker.agent.run(program, "root", errors.write, errors.write, stream, BRINGING_SECONDS)
        if status:
            said = errors.getvalue().decode("utf-8", "replace")
            raise GuestError(f"the guest has no room for the tests: {printable(said.strip())}")
        took = time.monotonic() - started
        logger.info(f"{NAME}: {size:,} bytes are in the guest after {took:.1f} s")
        return Result(BROUGHT, "passed", took)

    def _make(self, target: Target, test: str, asker: Asker) -> Result:
        """Run one test.  Raises `GuestError` if the guest is lost."""
        limit, started, output = self.limit(target), time.monotonic(), Kept()
        program = program_of(target.name, test, limit)
        assert asker.agent is not None
        try:
            status = asker.agent.run(program, "root", output.write, output.write, None, limit + checks.GRACE)
        except TimedOut as error:
            message = f"did not end within {limit} s, nor by SIGKILL"
            raise TimedOut(message, error.hint, error.detail) from None
        finally:
            said = output.data.decode("utf-8", "replace")
            self.said.append(f"### {target.name}: {test}\n{said}\n")
        took = time.monotonic() - started
        name = step_name(target, test)
        if output.lost:
            return Result(name, "failed", took, f"it printed more than {KEPT:,} bytes, and its KTAP is cut")
        made = verdict(name, status, said, took, limit)
        logger.info(f"{NAME}: {name}: {told(made)}, {took:.1f} s")
        return made

    def grouped(self, boot: Result) -> Result:
        """Return a boot's result with the tests of each target below it, and those that were not built."""
        by_name = {part.name: part for part in boot.results}
        parts = [part for part in boot.results if part.name in (boots.COMES_UP, BROUGHT)]
        used = {part.name for part in parts}
        for target in self.targets:
            made = []
            for test in target.tests:
                name = step_name(target, test)
                used.add(name)
                if test in target.missing:
                    why = printable(target.missing[test])
                    made.append(Result(test, "failed", message=f"was not built: {why}"))
                elif name in by_name:
                    made.append(replace(by_name[name], name=test))
            if not target.tests:
                made.append(Result("its tests", "failed", message="the target has no tests"))
            parts.append(whole(target.name, made, sum(part.seconds for part in made)))
        parts += [part for part in boot.results if part.name not in used]
        return whole(boot.name, parts, boot.seconds)


def step_name(target: Target, test: str) -> str:
    """Return the name of a test among all."""
    return f"{target.name}: {test}"


def program_of(target: str, test: str, limit: int) -> bytes:
    """Return the file that the guest runs for a test; limit: seconds."""
    limited = checks.LIMITED.replace("SECONDS", str(limit))
    return f"{limited}{PROGRAM.format(folder=f'{IN_GUEST}/{target}', name=test)}".encode()


def verdict(name: str, status: int, output: str, seconds: float, limit: int) -> Result:
    """Return the result of a test by its exit status and the KTAP in its output.

    seconds: how long it took.  limit: how long it may take.
    """
    read = ktap.parse(output.splitlines())
    parts = ktap_results.of_output(read)
    wrong, skipped = "", ""
    if status in checks.KILLED and seconds >= limit:
        wrong = f"did not end within {limit} s"
    elif status == SKIPPED:
        skipped = read.skipped or last_line(output) or "it exited with status 4"
    elif status not in (0, EXPECTED_FAILURE) and not _explained(status, parts):
        wrong = f"exited with status {status}: {last_line(output)}"
    if any(part.outcome == "failed" for part in parts):
        skipped = ""
    detail = checks.detail({"output": output}) if wrong else ""
    if parts and not skipped:
        if wrong:
            parts.append(Result(ktap_results.OWN, "failed", message=wrong, detail=detail))
        return whole(name, parts, seconds)
    if wrong:
        return Result(name, "failed", seconds, wrong, detail)
    if skipped or (status == EXPECTED_FAILURE):
        return Result(name, "skipped", seconds, skipped or "it was expected to fail")
    return Result(name, "passed", seconds)


def _explained(status: int, parts: Iterable[Result]) -> bool:
    """Return whether status 1 is what the tests have said already: that one of them has failed."""
    return status == 1 and any(part.outcome == "failed" for part in parts)


def last_line(output: str) -> str:
    """Return the last line of an output that is no blank, without the `#` of KTAP."""
    lines = [line.strip() for line in output.splitlines() if line.strip("# \t\r")]
    said = lines[-1].lstrip("# ") if lines else ""
    return printable(said)[: checks.LINE]


def told(made: Result) -> str:
    """Return the outcome of a test in words, with the number of its subtests."""
    parts = [leaf for _, leaf in made.leaves() if made.results]
    if not parts:
        return f"{made.outcome}: {made.message}" if made.message else made.outcome
    counts = {one: sum(part.outcome == one for part in parts) for one in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {one}" for one, count in counts.items() if count)


def pack(stream: IO[bytes], targets: Iterable[Target]) -> int:
    """Write the bundle with the tests of targets.  Returns its size in bytes."""
    files = {name: path for target in targets for name, path in target.files.items()}
    tests = {f"{target.name}/{test}" for target in targets for test in target.tests}
    with bundle.writer(stream) as tar:
        for name, path in sorted(files.items()):
            runs = name in tests or path.stat().st_mode & 0o100
            bundle.add(tar, name, 0o755 if runs else 0o644, path.read_bytes())
    return stream.tell()


def asked(
    settings: Settings,
    targets: Sequence[str],
    junit: str = "",
    tap: str = "",
    allow_warnings: bool = False,
    memory: int = 1024,
    timeout: int = 0,
) -> None:
    """Do what the options of `./doit kselftest` ask for.

    memory: MiB.  timeout: seconds for each test, 0 for its own limit.  Raises `UserError` as
    `selftests.build` does, for a kernel that cannot take the tests, and for tests that failed.
    """
    paths, profile = settings.paths, settings.profile
    if timeout < 0:
        raise UserError(f"--timeout {timeout}: expected a number of seconds")
    if lacks := GuestKernel.of(paths, profile).lacking(AGENT):
        raise UserError(f"kselftest: {lacks}", hint_for(profile, AGENT))
    built = selftests.build(settings, targets)
    accel = qemu.accelerator(paths, profile)
    results.clear(paths.output, NAME)
    started, clock = time.time(), time.monotonic()
    tests, folder = Selection(built, timeout), paths.output / FOLDER / NAME
    boot = Boot(NAME, folder, tests.steps(), allow_warnings)
    machine = partial(qemu.machine, paths, profile, "direct", accel, memory=memory, agent=True)
    made = tests.grouped(boot.test(machine))
    _keep(folder, tests)
    logger.info(summary(paths, made))
    record = Record(started, time.monotonic() - clock, (made,), NAME)
    boots.conclude(paths, record, Reports.of(junit, tap))


def _keep(folder: Path, tests: Selection) -> None:
    """Write what the tests printed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "output.txt", "".join(tests.said))


def summary(paths: Paths, made: Result) -> str:
    """Return what came of all tests in one line."""
    return f"{made.name} of profile {paths.name}: {told(made)} in {made.seconds:.0f} s"

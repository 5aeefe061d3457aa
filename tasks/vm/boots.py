# SPDX-License-Identifier: MIT
"""Boots of the built image in which checks are made: `./doit qemu:test`.

Every boot and every check is made, whatever failed before it, so that one run tells all faults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.config.checks import PlacedCheck
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT, caller_folder
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, write_atomic
from tasks.util.log import logger
from tasks.vm import checks, junit, kernel_log, qemu, run, tap
from tasks.vm.agent import Agent
from tasks.vm.checks import Built
from tasks.vm.guest import Ended, Guest, GuestError
from tasks.vm.machine import Accelerator, Firmware, Machine
from tasks.vm.results import COMMAND, FOLDER, Record, Result, clear, leaves, save, whole
from tasks.vm.run import Asker

MEDIA = Path(__file__).with_name("media.toml")
COMES_UP = "the system comes up"
POWERS_OFF = "the system powers off"
LOG_SECONDS = OFF_SECONDS = 60.0
DMESG = b"#!/bin/sh\nexec dmesg\n"


@dataclass(frozen=True)
class Medium:
    """What the image is on (tasks/vm/media.py).

    on: the firmwares that boot from it.
    kconfig: the symbols, built in or as modules, without which a kernel cannot read it.
    asked: only if it is named by `--media`.
    """

    name: str
    on: tuple[Firmware, ...]
    kconfig: tuple[str, ...] = ()
    asked: bool = False

    def lacking(self, config: Mapping[str, str]) -> list[str]:
        """Return the symbols that a kernel with this config lacks."""
        return [symbol for symbol in self.kconfig if config.get(symbol, "n") == "n"]


@dataclass(frozen=True)
class Media:
    """The content of tasks/vm/media.toml."""

    medium: tuple[Medium, ...]


@dataclass(frozen=True)
class Reports:
    """Where the results go besides their record, and whether faults in the kernel's log are failures."""

    junit: Path | None = None
    tap: Path | None = None
    allow_warnings: bool = False

    @classmethod
    def of(cls, junit: str = "", tap: str = "", allow_warnings: bool = False) -> Reports:
        """Return what the options of a command ask for; junit, tap: names of files, "" for none."""
        here = caller_folder()
        return cls(here / junit if junit else None, here / tap if tap else None, allow_warnings)

    def write(self, record: Record, name: str) -> None:
        """Write the files that are asked for; name: of the profile."""
        if self.junit:
            write_atomic(self.junit, junit.text(record, name))
        if self.tap:
            write_atomic(self.tap, tap.text(record))


NO_REPORTS = Reports()


def asked(paths: Paths, profile: Profile, media: Sequence[str] = (), **options: Any) -> None:
    """Do what the options of `./doit qemu:test` ask for; options: those of `Reports.of`."""
    test(paths, profile, media=media, reports=Reports.of(**options))


def test(
    paths: Paths,
    profile: Profile,
    firmwares: tuple[Firmware, ...] = qemu.FIRMWARES,
    media: Sequence[str] = (),
    reports: Reports = NO_REPORTS,
) -> None:
    """Boot by each firmware from each medium, make the checks that fit, power off, and write the results.

    media: names of media in media.toml, and `direct` for the boot without one; all if empty.
    Raises `UserError` for an unknown medium, and for tests that failed: `detail` says why, with the
    end of the console.
    """
    built = Built.of(paths, profile)
    known = toml_schema.load(MEDIA, Media).medium
    boots = chosen_boots(known, firmwares, media, built.config)
    accel = qemu.accelerator(paths, profile)
    clear(paths.output, COMMAND)
    started, clock, results = time.time(), time.monotonic(), []
    with scratch_folder(paths.output, "media") as folder:
        for firmware, medium in boots:
            name = "-".join(filter(None, (firmware, medium)))
            made = steps(built, built.fitting(firmware, medium), firmware)
            boot = Boot(name, paths.output / FOLDER / name, made, reports.allow_warnings)
            image = (paths, profile, firmware, medium, folder, accel)
            results.append(boot.test(partial(qemu.machine_of_medium, *image, agent=True)))
            logger.info(summary(results[-1], accel))
    conclude(paths, Record(started, time.monotonic() - clock, tuple(results)), reports)


def conclude(paths: Paths, record: Record, reports: Reports) -> None:
    """Write the results of a run, and raise `UserError` as `refuse_failures` does."""
    save(paths.output, record)
    reports.write(record, paths.name)
    refuse_failures(record.results)


def chosen_boots(
    known: Sequence[Medium],
    firmwares: Sequence[Firmware],
    names: Sequence[str],
    config: Mapping[str, str],
) -> list[tuple[Firmware, str]]:
    """Return (firmware, name of the medium) of each boot; the medium of `direct` is "".

    A medium that the kernel cannot read is left out, with a line.  Raises `UserError` if it is named,
    and for an unknown name.
    """
    possible = [*(medium.name for medium in known), "direct"]
    for name in names:
        if name not in possible:
            raise UserError(f"--media {name}: unknown", f"one of: {', '.join(possible)}")
    wanted = [medium for medium in known if (medium.name in names if names else not medium.asked)]
    boots: list[tuple[Firmware, str]] = []
    for medium in wanted:
        if lacks := medium.lacking(config):
            text = f"{medium.name}: this kernel has no {', '.join(lacks)}"
            if names:
                raise UserError(text, "add the fragment qemu to the profile")
            logger.info(f"{text}; not booted")
            continue
        boots += [(firmware, medium.name) for firmware in firmwares if firmware in medium.on]
    if "direct" in firmwares and (not names or "direct" in names):
        boots.append(("direct", ""))
    return boots


def _alone(guest: Guest) -> AbstractContextManager[Guest]:
    return guest


@dataclass(frozen=True)
class Step:
    """A test that is made in a guest which is up.

    seconds: its limit, within which `make` ends or raises `GuestError`.
    """

    name: str
    seconds: float
    make: Callable[[Asker], Result]


def steps(built: Built, fitting: Iterable[PlacedCheck], firmware: Firmware) -> tuple[Step, ...]:
    """Return a step for each check of a boot."""
    return tuple(
        Step(placed.check.name, placed.check.timeout + checks.GRACE, partial(_check, built, placed, firmware))
        for placed in fitting
    )


def _check(built: Built, placed: PlacedCheck, firmware: Firmware, asker: Asker) -> Result:
    return checks.make(asker, placed.check, built.program(placed, firmware))


@dataclass(frozen=True)
class Boot:
    """One boot, and what is tested in it.

    files: the folder of its files.  started: starts a guest, and ends it.
    """

    name: str
    files: Path
    steps: tuple[Step, ...]
    allow_warnings: bool = False
    started: Callable[[Guest], AbstractContextManager[Guest]] = _alone

    def test(self, machine: Callable[[], Machine]) -> Result:
        """Boot the machine that is made, make the tests, and power off.

        Returns a result with one for each of these, and for each fault in the kernel's log.
        """
        started = time.monotonic()
        limit = qemu.BOOT_SECONDS + sum(step.seconds for step in self.steps) + LOG_SECONDS + OFF_SECONDS
        parts: list[Result] = []
        try:
            one = Guest(machine(), self.files / "console.log", limit=limit)
            with self.started(one) as guest, Agent(guest) as agent:
                self.ask(guest, agent, parts)
        except UserError as error:  # no QEMU, no medium, or QEMU failed
            parts.append(failure(COMES_UP, started, error, error.detail or error.hint))
        there = {part.name for part in parts}
        parts += [
            Result(step.name, "skipped", message="not made: the guest is lost")
            for step in self.steps
            if step.name not in there
        ]
        return whole(self.name, parts, time.monotonic() - started)

    def ask(self, guest: Guest, agent: Agent, parts: list[Result]) -> None:
        """Add the results of a guest that boots to `parts`, up to where it is lost."""
        with _part(guest, parts, COMES_UP) as up:
            asker = run.wait(guest, agent, qemu.BOOT_SECONDS)
        if up.whole:
            for step in self.steps:
                with _part(guest, parts, step.name) as made:
                    made.result = step.make(asker)
                if not made.whole:
                    break
            else:
                return self._end(asker, parts)
        parts.append(self._log(guest.console))
        return None

    def _end(self, asker: Asker, parts: list[Result]) -> None:
        """Keep and look at the kernel's log, and power off."""
        with _part(asker.guest, parts, kernel_log.NAME) as looked:
            _, log, _ = asker.ask(DMESG, "root", LOG_SECONDS)
            text = log.decode("utf-8", "replace")
            write_atomic(self.files / "dmesg.txt", text)
            looked.result = self._log(text)
        with _part(asker.guest, parts, POWERS_OFF):
            power_off(asker)

    def _log(self, log: str) -> Result:
        return kernel_log.result(log, allowed=self.allow_warnings)


@dataclass
class Part:
    """What becomes of a part of a boot.

    whole: whether the guest is still there; result: the one to add, if more is known than that.
    """

    whole: bool = True
    result: Result | None = None


@contextmanager
def _part(guest: Guest, parts: list[Result], name: str) -> Iterator[Part]:
    """Add the result of what is done meanwhile to `parts`; a `GuestError` is a failure, and stops here."""
    started, part = time.monotonic(), Part()
    try:
        yield part
    except GuestError as error:
        part.whole = False
        parts.append(failure(name, started, error, checks.detail({"console": guest.tail})))
    else:
        parts.append(part.result or Result(name, "passed", time.monotonic() - started))


def failure(name: str, started: float, error: UserError, detail: str) -> Result:
    """Return the result of what an error has ended; a report names no folder of this machine."""
    message, shown = (text.replace(f"{CHECKOUT.root}/", "") for text in (error.message, detail))
    return Result(name, "failed", time.monotonic() - started, message, shown)


def power_off(asker: Asker) -> None:
    """Shut the guest down.  Raises `GuestError` if it does not go."""
    if asker.agent is None:
        asker.guest.power_off(OFF_SECONDS)
        return
    with suppress(Ended):
        asker.ask(b"#!/bin/sh\nexec poweroff\n", "root", OFF_SECONDS)
    asker.guest.wait_for_end(OFF_SECONDS)


def summary(boot: Result, accel: Accelerator) -> str:
    """Return what is said of a boot in one line."""
    others = (COMES_UP, POWERS_OFF, kernel_log.NAME)
    made = [part for part in boot.results if part.name not in others]
    passed = sum(part.outcome == "passed" for part in made)
    count = f"{passed} checks passed" if passed == len(made) else f"{passed} of {len(made)} checks passed"
    up = next(part for part in boot.results if part.name == COMES_UP)
    came = "up" if up.outcome == "passed" else "not up"
    return f"{boot.name}: {count}, {came} after {up.seconds:.1f} s, off after {boot.seconds:.1f} s ({accel})"


def refuse_failures(results: Sequence[Result]) -> None:
    """Raise `UserError` if a test of a boot has failed, with what is known of each such test."""
    every = leaves(results)
    failed = [(names, result) for names, result in every if result.outcome == "failed"]
    if not failed:
        return
    told = [f"{': '.join((*names, result.name))}: {result.message}" for names, result in failed]
    texts = [f"{line}\n{result.detail}".rstrip() for line, (_, result) in zip(told, failed, strict=True)]
    raise UserError(f"{len(failed)} of {len(every)} tests failed", detail="\n".join(texts))

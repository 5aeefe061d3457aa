# SPDX-License-Identifier: MIT
"""Boots of the built image in which checks are made: `./doit qemu:test`.

Every boot and every check is made, whatever failed before it, so that one run tells all faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.vm import checks, qemu, run
from tasks.vm.agent import Agent
from tasks.vm.checks import Asker, Built
from tasks.vm.guest import Ended, Guest, GuestError
from tasks.vm.machine import Accelerator, Firmware, Machine
from tasks.vm.results import Result, leaves, whole

MEDIA = Path(__file__).with_name("media.toml")
COMES_UP = "the system comes up"
POWERS_OFF = "the system powers off"
OFF_SECONDS = 60.0


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


@dataclass(frozen=True)
class Media:
    """The content of tasks/vm/media.toml."""

    medium: tuple[Medium, ...]


def test(
    paths: Paths,
    profile: Profile,
    firmwares: tuple[Firmware, ...] = qemu.FIRMWARES,
    media: Sequence[str] = (),
) -> None:
    """Boot by each firmware from each medium, make the checks that fit, and power off.

    media: names of media in media.toml, and `direct` for the boot without one; all if empty.
    Raises `UserError` for an unknown medium, and for checks that failed: `detail` says why, with the
    end of the console.
    """
    built = Built.of(paths, profile)
    known = toml_schema.load(MEDIA, Media).medium
    boots = chosen_boots(known, firmwares, media, built.config)
    accel = qemu.accelerator(paths, profile)
    results = []
    with scratch_folder(paths.output, "media") as folder:
        for firmware, medium in boots:
            machine = qemu.machine_of_medium(paths, profile, firmware, medium, folder, accel, agent=True)
            boot = Boot(firmware, medium, machine, paths.logs, built)
            results.append(boot.test())
            logger.info(summary(results[-1], accel))
    refuse_failures(results)


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
        lacks = [symbol for symbol in medium.kconfig if config.get(symbol, "n") == "n"]
        if lacks:
            text = f"{medium.name}: this kernel has no {', '.join(lacks)}"
            if names:
                raise UserError(text, "add the fragment qemu to the profile")
            logger.info(f"{text}; not booted")
            continue
        boots += [(firmware, medium.name) for firmware in firmwares if firmware in medium.on]
    if "direct" in firmwares and (not names or "direct" in names):
        boots.append(("direct", ""))
    return boots


@dataclass(frozen=True)
class Boot:
    """One boot of the image; logs: the folder of the console's log."""

    firmware: Firmware
    medium: str
    machine: Machine
    logs: Path
    built: Built

    @property
    def name(self) -> str:
        """The firmware and the medium."""
        return "-".join(filter(None, (self.firmware, self.medium)))

    def test(self) -> Result:
        """Boot, make the checks, and power off.  Returns a result with one for each of these."""
        started = time.monotonic()
        fitting = self.built.fitting(self.firmware, self.medium)
        limit = qemu.BOOT_SECONDS + sum(one.check.timeout + checks.GRACE for one in fitting) + OFF_SECONDS
        log = self.logs / f"qemu-{self.name}.log"
        parts: list[Result] = []
        with Guest(self.machine, log, limit=limit) as guest, Agent(guest) as agent:
            with _part(parts, COMES_UP):
                answers = run.wait(guest, agent, qemu.BOOT_SECONDS)
            lost = parts[-1].message
            asker = None if lost else Asker(guest, agent if answers else None)
            for placed in fitting:
                name = placed.check.name
                if asker is None:
                    parts.append(Result(name, "skipped", message=f"not made: {lost}"))
                    continue
                try:
                    parts.append(checks.make(asker, placed.check, self.built.program(placed, self.firmware)))
                except GuestError as error:
                    parts.append(Result(name, "failed", message=error.message, detail=error.detail))
                    asker, lost = None, f"the check {name!r} took the guest away"
            if asker:
                with _part(parts, POWERS_OFF):
                    power_off(asker)
        return whole(self.name, parts, time.monotonic() - started)


@contextmanager
def _part(parts: list[Result], name: str) -> Iterator[None]:
    """Add the result of what is done meanwhile to `parts`; a `GuestError` is a failure."""
    started = time.monotonic()
    try:
        yield
    except GuestError as error:
        took = time.monotonic() - started
        parts.append(Result(name, "failed", took, error.message, error.detail))
    else:
        parts.append(Result(name, "passed", time.monotonic() - started))


def power_off(asker: Asker) -> None:
    """Shut the guest down.  Raises `GuestError` if it does not go."""
    if asker.agent is None:
        asker.guest.power_off(OFF_SECONDS)
        return
    with suppress(Ended):
        asker.run(b"#!/bin/sh\nexec poweroff\n", "root", OFF_SECONDS)
    asker.guest.wait_for_end(OFF_SECONDS)


def summary(boot: Result, accel: Accelerator) -> str:
    """Return what is said of a boot in one line."""
    made = [part for part in boot.results if part.name not in (COMES_UP, POWERS_OFF)]
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

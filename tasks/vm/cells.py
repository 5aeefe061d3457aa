# SPDX-License-Identifier: MIT
"""Boot the cells of matrices side by side, and make the checks in each: `./doit qemu:matrix`."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tasks.config.settings import Settings
from tasks.util import jobserver, toml_schema
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, scratch_folder
from tasks.util.log import logger
from tasks.vm import boots, devices, media, qemu
from tasks.vm.boots import MEDIA, Boot, Media, Reports
from tasks.vm.checks import Built
from tasks.vm.guest import Ended, Guest
from tasks.vm.guest_kernel import GuestKernel
from tasks.vm.machine import Accelerator, Machine, require_uefi
from tasks.vm.matrix import Cell
from tasks.vm.results import Outcome, Record, Result

NAME = "matrix"
"""Of the results, and of the folder for the files of the boots, in each profile's output folder."""
Started = Callable[[Guest], AbstractContextManager[Guest]]
WORDS: dict[Outcome, str] = {"passed": "passed", "failed": "FAILED", "skipped": "no driver"}


@dataclass
class Guests:
    """The guests of several threads, which `end` ends together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    live: list[Guest] = field(default_factory=list)
    ended: bool = False

    @contextmanager
    def started(self, guest: Guest) -> Iterator[Guest]:
        """Start a guest, and end it at last.  Raises `Ended` if all have been ended."""
        with ExitStack() as stack:
            with self.lock:  # none may start while all are ended
                if self.ended:
                    raise Ended("the run was ended")
                stack.enter_context(guest)
                self.live.append(guest)
            try:
                yield guest
            finally:
                with self.lock:
                    self.live.remove(guest)

    def end(self) -> None:
        """Kill all guests; each thread notices that its own has ended."""
        with self.lock:
            self.ended = True
            for guest in self.live:
                guest.cut_power()


@dataclass(frozen=True)
class Image:
    """A profile's image that cells boot; folder: for media that are made for the run."""

    settings: Settings
    built: Built
    kernel: GuestKernel
    accel: Accelerator
    folder: Path

    @classmethod
    def of(cls, settings: Settings, folder: Path) -> Image:
        """Return that of a profile which is built."""
        paths, profile = settings.paths, settings.profile
        accel = qemu.accelerator(paths, profile)
        return cls(settings, Built.of(paths, profile), GuestKernel.of(paths, profile), accel, folder)

    def lacking(self, cell: Cell) -> str:
        """Return what the kernel lacks for the medium and the devices of a cell; "" for nothing."""
        known = toml_schema.load(MEDIA, Media).medium
        symbols = [
            lacks
            for medium in known
            if medium.name == cell.media
            for lacks in medium.lacking(self.built.config)
        ]
        if symbols:
            return f"{cell.media}: the kernel has no {', '.join(f'CONFIG_{symbol}' for symbol in symbols)}"
        for device in devices.parse(cell.devices, NAME):
            if lacks := self.kernel.lacking(device.symbols):
                return f"{device.name}: {lacks}"
        return ""

    def machine(self, cell: Cell) -> Machine:
        """Return the machine of a cell."""
        image = (
            self.settings.paths,
            self.settings.profile,
            cell.firmware,
            cell.media,
            self.folder,
            self.accel,
        )
        made = qemu.machine_of_medium(*image, memory=cell.memory, cpus=cell.cpus, agent=True)
        return devices.fitted(made, devices.parse(cell.devices, NAME), self.folder, cell.media)

    def test(self, cell: Cell, started: Started, allow_warnings: bool) -> Result:
        """Boot a cell, and make the checks of the image and of the cell's devices."""
        more = tuple(devices.checks(devices.parse(cell.devices, NAME)))
        fitting = [*self.built.fitting(cell.firmware, cell.media), *more]
        steps = boots.steps(self.built, fitting, cell.firmware)
        folder = self.settings.paths.output / NAME / cell.name
        return Boot(cell.name, folder, steps, allow_warnings, started).test(partial(self.machine, cell))


def test(cells: Sequence[Cell], settings: Mapping[str, Settings], reports: Reports) -> None:
    """Boot all cells, print a table, and write the reports.

    settings: of each profile, whose image is built.  A cell with a device that its kernel has no driver
    for is not booted, but reported.  Raises `UserError` for cells that failed, and if none can be booted.
    """
    started, clock = time.time(), time.monotonic()
    with ExitStack() as stack:
        images: dict[str, Image] = {}
        for name, profile in settings.items():
            remove_tree(profile.paths.output / NAME)
            folder = stack.enter_context(scratch_folder(profile.paths.output, "media"))
            images[name] = Image.of(profile, folder)
        lacks = {cell: text for cell in cells if (text := images[cell.profile].lacking(cell))}
        for cell, text in lacks.items():
            logger.info(f"{cell.name}: not booted, {text}")
        booted = [cell for cell in cells if cell not in lacks]
        if not booted:
            raise UserError(
                "no cell can be booted: the kernels have none of the drivers", "see the lines above"
            )
        for cell in booted:
            one = images[cell.profile]
            if cell.firmware == "uefi":
                require_uefi(one.settings.profile.architecture.emulator)
            if cell.media:  # a FAT stick is made once, before several need it
                media.drive(one.settings.paths, one.settings.profile, cell.media, one.folder)
        accels = {cell.name: images[cell.profile].accel for cell in booted}
        results = {cell: Result(cell.name, "skipped", message=text) for cell, text in lacks.items()}
        with jobserver.tokens() as slots:
            results |= side_by_side(
                booted,
                slots,
                lambda cell, started: images[cell.profile].test(cell, started, reports.allow_warnings),
                lambda result: logger.info(boots.summary(result, accels[result.name])),
            )
    record = Record(started, time.monotonic() - clock, tuple(results[cell] for cell in cells))
    reports.write(record, NAME)
    print("\n".join(table(cells, results)))
    boots.refuse_failures(record.results)


def side_by_side(
    cells: Sequence[Cell], slots: int, boot: Callable[[Cell, Started], Result], told: Callable[[Result], None]
) -> dict[Cell, Result]:
    """Return what `boot` returns of each cell; `told` is called with each as soon as it is there.

    A guest takes a slot for each of its processors, up to all.  Whatever ends this function, all guests
    have ended then.
    """
    guests, done = Guests(), queue.SimpleQueue[tuple[Cell, Result | BaseException]]()
    results: dict[Cell, Result] = {}
    threads: list[threading.Thread] = []

    def work(cell: Cell) -> None:
        try:
            done.put((cell, boot(cell, guests.started)))
        except BaseException as error:
            done.put((cell, error))

    todo, free = list(cells), slots
    try:
        while len(results) < len(cells):
            while todo and min(todo[0].cpus, slots) <= free:
                cell = todo.pop(0)
                free -= min(cell.cpus, slots)
                threads.append(threading.Thread(target=work, args=(cell,), daemon=True))
                threads[-1].start()
            cell, outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            free += min(cell.cpus, slots)
            results[cell] = outcome
            told(outcome)
    finally:
        guests.end()
        for thread in threads:
            thread.join()
    return results


def table(cells: Sequence[Cell], results: Mapping[Cell, Result]) -> list[str]:
    """Return a line for each cell, and one with the counts."""
    head = ("profile", "firmware", "media", "MiB", "CPUs", "devices", "result", "seconds", "")
    rows = [head, *(_row(cell, results[cell]) for cell in cells)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    counted = Counter(results[cell].outcome for cell in cells)
    told = f"{counted['passed']} passed, {counted['failed']} failed, {counted['skipped']} without a driver"
    return [*lines, f"{len(cells)} cells: {told}"]


def _row(cell: Cell, result: Result) -> tuple[str, ...]:
    failed = [f"{leaf.name}: {leaf.message}" for _, leaf in result.leaves() if leaf.outcome == "failed"]
    why = result.message or next(iter(failed), "")
    seconds = f"{result.seconds:.1f}" if result.seconds else "-"
    sizes = (str(cell.memory), str(cell.cpus))
    what = (cell.profile, cell.firmware, cell.media or "-", *sizes, cell.devices)
    return (*what, WORDS[result.outcome], seconds, why)

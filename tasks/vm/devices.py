# SPDX-License-Identifier: MIT
"""Devices that a machine gets for a test of their drivers: network cards and disks (devices.toml)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config.check import Check, similar
from tasks.config.checks import PlacedCheck
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.vm.machine import Bus, Disk, Machine

DATA = Path(__file__).with_name("devices.toml")
NONE = "none"
SEPARATOR = "+"
SIZE = 64 << 20  # bytes of an empty disk
SECONDS = 60


@dataclass(frozen=True)
class Device:
    """A network card, or a disk.

    card: QEMU's name of the card.  bus: of the disk.  driver: the name of its driver in sysfs.
    symbols: symbol of the kernel (without CONFIG_) -> its module.
    """

    name: str
    driver: str
    symbols: dict[str, str]
    card: str = ""
    bus: Bus | None = None

    def __post_init__(self) -> None:
        if bool(self.card) == bool(self.bus):
            raise ValueError("card: expected either a card or a bus")


@dataclass(frozen=True)
class Asks:
    """What a guest's shell runs to prove that a driver works.

    find: a function; card, disk: commands that use it.  @DRIVER@ stands for the driver's name.
    """

    find: str
    card: str
    disk: str


@dataclass(frozen=True)
class Devices:
    """The content of tasks/vm/devices.toml."""

    device: tuple[Device, ...]
    asks: Asks


@functools.cache
def _data() -> Devices:
    return toml_schema.load(DATA, Devices)


def names() -> list[str]:
    """Return the names of all devices."""
    return [device.name for device in _data().device]


def parse(word: str, where: str) -> tuple[Device, ...]:
    """Return the devices that a word means: `none`, or names with + between them.

    where: what stands before an error.  Raises `UserError` for a name that is unknown, or stands twice.
    """
    if word == NONE:
        return ()
    known = {device.name: device for device in _data().device}
    found: list[Device] = []
    for name in word.split(SEPARATOR):
        if name not in known:
            hint = similar(name, [*known, NONE], "devices")
            raise UserError(f"{where}: there is no device {name!r}", hint)
        if known[name] in found:
            raise UserError(f"{where}: {name} stands twice in {word!r}")
        found.append(known[name])
    return tuple(found)


def fitted(machine: Machine, devices: Sequence[Device], folder: Path, medium: str) -> Machine:
    """Return the machine with the devices.

    The system's own disk moves to the first bus if `medium` is `disk`; each other bus gets an empty disk,
    which is made in `folder`, and keeps nothing.
    """
    cards = tuple(device.card for device in devices if device.card)
    buses = [device.bus for device in devices if device.bus]
    disks = machine.disks
    if medium == "disk" and buses:
        disks = (replace(disks[0], bus=buses.pop(0)), *disks[1:])
    blank = empty_disk(folder) if buses else None
    disks += tuple(Disk(blank, bus, snapshot=True) for bus in buses if blank)
    return replace(machine, cards=cards, network=bool(cards), disks=disks)


def empty_disk(folder: Path) -> Path:
    """Return the image of an empty disk in `folder`; make it if it is not there yet."""
    path = folder / "empty.img"
    with path.open("ab") as stream:
        stream.truncate(SIZE)
    return path


def checks(devices: Sequence[Device]) -> list[PlacedCheck]:
    """Return a check for each device, which proves that its driver works."""
    asks = _data().asks
    made = []
    for device in devices:
        command = asks.find + (asks.card if device.card else asks.disk)
        command = command.replace("@DRIVER@", device.driver)
        name = f"the driver of {device.name} works"
        made.append(PlacedCheck(Check(name, command=command, user="root", timeout=SECONDS)))
    return made

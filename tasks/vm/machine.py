# SPDX-License-Identifier: MIT
"""Virtual machines and their QEMU command lines."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.config import architecture
from tasks.config.architecture import Emulator
from tasks.util.errors import UserError

Firmware = Literal["bios", "uefi", "direct"]
Bus = Literal["virtio", "virtio-scsi", "ahci", "cdrom", "usb", "nvme", "pvscsi"]
Accelerator = Literal["kvm", "tcg"]

EMULATED = "no_timer_check norandmaps"
"""For a kernel that QEMU itself loads and emulates (kernel-parameters.txt).

On a busy machine, TCG's timer may come too late for the check that the kernel makes of it, which then panics.
QEMU 7.2 translates a program again wherever a process has it at another address: without random addresses,
a guest boots in half the time."""
LEAST_MEMORY = 64  # MiB; a kernel and its core alone need more than half of it
LOOPBACK = "127.0.0.1"
FREE_PORTS = 100  # how many are tried
PORTS = ("control", "input", "output", "errors")
"""The ports of the guest's agent: tcbuild.NAME in the guest."""


@dataclass(frozen=True)
class Disk:
    """A disk image; `bus` decides its device name in the guest (vdX, srX, nvmeXn1, sdX for the others).

    snapshot: what the guest writes is lost when QEMU ends, and the file stays as it is.
    """

    path: Path
    bus: Bus = "virtio"
    format: Literal["raw", "qcow2"] = "raw"
    read_only: bool = False
    snapshot: bool = False


@dataclass(frozen=True)
class Share:
    """A folder of this machine that the guest mounts at `path` (tasks/vm/share.py)."""

    folder: Path
    path: str
    read_only: bool = False
    transport: Literal["virtiofs", "9p"] = "9p"

    def tag(self, number: int) -> str:
        """Return the name by which the guest mounts it; number: its place in `Machine.shares`."""
        return f"share{number}"


@dataclass(frozen=True)
class Machine:
    """A virtual PC.

    firmware: `bios` and `uefi` boot from the first bootable disk; with `direct`, QEMU itself
    loads `kernel` and `initrd`, if there is one, with the command line `append`.
    arch: the name of the architecture.
    firmware_of: the architecture whose UEFI firmware it has, "" for its own.
    memory: MiB.  forward: host port on the loopback address -> guest port.
    cards: QEMU's names of its network cards, if it has a network.
    agent: whether it has the ports of the guest's agent (tasks/vm/agent.py).
    gdb: the port of the loopback address at which it answers gdb, 0 for none.
    halted: it does not start before gdb says so.
    """

    firmware: Firmware
    arch: str = architecture.DEFAULT
    firmware_of: str = ""
    disks: tuple[Disk, ...] = ()
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    memory: int = 512
    cpus: int = 1
    accel: Accelerator = "tcg"
    network: bool = False
    forward: dict[int, int] = field(default_factory=dict)
    cards: tuple[str, ...] = ("virtio-net-pci",)
    agent: bool = False
    gdb: int = 0
    halted: bool = False
    shares: tuple[Share, ...] = ()

    @property
    def has_random_addresses(self) -> bool:
        """Whether it is emulated, and has no bootcode for fixed addresses: a boot loader gives it its own."""
        return self.accel == "tcg" and self.firmware != "direct"


def argv(machine: Machine, scratch: Path) -> list[str]:
    """Return the QEMU command line without consoles.

    scratch: folder for the UEFI variables, which the guest writes, and for sockets.
    Raises `UserError` if OVMF is not installed or a file of the machine is missing.
    """
    emulator = architecture.load(machine.arch).emulator
    board = f"{emulator.board},accel={machine.accel}"
    if any(share.transport == "virtiofs" for share in machine.shares):
        board += ",memory-backend=memory"  # which virtiofsd writes, too
    words = [
        *(emulator.program, "-machine", board, "-m", str(machine.memory)),
        *("-smp", str(machine.cpus), "-no-reboot", "-nodefaults", "-vga", "std"),
        *("-device", "virtio-rng-pci"),
    ]
    if machine.accel == "kvm":
        words += ["-cpu", "host"]
    if machine.firmware == "uefi":
        words += _uefi(architecture.load(machine.firmware_of or machine.arch).emulator, scratch)
    if machine.firmware == "direct":
        if machine.kernel is None:
            raise ValueError("direct boot needs a kernel")
        words += ["-kernel", _require_file(machine.kernel)]
        words += ["-initrd", _require_file(machine.initrd)] if machine.initrd else []
        words += ["-append", f"{machine.append} {EMULATED}" if machine.accel == "tcg" else machine.append]
    if any(disk.bus == "usb" for disk in machine.disks):
        words += ["-device", "qemu-xhci,id=usb"]
    for number, disk in enumerate(machine.disks):
        # With -kernel, QEMU uses boot index 0 for its own loader.
        words += _disk(disk, number, number + (machine.firmware == "direct"))
    if machine.network or machine.forward:
        ports = "".join(
            f",hostfwd=tcp:{LOOPBACK}:{host}-:{guest}" for host, guest in sorted(machine.forward.items())
        )
        for number, card in enumerate(machine.cards):
            words += ["-netdev", f"user,id=net{number}{'' if number else ports}"]
            words += ["-device", f"{card},netdev=net{number}"]
    if machine.agent:
        words += ["-device", "virtio-serial-pci"]
        for name in PORTS:
            path = escaped(port_socket(scratch, name))
            words += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
            words += ["-device", f"virtserialport,chardev={name},name=tcbuild.{name}"]
    if machine.gdb:
        words += ["-gdb", f"tcp:{LOOPBACK}:{machine.gdb}", *(["-S"] if machine.halted else [])]
    for number, share in enumerate(machine.shares):
        words += _share(share, number, scratch)
    if "memory-backend" in board:
        words += ["-object", f"memory-backend-memfd,id=memory,size={machine.memory}M,share=on"]
    return words


def port_socket(scratch: Path, name: str) -> Path:
    """Return the socket of a port of the guest's agent."""
    return scratch / f"{name}.socket"


def share_socket(scratch: Path, number: int) -> Path:
    """Return the socket by which virtiofsd serves folder `number` of `Machine.shares`."""
    return scratch / f"share{number}.socket"


def listens(where: Path) -> bool:
    """Return whether a program listens at a socket, which it makes an instant before (proc(5), net/unix)."""
    lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()
    listening = "00010000"  # __SO_ACCEPTCON
    return any(line.endswith(f" {where}") and line.split()[3] == listening for line in lines)


def parse_forwards(words: Sequence[str]) -> dict[int, int]:
    """Return `Machine.forward` for words HOSTPORT:GUESTPORT.

    Raises `UserError` for a malformed word, for a duplicate host port, and for a host port that
    another program uses.
    """
    found: dict[int, int] = {}
    for word in words:
        match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", word)
        host, guest = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (0 < host < 1 << 16 and 0 < guest < 1 << 16):
            raise UserError(f"--forward {word}: expected HOSTPORT:GUESTPORT, as 5000:5000")
        if host in found:
            raise UserError(f"--forward: host port {host} is named twice")
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
                probe.bind((LOOPBACK, host))
        except OSError as error:
            hint = f"use another one, as --forward {host % 50000 + 10000}:{guest}"
            raise UserError(
                f"--forward {word}: port {host} of this machine: {error.strerror}", hint
            ) from None
        found[host] = guest
    return found


def free_port(first: int, taken: Collection[int] = ()) -> int:
    """Return the first port of the loopback address from `first` on that no program uses, and is not `taken`.

    Raises `UserError` if it finds none.
    """
    for port in range(first, first + FREE_PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            if port not in taken:
                return port
    raise UserError(f"ports {first} to {first + FREE_PORTS - 1} of this machine are all in use")


def require_uefi(emulator: Emulator) -> None:
    """Raise `UserError` if the UEFI firmware for QEMU is not installed."""
    if not all(Path(file).is_file() for file in (emulator.uefi_code, emulator.uefi_variables)):
        hint = f"apt-get install {emulator.uefi_package}"
        raise UserError("the UEFI firmware for QEMU is not installed", hint)


def _uefi(emulator: Emulator, scratch: Path) -> list[str]:
    require_uefi(emulator)
    variables = scratch / "OVMF_VARS.fd"
    shutil.copyfile(emulator.uefi_variables, variables)
    return [
        *emulator.uefi_options,
        *("-drive", f"if=pflash,format=raw,readonly=on,file={emulator.uefi_code}"),
        *("-drive", f"if=pflash,format=raw,file={escaped(variables)}"),
    ]


def _disk(disk: Disk, number: int, bootindex: int) -> list[str]:
    options = f"file={escaped(Path(_require_file(disk.path)))},format={disk.format},if=none,id=disk{number}"
    if disk.read_only or disk.bus == "cdrom":
        options += ",readonly=on"
    if disk.snapshot:
        options += ",snapshot=on"
    device, where = {
        "virtio": ("virtio-blk-pci", ""),
        "virtio-scsi": ("scsi-hd", f",bus=scsi{number}.0"),
        "ahci": ("ide-hd", f",bus=ide.{number}"),
        "cdrom": ("ide-cd", f",bus=ide.{number}"),
        "usb": ("usb-storage", ",bus=usb.0"),
        "nvme": ("nvme", f",serial=disk{number}"),
        "pvscsi": ("scsi-hd", f",bus=scsi{number}.0"),
    }[disk.bus]
    adapter = {"virtio-scsi": "virtio-scsi-pci", "pvscsi": "pvscsi"}.get(disk.bus, "")
    words = ["-device", f"{adapter},id=scsi{number}"] if adapter else []
    words += ["-drive", options, "-device", f"{device},drive=disk{number}{where},bootindex={bootindex}"]
    return words


def _share(share: Share, number: int, scratch: Path) -> list[str]:
    tag = share.tag(number)
    if share.transport == "virtiofs":
        where = escaped(share_socket(scratch, number))
        device = f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"
        return ["-chardev", f"socket,id={tag},path={where}", "-device", device]
    # security_model=none: files are those of the user that runs QEMU, and links are links.
    options = f"local,id={tag},path={escaped(share.folder)},security_model=none,multidevs=remap"
    if share.read_only:
        options += ",readonly=on"
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _require_file(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path} does not exist", "build it first: ./doit iso")
    return str(path)


def escaped(path: Path) -> str:
    """Return a path as an option of QEMU takes it: a comma is written twice."""
    return str(path).replace(",", ",,")


def kvm_usable() -> bool:
    """Return whether /dev/kvm can be opened; a guest may hang under KVM even so."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)

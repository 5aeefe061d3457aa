# SPDX-License-Identifier: MIT
"""Boot the built image: the machines of it, and one with its console on this terminal (`./doit qemu`)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config import bootcodes
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.checkout import caller_folder
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.process import run, spawn
from tasks.vm import crash_dump, data_disk, debugger, display, monitor, virtiofsd
from tasks.vm import share as shared_folders
from tasks.vm import ssh as remote_shell
from tasks.vm.agent import Agent
from tasks.vm.guest import Ended, Guest, GuestError
from tasks.vm.machine import (
    LOOPBACK,
    Accelerator,
    Disk,
    Firmware,
    Machine,
    Share,
    argv,
    escaped,
    kvm_usable,
    parse_forwards,
)
from tasks.vm.media import drive
from tasks.vm.ssh import Remote

FIRMWARES: tuple[Firmware, ...] = ("bios", "uefi", "direct")
DISC = "cde"
"""The bootcode by which the guest loads extensions from a disc.  A direct boot without disks has none, and
the guest would look for one for ten seconds."""
PROBE_SECONDS = 20.0
BOOT_SECONDS = 240.0
END_SECONDS = 5.0
CONSOLE = "console.log"


def machine(
    paths: Paths, profile: Profile, firmware: Firmware, accel: Accelerator, **changes: object
) -> Machine:
    """Return the machine that boots this profile's image with `firmware`.

    changes: further fields of `Machine`.
    """
    if firmware == "direct":
        codes = [code for code in profile.boot.bootcodes if code != DISC or changes.get("disks")]
        base = {"kernel": paths.vmlinuz, "initrd": paths.core, "append": bootcodes.line(codes)}
    else:
        base = {"disks": (Disk(paths.iso, "cdrom"),)}
    return Machine(firmware=firmware, accel=accel, arch=profile.arch, **(base | changes))  # type: ignore[arg-type]


def machine_of_medium(
    paths: Paths,
    profile: Profile,
    firmware: Firmware,
    medium: str,
    folder: Path,
    accel: Accelerator,
    **changes: object,
) -> Machine:
    """Return the machine that boots this profile's image from a medium, which is made in `folder`.

    `direct` has no medium.  changes: further fields of `Machine`.
    """
    disks = () if firmware == "direct" else (drive(paths, profile, medium, folder),)
    return machine(paths, profile, firmware, accel, disks=disks, **changes)


def accelerator(paths: Paths, profile: Profile, **changes: object) -> Accelerator:
    """Return `kvm` if this kernel boots with KVM on this machine, else `tcg`; log the result.

    With nested virtualization a guest may hang although /dev/kvm opens, so a test boot decides.
    The result is kept until this machine reboots or QEMU changes.  If KVM hangs with a kernel that comes
    up without it, no other kernel is tried on this machine until then.
    changes: fields of the `Machine` that is booted.
    """
    emulator = profile.architecture.emulator.program
    here = {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "qemu": run([emulator, "--version"]).stdout.splitlines()[0],
        "kvm": kvm_usable(),
    }
    own, shared = paths.output / "accelerator.json", paths.cache / f"accelerator-{emulator}.json"
    known = _recorded(own, here)
    if known:
        return known
    chosen: Accelerator = "tcg"
    if here["kvm"] and _recorded(shared, here) == "tcg":
        logger.info("/dev/kvm is there, but no guest came up before on this machine: using TCG (slower)")
    elif here["kvm"]:
        if _comes_up(paths, profile, "kvm", **changes):
            logger.info("KVM works here")
            chosen = "kvm"
        else:
            said = f"no guest came up in {PROBE_SECONDS:.0f} s: using TCG (slower)"
            logger.info(f"/dev/kvm is there, but {said}")
            if _comes_up(paths, profile, "tcg", **changes):
                _record(shared, here, "tcg")
    _record(own, here, chosen)
    return chosen


def _record(record: Path, here: Mapping[str, object], chosen: Accelerator) -> None:
    write_atomic(record, json.dumps({"here": here, "accelerator": chosen}, indent=2) + "\n")


def _recorded(record: Path, here: Mapping[str, object]) -> Accelerator | None:
    """Return the accelerator that was chosen `here`.  A damaged record only costs another test boot."""
    try:
        known = json.loads(record.read_text())
        if known["here"] == here:
            return "kvm" if known["accelerator"] == "kvm" else "tcg"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _comes_up(paths: Paths, profile: Profile, accel: Accelerator, **changes: object) -> bool:
    """Tell whether a kernel says that it starts."""
    probed = machine(paths, profile, "direct", accel, **changes)
    try:
        with Guest(probed, paths.logs / f"{accel}-probe.log", limit=PROBE_SECONDS) as guest:
            guest.expect("Linux version", PROBE_SECONDS)
    except GuestError:
        return False
    return True


def interactive(
    paths: Paths,
    profile: Profile,
    firmware: str,
    memory: int,
    forward: Sequence[str] = (),
    share: Sequence[str] = (),
    disk: Sequence[str] = (),
    *,
    snapshot: bool = False,
    screen: str = "none",
    ssh: bool = False,
    gdb: bool = False,
    halted: bool = False,
    dump: str = "",
) -> None:
    """Boot the ISO with its serial console on this terminal; `sudo poweroff` or Ctrl-A X ends it.

    memory: MiB.  forward: words HOSTPORT:GUESTPORT; host ports are bound to the loopback address.
    share: words DIR[:PATH][:ro].  disk: words FILE[:SIZE]; snapshot: the guest writes none of them.
    screen: how the guest's screen is seen here (tasks/vm/display.py).  ssh: reach it by SSH, too.
    gdb, halted: for tasks/vm/debugger.py.  dump: the file for its memory if it panics, "" for none.
    Raises `UserError` for an unknown firmware, a bad word, or if QEMU fails.
    """
    if firmware not in FIRMWARES:
        raise UserError(f"unknown firmware {firmware!r}", f"one of: {', '.join(FIRMWARES)}")
    ports = parse_forwards(forward)
    shares = shared_folders.choose(paths, profile, shared_folders.parse(share, caller_folder()))
    with ExitStack() as stack:
        remote = stack.enter_context(remote_shell.opened(paths, profile, ports)) if ssh else None
        chosen = machine(
            paths,
            profile,
            firmware,
            accelerator(paths, profile),
            memory=memory,
            cpus=len(os.sched_getaffinity(0)),
            network=True,
            forward=ports | (remote.forward if remote else {}),
            shares=shares,
            agent=bool(shares) or ssh,
        )
        own = data_disk.prepare(data_disk.parse(disk, caller_folder()), snapshot=snapshot)
        chosen = replace(chosen, disks=(*chosen.disks, *own))
        if gdb:
            chosen = stack.enter_context(debugger.opened(paths, profile, chosen, ports, halted=halted))
        shown, told = display.options(screen)
        _tell(ports, told)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcbuild-qemu-")))
        stack.enter_context(virtiofsd.serving(shares, scratch))
        command = [*argv(chosen, scratch), *shown, *_console(scratch, logged=bool(dump))]
        process = spawn(command, pipes=False, env=display.environment(screen))
        started, threads = OnTerminal(process, scratch), []
        if chosen.agent:
            threads.append(threading.Thread(target=_when_up, args=(started, shares, remote), daemon=True))
        if dump:
            given = (scratch / CONSOLE, started.lives, scratch, (paths, profile, caller_folder() / dump))
            threads.append(threading.Thread(target=crash_dump.watch, args=given, daemon=True))
        _wait(process, threads)


def _tell(ports: Mapping[int, int], screen: str) -> None:
    """Print what reaches the guest from here.  screen: the line about it, "" for none."""
    for host, guest in ports.items():
        logger.info(f"{LOOPBACK}:{host} of this machine is forwarded to port {guest} of the guest")
    if screen:
        logger.info(screen)
    logger.info("serial console of the guest; end it with `sudo poweroff` or Ctrl-A X")


def _console(scratch: Path, *, logged: bool) -> list[str]:
    """Return the words that put the guest's console on this terminal; logged: it is also in a file."""
    if not logged:
        return ["-serial", "mon:stdio"]
    file = escaped(scratch / CONSOLE)
    shared = ["-chardev", f"stdio,id=console,mux=on,signal=off,logfile={file}"]
    shared += ["-serial", "chardev:console", "-mon", "chardev=console,mode=readline"]
    return [*shared, *monitor.options(scratch)]


def _wait(process: subprocess.Popen[bytes], threads: Sequence[threading.Thread]) -> None:
    """Start the threads that look after a guest, and wait until QEMU has ended.

    Raises `UserError` if QEMU fails.
    """
    for thread in threads:
        thread.start()
    try:
        status = process.wait()
    finally:
        process.terminate()  # if this process is to end before it
        process.wait()
        for thread in threads:
            thread.join(timeout=END_SECONDS)  # it may have to remove what it was writing
    if status != 0:
        raise UserError(f"qemu ended with exit status {status}")


@dataclass(frozen=True)
class OnTerminal:
    """A QEMU with the guest's console on this terminal; the agent asks it as it asks a `Guest`."""

    process: subprocess.Popen[bytes]
    scratch: Path

    def lives(self) -> bool:
        """Return whether QEMU has not ended."""
        return self.process.poll() is None

    def check(self) -> None:
        """Raise `Ended` if QEMU has ended."""
        if not self.lives():
            raise Ended("the guest has ended")


def _when_up(started: OnTerminal, shares: Sequence[Share], remote: Remote | None) -> None:
    """Mount the folders and start the SSH server once the guest's agent answers; say it if none does."""
    try:
        with Agent(started) as agent:
            if agent.wait(BOOT_SECONDS):
                if shares:
                    _warn_of_failure(lambda: shared_folders.mount(agent, shares))
                if remote:
                    _warn_of_failure(lambda: remote.start(agent, started.check))
                return
        if remote:
            logger.warning("ssh: the guest's agent does not answer, so there is no server")
        if shares:
            logger.warning("share: the guest's agent does not answer, so mount it there yourself:")
            program = shared_folders.mount_program(shares).decode()
            lines = [line for line in program.splitlines() if line.startswith("mkdir")]
            logger.warning("\n".join(f"  sudo sh -c {shlex.quote(line)}" for line in lines))
    except Ended:
        pass
    except UserError as error:
        logger.warning(str(error))


def _warn_of_failure(action: Callable[[], None]) -> None:
    try:
        action()
    except Ended:
        raise
    except UserError as error:
        logger.warning(str(error))

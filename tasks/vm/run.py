# SPDX-License-Identifier: MIT
"""Run commands in a guest that boots the built image: `./doit qemu:run`.

The guest's agent (tasks/vm/agent.py) runs them.  A guest without it, whose kernel has no
virtio_console, runs them in the shell of its serial console.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.checkout import caller_folder
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.vm import crash_dump, qemu, share, ssh
from tasks.vm.agent import Agent, Sink
from tasks.vm.guest import Ended, Guest, GuestError, Panicked, TimedOut
from tasks.vm.machine import Firmware, Share

AGENT_SECONDS = 15.0  # from the first shell's prompt
FIX_ADDRESSES = b"#!/bin/sh\necho 0 > /proc/sys/kernel/randomize_va_space\n"
"""What `norandmaps` is for a kernel that QEMU loads (tasks/vm/machine.py)."""
FIX_SECONDS = 60.0
EXIT_PANICKED = 121
EXIT_ENDED = 122
EXIT_NO_PROMPT = 123
EXIT_TIMED_OUT = 124  # as timeout(1)
EXIT_FAILED = 125  # tcbuild itself, as Docker's `run`
LONGEST = 1_000_000  # seconds; clocks and selectors of this machine take no much longer wait
SEPARATOR = "--"
CONSOLE_BYTES = 200  # of a program in one line: a serial console takes no long one


class NoPrompt(GuestError):
    """The guest did not come up in time."""


@dataclass(frozen=True)
class Wanted:
    """How commands are to be run.

    firmware, medium, memory: of the machine; memory in MiB.  user: tc or root.
    boot, each: seconds for the boot, and for each command.
    shares: folders of this machine that the guest mounts before the first command.
    ssh: whether the guest can be reached by SSH before that.
    dump: the file for the guest's memory if its kernel panics, None for none.
    """

    firmware: Firmware = "bios"
    medium: str = "cd"
    memory: int = 1024
    user: str = "tc"
    boot: float = qemu.BOOT_SECONDS
    each: float = 300.0
    shares: tuple[Share, ...] = ()
    ssh: bool = False
    dump: Path | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wanted:
        """Return what the options of `./doit qemu:run` ask for.

        Raises `UserError` for a time below 1 s, or above `LONGEST`, and for a folder that cannot be shared.
        """
        for name in ("timeout", "boot"):
            check_seconds(options[name])
        user = "root" if options["root"] else "tc"
        more = {name: options[name] for name in ("firmware", "medium", "memory", "boot", "ssh")}
        more["dump"] = caller_folder() / options["dump"] if options["dump"] else None
        return cls(
            user=user, each=options["timeout"], shares=share.parse(options["share"], caller_folder()), **more
        )


def check_seconds(seconds: float) -> None:
    """Raise `UserError` for a time below 1 s, or above `LONGEST`."""
    if not 1 <= seconds <= LONGEST:
        raise UserError(f"{seconds} seconds: expected at least 1, and at most {LONGEST}")


def programs(words: Sequence[str], scripts: Sequence[Path]) -> list[bytes]:
    """Return the programs that the words of a command line mean: scripts first, then commands.

    `--` parts commands.  A command of one word is a line for the guest's /bin/sh; one of several
    words is a program and its arguments.  Raises `UserError` if there is none, or a script cannot be read.
    """
    made = []
    for script in scripts:
        if not script.is_file():
            raise UserError(f"--script {script}: no such file")
        made.append(script.read_bytes())
    commands: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR:
            commands.append([])
        else:
            commands[-1].append(word)
    for command in filter(None, commands):
        line = command[0] if len(command) == 1 else f"exec {shlex.join(command)}"
        made.append(b"#!/bin/sh\n" + os.fsencode(f"{line}\n"))
    if not made:
        raise UserError("no command is given", "./doit qemu:run -- uname -a")
    return made


def run(
    paths: Paths, profile: Profile, given: Sequence[bytes], wanted: Wanted, output: Sink, errors: Sink
) -> int:
    """Run the programs one after another in one boot, up to the first that fails; return its status, or 0.

    The first program reads this process's standard input, unless that is a terminal.
    Raises `UserError` if the machine cannot be made, and `GuestError`: `Panicked`, `Ended`, `TimedOut`,
    or `NoPrompt`.
    """
    accel = qemu.accelerator(paths, profile)
    limit = wanted.boot + wanted.each * len(given)
    wanted = replace(wanted, shares=share.choose(paths, profile, wanted.shares))
    reached = ssh.opened(paths, profile) if wanted.ssh else nullcontext()
    with scratch_folder(paths.output, "media") as folder, reached as remote:
        image = (paths, profile, wanted.firmware, wanted.medium, folder, accel)
        machine = qemu.machine_of_medium(
            *image,
            memory=wanted.memory,
            network=True,
            forward=remote.forward if remote else {},
            agent=True,
            shares=wanted.shares,
        )
        with (
            Guest(machine, paths.logs / "qemu-run.log", limit=limit) as guest,
            crash_dump.on_panic(guest, paths, profile, wanted.dump),
            Agent(guest) as agent,
        ):
            asker = wait(guest, agent, wanted.boot)
            if wanted.shares:
                share.mount(asker, wanted.shares)
            if remote and asker.agent is None:
                raise GuestError("--ssh: the guest's agent does not answer")
            if remote:
                remote.start(agent, guest.check)
            with _standard_input() as stream:
                for number, program in enumerate(given):
                    read = stream if number == 0 else None
                    if status := asker.run(program, wanted.user, output, errors, read, wanted.each):
                        return status
    return 0


def exit_code(error: UserError) -> int:
    """Return the exit code of `./doit qemu:run` for an error; docs/qemu.md has the list."""
    codes = {
        Panicked: EXIT_PANICKED,
        Ended: EXIT_ENDED,
        NoPrompt: EXIT_NO_PROMPT,
        TimedOut: EXIT_TIMED_OUT,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), EXIT_FAILED)


@dataclass(frozen=True)
class Asker:
    """A guest that is up.  agent: None if its agent does not answer: then its serial console does."""

    guest: Guest
    agent: Agent | None

    def run(
        self, program: bytes, user: str, output: Sink, errors: Sink, given: IO[bytes] | None, seconds: float
    ) -> int:
        """Run a program; the arguments, the result and what is raised are those of `Agent.run`.

        On the serial console, it has no input.
        """
        if self.agent:
            return self.agent.run(program, user, output, errors, given, seconds)
        return run_on_console(self.guest, program, user, output, errors, seconds)

    def ask(self, program: bytes, user: str, seconds: float) -> tuple[int, bytes, bytes]:
        """Run a program without input, and return its status, output and errors.  Raises as `run` does."""
        output, errors = io.BytesIO(), io.BytesIO()
        status = self.run(program, user, output.write, errors.write, None, seconds)
        return status, output.getvalue(), errors.getvalue()


def wait(guest: Guest, agent: Agent, seconds: float) -> Asker:
    """Wait until the guest is up, and return it with what answers.

    The programs of an emulated guest get fixed addresses then.  Raises `NoPrompt` if nothing answers.
    """
    asker = Asker(guest, agent if _answers(guest, agent, seconds) else None)
    if guest.machine.has_random_addresses:
        with suppress(GuestError):  # without it, all is only slower; a guest that is lost is told next
            asker.ask(FIX_ADDRESSES, "root", FIX_SECONDS)
    return asker


def _answers(guest: Guest, agent: Agent, seconds: float) -> bool:
    if agent.wait(seconds, lambda: guest.prompted):
        return True
    if agent.wait(AGENT_SECONDS):
        return True
    try:
        guest.login(AGENT_SECONDS)
    except TimedOut as error:
        message = f"the guest did not come up within {seconds:.0f} s"
        raise NoPrompt(message, error.hint, error.detail) from None
    logger.warning(
        "the guest's agent does not answer (its kernel needs CONFIG_VIRTIO_CONSOLE, its core "
        "/sbin/guest-agent): the commands run on its serial console, without input"
    )
    return False


def run_on_console(
    guest: Guest, program: bytes, user: str, output: Sink, errors: Sink, seconds: float
) -> int:
    """Run a program in the shell of the serial console; its output comes when it has ended.

    The arguments and what is raised are those of `Agent.run`.
    """
    sudo = "sudo " if user == "root" else ""
    guest.run("sudo dmesg -n 1", check=False)  # the kernel's messages would come between the bytes
    folder = guest.run("mktemp -d").strip()
    for start in range(0, len(program), CONSOLE_BYTES):
        octal = "".join(f"\\{byte:03o}" for byte in program[start : start + CONSOLE_BYTES])
        guest.run(f"printf '{octal}' >> {folder}/program")
    guest.run(f"chmod 755 {folder} {folder}/program")
    ran = f"{sudo}{folder}/program > {folder}/output 2> {folder}/errors"
    status = guest.run(ran, seconds, check=False).splitlines()[-1]
    for name, sink in (("output", output), ("errors", errors)):
        sink(bytes.fromhex(guest.run(f'hexdump -v -e \'32/1 "%02x" "\\n"\' {folder}/{name}', seconds)))
    guest.run(f"rm -r {folder}")
    return int(status)


@contextmanager
def _standard_input() -> Iterator[IO[bytes] | None]:
    """Give this process's standard input, None if it is a terminal or /dev/null."""
    with os.fdopen(os.dup(0), "rb", buffering=0) as stream:
        empty = os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
        yield None if empty or stream.isatty() else stream

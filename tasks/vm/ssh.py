# SPDX-License-Identifier: MIT
"""A running guest by SSH: `./doit qemu --ssh`.

The guest's agent unpacks an SSH server there, with its own libraries, so any image will do.  The pair of
keys is made for the run, and so is the server's key, which the agent tells.  The folder `ssh` of the
results has an ssh_config(5) while the guest runs.
"""

from __future__ import annotations

import fcntl
import functools
import io
import os
import re
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.fetch import guest_root
from tasks.formats import elf
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import run
from tasks.vm import bundle
from tasks.vm.agent import Agent
from tasks.vm.guest_kernel import GuestKernel, hint_for
from tasks.vm.machine import LOOPBACK, free_port

DATA = Path(__file__).with_name("ssh.toml")
START = Path(__file__).with_name("ssh-start")
PROGRAM = Path(__file__).with_name("ssh-program")
FIRST_PORT = 2222
GUEST_PORT = 22022  # the guest may have a server of its own
NAME = "guest"
"""What ssh(1) calls the guest."""
IN_GUEST = "/usr/lib/guest-ssh"
WHY = f"#!/bin/sh\ncat {IN_GUEST}/log; ip addr || ifconfig -a\n"
SECONDS = 240.0  # an emulated guest on a busy machine takes megabytes slowly
ADDRESS_SECONDS = 60.0  # DHCP may come after the agent
BANNER = b"SSH-2.0-"  # RFC 4253, 4.2
HOST_KEY = re.compile(r"^ssh-ed25519 [A-Za-z0-9+/=]+", re.MULTILINE)
USER = re.compile(r"^user ([A-Za-z0-9._-]+)$", re.MULTILINE)
CONFIG = """\
# Of a guest that runs: ssh -F FILE {name}.  It goes with the guest.
Host {name}
    HostName {address}
    Port {port}
    User {user}
    IdentityFile "{folder}/key"
    IdentitiesOnly yes
    PreferredAuthentications publickey
    HostKeyAlias {name}
    UserKnownHostsFile "{folder}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
"""


@dataclass(frozen=True)
class Brought:
    """The content of tasks/vm/ssh.toml.

    symbols: symbol of the kernel (without CONFIG_) -> its module.
    programs: name in the guest -> path in the root that they come from.
    """

    symbols: dict[str, str]
    programs: dict[str, str]


@functools.cache
def _brought() -> Brought:
    return toml_schema.load(DATA, Brought)


@dataclass(frozen=True)
class Remote:
    """A guest that is to be reached.  folder: for its keys and settings.  port: of the loopback address.

    root: the folder with the programs that the guest gets.
    """

    folder: Path
    port: int
    root: Path

    @property
    def forward(self) -> dict[int, int]:
        """The port of this machine and the guest's, as `Machine.forward`."""
        return {self.port: GUEST_PORT}

    @property
    def command(self) -> str:
        """The command line that opens a shell in the guest."""
        return f"ssh -F {shlex.quote(str(self.folder / 'config'))} {NAME}"

    def start(self, agent: Agent, check: Callable[[], None]) -> None:
        """Start the server in the guest by its agent, write the settings, and say the command.

        check: raises an error if the guest has ended.  Raises `UserError` if the server does not start, or
        does not answer, and `GuestError` as `Agent.run` does.
        """
        output, errors = io.BytesIO(), io.BytesIO()
        with tempfile.TemporaryFile() as stream:
            pack(stream, self.root, (self.folder / "key.pub").read_bytes())
            stream.seek(0)
            program = f"{bundle.unpack(IN_GUEST)}exec {IN_GUEST}/start {GUEST_PORT}\n".encode()
            status = agent.run(program, "root", output.write, errors.write, stream, SECONDS)
        said = output.getvalue().decode("utf-8", "replace")
        key, user = HOST_KEY.search(said), USER.search(said)
        if status or not key or not user:
            detail = f"  status {status}\n{errors.getvalue().decode('utf-8', 'replace')}"
            raise UserError("--ssh: the server does not start in the guest", detail=detail)
        self._wait(agent, check)
        write_atomic(self.folder / "known_hosts", f"{NAME} {key[0]}\n")
        write_atomic(self.folder / "config", config(self.folder, self.port, user[1]))
        logger.info(f"ssh: the guest answers: {self.command}")

    def _wait(self, agent: Agent, check: Callable[[], None]) -> None:
        """Wait until the server answers at this machine's port."""
        until = time.monotonic() + ADDRESS_SECONDS
        while not answers(self.port):
            check()
            if time.monotonic() > until:
                said = io.BytesIO()
                agent.run(WHY.encode(), "root", said.write, said.write)
                raise UserError(
                    f"--ssh: the guest does not answer within {ADDRESS_SECONDS:.0f} s",
                    "it needs an address by DHCP: leave out the bootcode nodhcp",
                    said.getvalue().decode("utf-8", "replace"),
                )
            time.sleep(0.5)


@contextmanager
def opened(paths: Paths, profile: Profile, taken: Collection[int] = ()) -> Iterator[Remote]:
    """Give a guest to be reached, with the keys for it; all is removed afterwards.

    taken: ports of this machine that other things of the guest get.
    Raises `UserError`, which names it, if the kernel or this machine lacks something, and if another run
    has the folder.
    """
    symbols = _brought().symbols
    if lacks := GuestKernel.of(paths, profile).lacking(symbols):
        raise UserError(f"--ssh: {lacks}", hint_for(profile, symbols))
    port = free_port(FIRST_PORT, taken)
    with _own_folder(paths.output / "ssh") as folder:
        _quoted(folder)  # before the boot
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tcbuild", "-f", folder / "key"])
        yield Remote(folder, port, guest_root.unpacked(paths.cache, profile.arch))


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder that nobody else reads.  Raises `UserError` if another run has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "end that guest first"
            raise UserError(f"--ssh: {folder} belongs to another guest that runs", hint) from None
        folder.chmod(0o700)
        try:
            for left in folder.iterdir():  # by a run that was killed
                remove_tree(left)
            yield folder
        finally:
            remove_tree(folder)
    finally:
        os.close(handle)


def answers(port: int) -> bool:
    """Return whether an SSH server answers at a port of the loopback address.

    QEMU takes a connection even if nothing in the guest does.
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            return connection.recv(len(BANNER), socket.MSG_WAITALL) == BANNER
    except OSError:
        return False


def config(folder: Path, port: int, user: str) -> str:
    """Return an ssh_config(5) for the guest.  Raises `UserError` for a folder that it cannot name."""
    return CONFIG.format(name=NAME, address=LOOPBACK, port=port, user=user, folder=_quoted(folder))


def _quoted(folder: Path) -> str:
    """Return a folder as it stands between the quotes of an ssh_config(5), where % and ${} have a meaning."""
    if re.search(r"\$\{|[\n\"\\]", str(folder)):
        raise UserError(f"--ssh: ssh can read nothing in {folder}", "choose another folder: out=DIR")
    return str(folder).replace("%", "%%")


def pack(stream: IO[bytes], root: Path, public_key: bytes) -> None:
    """Write the bundle that the guest gets.

    root: the root that has the programs and their libraries.  public_key: one line.
    """
    names = _brought().programs
    programs = {name: root / path for name, path in names.items()}
    files = {
        "start": START,
        "program": PROGRAM,
        **{f"bin/{name}": path for name, path in programs.items()},
        **{f"lib/{name}": path for name, path in libraries(root, programs.values()).items()},
    }
    with bundle.writer(stream) as tar:
        for folder in ("bin", "lib", "programs", "keys"):
            bundle.add_folder(tar, folder)
        for name, path in files.items():
            bundle.add(tar, name, 0o755, path.read_bytes())
        for name in programs:
            bundle.add_link(tar, f"programs/{name}", "../program")
        bundle.add(tar, "keys/authorized_keys", 0o644, public_key)  # dropbear reads it as the user


def libraries(root: Path, programs: Collection[Path]) -> dict[str, Path]:
    """Return the libraries of `root` that programs load, the dynamic loader among them: name -> file."""
    (folder,) = (root / "usr/lib").glob("*-linux-gnu")
    found: dict[str, Path] = {}
    todo = list(programs)
    while todo:
        for name in elf.needed(todo.pop()):
            if name not in found:
                found[name] = folder / name
                todo.append(folder / name)
    return found

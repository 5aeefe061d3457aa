# SPDX-License-Identifier: MIT
"""virtiofsd, the program that serves a folder to a guest by virtiofs.

Debian 12 and Ubuntu 22.04 have the one of QEMU, in C; later ones have the package virtiofsd, in Rust.
Either must be run by root (its documentation).  It speaks the protocol vhost-user with QEMU.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.util.errors import UserError
from tasks.util.process import close_pipes, end_group, run, spawn
from tasks.util.text import UNPRINTABLE
from tasks.vm.machine import Share, listens, share_socket

IN_RUST = Path("/usr/libexec/virtiofsd")
IN_C = Path("/usr/lib/qemu/virtiofsd")
SECONDS = 20.0
# A message of vhost-user: its number, flags (version 1) and the size of what follows.  1 is
# VHOST_USER_GET_FEATURES, which is answered by eight bytes ("Vhost-user Protocol" in QEMU's documentation).
GET_FEATURES = struct.pack("<III", 1, 1, 0)


def missing() -> str:
    """Return why no folder can be served by virtiofs here, in words; "" if one can.

    In a container the program may lack a right, which it notices only when QEMU is there.  So it is
    asked in QEMU's stead.
    """
    if os.geteuid() != 0:
        return "virtiofsd is for root"
    if _program() is None:
        return "no virtiofsd is installed"
    with tempfile.TemporaryDirectory(prefix="tcbuild-share-") as name:
        try:
            with serving([Share(Path(name), "/", transport="virtiofs")], Path(name)):
                _ask(share_socket(Path(name), 0))
        except (OSError, UserError):
            return "virtiofsd does not work here"
    return ""


def refuses(share: Share) -> str:
    """Return why virtiofsd cannot serve a folder as it is wanted, in words; "" if it can."""
    in_rust = _program() == IN_RUST
    if share.read_only and not (in_rust and "--readonly" in run([IN_RUST, "--help"]).stdout):
        return "this virtiofsd cannot keep the guest from writing"
    if in_rust and UNPRINTABLE.search(str(share.folder)):  # its command line must be UTF-8
        return "virtiofsd takes no such name"
    return ""


@contextmanager
def serving(shares: Sequence[Share], scratch: Path) -> Iterator[None]:
    """Serve those of the folders that are for virtiofs, by sockets in the folder `scratch`.

    Raises `UserError` if a virtiofsd does not start.
    """
    with ExitStack() as stack:
        for number, share in enumerate(shares):
            if share.transport == "virtiofs":
                where = share_socket(scratch, number)
                process = spawn(_command(share, where))
                stack.callback(_end, process)
                _wait(process, where)
        yield


def _program() -> Path | None:
    return next((path for path in (IN_RUST, IN_C) if os.access(path, os.X_OK)), None)


def _command(share: Share, where: Path) -> list[str]:
    program = _program()
    if program is None:
        raise UserError("no virtiofsd is installed", "apt-get install virtiofsd")
    if program == IN_C:
        folder = str(share.folder).replace("\\", "\\\\").replace(",", "\\,")  # libfuse's escapes
        return [str(program), f"--socket-path={where}", "-o", f"source={folder}", "-o", "log_level=err"]
    only = ["--readonly"] if share.read_only else []
    words = [f"--socket-path={where}", f"--shared-dir={share.folder}", "--log-level=error"]
    return [str(program), *words, *only]


def _wait(process: subprocess.Popen[bytes], where: Path) -> None:
    """Wait until a virtiofsd listens."""
    until = time.monotonic() + SECONDS
    while not listens(where):
        if process.poll() is not None or time.monotonic() > until:
            assert process.stdout is not None
            said = process.stdout.read().decode(errors="replace") if process.returncode is not None else ""
            raise UserError("virtiofsd does not start", detail=said)
        time.sleep(0.02)


def _ask(where: Path) -> None:
    """Ask a virtiofsd for its features, as QEMU does first.  Raises `OSError` if it does not answer."""
    with socket.socket(socket.AF_UNIX) as asked, asked.makefile("rb") as answer:
        asked.settimeout(SECONDS)
        asked.connect(str(where))
        asked.sendall(GET_FEATURES)
        if len(answer.read(len(GET_FEATURES) + 8)) < len(GET_FEATURES) + 8:
            raise ConnectionError("no answer")


def _end(process: subprocess.Popen[bytes]) -> None:
    end_group(process)
    close_pipes(process)

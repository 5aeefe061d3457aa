# SPDX-License-Identifier: MIT
"""How commands of a toolchain run: as programs of this machine, or in a build root.

A build root is entered by bubblewrap (bwrap(1)), which makes user namespaces.  Where the kernel, a
container or AppArmor forbids these, proot(1) shows the root to a program by ptrace(2), which is
slower.  Both programs come from the root itself, started by the root's own dynamic loader, so the
machine needs neither.  None of this needs root, or leaves a mount behind.

In a root a command sees the root's programs, and of the machine only the folders bound into it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tasks.toolchain import build_root, host_match
from tasks.toolchain.build_root import SYSTEM
from tasks.util.errors import UserError
from tasks.util.process import require_tool, run

Way = Literal["host", "bwrap", "proot"]
HOST_ROOT = Path("/")
VARIABLE = "TCBUILD_TOOLCHAIN"
"""Environment variable: `root` takes the build root even if this machine's programs would do;
`bwrap` or `proot` says how it is entered, too."""
ASKED = ("", "root", "bwrap", "proot")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PROOT_START = Path(__file__).with_name("proot_start.py")
# bwrap makes these itself; nothing can be bound below them.
VIRTUAL = ("dev", "proc")
NO_WAY = (
    "bwrap needs user namespaces, which a container or AppArmor may forbid "
    "(kernel.apparmor_restrict_unprivileged_userns); proot needs ptrace(2). toolchain=host needs neither"
)


@dataclass(frozen=True)
class Bind:
    """A folder or file of this machine that a command in a build root sees at the same path."""

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class Entry:
    """How the commands of one toolchain run.

    way: as programs of this `host`, or in a root by `bwrap` or `proot`; why: one sentence;
    root: the build root, `/` for this machine; program: the words that start bwrap or proot;
    options: further options of bwrap.
    """

    way: Way
    why: str
    root: Path = HOST_ROOT
    program: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def box(self, binds: Sequence[Bind]) -> list[str]:
        """Return the words to put before a command so that it runs with this toolchain; none on this machine.

        In a root the command sees the root's programs, `binds` and an empty HOME.  By bwrap it has an
        empty /tmp, no network and no other process; by proot the machine's own.  It starts in the
        caller's working directory if that is bound.
        Raises `UserError` for a bind that would hide the root's own files.
        """
        if self.way == "host":
            return []
        for bind in binds:
            _require_outside(bind.path)
        # Outer folders first: a bind hides earlier binds below it.
        shown = sorted(dict.fromkeys(binds), key=lambda bind: bind.path)
        return [*self.program, *(self._bwrap(shown) if self.way == "bwrap" else self._proot(shown))]

    def outside(self, program: str) -> list[str]:
        """Return the words that start a program of the toolchain outside its root, with the network.

        The last is the program's path.  Raises `ToolMissing` if this machine has not got it.
        """
        return [require_tool(program)] if self.way == "host" else list(started_by_loader(self.root, program))

    def file(self, path: str) -> Path:
        """Return where this machine has the file that the toolchain has at the absolute `path`."""
        return self.root / path.lstrip("/")

    def _bwrap(self, binds: Sequence[Bind]) -> list[str]:
        box = ["--die-with-parent", "--hostname", "tcbuild", *self.options]
        box += ["--dev", "/dev", "--tmpfs", "/tmp", "--setenv", "HOME", "/tmp"]
        # /home, /srv, /var and the like are left out: bound folders often lie below folders of these names.
        for folder in SYSTEM:
            inside = self.root / folder
            if inside.is_symlink():  # /bin -> usr/bin on a merged-/usr system
                box += ["--symlink", os.readlink(inside), f"/{folder}"]
            elif inside.is_dir():
                box += ["--ro-bind", str(inside), f"/{folder}"]
        for bind in binds:
            box += ["--bind" if bind.writable else "--ro-bind", str(bind.path), str(bind.path)]
        return [*box, "--"]

    def _proot(self, binds: Sequence[Bind]) -> list[str]:
        box = ["-r", str(self.root), "-b", "/dev", "-b", "/proc", "-b", "/tmp"]
        for bind in binds:
            box += ["-b", str(bind.path)]
        # By proot a command could write into the root, as Python does.
        return [*box, "env", "HOME=/root", "PYTHONDONTWRITEBYTECODE=1"]


def _require_outside(path: Path) -> None:
    if len(path.parts) < 2 or path.parts[1] in (*SYSTEM, *VIRTUAL):
        raise UserError(
            f"{path} cannot be shown in a build root: it would hide the root's own files",
            "move the checkout, or choose other folders with out=DIR and TCBUILD_CACHE; "
            "or use this machine's programs: toolchain=host",
        )


def of_toolchain(cache: Path, name: str) -> Entry:
    """Return how the commands of toolchain `name` run on this machine.

    No other run removes its build root before the end of this process.  Raises `UserError` if that is
    needed and not in the cache, or cannot be entered.
    """
    reason = root_needed(name)
    if not reason:
        return Entry("host", _host_serves(name))
    if not build_root.hold(cache, name):
        message = f"the build root of toolchain {name} is not in the cache"
        raise UserError(message, "./doit toolchain makes it")
    return _entered(build_root.root_folder(cache, name) / "root", reason, asked())


def root_needed(name: str) -> str:
    """Return why toolchain `name` needs its build root here; "" if this machine's programs serve."""
    root = build_root.load(name).root
    if root is None:
        return ""
    if asked():
        return f"{VARIABLE}={asked()}"
    if root.always:
        return "its programs would use what else this machine has"
    return host_match.difference(root, build_root.lock(name).package)


def asked() -> str:
    """Return the value of $TCBUILD_TOOLCHAIN.  Raises `UserError` for one without a meaning."""
    value = os.environ.get(VARIABLE, "")
    if value not in ASKED:
        raise UserError(f"{VARIABLE}={value}: expected {', '.join(ASKED[1:])}")
    return value


def _host_serves(name: str) -> str:
    root = build_root.load(name).root
    if root is None:
        return "toolchain host"
    return f"this machine has the {len(root.makers)} packages that write results in the locked versions"


@functools.cache
def _entered(root: Path, reason: str, wanted: str) -> Entry:
    """Return the first way into `root` that works here."""
    failures: list[str] = []
    for candidate in _candidates(root, reason):
        if wanted in ("bwrap", "proot") and candidate.way != wanted:
            continue
        if _works(candidate):
            if failures and candidate.way == "proot":
                return replace(candidate, why=f"{reason}; user namespaces cannot be made")
            return candidate
        failures.append(candidate.way)
    message = f"the build root {root} cannot be entered (tried {', '.join(dict.fromkeys(failures))})"
    raise UserError(message, f"{NO_WAY}. If files of it are gone: ./doit toolchain")


def _works(candidate: Entry) -> bool:
    try:
        return run(["true"], box=candidate.box(()), check=False).status == 0
    except OSError:  # the root has lost the program that would start it
        return False


def started_by_loader(root: Path, program: str) -> tuple[str, ...]:
    """Return the words that start a program of a root without entering it, by the root's dynamic loader."""
    folder = root / LIBRARIES
    return (f"{folder}/ld-linux-x86-64.so.2", "--library-path", str(folder), f"{root}/usr/bin/{program}")


def _candidates(root: Path, reason: str) -> list[Entry]:
    alone = ("--unshare-all", "--proc", "/proc")
    # A container often forbids a /proc of one's own, and with it a process namespace that is of use.
    shared = (
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-net",
        "--unshare-uts",
        "--ro-bind",
        "/proc",
        "/proc",
    )
    found = [
        Entry("bwrap", reason, root, started_by_loader(root, "bwrap"), alone),
        Entry("bwrap", reason, root, started_by_loader(root, "bwrap"), shared),
    ]
    # AppArmor of Ubuntu lets only programs with a profile make user namespaces, by their paths.
    if Path("/usr/bin/bwrap").is_file():
        found.append(Entry("bwrap", reason, root, ("/usr/bin/bwrap",), alone))
    proot = (sys.executable, str(PROOT_START), *started_by_loader(root, "proot"))
    found.append(Entry("proot", reason, root, proot))
    return found

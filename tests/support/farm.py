# SPDX-License-Identifier: MIT
"""A compile farm in network namespaces, and a program of many files, built as kbuild builds.

The hosts are real daemons, each in a network namespace of its own behind a veth pair
(ip-netns(8), veth(4)); the machine itself is the client.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tasks.util.files import sha256_file
from tasks.util.process import clean_env, run
from tests.support.settings import with_values

FILES = 80
KILL_AFTER = 16  # objects
SERIAL = itertools.count()

MAKEFILE = """\
objects := $(patsubst $(SRC)/src/%,%.o,$(wildcard $(SRC)/src/*))
flags = -Wp,-MMD,.$@.d -nostdinc -I$(SRC)/include -include $(SRC)/include/all.h -O2 -Wall \\
    -fmacro-prefix-map=$(SRC)/= -fdebug-prefix-map=$(SRC)=. $(KCFLAGS) -D'MODNAME="$*"'
all: $(objects)
data.bin: ; cp $(SRC)/data.bin $@
%.o: $(SRC)/src/% data.bin
\t$(CC) $(flags) -c -o $@ $<
"""
ALL_H = "#ifndef __ASSEMBLER__\nvoid say(const char *, const char *, int);\n#endif\n"
FUNCTION = """
int f{file}_{n}(int *a, int count)
{{
    int sum = {n};
    for (int i = 0; i < count; i++)
        sum = (sum ^ a[i]) * {factor} + (sum >> {shift});
    say(__FILE__, MODNAME, sum);
    return sum;
}}
"""
# What distcc cannot do elsewhere: the file is here alone.
INCBIN = '__asm__(".section .rodata\\n.incbin \\"data.bin\\"\\n.text");\n'
ASSEMBLY = ".globl start\nstart:\n    nop\n    .ascii MODNAME\n    jmp start\n"


def write_project(output: Path, files: int = FILES) -> None:
    """Write a program of `files` C files, one assembly file and one with .incbin as `output`/linux."""
    source = output / "linux"
    (source / "src").mkdir(parents=True)
    (source / "include").mkdir()
    (output / "build").mkdir()
    (source / "Makefile").write_text(MAKEFILE)
    (source / "include/all.h").write_text(ALL_H)
    (source / "data.bin").write_bytes(bytes(range(256)))
    for file in range(files):
        functions = (FUNCTION.format(file=file, n=n, factor=2 * n + file, shift=n % 7 + 1) for n in range(24))
        (source / f"src/f{file}.c").write_text("".join(functions))
    (source / "src/last.c").write_text(INCBIN)  # a host that failed is left alone for a while
    (source / "src/start.S").write_text(ASSEMBLY)


def with_compiler(settings: Settings, table: Compiler) -> Settings:
    """Return settings whose profile has the table `[compiler]`."""
    return replace(settings, profile=replace(settings.profile, compiler=table))


def build(settings: Settings, jobs: int = 4) -> None:
    """Build the project in the output folder from nothing, in a session of the launcher."""
    clear(settings)
    make = kbuild.of_profile(settings)
    with make.launcher.session() as session:
        argv: list[str | Path] = [
            "make",
            "-C",
            settings.paths.build,
            "-f",
            settings.paths.linux / "Makefile",
            f"SRC={settings.paths.linux}",
        ]
        argv += [word for word in make.argv if word.startswith(("KCFLAGS=", "CC="))]
        run([*argv, f"-j{session.jobs or jobs}"], env=session.env, log=settings.paths.logs / "make")


def clear(settings: Settings) -> None:
    """Empty the build folder."""
    for path in settings.paths.build.iterdir():
        path.unlink()


def objects(settings: Settings) -> dict[str, str]:
    """Return file name -> sha256 of every object."""
    return {path.name: sha256_file(path) for path in settings.paths.build.glob("*.o")}


def built_here(settings: Settings, folder: Path) -> dict[str, str]:
    """Return the objects as the compiler alone makes them, in a folder of another name."""
    plain = with_compiler(with_values(settings, output=folder), Compiler("none"))
    shutil.copytree(settings.paths.linux, plain.paths.linux)
    plain.paths.build.mkdir()
    build(plain)
    return objects(plain)


@dataclass
class Machine:
    """A host of the farm: a network namespace, its address, the client's, and its daemons."""

    name: str
    address: str
    client: str
    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, argv: Sequence[str], log: str, env: Mapping[str, str] | None = None) -> Path:
        """Start a daemon in the namespace and return the file that holds what it prints."""
        path = self.folder / f"{self.name}-{log}"
        with path.open("wb") as sink:
            command = ["ip", "netns", "exec", self.name, *argv]
            daemon = subprocess.Popen(
                command, stdout=sink, stderr=sink, env=clean_env(env), start_new_session=True
            )
        self.daemons.append(daemon)
        return path

    def kill(self) -> None:
        """End all daemons at once, with whatever they are at."""
        for daemon in self.daemons:
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        self.daemons.clear()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Yield hosts, each in a network namespace; skips the test where those are not permitted."""
    with ExitStack() as stack:
        # Daemons that give up their rights must reach it, which pytest's folders forbid.
        folder = Path(tempfile.mkdtemp(prefix="tcbuild-farm-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        made = []
        for number in range(count):
            name = f"tcb{os.getpid()}n{next(SERIAL)}"  # a namespace takes a while to go
            client, address = (
                f"198.18.{os.getpid() % 250}.{4 * number + last}" for last in (1, 2)
            )  # the net for tests of RFC 2544
            machine = Machine(name, address, client, folder)
            try:
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "del", name)
                _ip("netns", "exec", name, "true")  # which also mounts
            except (FileNotFoundError, subprocess.CalledProcessError) as error:
                pytest.skip(f"network namespaces: {getattr(error, 'stderr', error)}")
            stack.callback(machine.kill)
            # The far end goes with its namespace, and this end with the far one.
            _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("addr", "add", f"{client}/30", "dev", f"{name}h")
            _ip("link", "set", f"{name}h", "up")
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            made.append(machine)
        yield made


@contextmanager
def killed_midway(machine: Machine, settings: Settings) -> Iterator[None]:
    """Kill a host's daemons when some objects of the build in the block are made."""

    def kill() -> None:
        until(lambda: len(list(settings.paths.build.glob("*.o"))) >= KILL_AFTER, "an object")
        machine.kill()

    clear(settings)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(ready: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until `ready()`; fails the test if it does not come true."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)

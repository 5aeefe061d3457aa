# SPDX-License-Identifier: MIT
"""The one process runner.

Every program tcbuild starts goes through `run`: an argument list (never a shell
string), a fixed clean environment, its output in a log file, and on failure the
command to copy and the log's tail.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tasks.util import host, jobserver
from tasks.util.errors import DiskFull, ToolMissing, UserError, late_signals

TAIL_LINES = 20
# The messages of programs; tar reports only a short write.
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|Wrote only \d+ of \d+ bytes")
# EFBIG and SIGXFSZ, as programs report them for themselves and for those they start.
FILE_TOO_LARGE = re.compile(r"File too large|File size limit exceeded")
# The variables of the caller's environment that a program gets: they say how to reach the
# machine's package sources, and cannot change what is built.
PASSED_VARIABLES = re.compile(
    r"(?i)^(https?_proxy|no_proxy|ftp_proxy|SSL_CERT_(FILE|DIR)|APT_CONFIG|HOME|USER|TERM|CI|TCBUILD_(?!CACHE_KEY$)\w+)$"
)


@dataclass(frozen=True)
class Result:
    """The result of a finished program: its exit status, stdout (text) and wall seconds."""

    status: int
    stdout: str
    seconds: float


class CommandFailed(UserError):
    """A program that ended with an error.

    command: the command line to copy; log: the file with its output, None if it has none.  The
    detail has both, and the end of the output.  logged: the command as the log has it, behind `+ `.
    """

    def __init__(self, message: str, hint: str, detail: str, command: str, log: Path | None) -> None:
        super().__init__(message, hint, detail)
        self.command = self.logged = command
        self.log = log


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CREDENTIALS = re.compile(r"://[^/@\s'\"]+@")


def search_path() -> str:
    """Return the folders of programs, as in $PATH: the system's, then that of programs added without root."""
    added = host.added_folder() / host.STARTERS
    return f"{PATH}:{added}" if added.is_dir() else PATH


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the fixed environment of all programs, with `extra` added."""
    env = {name: value for name, value in os.environ.items() if PASSED_VARIABLES.match(name)}
    env |= {
        "PATH": search_path(),
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "UTC",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    env.setdefault("HOME", "/nonexistent")  # a container may have none; programs would look for a user's name
    if "TCBUILD_FAKETIME" in os.environ:
        env |= faketime(os.environ["TCBUILD_FAKETIME"])
    return env | dict(extra or {})


def faketime(wanted: str) -> dict[str, str]:
    """Return the environment that shows programs another time: `wanted` is "LIBRARY OFFSET".

    Only `./doit reproduce` uses it.  File times stay real: otherwise make would see all files
    in the past.
    """
    library, _, offset = wanted.rpartition(" ")
    words = {"LD_PRELOAD": library, "FAKETIME": offset}
    return words | {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def require_tool(tool: str) -> str:
    """Return the path of `tool`; raise `ToolMissing`, which names its package, if it is missing."""
    found = shutil.which(tool, path=search_path())
    if found:
        return found
    package = host.package_of(tool)
    hint = f"apt-get install {package}" if package else f"install a package that provides {tool}"
    raise ToolMissing(f"{tool} is not installed", hint)


def shell_command(argv: Sequence[str], cwd: Path | None, extra: Mapping[str, str] | None) -> str:
    """Return a command line that a person can paste into a shell to run the program again.

    User and password in an address (of a proxy or a package index) are replaced by `***`,
    because the line goes into logs.
    """
    settings = [f"{name}={value}" for name, value in sorted((extra or {}).items())]
    line = shlex.join([*(["env", *settings] if settings else []), *argv])
    line = CREDENTIALS.sub("://***@", line)
    return f"(cd {shlex.quote(str(cwd))} && {line})" if cwd else line


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    stdout: Path | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    hint: str = "",
    jobs: int = 0,
    box: Sequence[str] = (),
) -> Result:
    """Run a program and wait for its end.

    `log` receives the command and all its output (stdout and stderr together);
    `stdout` instead sends standard output to that file, byte for byte.
    `on_line` is called with each line of output at once.  Without `log` and `stdout`,
    standard output is returned in `Result.stdout` and stderr is kept for errors.
    `jobs` is for make, or for a program that starts make: how many jobs it may run at once,
    by the jobserver.
    `box` are words before `argv` that run it in a build root, where it is looked for.

    Raises `UserError` if the program is missing, or if `check` is set and it exits non-zero.
    On any exception, Ctrl-C included, the whole process group is ended first.
    """
    words = [str(word) for word in argv]
    extra = dict(env or {})
    inherits: tuple[int, ...] = ()
    shown = extra | ({"MAKEFLAGS": f"-j{jobs}"} if jobs else {})
    # Manifests have the command of a log, which is the same whatever runs it.
    plain = shell_command(words, cwd, shown)
    logged = (f"# in a build root: {shlex.join(box)}\n" if box else "") + f"+ {plain}\n"
    if box:
        words = [*box, *words]
    elif "/" not in words[0]:
        words[0] = require_tool(words[0])
    command = shell_command(words, cwd, shown)
    if jobs:
        extra["MAKEFLAGS"], inherits = jobserver.make_flags(jobs)
    started = time.monotonic()
    # A build root has its programs at the places of every system.
    environment = clean_env({"PATH": PATH, **extra} if box else extra)
    process = None
    try:
        with late_signals():
            process = _start(words, cwd, environment, stdin or b"", stdout, inherits, separate_stderr=not log)
        out, err = _collect(process, logged, log, on_line)
    except BaseException:
        # Do it while its output is still read: SIGPIPE would kill make before it gives tokens back.
        if process is not None:
            end_group(process)
        raise
    finally:
        if process is not None and process.stdout is not None:
            process.stdout.close()
    if check and process.returncode != 0:
        raise _failure(Path(argv[0]).name, process.returncode, (command, plain), err or out, log, hint)
    return Result(process.returncode, out, time.monotonic() - started)


def _start(
    words: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str],
    stdin: bytes,
    stdout: Path | None,
    inherits: Sequence[int],
    *,
    separate_stderr: bool,
) -> subprocess.Popen[bytes]:
    """Start a program; separate_stderr: whether stderr has a pipe of its own."""
    # Input comes from a file: a pipe could fill up while the program waits for us to read.
    with (
        tempfile.TemporaryFile() as source,
        stdout.open("wb") if stdout else nullcontext(subprocess.PIPE) as sink,
    ):
        source.write(stdin)
        source.seek(0)
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=source,
            stdout=sink,
            stderr=subprocess.PIPE if separate_stderr or stdout else subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,
            pass_fds=inherits,
        )


def _collect(
    process: subprocess.Popen[bytes],
    logged: str,
    log: Path | None,
    on_line: Callable[[str], None] | None,
) -> tuple[str, str]:
    if log is None or process.stderr is not None:
        out, err = process.communicate()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as sink:
                sink.write(logged.encode() + (err or b""))
        return (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=200)
    with log.open("ab") as sink:
        sink.write(logged.encode())
        sink.flush()
        assert process.stdout is not None
        for raw in process.stdout:
            sink.write(raw)
            line = raw.decode(errors="replace").rstrip("\n")
            tail.append(line)
            if on_line:
                on_line(line)
    process.wait()
    return "\n".join(tail), ""


def spawn(
    argv: Sequence[str | Path], *, pipes: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in the fixed environment, and return without waiting for its end.

    With `pipes`, stdin and stdout (with stderr) are pipes, and the program leads a process
    group of its own, which `end_group` ends.  Without, it shares the terminal.
    Raises `UserError` if the program is missing.
    """
    words = [str(word) for word in argv]
    words[0] = words[0] if "/" in words[0] else require_tool(words[0])
    if not pipes:
        return subprocess.Popen(words, env=clean_env(env))
    return subprocess.Popen(
        words,
        env=clean_env(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it started: SIGTERM, then SIGKILL after five seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close this end of the pipes of a process."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _failure(
    name: str, status: int, commands: tuple[str, str], output: str, log: Path | None, hint: str
) -> UserError:
    """Return the error; commands: the command to copy, and as the log has it."""
    command, logged = commands
    how = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
    tail = "\n".join(f"  | {line}" for line in output.splitlines()[-TAIL_LINES:])
    detail = [f"  command: {command}"]
    if log:
        detail.append(f"  log: {log}")
    if status == -signal.SIGXFSZ or FILE_TOO_LARGE.search(output):
        hint = "raise it: ulimit -f unlimited"
        message = f"{name}: a file would be larger than this shell allows (ulimit -f)"
        return DiskFull(message, hint, "\n".join([*detail, tail]))
    if DISK_FULL.search(output):
        hint = "free some space and run the same command again; finished work is kept"
        return DiskFull(f"{name}: the disk is full", hint, "\n".join([*detail, tail]))
    failed = CommandFailed(f"{name} {how}", hint, "\n".join([*detail, tail]), command, log)
    failed.logged = logged
    return failed


def in_ci() -> bool:
    """Tell whether progress should be plain lines instead of a moving bar."""
    return bool(os.environ.get("CI")) or not sys.stderr.isatty()

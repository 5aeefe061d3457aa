# SPDX-License-Identifier: MIT
"""Run a guest in QEMU and control it over its serial console.

The guest's own shell reports the exit status of every command.  A kernel panic, the end of
QEMU or a time limit ends the wait at once, and the error shows the last lines of the console.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.process import close_pipes, end_group, spawn
from tasks.vm import monitor, virtiofsd
from tasks.vm.machine import Machine, argv, listens

PROMPT = r"(tc|root)@\w+:[^\r\n]*[$#] "
# The whole line, which may come in pieces.
PANIC = re.compile(r"(?:Kernel panic - not syncing|Attempted to kill init|end Kernel panic)[^\n]*(?=\n)")
# The kernel waits for ten ticks of the timer, by the clock of this machine.  TCG loses ticks if this machine
# is too busy to run QEMU meanwhile: the panic says nothing about the image (arch/x86/kernel/apic/io_apic.c).
LATE_TIMER = re.compile(r"(---\[ end )?Kernel panic - not syncing: IO-APIC \+ timer doesn't work[^\n]*\n")
RESETS = 3
FIRMWARE_SECONDS = 2.0  # what comes later than this after a reset is no rest of what was said before it
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r")
INCOMPLETE_END = re.compile(rb"(\x1b(\[[0-9;?]*)?|[\xc2-\xf4][\x80-\xbf]{0,2})?\Z")
TAIL_LINES = 25
KEPT = 8 << 20  # characters of the console that are kept at least, for a guest that floods it


class GuestError(UserError):
    """The guest failed or did not answer; `detail` holds the last lines of the console."""


class Panicked(GuestError):
    """The guest's kernel panicked."""


class Ended(GuestError):
    """QEMU has ended: the guest powered off, or QEMU itself failed."""


class TimedOut(GuestError):
    """The guest did not do in time what it was asked for."""


class Guest:
    """A context manager for a QEMU process and its serial console; leaving it ends QEMU.

    limit: seconds from now until every wait ends.
    An emulated guest that panics because its timer came too late is started again, up to `RESETS` times.
    """

    def __init__(self, machine: Machine, log: Path, *, limit: float = 300.0) -> None:
        self.machine = machine
        self.log = log
        self.deadline = time.monotonic() + limit
        self.limit = limit
        self._text = ""
        self._seen = 0
        self._looked = 0
        self._changed = threading.Condition()
        self._ended = False
        self._resets = RESETS if machine.accel == "tcg" else 0
        self._reset_at = 0.0

    def __enter__(self) -> Guest:
        self._scratch = tempfile.TemporaryDirectory(prefix="tcbuild-qemu-")
        command = argv(self.machine, Path(self._scratch.name))
        command += ["-display", "none", "-serial", "stdio", *monitor.options(self.scratch)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text(f"+ {shlex.join(command)}\n", errors="surrogateescape")
        with ExitStack() as started:
            started.callback(self._scratch.cleanup)
            started.enter_context(virtiofsd.serving(self.machine.shares, self.scratch))
            self._process = spawn(command)
            self._started = started.pop_all()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_group(self._process)
        self._reader.join(timeout=5)
        close_pipes(self._process)
        self._started.close()

    @property
    def scratch(self) -> Path:
        """The folder of this machine's UEFI variables and sockets; it goes with the guest."""
        return Path(self._scratch.name)

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        incomplete = b""
        with self.log.open("ab") as sink:
            while block := stdout.read(4096):
                sink.write(block)
                sink.flush()
                # A read may end within a control sequence or a UTF-8 character.
                block = incomplete + block
                incomplete = INCOMPLETE_END.search(block)[0]  # type: ignore[index]
                with self._changed:
                    before = len(self._text)
                    self._text += CONTROL_SEQUENCE.sub(
                        "", block[: len(block) - len(incomplete)].decode("utf-8", "replace")
                    )
                    with suppress(UserError):  # if QEMU does not answer, the panic is told
                        self._reset_after_late_timer(before)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _reset_after_late_timer(self, before: int) -> None:
        """Start the guest again if it has panicked because of its timer, and forget the panic's lines.

        before: how much of the text has been looked at.
        """
        if self._reset_at and time.monotonic() > self._reset_at + FIRMWARE_SECONDS:
            self._reset_at = 0.0
            monitor.forbid_reboot(self.scratch)
        start = max(0, self._text.rfind("\n", 0, before))
        while found := LATE_TIMER.search(self._text, start):
            # The trace after the panic ends with its text once more.
            if not found[1]:
                if not self._resets:
                    return
                self._resets -= 1
                monitor.reset(self.scratch)
                self._reset_at = time.monotonic()
                logger.warning("the guest's timer came too late, because this machine is busy: started again")
            self._text = self._text[: found.start()] + self._text[found.end() :]

    @property
    def console(self) -> str:
        """The console's output so far, without control sequences and carriage returns."""
        with self._changed:
            return self._text

    @property
    def prompted(self) -> bool:
        """Whether the console shows a shell's prompt that nothing has waited for yet."""
        with self._changed:
            return re.search(PROMPT, self._text[self._seen :]) is not None

    def expect(self, pattern: str, timeout: float = 120.0) -> re.Match[str]:
        """Wait until `pattern` (a regular expression) appears after the last match.

        Raises `GuestError` on a kernel panic, when QEMU ends, or after `timeout` seconds.
        """
        until = min(time.monotonic() + timeout, self.deadline)
        compiled = re.compile(pattern, re.MULTILINE)
        with self._changed:
            while True:
                match = compiled.search(self._text, self._seen)
                if match:
                    self._seen = match.end()
                    return match
                self._refuse_panic(self._seen)
                if self._ended:
                    raise self._error(f"the guest ended before {pattern!r} appeared", Ended)
                left = until - time.monotonic()
                if left <= 0:
                    raise self._error(f"no {pattern!r} on the console within {timeout:.0f} s", TimedOut)
                self._changed.wait(left)

    def check(self) -> None:
        """Look at the console without waiting.

        Raises `Panicked` if the kernel has panicked since the last look, and `Ended` if QEMU has ended.
        The console's beginning is forgotten once it is long: nobody waits for a text in it meanwhile.
        """
        with self._changed:
            self._refuse_panic(max(self._seen, self._looked))
            if self._ended:
                raise self._error("the guest has ended", Ended)
            if len(self._text) > 2 * KEPT:
                cut = len(self._text) - KEPT
                self._text, self._seen = self._text[cut:], max(0, self._seen - cut)
            # The line of a panic may come in pieces.
            self._looked = max(0, self._text.rfind("\n"))

    def _refuse_panic(self, start: int) -> None:
        panic = PANIC.search(self._text, start)
        if panic:
            raise self._error(f"the guest's kernel panicked: {panic.group()}", Panicked)

    def send(self, line: str) -> None:
        """Send one line to the console."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._error("the guest has ended", Ended) from None

    def login(self, timeout: float = 180.0) -> None:
        """Wait for the autologin shell and start the loop in it that `run` sends commands to.

        The loop reads lines without line editing, so that no echo is mixed with the output.
        """
        self.expect(PROMPT, timeout)
        loop = 'stty -echo; while IFS= read -r c; do eval "$c" </dev/null; echo "@@""END $?"; done 2>&1'
        self.send(f"unalias -a; {loop}")  # Tiny Core's shell has aliases that ask: rm is `rm -i`
        self.run("true", timeout=60)

    def run(self, command: str, timeout: float = 60.0, *, check: bool = True) -> str:
        """Run a shell command (one line) in the guest and return its output.

        With `check`, raises `GuestError` if the guest reports a status other than 0.  Without,
        the last line of the returned text is the status.
        """
        if "\n" in command:
            raise ValueError("a command must be one line")
        start = self._seen
        self.send(command)
        match = self.expect(r"@@END (\d+)\n", timeout)
        with self._changed:
            output = self._text[start : match.start()]
        status = int(match.group(1))
        if not check:
            return f"{output}{status}"
        if status != 0:
            raise self._error(f"in the guest, {command!r} exited with status {status}: {output.strip()}")
        return output

    def screenshot(self, path: Path) -> None:
        """Write what the guest's screen shows as a PNG.  Raises `GuestError` if QEMU makes none."""
        until = time.monotonic() + monitor.SECONDS
        while not listens(self.scratch / monitor.SOCKET) and time.monotonic() < until and not self._ended:
            time.sleep(0.05)  # QEMU has just been started
        try:
            monitor.screenshot(self.scratch, path)
        except UserError as error:
            raise GuestError(f"no screenshot: {error.message}", error.hint) from None

    def power_off(self, timeout: float = 60.0) -> None:
        """Shut the guest down with `sudo poweroff` and wait until QEMU has ended.

        Raises `GuestError` after `timeout` seconds.
        """
        self.send("sudo poweroff")
        self.wait_for_end(timeout)

    def wait_for_end(self, timeout: float = 60.0) -> None:
        """Wait until QEMU has ended, because the guest has powered off.

        Raises `GuestError` after `timeout` seconds.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while not self._ended:
                left = until - time.monotonic()
                if left <= 0:
                    raise self._error(f"the guest did not power off within {timeout:.0f} s", TimedOut)
                self._changed.wait(left)

    def cut_power(self) -> None:
        """Kill QEMU, as a power cut would, so that the guest cannot shut down."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def tail(self) -> str:
        """The last lines of the console."""
        with self._changed:
            return "\n".join(self._text.splitlines()[-TAIL_LINES:])

    def _error(self, text: str, kind: type[GuestError] = GuestError) -> GuestError:
        tail = "\n".join(f"  | {line}" for line in self._text.splitlines()[-TAIL_LINES:])
        return kind(
            text,
            "read the console log",
            f"  log: {self.log}\n{tail}" if tail else f"  log: {self.log}",
        )

# SPDX-License-Identifier: MIT
"""Checks in a booted guest: which fit it, what runs there, and whether the answer is right."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.config.check import Check
from tasks.config.checks import PlacedCheck, of_profile
from tasks.config.plan import AT_BOOT, extensions_at, made_by_recipe
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.initramfs.embedded import with_dependencies
from tasks.kernel.fragments import parse_config
from tasks.origins.lock import load_lock
from tasks.util.text import printable
from tasks.vm.guest import TimedOut
from tasks.vm.machine import Firmware
from tasks.vm.results import Result
from tasks.vm.run import Asker

GRACE = 60.0  # seconds that a guest gets besides to begin a program and to end it: this machine may be busy
KILLED = (124, 137)  # the status of timeout(1), and that of a program that it has killed
SHOWN = 2000  # characters of an answer that a message shows
LINE = 200  # characters of a line that it shows
# timeout(1) ends the check's own program, where there is one.
LIMITED = """\
#!/bin/sh
with=$(command -v timeout > /dev/null && echo timeout -s KILL SECONDS)
"""
# A script stands behind these lines.
SCRIPT = """\
own=$(mktemp) || exit 125
tail -n +8 "$0" > $own && chmod 700 $own || exit 125
$with $own; status=$?
rm -f $own
exit $status
"""


@dataclass(frozen=True)
class Built:
    """What checks ask about an image that is built.

    config: symbol without CONFIG_ -> value.  named: the extensions that the profile loads at boot;
    loaded: the same, with those that they need.
    named_in_core, loaded_in_core: of these, what is there without a medium.
    """

    release: str
    config: Mapping[str, str]
    named: tuple[str, ...]
    named_in_core: tuple[str, ...]
    loaded: tuple[str, ...]
    loaded_in_core: tuple[str, ...]
    own_root: bool
    checks: tuple[PlacedCheck, ...]

    @classmethod
    def of(cls, paths: Paths, profile: Profile) -> Built:
        """Return that of a profile's image.  Raises `UserError` as `checks.of_profile` does."""
        release = (paths.kernel / "release").read_text().strip()
        named, in_core = extensions_at(profile, *AT_BOOT), extensions_at(profile, "initrd")
        loaded = with_dependencies(paths.tcz, named, release)
        lock = load_lock(paths.used_lock)
        recipes = [name for name in loaded if made_by_recipe(profile, lock, name)]
        return cls(
            release,
            parse_config((paths.kernel / "config").read_text()),
            tuple(named),
            tuple(in_core),
            tuple(loaded),
            tuple(with_dependencies(paths.tcz, in_core, release)),
            profile.core.rootfs,
            tuple(of_profile(profile, recipes)),
        )

    def fitting(self, firmware: Firmware, medium: str) -> list[PlacedCheck]:
        """Return the checks of a system that was booted so; medium: "" for a direct boot."""
        there = self.loaded_in_core if firmware == "direct" else self.loaded
        return [
            placed
            for placed in self.checks
            if firmware in placed.check.firmware
            and (not placed.check.media or medium in placed.check.media)
            and all(name in there for name in (placed.check.extension, placed.recipe) if name)
            and all(self.config.get(symbol, "n") != "n" for symbol in placed.check.kconfig)
            and (self.own_root or not placed.check.own_root)
        ]

    def program(self, placed: PlacedCheck, firmware: Firmware) -> bytes:
        """Return the file that a guest runs for a check."""
        limited = LIMITED.replace("SECONDS", str(placed.check.timeout))
        if placed.script:
            return f"{limited}{SCRIPT}".encode() + placed.script.read_bytes()
        names = self.named_in_core if firmware == "direct" else self.named
        values = {"@RELEASE@": self.release, "@EXTENSIONS@": shlex.join(names)}
        command = placed.check.command
        for key, value in values.items():
            command = command.replace(key, value)
        return f"{limited}exec $with /bin/sh -c {shlex.quote(command)}\n".encode()


def make(asker: Asker, check: Check, program: bytes) -> Result:
    """Run the program of a check, and return whether its answer is right.

    Raises `GuestError` if the guest panics or ends, or if nothing can be run there any more.
    """
    started = time.monotonic()
    try:
        status, output, errors = asker.ask(program, check.user, check.timeout + GRACE)
    except TimedOut as error:
        message = f"did not end within {check.timeout} s, nor by SIGKILL"
        raise TimedOut(message, error.hint, error.detail) from None
    took = time.monotonic() - started
    said = output.decode("utf-8", "replace")
    message = verdict(check, status, said, took)
    if not message:
        return Result(check.name, "passed", took)
    answers = {"output": said, "errors": errors.decode("utf-8", "replace"), "console": asker.guest.tail}
    return Result(check.name, "failed", took, message, detail(answers))


def verdict(check: Check, status: int, output: str, seconds: float) -> str:
    """Return what is wrong with the answer to a check, in one line; "" for nothing."""
    if status in KILLED and seconds >= check.timeout:
        return f"did not end within {check.timeout} s"
    if status != check.status:
        last = output.strip().splitlines()[-1:]
        said = f": {printable(last[0])[:SHOWN]}" if last else ""
        return f"exited with status {status}, expected {check.status}{said}"
    if check.output and not re.search(check.output, output, re.MULTILINE):
        return f"its output does not match {check.output!r}"
    return ""


def detail(texts: Mapping[str, str]) -> str:
    """Return the ends of named texts, each line behind a bar; those that are empty are left out."""
    return "\n".join(
        f"{name}:\n" + "\n".join(f"  | {line[-LINE:]}" for line in printable(text[-SHOWN:]).splitlines())
        for name, text in texts.items()
        if text.strip()
    )

# SPDX-License-Identifier: MIT
"""One trial: the commands of the README on a fresh system, and the ISO compared with this machine's."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.provenance.reproduce import compare
from tasks.util.files import scratch_folder, write_atomic
from tasks.util.log import logger
from tests.support import hosts
from tests.support.built import copy_checkout
from tests.support.hosts import System, Visitor

COMMANDS: dict[str, tuple[str, ...]] = {
    "set-up": ("./doit", "tcz:tree"),  # it needs all that a build needs, and does next to nothing
    "toolchain": ("./doit", "toolchain"),
    "iso": ("./doit", "iso"),
    "tests": ("./doit", "test:unit"),
}
"""Column of the table -> the command, run in this order.  A set-up that fails ends the trial."""
# That of the venv, which may be another than the system's first.
PYTHON_VERSION = "artifacts/.venv/bin/python3 --version 2>/dev/null || python3 --version"
OF_THE_PROFILE = ("set-up", "toolchain", "iso")


@dataclass(frozen=True)
class Ended:
    """How one command ended: wall seconds, and the line that says why it failed, "" if it did not."""

    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class Trial:
    """What came of a trial; ended: column -> how its command ended, without those that were not run.

    difference: where the ISO differs from this machine's, "" if nowhere, None if its command made none.
    """

    host: str
    visitor: Visitor
    python: str = ""
    ended: Mapping[str, Ended] = field(default_factory=dict)
    difference: str | None = None

    @property
    def is_good(self) -> bool:
        return self.difference == "" and not any(end.failure for end in self.ended.values())


def run(name: str, visitor: Visitor, reference: Path, cache: Path, folder: Path) -> Trial:
    """Try the system `name` in a scratch folder below `folder`.

    reference: the ISO that this machine made, `tcbuild-PROFILE.iso`.  cache: this machine's cache
    folder, of which the trial has the compiler cache alone; it downloads all else.  Each command's
    output goes to `folder`/logs.  Raises `UserError` if the system cannot be made.
    """
    profile = reference.stem.removeprefix("tcbuild-")
    tarball = hosts.archive(name, cache)
    with scratch_folder(folder, f"{name}-{visitor}") as scratch:
        compiled = cache / "ccache"
        for path in (scratch / "cache/ccache", compiled):
            path.mkdir(parents=True, exist_ok=True)
        system = System(
            hosts.unpack(tarball, scratch / "root"),
            copy_checkout(scratch / "checkout"),
            scratch / "cache",
            visitor,
            {hosts.CACHE / "ccache": compiled},
        )
        ended: dict[str, Ended] = {}
        for column, command in COMMANDS.items():
            words = (*command, f"profile={profile}") if column in OF_THE_PROFILE else command
            logger.info(f"{name}, as {visitor}: {' '.join(words)}")
            started = time.monotonic()
            done = system.run(*words)
            failure = reason(done.output) if done.status else ""
            ended[column] = Ended(time.monotonic() - started, failure)
            write_atomic(folder / "logs" / f"{name}-{visitor}-{column}.log", done.output)
            if failure and column == "set-up":
                break
        python = system.run("sh", "-c", PYTHON_VERSION).output.strip().removeprefix("Python ")
        made = scratch / "checkout/artifacts" / profile / reference.name
        # A command that fails may leave a file that is not its last word.
        whole = "iso" in ended and not ended["iso"].failure
        difference = compare.difference(made, reference) if whole else None
        return Trial(name, visitor, python, ended, difference)


def reason(output: str) -> str:
    """Return the line of a command's output that says why it failed: pytest's last, an error, or the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    for telling in (r"=+ \d+ failed, .*", r"error: .*", ".*"):
        if found := [line for line in lines if re.fullmatch(telling, line)]:
            return found[-1].strip("= ")
    raise AssertionError

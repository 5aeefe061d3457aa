"""How the kernel's own make is called: the same arguments in every stage.

The values that would differ from build to build are fixed as the kernel's
Documentation/kbuild/reproducible-builds.rst asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.config.settings import Settings
from tasks.toolchain import build_root, launcher
from tasks.toolchain.build_root import Bind, ReadyToolchain
from tasks.toolchain.launcher import Launcher
from tasks.util import jobserver
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.process import Result, run

ARCH = "x86_64"


@dataclass(frozen=True)
class Kbuild:
    """The kernel's make of one profile: put together once, and then run for one goal after the other.

    argv: make and the arguments common to all calls; env: the environment of all calls;
    tree: the kernel's; binds: what a build root sees of the machine.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    tree: Path
    toolchain: ReadyToolchain
    binds: tuple[Bind, ...]
    launcher: Launcher

    def run(
        self,
        goals: Sequence[str],
        *,
        log: Path | None = None,
        sees: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        hint: str = "",
        jobs: int = 0,
    ) -> Result:
        """Run make for `goals`, one job at a time or `jobs`.

        `sees` are further paths a build root must show; `env` goes on top of the common one.
        Raises `UserError` as `process.run` does.
        """
        argv = self.in_toolchain([*self.argv, *goals], sees)
        more = {**self.env, **(env or {})}
        return run(argv, env=more, log=log, on_line=on_line, hint=hint, jobs=jobs)

    def in_toolchain(self, argv: Sequence[str | Path], sees: Sequence[Path] = ()) -> list[str]:
        """Return the argument list that runs `argv` with the toolchain; a build root sees also `sees`."""
        return build_root.command(self.toolchain.root, argv, [*self.binds, *(Bind(path) for path in sees)])


def of_profile(settings: Settings) -> Kbuild:
    """Return the kernel's make for the profile, whose toolchain is ready (`toolchain.prepare`).

    A build root sees the output folder, the launcher's and kconfig/; the kernel tree and those
    of the checkout read-only.  Raises `UserError` if the build root is not made, and if the
    output folder's path holds a character that kbuild cannot live with.
    """
    arguments = _common_arguments(settings)
    toolchain = build_root.ready(settings.cache, settings.profile.kernel.toolchain)
    before = launcher.of_profile(settings)
    words = before.words(toolchain.compiler, has_ccache=toolchain.has("ccache"))
    writable = (settings.output, before.folder)
    read_only = (settings.linux, ROOT / "kconfig")
    return Kbuild(
        argv=(*arguments, f"CC={words}", f"HOSTCC={words}"),
        env=settings.epoch_env | before.environment(),
        tree=settings.linux,
        toolchain=toolchain,
        binds=(*(Bind(path, writable=True) for path in writable), *map(Bind, read_only)),
        launcher=before,
    )


def _common_arguments(settings: Settings) -> list[str]:
    """Return `make` and its arguments but for the compiler.

    That belongs to every call, too: kbuild compares $(CC) with that of the last one, and
    reads the whole configuration again if it differs.
    """
    linux, build = settings.linux, settings.build
    if any(character.isspace() or character in ":'\"$#\\" for character in str(settings.output)):
        raise UserError(
            f"{settings.output}: the kernel's build cannot handle spaces, colons or quotes in its path",
            "choose another folder with out=DIR, or move the checkout",
        )
    # A spelled-out date: 5.4 copies the text into `uname -v`, and the initramfs
    # code hands it to `date -d`.  `%a` and `%b` are English in the C locale.
    stamp = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(settings.profile.source_date_epoch))
    # __FILE__ is mapped by the kernel's Makefile; debug information is left to the caller.
    prefix = f"-fdebug-prefix-map={linux}=. -fdebug-prefix-map={build}=."
    # Compiler caches make paths relative to the build folder, so that hits survive another
    # one; kbuild's map has only the absolute path, and the caches' objects would differ.
    beside = f"../{linux.name}"
    prefix += f" -fmacro-prefix-map={beside}/= -fdebug-prefix-map={beside}=."
    return [
        "make",
        "--no-print-directory",
        "-C",
        str(linux),
        f"O={build}",
        f"ARCH={ARCH}",
        f"KBUILD_BUILD_TIMESTAMP={stamp}",
        "KBUILD_BUILD_USER=tc",
        "KBUILD_BUILD_HOST=tcbuild",
        "KBUILD_BUILD_VERSION=1",
        f"KCFLAGS={prefix}",
        f"KAFLAGS={prefix}",
        # Set, though empty: scripts/setlocalversion then appends no "+" even if the
        # tree is the top of a git checkout.
        "LOCALVERSION=",
    ]


def jobs() -> int:
    """Return how many jobs make may run at once: the processors this process may use, or `jobs=N`."""
    return jobserver.slots()

"""How the kernel's own make is called: the same arguments in every stage.

The values that would differ from build to build are fixed as the kernel's
Documentation/kbuild/reproducible-builds.rst asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tasks.config.settings import Settings
from tasks.toolchain import build_root, launcher
from tasks.toolchain.build_root import Bind
from tasks.util import jobserver
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.process import Result, run

ARCH = "x86_64"


def make_args(settings: Settings) -> list[str]:
    """Return `make` and the arguments common to all calls; `make` adds goals and environment.

    Raises `UserError` if the output
    folder's path holds a character kbuild cannot live with.
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
        *compiler_args(settings),
    ]


def compiler_args(settings: Settings) -> list[str]:
    """Return make's compiler arguments: the toolchain's, behind the profile's launcher.

    They belong to every call: kbuild compares $(CC) with that of the last one, and
    reads the whole configuration again if it differs.
    """
    compiler = launcher.words(settings)
    return [f"CC={compiler}", f"HOSTCC={compiler}"]


def make_env(settings: Settings) -> dict[str, str]:
    """Return the environment of every call of make: the epoch, and the launcher's settings."""
    return settings.epoch_env | launcher.environment(settings)


def jobs() -> int:
    """Return how many jobs make may run at once: the processors this process may use, or `jobs=N`."""
    return jobserver.slots()


def in_toolchain(settings: Settings, argv: Sequence[str | Path], sees: Sequence[Path] = ()) -> list[str]:
    """Return the argument list that runs `argv` with the profile's toolchain.

    A build root sees the output folder, ccache's, kconfig/ and `sees`; the kernel
    tree and those of the checkout read-only.
    """
    chosen = settings.profile.kernel.toolchain
    root = build_root.ensure_root(settings.cache, chosen, offline=settings.offline)
    ccache = settings.cache / "ccache"
    ccache.mkdir(parents=True, exist_ok=True)
    binds = [Bind(path, writable=True) for path in (settings.output, ccache)]
    binds += [Bind(path) for path in (settings.linux, ROOT / "kconfig", *sees)]
    return build_root.command(root, argv, binds)


def make(
    settings: Settings,
    goals: Sequence[str],
    *,
    log: Path | None = None,
    sees: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    hint: str = "",
    jobs: int = 0,
) -> Result:
    """Run the kernel's make for `goals` with the profile's toolchain, one job at a time or `jobs`.

    `sees` are further paths a build root must show; `env` goes on top of `make_env`.
    Raises `UserError` as `run` does.
    """
    argv = in_toolchain(settings, [*make_args(settings), *goals], sees)
    more = make_env(settings) | dict(env or {})
    return run(argv, env=more, log=log, on_line=on_line, hint=hint, jobs=jobs)


def fingerprint(settings: Settings) -> str:
    """Return one line that differs whenever objects of two builds must not be mixed."""
    chosen = settings.profile.kernel.toolchain
    root = build_root.ensure_root(settings.cache, chosen, offline=settings.offline)
    return build_root.fingerprint(chosen, root)

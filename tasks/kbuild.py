"""How the kernel's own make is called: the same arguments in every stage.

The values that would differ from build to build are fixed as the kernel's
Documentation/kbuild/reproducible-builds.rst asks.
"""

from __future__ import annotations

import os
import shutil
import time

from tasks.errors import UserError
from tasks.profile import Settings
from tasks.run import clean_env, run

ARCH = "x86_64"


def make_args(settings: Settings) -> list[str]:
    """Return `make` and the arguments common to all calls; add goals and `-jN`.

    Call it with `env=make_env(settings)`.  Raises `UserError` if the output
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
        *compiler_args(),
    ]


def compiler_args() -> list[str]:
    """Return make's compiler arguments: through ccache where it is installed.

    They belong to every call: kbuild compares $(CC) with that of the last one, and
    reads the whole configuration again if it differs.
    """
    found = shutil.which("ccache", path=clean_env()["PATH"])
    return ["CC=ccache gcc", "HOSTCC=ccache gcc"] if found else []


def make_env(settings: Settings) -> dict[str, str]:
    """Return the environment of every call of make: the epoch, and ccache's settings.

    ccache's hits survive another folder, never another compiler.
    """
    folder = settings.cache / "ccache"
    return settings.epoch_env | {
        "CCACHE_DIR": str(folder),
        "CCACHE_BASEDIR": str(settings.output),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_MAXSIZE": "2G",
        # The temporary files of a cut run must not pile up in the user's /tmp or /run.
        "CCACHE_TEMPDIR": str(folder / "tmp"),
    }


def jobs() -> int:
    """Return how many jobs make may run at once: the processors this process may use."""
    return len(os.sched_getaffinity(0))


def kernel_release(settings: Settings) -> str:
    """Return the release of the kernel in the build folder, as `uname -r` says it.

    `make kernelrelease` alone reads what the last build left in include/config;
    the file as a second goal brings that up to date with `.config` first.
    Raises `UserError` if there is no `.config` yet.
    """
    if not (settings.build / ".config").is_file():
        raise UserError(f"{settings.build} holds no .config", "./doit kernel")
    goals = ["-s", "include/config/kernel.release", "kernelrelease"]
    result = run([*make_args(settings), *goals], env=make_env(settings))
    return result.stdout.split()[-1]

# SPDX-License-Identifier: MIT
"""The variations between the two builds of `./doit reproduce`.

Each variation changes the command, the environment or the folder of the second build.  If this
machine cannot make a variation, the report gives the reason.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.process import clean_env, faketime, run

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
NOBODY = 65534


@dataclass
class Start:
    """How a build is started.

    folder: of the checkout; python: the interpreter; prefix: words before the command; user: uid
    and gid of the build, None for the current user.
    """

    folder: Path
    python: str = sys.executable
    prefix: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    inner_environment: dict[str, str] = field(default_factory=dict)
    """Environment of the build itself, but not of `prefix`."""
    umask: int = 0o022
    user: int | None = None
    reverse: bool = False
    """Whether disorderfs lists the names in folders in reverse order."""
    varied: dict[str, str] = field(default_factory=dict)
    """Variation -> how it was made."""
    not_varied: dict[str, str] = field(default_factory=dict)
    """Variation that was not made -> the reason."""


class _NotPossible(Exception):
    """The reason why a variation cannot be made here."""


def vary(start: Start, leave_out: tuple[str, ...], shared_cache: bool) -> None:
    """Apply to `start` all variations that this machine can make, but those in `leave_out`.

    shared_cache: both builds use one ccache.  Raises `UserError` for an unknown name.
    """
    for name in leave_out:
        if name not in CHANGES:
            raise UserError(
                f"--leave-out {name}: no such variation", f"known variations: {', '.join(CHANGES)}"
            )
    start.varied["folder"] = "another path, of another length, and another HOME"
    for name, change in CHANGES.items():
        try:
            if name in leave_out:
                raise _NotPossible("left out by --leave-out")
            if name == "user" and shared_cache:
                raise _NotPossible("--ccache: the cache is the builder's own")
            start.varied[name] = change(start)
        except _NotPossible as why:
            start.not_varied[name] = str(why)


def _user(start: Start) -> str:
    if os.geteuid() != 0:
        raise _NotPossible("only root can become another user")
    if _missing("setpriv"):
        raise _NotPossible("setpriv is not installed (apt-get install util-linux)")
    for parent in [start.folder.parent, *start.folder.parent.parents]:
        if not parent.stat().st_mode & stat.S_IXOTH:
            raise _NotPossible(f"{parent} is closed to other users")
    # Other users may have no access to the venv, so only its packages are copied.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    known = (getattr(sys, "_base_executable", ""), f"/usr/bin/python{version}")
    for python in filter(None, known):
        if Path(python).exists() and _open_to_all(Path(python).resolve()):
            start.python, start.user = python, NOBODY
            return f"uid {NOBODY} instead of {os.geteuid()}"
    raise _NotPossible(f"other users can run no Python {version} here")


def _open_to_all(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def _umask(start: Start) -> str:
    start.umask = 0o077
    return "077 instead of 022, for the checkout too"


def _locale(start: Start) -> str:
    known = run(["locale", "-a"], check=False).stdout.split()
    others = [name for name in known if name.partition(".")[0] not in ("C", "POSIX", "en_US")]
    chosen = (others or [name for name in known if name not in ("C", "POSIX")] or [""])[0]
    if not chosen:
        raise _NotPossible("no locale but C is generated here")
    start.environment |= {"LC_ALL": chosen, "LANG": chosen, "LANGUAGE": chosen.partition(".")[0]}
    return f"{chosen} instead of C" + ("" if others else " (only encodings differ: no other is generated)")


def _time_zone(start: Start) -> str:
    start.environment["TZ"] = "TST-14"  # POSIX: 14 hours east of UTC, so mostly another date
    return "UTC+14 instead of UTC"


def _clock(start: Start) -> str:
    if not FAKETIME.exists():
        raise _NotPossible("libfaketime is not installed (apt-get install faketime)")
    # The process runner passes it to the programs of the build (tasks/util/process.py).
    start.environment["TCBUILD_FAKETIME"] = f"{FAKETIME} +500d"
    # libfaketime's shared memory must be made by the user who uses it.
    start.inner_environment |= faketime(start.environment["TCBUILD_FAKETIME"])
    return "500 days ahead, in every program, by libfaketime"


def _cores(start: Start) -> str:
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        raise _NotPossible("this machine has one processor")
    if _missing("taskset"):
        raise _NotPossible("taskset is not installed (apt-get install util-linux)")
    start.prefix += ["taskset", "-c", str(there[-1])]
    return f"1 instead of {len(there)}"


def _host_name(start: Start) -> str:
    command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', "reproduced.invalid"]
    if _missing("unshare") or run([*command, "true"], check=False).status != 0:
        raise _NotPossible("unshare and hostname need root")
    start.prefix += command
    return "reproduced.invalid"


def _file_order(start: Start) -> str:
    if _missing("disorderfs"):
        raise _NotPossible("disorderfs is not installed (apt-get install disorderfs)")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise _NotPossible("/dev/fuse cannot be opened, and disorderfs needs it")
    start.reverse = True
    return "names in folders from last to first, by disorderfs"


def _environment(start: Start) -> str:
    start.environment |= {
        "CFLAGS": "-O0 -g3",
        "KCFLAGS": "-DNOISE",
        "LDFLAGS": "-Wl,--build-id=uuid",
        "MAKEFLAGS": "k",
        "KBUILD_BUILD_HOST": "noise",
        "SOURCE_DATE_EPOCH": "1",
        "ZSTD_CLEVEL": "1",
        "GZIP": "-1",
        "XZ_OPT": "-0",
        "PYTHONHASHSEED": "4711",
        "COLUMNS": "40",
    }
    return "flags of compilers and packers, SOURCE_DATE_EPOCH, PYTHONHASHSEED"


CHANGES: dict[str, Callable[[Start], str]] = {
    "user": _user,
    "umask": _umask,
    "locale": _locale,
    "time zone": _time_zone,
    "clock": _clock,
    "cores": _cores,
    "host name": _host_name,
    "file order": _file_order,
    "environment": _environment,
}


def _missing(tool: str) -> bool:
    return shutil.which(tool, path=clean_env()["PATH"]) is None


def command(start: Start, words: list[str]) -> list[str]:
    """Return the command line that runs `words` in the circumstances of `start`."""
    found = [*start.prefix]
    if start.user is not None:
        found += ["setpriv", f"--reuid={start.user}", f"--regid={start.user}", "--clear-groups"]
    found += ["env", *(f"{name}={value}" for name, value in sorted(start.inner_environment.items()))]
    return [*found, "sh", "-c", f'umask {start.umask:03o} && exec "$@"', "sh", *words]


@contextmanager
def place(start: Start) -> Iterator[Path]:
    """Yield the folder to build in: `start.folder`, or a view of it in reverse order.

    Logs that disorderfs cannot be mounted, and yields the folder itself then.
    """
    view = start.folder.with_name(f"{start.folder.name}-reversed")
    unmount(view)
    if not start.reverse:
        yield start.folder
        return
    view.mkdir(exist_ok=True)
    options = ["--multi-user=yes", "--reverse-dirents=yes", "--pad-blocks=0"]
    # disorderfs goes to the background, where it would keep our pipes open.
    mounted = run(
        ["disorderfs", *options, start.folder, view], stdout=view.with_name("disorderfs.log"), check=False
    )
    if mounted.status != 0:
        start.varied.pop("file order")
        start.not_varied["file order"] = "disorderfs could not be mounted"
        logger.info("reproduce: disorderfs could not be mounted")
        yield start.folder
        return
    try:
        yield view
    finally:
        unmount(view)


def unmount(view: Path) -> None:
    """Unmount and remove a view if it exists, also that of a killed run."""
    if os.path.ismount(view):
        run(["fusermount", "-u", "-z", view], check=False)
    if view.is_dir():
        view.rmdir()

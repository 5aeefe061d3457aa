"""What stands before the compiler: a cache, a compile farm, or nothing.

Two parts belong together: the words for CC= and HOSTCC=, which are the same in every call
of make, and a session around the one that compiles much, with the servers, hosts and
statistics of the launcher.  Outside of a session everything is compiled here.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.config.compiler import storage_address
from tasks.config.settings import Settings
from tasks.toolchain import build_root, distcc, icecc, sccache
from tasks.util import host, host_packages
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tasks.util.log import logger
from tasks.util.process import clean_env, run

FARMS = {"distcc": distcc.farm, "icecc": icecc.farm}
STORAGE_SECONDS = 3


@dataclass(frozen=True)
class Session:
    """What make gets for one build; jobs: 0 for as many as this machine has processors."""

    env: dict[str, str]
    jobs: int


def words(settings: Settings) -> str:
    """Return the compiler command for CC= and HOSTCC=; what it needs is installed.

    Raises `UserError` if that cannot be, or if the profile's toolchain has no such launcher.
    """
    table, chosen = settings.profile.compiler, settings.profile.kernel.toolchain
    wanted = build_root.load(chosen)
    compiler = wanted.compiler
    if wanted.root is not None and (table.launcher not in ("ccache", "none") or outside(settings)):
        raise UserError(
            f"toolchain {chosen} is a build root without a network: it has no compile farm, no remote "
            "storage and no launcher but ccache",
            "launcher=ccache hosts= scheduler= remote_storage= on the command line, or toolchain = 'host'",
        )
    if table.launcher == "ccache":
        there = build_root.has_program(build_root.root_folder(settings.cache, chosen), chosen, "ccache")
        compiler = f"ccache {compiler}" if there else compiler
    elif table.launcher == "sccache":
        compiler = f"{sccache.wrapper()} {compiler}"
    elif table.launcher != "none":
        compiler = f"{table.launcher} {compiler}"
    for group in dict.fromkeys([table.launcher, table.farm]):
        ensure(group, offline=settings.offline)
    return compiler


def outside(settings: Settings) -> bool:
    """Tell whether the launcher speaks to other machines."""
    table = settings.profile.compiler
    return bool(table.farm or (table.launcher == "ccache" and table.remote_storage))


def ensure(group: str, *, offline: bool) -> None:
    """Install what is missing of the programs of host.toml's `group`; no such group is fine."""
    lacking = host.lacking(host.groups().get(group, {}), clean_env()["PATH"])
    if not lacking:
        return
    if offline:
        raise UserError(
            f"launcher {group} needs packages that are missing: {' '.join(lacking)}",
            f"apt-get install {' '.join(lacking)}",
        )
    host_packages.install_packages(lacking)


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every call of make, whichever launcher there is.

    ccache's hits survive another folder, never another compiler.
    """
    folder = settings.cache / "ccache"
    ccache = {
        "CCACHE_DIR": str(folder),
        "CCACHE_BASEDIR": str(settings.output),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_MAXSIZE": "2G",
        # The temporary files of a cut run must not pile up in the user's /tmp or /run.
        "CCACHE_TEMPDIR": str(folder / "tmp"),
    }
    launcher = settings.profile.compiler.launcher
    if launcher == "distcc":
        locks = settings.cache / "distcc"
        locks.mkdir(parents=True, exist_ok=True)
        return distcc.environment(locks)
    if launcher == "icecc":
        return dict(icecc.ENVIRONMENT)
    if launcher == "sccache":
        return {sccache.BASE: str(settings.output)}
    return ccache if launcher == "ccache" else {}


@contextmanager
def session(settings: Settings) -> Iterator[Session]:
    """Yield environment and jobs for a build; at its good end say what the launcher did.

    Servers are started here and ended with the block, however it ends.  A farm or a remote
    storage that cannot be reached costs a line of warning: the build goes on without.
    """
    words(settings)
    table = settings.profile.compiler
    env, jobs = environment(settings), 0
    reports: list[Callable[[], str]] = []
    folder = settings.output / "launcher"
    remove_tree(folder)
    with ExitStack() as stack:
        if table.launcher == "ccache":
            if table.remote_storage and _reachable(settings):
                env["CCACHE_REMOTE_STORAGE"] = table.remote_storage
            reports += [_ccache_report(env)] if shutil.which("ccache", path=clean_env()["PATH"]) else []
        elif table.launcher == "sccache":
            folder.mkdir(parents=True)
            stack.callback(remove_tree, folder)
            server = stack.enter_context(sccache.server(settings, folder))
            env |= server.env
            reports.append(server.report)
        if table.farm and settings.offline:
            logger.warning(f"farm: offline=1 opens no connection, so {table.farm} compiles here")
        elif table.farm:
            (folder / "tmp").mkdir(parents=True)
            stack.callback(remove_tree, folder)
            env |= distcc.environment(folder) if table.farm == "distcc" else icecc.ENVIRONMENT
            farm = stack.enter_context(FARMS[table.farm](settings, folder))
            # What a killed run leaves of its temporary files goes with the folder.
            env |= {**farm.env, "TMPDIR": str(folder / "tmp")}
            jobs = farm.jobs
            if table.launcher == "ccache" and jobs:
                env["CCACHE_PREFIX"] = table.farm
            reports += [farm.report] if jobs else []
        yield Session(env, jobs)
        line = "; ".join(report() for report in reports)
        if line:
            logger.info(line)


def _reachable(settings: Settings) -> bool:
    """Tell whether ccache's remote storage answers; else ccache would wait for it at every file."""
    address = storage_address(settings.profile.compiler.remote_storage)
    if settings.offline or address is None:
        logger.warning("ccache: offline=1 opens no connection, so its remote storage is not used")
        return False
    try:
        socket.create_connection(address, STORAGE_SECONDS).close()
    except OSError as error:
        host, port = address
        logger.warning(f"ccache: its remote storage at {host}:{port} is not used: {error.strerror or error}")
        return False
    return True


def _ccache_report(env: dict[str, str]) -> Callable[[], str]:
    """Return what will say how many hits and misses there were since now."""
    # The statistics of all builds that use the folder; ccache's log of one build alone is
    # newer than the ccache of build roots.
    Path(env["CCACHE_DIR"]).mkdir(parents=True, exist_ok=True)
    before = _ccache_statistics(env)

    def report() -> str:
        grown = {name: count - before.get(name, 0) for name, count in _ccache_statistics(env).items()}
        hits = grown.get("direct_cache_hit", 0) + grown.get("preprocessed_cache_hit", 0)
        remote = grown.get("remote_storage_hit", 0)
        of = f" ({remote} from the remote storage)" if "CCACHE_REMOTE_STORAGE" in env else ""
        return f"ccache: {hits} hits{of}, {grown.get('cache_miss', 0)} misses"

    return report


def _ccache_statistics(env: dict[str, str]) -> dict[str, int]:
    printed = run(["ccache", "--print-stats"], env={"CCACHE_DIR": env["CCACHE_DIR"]}).stdout
    pairs = (line.split("\t") for line in printed.splitlines() if line.count("\t") == 1)
    return {name: int(value) for name, value in pairs}

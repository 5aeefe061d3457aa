"""What stands before the compiler: a cache, a compile farm, or nothing.

Two parts belong together: the compiler_command for CC= and HOSTCC=, which are the same in every call
of make, and a session around the one that compiles much, with the servers, hosts and
statistics of the launcher.  Outside of a session everything is compiled here.

Nothing is installed here: `tasks/toolchain/prepare.py` has made ready what this uses.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.config.compiler import Compiler, storage_address
from tasks.config.settings import Settings
from tasks.toolchain import build_root, distcc, icecc, sccache
from tasks.toolchain.farm import Farm
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tasks.util.log import logger
from tasks.util.process import clean_env, run

STORAGE_SECONDS = 3


@dataclass(frozen=True)
class Session:
    """What make gets for one build; jobs: 0 for as many as this machine has processors."""

    env: dict[str, str]
    jobs: int


def refuse_unfit(table: Compiler, toolchain: str) -> None:
    """Raise `UserError` if `toolchain` cannot have that launcher: a build root has no network."""
    outside = table.farm or (table.launcher == "ccache" and table.remote_storage)
    if build_root.load(toolchain).root and (table.launcher not in ("ccache", "none") or outside):
        raise UserError(
            f"toolchain {toolchain} is a build root without a network: it has no compile farm, no remote "
            "storage and no launcher but ccache",
            "launcher=ccache hosts= scheduler= remote_storage= on the command line, or toolchain = 'host'",
        )


@dataclass(frozen=True)
class Launcher:
    """The launcher of one profile, with the folders it works in.

    cache: holds a folder for each launcher, kept between builds; output: the profile's
    results, to which paths are made relative, so that hits survive another folder.
    """

    table: Compiler
    cache: Path
    output: Path
    offline: bool

    @property
    def folder(self) -> Path:
        """What the launcher keeps between builds; `prepare` makes it."""
        return self.cache / (self.table.launcher if self.table.launcher != "none" else "ccache")

    def compiler_command(self, compiler: str, *, has_ccache: bool) -> str:
        """Return the compiler command for CC= and HOSTCC=; `compiler` is the toolchain's own.

        has_ccache: whether the toolchain has one; without, nothing stands before the compiler.
        Raises `UserError` if make cannot live with the path of a launcher.
        """
        match self.table.launcher:
            case "none":
                return compiler
            case "ccache":
                return f"ccache {compiler}" if has_ccache else compiler
            case "sccache":
                return f"{sccache.wrapper()} {compiler}"
            case other:
                return f"{other} {compiler}"

    def environment(self) -> dict[str, str]:
        """Return the environment of every call of make.

        ccache's hits survive another folder, never another compiler.
        """
        match self.table.launcher:
            case "distcc":
                return distcc.environment(self.folder)
            case "icecc":
                return dict(icecc.ENVIRONMENT)
            case "sccache":
                return {sccache.BASE: str(self.output)}
            case "none":
                return {}
        return {
            "CCACHE_DIR": str(self.folder),
            "CCACHE_BASEDIR": str(self.output),
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_COMPILERCHECK": "content",
            "CCACHE_MAXSIZE": "2G",
            # The temporary files of a cut run must not pile up in the user's /tmp or /run.
            "CCACHE_TEMPDIR": str(self.folder / "tmp"),
        }

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield environment and jobs for a build; at its good end say what the launcher did.

        Servers are started here and ended with the block, however it ends.  A farm or a remote
        storage that cannot be reached costs a line of warning: the build goes on without.
        """
        table = self.table
        env, jobs = self.environment(), 0
        reports: list[Callable[[], str]] = []
        scratch = self.output / "launcher"
        remove_tree(scratch)
        with ExitStack() as stack:
            if table.launcher == "ccache":
                if table.remote_storage and self._reachable():
                    env["CCACHE_REMOTE_STORAGE"] = table.remote_storage
                there = shutil.which("ccache", path=clean_env()["PATH"])
                reports += [_ccache_report(env)] if there else []
            elif table.launcher == "sccache":
                scratch.mkdir(parents=True)
                stack.callback(remove_tree, scratch)
                server = stack.enter_context(sccache.server(self.folder, scratch))
                env |= server.env
                reports.append(server.report)
            if table.farm and self.offline:
                logger.warning(f"farm: offline=1 opens no connection, so {table.farm} compiles here")
            elif table.farm:
                (scratch / "tmp").mkdir(parents=True)
                stack.callback(remove_tree, scratch)
                env |= distcc.environment(scratch) if table.farm == "distcc" else icecc.ENVIRONMENT
                farm = stack.enter_context(self._farm(scratch))
                # What a killed run leaves of its temporary files goes with the folder.
                env |= {**farm.env, "TMPDIR": str(scratch / "tmp")}
                jobs = farm.jobs
                if table.launcher == "ccache" and jobs:
                    env["CCACHE_PREFIX"] = table.farm
                reports += [farm.report] if jobs else []
            yield Session(env, jobs)
            line = "; ".join(report() for report in reports)
            if line:
                logger.info(line)

    def _farm(self, scratch: Path) -> AbstractContextManager[Farm]:
        logs = self.output / "logs"
        if self.table.farm == "distcc":
            return distcc.farm(self.table.distcc_hosts, scratch, logs)
        return icecc.farm(self.table.scheduler_address, scratch, logs, self.cache / "icecc")

    def _reachable(self) -> bool:
        """Tell whether ccache's remote storage answers; else ccache would wait for it at every file."""
        address = storage_address(self.table.remote_storage)
        if self.offline or address is None:
            logger.warning("ccache: offline=1 opens no connection, so its remote storage is not used")
            return False
        try:
            socket.create_connection(address, STORAGE_SECONDS).close()
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            why = error.strerror or error
            logger.warning(f"ccache: its remote storage at {where} is not used: {why}")
            return False
        return True


def of_profile(settings: Settings) -> Launcher:
    """Return the launcher of the profile."""
    return Launcher(settings.profile.compiler, settings.cache, settings.output, settings.offline)


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

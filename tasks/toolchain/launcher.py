# SPDX-License-Identifier: MIT
"""The compiler launcher of a profile: a compiler cache, a compile farm, or none.

A launcher has two parts.  The command for CC= and HOSTCC= is the same in every call of make.
A session runs around the build of the kernel: it starts the launcher's servers, probes its
hosts and reports its statistics.  Outside a session, this machine compiles everything.

This module installs nothing: `tasks/toolchain/prepare.py` does.
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
from tasks.toolchain import distcc, entry, icecc, sccache
from tasks.toolchain.farm import Farm
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tasks.util.log import logger
from tasks.util.process import clean_env, run

STORAGE_SECONDS = 3
"""How long to wait for a connection to ccache's remote storage."""


@dataclass(frozen=True)
class Session:
    """Environment and number of jobs of make for one build; jobs: 0 for all slots of the jobserver."""

    env: dict[str, str]
    jobs: int


def check_toolchain(table: Compiler, toolchain: str) -> None:
    """Raise `UserError` if `toolchain` cannot use the launcher in `table`: a build root has no network."""
    outside = table.farm or (table.launcher == "ccache" and table.remote_storage)
    if (table.launcher not in ("ccache", "none") or outside) and (why := entry.root_needed(toolchain)):
        raise UserError(
            f"toolchain {toolchain} is a build root without a network: it has no compile farm, no remote "
            "storage and no launcher but ccache",
            "launcher=ccache hosts= scheduler= remote_storage= on the command line, or toolchain=host",
            f"  {why}",
        )


@dataclass(frozen=True)
class Launcher:
    """The launcher of one profile, and its folders.

    cache: holds a folder for each launcher, kept between builds; output: the profile's
    results.  Launchers make paths relative to it, so that a build in another folder has hits.
    """

    table: Compiler
    cache: Path
    output: Path
    offline: bool

    @property
    def folder(self) -> Path:
        """The folder that the launcher keeps between builds; `prepare` makes it.

        Without a launcher it is ccache's, as a build root binds one folder in any case.
        """
        return self.cache / (self.table.launcher if self.table.launcher != "none" else "ccache")

    def compiler_command(self, compiler: str, *, has_ccache: bool) -> str:
        """Return the compiler command for CC= and HOSTCC=; `compiler` is the toolchain's own.

        has_ccache: whether the toolchain has ccache; without it, the compiler runs alone.
        Raises `UserError` if make cannot handle the path of the launcher.
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
        """Return the launcher's environment of every call of make.

        ccache has hits in another folder, but never with another compiler.
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
            # Killed runs must not leave temporary files in the user's /tmp or /run.
            "CCACHE_TEMPDIR": str(self.folder / "tmp"),
        }

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield environment and jobs for a build; if it succeeds, log the launcher's statistics.

        Servers start here, and end with the block in any case.  A farm or a remote storage that
        cannot be reached is logged as a warning, and the build goes on without it.
        """
        table = self.table
        env, jobs = self.environment(), 0
        reports: list[Callable[[], str]] = []
        scratch = self.output / "launcher"
        remove_tree(scratch)
        with ExitStack() as stack:
            if table.launcher == "ccache":
                if table.remote_storage and self._remote_storage_answers():
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
                # The next session removes the folder, and with it the temporary files of a killed run.
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

    def _remote_storage_answers(self) -> bool:
        """Tell whether ccache's remote storage answers; if not, ccache would wait for it at every file."""
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
    return Launcher(
        settings.profile.compiler, settings.paths.cache, settings.paths.output, settings.network.offline
    )


def _ccache_report(env: dict[str, str]) -> Callable[[], str]:
    """Return a function that reports ccache's hits and misses since this call."""
    # The statistics count all builds that use the folder.  A log of one build alone needs a
    # newer ccache than that of build roots.
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

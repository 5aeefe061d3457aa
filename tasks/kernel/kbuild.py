# SPDX-License-Identifier: MIT
"""Run the kernel's own make, with the same arguments in every stage.

Values that would differ from build to build are fixed, as the kernel's
Documentation/kbuild/reproducible-builds.rst describes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.config.kernel_source import CONFIGURATION_SERIES, STAMP
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.kernel import edited_tree, make_errors
from tasks.toolchain import launcher, tools
from tasks.toolchain.entry import Bind
from tasks.toolchain.launcher import Launcher
from tasks.toolchain.tools import ReadyToolchain
from tasks.util import jobserver
from tasks.util.checkout import CHECKOUT
from tasks.util.process import CommandFailed, Result, run
from tasks.util.verified_digests import digest


@dataclass(frozen=True)
class Kbuild:
    """The kernel's make of one profile.

    argv: make and the arguments common to all calls; env: the environment of all calls;
    tree: the kernel tree; arch: the folder of arch/ that it uses;
    binds: the folders of the machine that a build root shows.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    tree: Path
    arch: str
    toolchain: ReadyToolchain
    binds: tuple[Bind, ...]
    launcher: Launcher

    def run(
        self,
        goals: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        hint: str = "",
        jobs: int = 0,
    ) -> Result:
        """Run make for `goals`, one job at a time or `jobs`.

        `env` is added to the common environment.
        Raises `UserError` as `process.run` does; its text begins with the first error in the log.
        """
        argv, environment = [*self.argv, *goals], {**self.env, **(env or {})}
        try:
            return run(argv, env=environment, log=log, on_line=on_line, hint=hint, jobs=jobs, box=self.box)
        except CommandFailed as error:
            raise make_errors.explained(error) from None

    @property
    def state(self) -> str:
        """A digest of the tree's path, of its Makefiles, scripts and Kconfig files, and of the toolchain."""
        read = self.tree / edited_tree.CONFIGURATION  # of a tree that is edited
        stamps = [read if read.is_file() else self.tree / STAMP, self.tree / CONFIGURATION_SERIES]
        # A tree put there by hand has none.
        known = [stamp.read_bytes() for stamp in stamps if stamp.is_file()]
        return digest(str(self.tree).encode(), *known, self.toolchain.fingerprint.encode())

    def origin(self, tree: Path) -> str:
        """Return a digest of a tree's path, its source (no edits, commit or patches), and the toolchain."""
        stamp = tree / STAMP
        head = stamp.read_bytes().partition(b"\n")[0] if stamp.is_file() else b""
        return digest(str(tree).encode(), head, self.toolchain.fingerprint.encode())

    @property
    def box(self) -> list[str]:
        """The words to put before a command that runs with the toolchain (`process.run`)."""
        return self.toolchain.entry.box(self.binds)


def of_profile(settings: Settings) -> Kbuild:
    """Return the kernel's make for the profile; `toolchain.prepare` must have run before.

    A build root shows the output folder and the launcher's folder writable, the kernel tree and
    kconfig/ read-only.  Raises `UserError` if the build root does not exist, and if the
    output folder's path has a character that kbuild cannot handle.
    """
    arguments = _common_arguments(settings.paths, settings.profile)
    toolchain = tools.ready(settings.paths.cache, settings.profile.kernel_toolchain)
    compiler_launcher = launcher.of_profile(settings)
    compiler = compiler_launcher.compiler_command(toolchain.compiler, has_ccache=toolchain.has("ccache"))
    writable = (settings.paths.output, compiler_launcher.folder)
    read_only = (settings.paths.linux, CHECKOUT.kconfig)
    return Kbuild(
        argv=(*arguments, f"CC={compiler}", f"HOSTCC={compiler}"),
        env=settings.profile.epoch_env | compiler_launcher.environment(),
        tree=settings.paths.linux,
        arch=settings.profile.architecture.source,
        toolchain=toolchain,
        binds=(*(Bind(path, writable=True) for path in writable), *map(Bind, read_only)),
        launcher=compiler_launcher,
    )


def _common_arguments(paths: Paths, profile: Profile) -> list[str]:
    """Return `make` and its arguments, without CC= and HOSTCC=.

    Those belong to every call, too: kbuild compares $(CC) with that of the last call, and
    reads the whole configuration again if it differs.
    """
    linux, build = paths.linux, paths.build
    paths.require_plain_output()
    # The date as text: 5.4 copies it into `uname -v`, and the initramfs code
    # passes it to `date -d`.  `%a` and `%b` are English in the C locale.
    stamp = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(profile.source_date_epoch))
    # The kernel's Makefile maps __FILE__; it leaves debug information to its caller.
    prefix = f"-fdebug-prefix-map={linux}=. -fdebug-prefix-map={build}=."
    # Compiler caches make paths relative to the build folder, so that another folder has hits
    # too.  kbuild maps only the absolute path, so objects from a cache would differ.
    relative = f"../{linux.name}"
    prefix += f" -fmacro-prefix-map={relative}/= -fdebug-prefix-map={relative}=."
    return [
        "make",
        "--no-print-directory",
        "-C",
        str(linux),
        f"O={build}",
        f"ARCH={profile.architecture.kbuild}",
        f"KBUILD_BUILD_TIMESTAMP={stamp}",
        "KBUILD_BUILD_USER=tc",
        "KBUILD_BUILD_HOST=tcbuild",
        "KBUILD_BUILD_VERSION=1",
        f"KCFLAGS={prefix}",
        f"KAFLAGS={prefix}",
        # Set, but empty: scripts/setlocalversion then appends no "+" even if the
        # tree is the top of a git checkout.
        "LOCALVERSION=",
    ]


def jobs() -> int:
    """Return how many jobs make may run at once: the processors this process may use, or `jobs=N`."""
    return jobserver.slots()

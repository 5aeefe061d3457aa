# SPDX-License-Identifier: MIT
"""Where the kernel's own Kconfig engine runs: folders of one run, and programs made with the engine.

Every answer about a tree's configuration comes from that tree's scripts/kconfig: `conf` completes
configs, and the programs `kconfig/NAME.c` are compiled against its objects.  The Kconfig
language has grown from release to release, and a tree's own reader is right for the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.config.kernel_source import CONF_FOLDER, CONF_STAMP
from tasks.config.settings import Settings
from tasks.kernel import finished_builds, kbuild, nearest_build
from tasks.kernel.kbuild import Kbuild
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.process import run

# kbuild has no hook that replaces `conf`.  But the preprocessor of the Kconfig language runs
# commands, and does so in the environment and folder of `conf`.
HOOK = 'mainmenu "tcbuild"\nresult := $(shell,{command})\n'
PROGRAM = '"$TCBUILD_PROGRAM" Kconfig $TCBUILD_WORDS >"$TCBUILD_OUT"'
ENVIRONMENT = 'env -0 >"$TCBUILD_OUT"'


@dataclass(frozen=True)
class Workspace:
    """The folders of one run of the stage.

    kbuild: the kernel's make; build: the folder in which kbuild compiles `conf`;
    work: the folder of the configs; log: the stage's log file.
    """

    kbuild: Kbuild
    build: Path
    work: Path
    log: Path

    def make(self, config: str, goal: str, *arguments: str) -> None:
        """Run the kernel's make for `goal` on the file `config` of `work`."""
        where = [f"O={self.build}", f"KCONFIG_CONFIG={self.work / config}"]
        # Kconfig runs the compiler a hundred times and compiles nothing: a launcher only costs time.
        where.append(f"CC={self.kbuild.toolchain.compiler}")
        self.kbuild.run([*where, *arguments, goal], log=self.log)

    def complete(self, text: str) -> str:
        """Return the config that `make olddefconfig` makes of `text`."""
        path = self.work / "completed.config"
        path.write_text(text)
        self.make(path.name, "olddefconfig")
        return path.read_text()

    def ask(self, program: str, config: str, *words: str) -> str:
        """Return what `kconfig/PROGRAM.c` prints, run with `words` where `conf` runs.

        config: a file of `work`, the config in force.  kbuild must have compiled `conf` before.  A
        word has no space: a name of a file of `work`.  Raises `UserError` if the program cannot
        be compiled against this tree.
        """
        compiled = self._compile(program)
        named = [f"TCBUILD_PROGRAM={compiled}", f"TCBUILD_WORDS={' '.join(words)}"]
        return self._hooked(PROGRAM, config, *named)

    def environment(self, config: str) -> dict[str, str]:
        """Return the environment of `conf`; config: as in `ask`."""
        pairs = self._hooked(ENVIRONMENT, config).split("\0")
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def _hooked(self, command: str, config: str, *arguments: str) -> str:
        hook, out = self.work / "hook.kconfig", self.work / "records"
        hook.write_text(HOOK.format(command=command))
        out.unlink(missing_ok=True)
        # listnewconfig reads, and writes no file.
        self.make(config, "listnewconfig", f"KBUILD_KCONFIG={hook}", f"TCBUILD_OUT={out}", *arguments)
        return out.read_text(errors="replace") if out.is_file() else ""

    @property
    def engine_folder(self) -> Path:
        """The folder with the objects of scripts/kconfig."""
        return self.build / "scripts" / "kconfig"

    def engine_objects(self) -> list[str]:
        """Return the objects that kbuild linked `conf` from, but for its own; paths below `build`."""
        words = (self.engine_folder / ".conf.cmd").read_text().splitlines()[0].split()
        # They differ from release to release.
        return [word for word in words if word.endswith(".o") and Path(word).name != "conf.o"]

    def link(self, program: str, *words: str | Path, hint: str = "") -> Path:
        """Compile and link a program with the engine's objects; return it.  words: of the compiler."""
        made, sources = self.engine_folder / program, self.kbuild.tree / "scripts"
        includes = [f"-I{sources / 'kconfig'}", f"-I{sources / 'include'}"]
        argv: list[str | Path] = [self.kbuild.toolchain.compiler, "-O1", *includes, "-o", made, *words]
        run([*argv, *self.engine_objects()], box=self.kbuild.box, cwd=self.build, log=self.log, hint=hint)
        return made

    def _compile(self, program: str) -> Path:
        hint = f"kconfig/{program}.c fits scripts/kconfig of Linux 5.4 to 6.12; this tree's differs"
        return self.link(program, CHECKOUT.kconfig / f"{program}.c", hint=hint)

    def run(self, argv: list[str | Path], environment: Mapping[str, str], *, stdout: Path) -> None:
        """Run a program of the toolchain in `work`, with the environment of `conf`."""
        run(argv, env=environment, box=self.kbuild.box, cwd=self.work, stdout=stdout, log=self.log)


@contextmanager
def workspace(settings: Settings, stage: str) -> Iterator[Workspace]:
    """Yield a workspace with an empty `work` folder; keep `conf` for the next run if this one succeeds.

    The folder in which kbuild compiles `conf` begins anew if a failed run, or one of another tree or
    toolchain, wrote it.  After an edit, another patch or commit it stays: make compiles what these
    changed, as they give files the current time.  It is not the kernel's build folder: `conf` there may be
    of an older source, and would write an auto.conf of a config that is not final.
    Raises `UserError` if there is no kernel tree.
    """
    if not (settings.paths.linux / "Kconfig").is_file():
        raise UserError(f"{settings.paths.linux} is not a kernel tree", "./doit linux")
    made = Workspace(
        kbuild.of_profile(settings),
        build=settings.paths.config.with_name(CONF_FOLDER),
        work=settings.paths.config.with_name(".work"),
        log=settings.paths.logs / f"{stage}.log",
    )
    remove_tree(made.work)
    made.work.mkdir(parents=True)
    made.log.unlink(missing_ok=True)
    stamp, origin = made.build / CONF_STAMP, made.kbuild.origin(made.kbuild.tree)
    if finished_builds.text_of(stamp) != origin:
        nearest_build.begin_conf(made.build, settings.paths, made.kbuild.origin)
    stamp.unlink(missing_ok=True)
    made.build.mkdir(exist_ok=True)
    try:
        yield made
    finally:
        remove_tree(made.work)
    write_atomic(stamp, origin)

# SPDX-License-Identifier: MIT
"""Rows of the kernel: ours against bare make and tuxmake on the same tree.

All build out of one source tree, each in a folder of its own, from the same .config, with the
same compiler, flags and number of jobs, each with a ccache of its own: it is emptied before
a clean build (what it costs to fill counts for everyone) and kept for the others.  Ours are whole
commands: `./doit kernel` looks at every input, merges and proves the configuration where that
is due, builds, installs and checks.  What peers do is what a person would type: make gets
the .config ready-made, builds, and installs into a folder; its no-op is `make bzImage modules`.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import OWN_CACHE, Settings
from tasks.kernel import kbuild
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tests.bench.measure import Case, Row, Target, why
from tests.bench.workplace import PROFILE, TREE, Workplace, edit, script
from tests.support.settings import with_values

SYMBOL = "SQUASHFS_LZO"
# What is edited -> a file of what both configs have built in, and what is added to it.
FUNCTION = "\nint bench_{number}(void);\nint bench_{number}(void) {{ return 1; }}\n"
EDITS = {
    "C file": ("fs/squashfs/dir.c", FUNCTION),
    "header": ("fs/squashfs/squashfs.h", "\nextern int bench_{number}(void);\n"),
    "Kconfig file": ("fs/squashfs/Kconfig", "\nconfig SQUASHFS_BENCH_{number}\n\tdef_bool SQUASHFS\n"),
}
PATCHED = "fs/squashfs/file.c"
HOSTNAME = 'CONFIG_DEFAULT_HOSTNAME="bench-{number}"\n'
GOALS = ("bzImage", "modules")
WARM = "warm tree"


def _switch(place: Workplace, value: str, more: str = "") -> None:
    """Switch the symbol in a checkout's fragment; more: further lines of it."""
    line = f"CONFIG_{SYMBOL}=y\n" if value == "y" else f"# CONFIG_{SYMBOL} is not set\n"
    (place.checkout / "kconfig/bench-symbol.config").write_text(line + more)


class Peer:
    """A way to build the kernel without tcbuild: its folders and its commands."""

    def __init__(self, place: Workplace, who: str) -> None:
        self.who = who
        self.place = place
        self.folder = place.peers / who
        ours = place.settings
        self.build = self.folder / "build"
        # make's environment is ours but for the ccache.
        self.env = {**kbuild.of_profile(with_values(ours, cache=self.folder)).env} | {
            "PATH": f"{Path(sys.prefix, 'bin')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C",
        }
        self.env["CCACHE_BASEDIR"] = str(ours.paths.output)

    def fresh(self, *, keep_cache: bool = False) -> None:
        """Leave nothing but the .config of ours (and a filled ccache)."""
        if not keep_cache:
            remove_tree(self.folder / "ccache")
        for name in ("build", "installed", "out"):
            remove_tree(self.folder / name)
        (self.folder / "home/bin").mkdir(parents=True, exist_ok=True)
        self.build.mkdir(parents=True)
        shutil.copyfile(self.place.settings.paths.config, self.build / ".config")

    def symbol(self, value: str) -> None:
        """Switch the symbol in .config, as a person does before `make olddefconfig`."""
        tool = self.place.settings.paths.linux / "scripts/config"
        switch = "-e" if value == "y" else "-d"
        self.place.run_tool(tool, "--file", self.build / ".config", switch, SYMBOL)

    def argv(self, *, configure: bool = False, install: bool = False) -> list[str]:
        raise NotImplementedError

    def case(self, prepare: Callable[[], None], *, configure: bool = False, install: bool = False) -> Case:
        """Return this peer's case of a row."""
        command = self.argv(configure=configure, install=install)
        return Case(self.who, command, self.folder.parent, self.env, prepare)


class Make(Peer):
    """Bare make, with the arguments that ours gives it."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place, "make")

    def argv(self, *, configure: bool = False, install: bool = False) -> list[str]:
        """Return the commands: [olddefconfig,] the goals[, install and modules_install]."""
        ours = str(self.place.settings.paths.build)
        make = [word.replace(ours, str(self.build)) for word in kbuild.of_profile(self.place.settings).argv]
        commands: list[list[str]] = [[*make, "olddefconfig"]] if configure else []
        commands.append([*make, f"-j{kbuild.jobs()}", *GOALS])
        if install:
            where = self.folder / "installed"
            into = [f"INSTALL_PATH={where}", "INSTALLKERNEL=copy-kernel"]
            commands.append(["mkdir", "-p", str(where)])
            commands.append([*make, "install", *into])
            modules = [f"INSTALL_MOD_PATH={where}", "INSTALL_MOD_STRIP=1"]
            commands.append([*make, "modules_install", *modules])
        return script(*commands)

    def fresh(self, *, keep_cache: bool = False) -> None:
        """As for all, with an installkernel that copies, or the machine's own would be run."""
        super().fresh(keep_cache=keep_cache)
        copier = self.folder / "home/bin/copy-kernel"
        copier.write_text('#!/bin/sh\nexec cp "$2" "$4/vmlinuz"\n')
        copier.chmod(0o755)


class Tuxmake(Peer):
    """tuxmake from PyPI, on this machine's own compiler (`--runtime null`)."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place, "tuxmake")

    def argv(self, *, configure: bool = False, install: bool = False) -> list[str]:
        """Return its one command: it builds and copies its results every time.

        It configures where there is no .config yet, from the file of that option; later it takes
        the build folder's as it is.
        It has KBUILD_* values of its own, and takes no flags with a "=" in them: the prefix maps,
        which cost no time, are left out.
        """
        ours = self.place.settings
        wrapped = any("ccache" in word for word in kbuild.of_profile(ours).argv)
        return [
            *("tuxmake", "-C", str(ours.paths.linux), "-b", str(self.build), "-o", str(self.folder / "out")),
            *("--runtime", "null", "-a", "x86_64", "-t", "gcc", "-w", "ccache" if wrapped else "none"),
            *("-k", str(self.folder / "wanted.config"), "-j", str(kbuild.jobs()), "-z", "none", "-q"),
            *("kernel", "modules"),
        ]

    def fresh(self, *, keep_cache: bool = False) -> None:
        """As for all; it takes the configuration from a file of its own and keeps the build folder."""
        super().fresh(keep_cache=keep_cache)
        (self.build / ".config").unlink()
        shutil.copyfile(self.place.settings.paths.config, self.folder / "wanted.config")


class Rows:
    """The rows, in the order they build on each other."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.make = Make(place)
        self.tuxmake = Tuxmake(place)
        self.absent: dict[str, str] = {}
        if not Path(sys.prefix, "bin/tuxmake").exists():
            self.absent["tuxmake"] = "not installed (PyPI: tuxmake)"
        self.values = itertools.cycle("yn")
        self.numbers = itertools.count(time.time_ns())  # a kept folder has what earlier runs made

    def all(self) -> dict[str, Callable[[], Row]]:
        """Return what makes each row, by its name; making one builds what it stands on."""
        return {
            "kernel clean": self.clean,
            "kernel warm cache": self.warm,
            "kernel second profile": self.second_profile,
            "kernel no-op": self.noop,
            "kernel one symbol": self.symbol,
            "kernel one symbol elsewhere": self.symbol_elsewhere,
            "kernel one patch": self.patch,
            **{f"kernel one {what}": functools.partial(self.edited, what) for what in EDITS},
        }

    def _peers(self, *cases: Case) -> list[Case]:
        return [replace(case, absent=self.absent.get(case.who, "")) for case in cases]

    def _fresh_ours(self, *, keep_cache: bool = False) -> None:
        ours: Settings = self.place.settings
        self.place.drop(ours.paths.build, ours.paths.kernel, ours.paths.config.parent)
        if not keep_cache:
            self.place.empty_cache()

    def _configured(self) -> None:
        if not self.place.settings.paths.config.is_file():
            self.place.run("kconfig")

    def _built(self) -> None:
        """Have everyone's build folder up to date."""
        self.place.run("kernel")
        for peer in (self.make, self.tuxmake):
            if peer.who in self.absent or (peer.build / "vmlinux").is_file():
                continue
            peer.fresh(keep_cache=True)
            try:
                self.place.run_tool(*peer.argv(install=True), env=peer.env)
            except UserError as error:
                self.absent[peer.who] = why(error)

    def clean(self) -> Row:
        """Everything from an unpacked tree; ccache is empty for all."""
        self._configured()
        cases = [
            self.place.ours("kernel", prepare=self._fresh_ours),
            *self._peers(
                self.make.case(self.make.fresh, install=True), self.tuxmake.case(self.tuxmake.fresh)
            ),
        ]
        return Row("kernel clean", cases, [Target("cpu", "make", 1.02)], "ccache on, empty, for all")

    def warm(self) -> Row:
        """The same with all that a build before it left in the caches."""
        self._built()
        cases = [
            self.place.ours("kernel", prepare=lambda: self._fresh_ours(keep_cache=True)),
            *self._peers(
                self.make.case(lambda: self.make.fresh(keep_cache=True), install=True),
                self.tuxmake.case(lambda: self.tuxmake.fresh(keep_cache=True)),
            ),
        ]
        return Row("kernel warm cache", cases, note="results removed, caches kept")

    def second_profile(self) -> Row:
        """A kernel that another profile or checkout has made; make has only its ccache for that."""
        self._built()
        results = f"cache={OWN_CACHE}"  # as without a word; other rows have none

        def forget() -> None:
            self._fresh_ours(keep_cache=True)

        forget()
        self.place.run("kernel", results)
        cases = [
            self.place.ours("kernel", results, prepare=forget),
            *self._peers(self.make.case(lambda: self.make.fresh(keep_cache=True), install=True)),
        ]
        return Row("kernel second profile", cases, note="the same kernel was made elsewhere")

    def noop(self) -> Row:
        """Nothing has changed."""
        self._built()
        nothing = Case("").prepare
        cases = [
            self.place.ours("kernel"),
            *self._peers(self.make.case(nothing), self.tuxmake.case(nothing)),
        ]
        return Row("kernel no-op", cases, [Target("cpu", "make", 0.1)])

    def symbol(self) -> Row:
        """One built-in symbol is switched; caches are emptied, so that it is compiled each time."""
        self._built()
        state = {"value": "n"}

        def ours() -> None:
            state["value"] = next(self.values)
            _switch(self.place, state["value"])
            self.place.empty_cache()

        def theirs(peer: Peer) -> None:
            remove_tree(peer.folder / "ccache")
            peer.symbol(state["value"])

        cases = [
            self.place.ours("kernel", prepare=ours),
            *self._peers(
                self.make.case(lambda: theirs(self.make), configure=True, install=True),
                self.tuxmake.case(lambda: theirs(self.tuxmake)),
            ),
        ]
        return Row("kernel one symbol", cases, [Target("cpu", "make", 1.05)], "ccache emptied before each")

    def symbol_elsewhere(self) -> Row:
        """One built-in symbol is switched in a fresh checkout, and then in the one that has built the kernel.

        The host's name differs from run to run, too, so that your own cache never has the result.
        """
        results = f"cache={OWN_CACHE}"  # as without a word
        another = self.place.another_checkout()
        self.place.run("kconfig", results, "-a")  # other rows store nothing
        self.place.run("kernel", results)
        state = {"value": "n"}

        def change(place: Workplace) -> None:
            place.drop(place.cache / "ccache")
            _switch(place, state["value"], HOSTNAME.format(number=next(self.numbers)))

        def fresh() -> None:
            state["value"] = next(self.values)
            another.set_aside(another.settings.paths.output)
            change(another)

        there = self.place.ours("kernel", results, prepare=lambda: change(self.place))
        cases = [another.ours("kernel", results, prepare=fresh), replace(there, who=WARM)]
        note = "the peer: the same change where the kernel was built"
        return Row("kernel one symbol elsewhere", cases, [Target("cpu", WARM, 1.3)], note)

    def patch(self) -> Row:
        """A patch is added to the series of the archive; peers build the tree that ours has patched."""
        self._built()
        series = self.place.checkout / "patches" / PROFILE / "series"

        def change() -> None:
            number = next(self.numbers)
            before = (self.place.settings.paths.linux / PATCHED).read_text()
            after = before + FUNCTION.format(number=number)
            lines = difflib.unified_diff(
                before.splitlines(keepends=True),
                after.splitlines(keepends=True),
                f"a/{PATCHED}",
                f"b/{PATCHED}",
            )
            series.with_name(f"{number}.patch").write_text("".join(lines))
            edit(series, f"{number}.patch\n")

        ours = self.place.ours("kernel", prepare=change)
        return self._after_edit("patch", ours, f"a function added to {PATCHED}")

    def edited(self, what: str) -> Row:
        """A file of the tree that all share is edited.

        Ours has that tree as `source = { kind = "file" }`: the tree of an archive is nobody's to edit.
        """
        self._built()
        name, text = EDITS[what]
        tree = replace(self.place, settings=self.place.with_profile(TREE))
        tree.run("kernel")

        def change() -> None:
            edit(self.place.settings.paths.linux / name, text.format(number=next(self.numbers)))

        return self._after_edit(what, tree.ours("kernel", prepare=change), f"an addition to {name}")

    def _after_edit(self, what: str, ours: Case, note: str) -> Row:
        """Peers build the tree as our case has left it."""
        nothing = Case("").prepare
        peers = self._peers(self.make.case(nothing, install=True), self.tuxmake.case(nothing))
        return Row(f"kernel one {what}", [ours, *peers], [Target("cpu", "make", 1.1)], note)

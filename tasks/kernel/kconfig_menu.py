# SPDX-License-Identifier: MIT
"""Change the configuration in the kernel's own menus, and keep what was asked as a fragment.

The menu reads what `conf` reads: the base config and the lines of the fragments.  So it shows the
proved config, and what one turns off there takes with it what it had selected.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.kernel import kconfig, kconfig_draft
from tasks.kernel.fragments import parse_config
from tasks.kernel.kconfig_draft import Draft
from tasks.kernel.kconfig_workspace import Workspace, workspace
from tasks.toolchain import build_root
from tasks.toolchain.entry import Bind
from tasks.util.errors import UserError
from tasks.util.files import write_atomic
from tasks.util.log import logger
from tasks.util.process import spawn

ROOT = "ncurses"
"""The build root with ncurses and the descriptions of terminals."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"
TERMINALS = ("lib/terminfo", "usr/share/terminfo")
# What scripts/kconfig/Makefile makes the programs of, beside the objects of `conf`.  Releases since
# 6.10 have mnconf-common.c, too.
SOURCES = {
    "nconfig": ("nconf*.c", "mnconf-common.c"),
    "menuconfig": ("mconf.c", "lxdialog/*.c", "mnconf-common.c"),
}
LINKED = {"nconfig": ("menuw", "panelw", "ncursesw", "tinfo"), "menuconfig": ("ncursesw", "tinfo")}


def menu(settings: Settings, names: Sequence[str], *, program: str = "nconfig") -> None:
    """Open the menus on this terminal; what is saved there goes into the fragment that is named.

    names: the fragment, alone; program: `nconfig` or `menuconfig`.  Raises `UserError` without a terminal,
    for a bad name, and if what was saved cannot be proved; then it is kept as a config.
    """
    draft = check(settings, names)
    with workspace(settings, "kconfig-menu") as space:
        requests = kconfig_draft.requests_with(settings, draft, draft.text or None)
        before = kconfig.prove(space, kconfig.merge_requests(space, settings, requests))
        saved = _show(space, settings, before.text, program)
        if saved == before.text or parse_config(saved) == parse_config(before.config):
            logger.info(f"nothing was changed; {draft.shown} is as it was")
            return
        try:
            kconfig_draft.write(space, settings, draft, before, saved)
        except UserError as error:
            kept = settings.paths.config.with_name("menu.config")
            write_atomic(kept, saved)
            hint = f"what the menu saved is in {kept}; {draft.shown} is as it was. {error.hint}"
            raise UserError(error.message, hint, error.detail) from None


def check(settings: Settings, names: Sequence[str]) -> Draft:
    """Return the draft of the fragment that is named.

    Raises `UserError` for what can be seen without the kernel's source: a bad name, and no terminal.
    """
    draft = kconfig_draft.of_name(settings, names, "kconfig:menu")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("kconfig:menu needs a terminal", "write the lines into a fragment: docs/kernel.md")
    return draft


def _show(space: Workspace, settings: Settings, text: str, program: str) -> str:
    """Run the menus on the config `text`; return the config as they left it."""
    root = build_root.ensure(settings.paths.cache, ROOT)
    shown = replace(space.kbuild, binds=(*space.kbuild.binds, Bind(root)))
    config = space.work / "menu.config"
    config.write_text(text)
    environment = space.environment(config.name) | {
        "KCONFIG_CONFIG": str(config),
        "TERM": os.environ.get("TERM", "linux"),
        "TERMINFO_DIRS": ":".join(str(root / folder) for folder in TERMINALS),
    }
    made = _program(space, root, program)
    # The programs read Kconfig files from where `conf` does.
    words: list[str | Path] = [*shown.box, "env", f"--chdir={space.build}", made, "Kconfig"]
    status = spawn(words, pipes=False, env=environment).wait()
    if status:
        raise UserError(f"{program} ended with exit status {status}", f"its terminal: {environment['TERM']}")
    return config.read_text()


def _program(space: Workspace, root: Path, program: str) -> Path:
    """Compile the menu program against the tree's Kconfig engine and the ncurses of `root`; return it."""
    sources = space.kbuild.tree / "scripts" / "kconfig"
    found = [path for pattern in SOURCES[program] for path in sorted(sources.glob(pattern))]
    # Beside the program: their own folder has another C library, which must not be found with them.
    libraries = space.engine_folder / ROOT
    libraries.mkdir(exist_ok=True)
    names = [f"lib{name}.so.6" for name in LINKED[program]]
    for name in names:
        shutil.copyfile(root / LIBRARIES / name, libraries / name)
    words: list[str | Path] = [
        "-D_GNU_SOURCE",
        f"-I{root}/usr/include/ncursesw",
        *found,
        f"-Wl,-rpath,$ORIGIN/{ROOT}",
    ]
    words += [libraries / name for name in names]
    replaced = replace(space, kbuild=replace(space.kbuild, binds=(*space.kbuild.binds, Bind(root))))
    hint = f"./doit kconfig:menu fits scripts/kconfig of Linux 5.4 to 6.12; this tree's {program} differs"
    return replaced.link(program, *words, hint=hint)

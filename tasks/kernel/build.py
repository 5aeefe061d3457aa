# SPDX-License-Identifier: MIT
"""Compile the kernel and its modules in the build folder; `tasks/kernel/install.py` installs them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tasks.config.kernel_source import BUILD_STAMP, STAMP
from tasks.config.settings import Paths, Settings
from tasks.kernel import finished_builds, kbuild, killed_build, nearest_build, source_tree, tree_state
from tasks.kernel.fragments import parse_config
from tasks.util.files import remove_tree, sha256_file, write_atomic
from tasks.util.log import logger
from tasks.util.progress import Progress

# Of what lies in a build folder.  1 does not tell whether somebody had edited the unpacked tree.
FORMAT = 2
OWN_KEY = "certs/signing_key.pem"
"""The key that make writes itself, by the default of CONFIG_MODULE_SIG_KEY."""
SEEDS = ("RANDSTRUCT", "GCC_PLUGIN_RANDSTRUCT")
"""Symbols by which make draws a seed: since Linux 5.19, and before (security/Kconfig.hardening)."""
PASTED = re.compile(rb"CONFIG_\w*\s*##")
"""In C: a macro that makes the name of a symbol."""
OBJECT = re.compile(r"^\s+(CC|AS|LD|AR|HOSTCC|CC \[M\]|LD \[M\]|AS \[M\])\s")


def configure(paths: Paths) -> None:
    """Write `.config` into the build folder, and remove the objects of which make misses that it has changed.

    fixdep knows which symbols an object depends on by their names in its source.  It sees no name that a
    macro pastes together, as 8250_pci.c does.  An equal file stays: make decides by its time.
    """
    config = paths.config.read_bytes()
    if finished_builds.text_of(paths.build / ".config") == config.decode():
        return
    for place, _, names in os.walk(paths.build):
        folder = Path(place)
        for name in (name for name in names if name.endswith(".o")):
            source = (paths.linux / folder.relative_to(paths.build) / name).with_suffix(".c")
            if source.is_file() and PASTED.search(source.read_bytes()):
                (folder / name).unlink()
    write_atomic(paths.build / ".config", config)


def fresh_build_folder(paths: Paths, toolchain: str) -> bool:
    """Empty the build folder if its objects are of another source or toolchain; tell whether it is empty.

    `toolchain` is the toolchain's fingerprint.  `make` compares mtimes, and the files of a newer
    kernel release may be older than the objects: `make` would keep objects of the old release.
    A kernel that holds its headers needs an empty folder for each configuration.
    """
    stamp = paths.build / BUILD_STAMP
    # For an edited folder this is its state at the first copy: make itself notices edits.
    source = (paths.linux / STAMP).read_text().partition("\n")[0] + "\n"
    known = {"source": source, "toolchain": toolchain, "format": FORMAT}
    if holds_headers(paths):
        known["config"] = sha256_file(paths.config)
    made_by = json.dumps(known, indent=2) + "\n"
    if stamp.is_file() and stamp.read_text() == made_by:
        return False
    if paths.build.exists():
        logger.info("kernel: source, toolchain or headers changed, starting from an empty build folder")
    remove_tree(paths.build)
    paths.build.mkdir(parents=True)
    (paths.build / source_tree.UNTOUCHED).touch()
    write_atomic(stamp, made_by)
    return True


def is_untouched(paths: Paths) -> bool:
    """Tell whether the kernel is what the archive and the patches give, as far as can be seen.

    False once make has read a tree that somebody has edited in place: objects of it may be left.
    """
    return (paths.build / source_tree.UNTOUCHED).exists() and tree_state.is_as_unpacked(paths.linux)


def forget_if_edited(paths: Paths) -> None:
    """Take the mark from the build folder if somebody has edited the tree that make is about to read."""
    if not tree_state.is_as_unpacked(paths.linux):
        (paths.build / source_tree.UNTOUCHED).unlink(missing_ok=True)


def holds_headers(paths: Paths) -> bool:
    """Tell whether the kernel or a module of it is to hold its headers (CONFIG_IKHEADERS).

    kernel/gen_kheaders.sh packs all headers in the build folder, so also those that make has written for
    another configuration.
    """
    return paths.config.is_file() and parse_config(paths.config.read_text()).get("IKHEADERS", "n") != "n"


def drawn(paths: Paths) -> str:
    """Return what make draws by chance for a kernel of this configuration, "" for nothing.

    Two builds of such a kernel differ, and modules from elsewhere need the build folder with what was drawn.
    """
    config = parse_config(paths.config.read_text())
    if config.get("MODULE_SIG_KEY", "").strip('"') == OWN_KEY:
        return "the key that signs modules"
    if any(config.get(symbol) == "y" for symbol in SEEDS):
        return "the order of the members of structures"
    return ""


def goals(paths: Paths) -> list[str]:
    """Return what make is asked for: of a kernel with CONFIG_GDB_SCRIPTS also its scripts for gdb.

    A further kernel of the profile's tree is the image alone.
    """
    if paths.variant:
        return ["bzImage"]
    config = parse_config(paths.config.read_text())
    scripts = ["scripts_gdb"] if config.get("GDB_SCRIPTS") == "y" else []
    return ["bzImage", "modules", *scripts]


def build(settings: Settings) -> None:
    """Compile bzImage and modules out of tree.

    The kernel tree must be unpacked and the toolchain prepared.  An interrupted build continues
    from its objects, and an empty build folder starts from those of the nearest build.
    """
    make = kbuild.of_profile(settings)
    alone = holds_headers(settings.paths) or drawn(settings.paths)
    made = "" if alone else nearest_build.made_from(settings, make.toolchain.fingerprint)
    if fresh_build_folder(settings.paths, make.toolchain.fingerprint):
        nearest_build.start_from(settings, made)
    finished_builds.begin(settings.paths.build)
    forget_if_edited(settings.paths)
    configure(settings.paths)
    log = settings.paths.logs / "kernel.log"
    log.unlink(missing_ok=True)
    with (
        make.launcher.session() as session,
        killed_build.mark_running(settings.paths.build),
        Progress("kernel", "objects") as progress,
    ):

        def count(line: str) -> None:
            if OBJECT.match(line):
                progress.advance()

        make.run(
            # A farm has its own number of jobs; without one, all makes share the jobserver's slots.
            [*([f"-j{session.jobs}"] if session.jobs else []), *goals(settings.paths)],
            log=log,
            env=session.env,
            on_line=count,
            hint="the same command continues where this one stopped",
            jobs=0 if session.jobs else kbuild.jobs(),
        )
    if made and is_untouched(settings.paths):
        finished_builds.finish(settings, made)

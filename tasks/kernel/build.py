"""Compile the kernel and its modules in the build folder; `tasks/kernel/install.py` installs them."""

from __future__ import annotations

import json
import re

from tasks.config.kernel_source import STAMP
from tasks.config.settings import Settings
from tasks.kernel import kbuild, killed_build, source_tree
from tasks.util.files import remove_tree, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.progress import Progress

OBJECT = re.compile(r"^\s+(CC|AS|LD|AR|HOSTCC|CC \[M\]|LD \[M\]|AS \[M\])\s")


def fresh_build_folder(settings: Settings, toolchain: str) -> None:
    """Drop objects that another source or toolchain made; `toolchain` is its fingerprint.

    `make` compares mtimes, and a newer kernel release is unpacked with mtimes
    older than yesterday's objects: it would keep objects of the old release.
    """
    stamp = settings.build / source_tree.BUILD_STAMP
    # Of a folder that is edited, what it was when it was copied: make sees to the edits.
    source = (settings.linux / STAMP).read_text().partition("\n")[0] + "\n"
    made_by = json.dumps({"source": source, "toolchain": toolchain}, indent=2) + "\n"
    if stamp.is_file() and stamp.read_text() == made_by:
        return
    if settings.build.exists():
        logger.info("kernel: source or toolchain changed, starting from an empty build folder")
    remove_tree(settings.build)
    settings.build.mkdir(parents=True)
    write_atomic(stamp, made_by)


def build(settings: Settings) -> None:
    """Compile bzImage and modules out of tree, which is unpacked, with the toolchain, which is ready.

    An interrupted build continues from its objects.
    """
    make = kbuild.of_profile(settings)
    fresh_build_folder(settings, make.toolchain.fingerprint)
    write_if_changed(settings.build / ".config", settings.config.read_bytes())
    log = settings.logs / "kernel.log"
    log.unlink(missing_ok=True)
    with (
        make.launcher.session() as session,
        killed_build.watched(settings.build),
        Progress("kernel", "objects") as progress,
    ):

        def count(line: str) -> None:
            if OBJECT.match(line):
                progress.advance()

        make.run(
            # A farm has slots of its own, beside those that all makes here share.
            [*([f"-j{session.jobs}"] if session.jobs else []), "bzImage", "modules"],
            log=log,
            env=session.env,
            on_line=count,
            hint="the same command continues where this one stopped",
            jobs=0 if session.jobs else kbuild.jobs(),
        )

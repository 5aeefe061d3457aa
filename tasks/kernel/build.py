"""Build the kernel and its modules, install them below the output folder, prove them.

The kernel's own `make install` and `make modules_install` do the installing,
with INSTALL_PATH, INSTALL_MOD_PATH and INSTALLKERNEL set so that nothing of the
machine we build on is touched (kernel Documentation, kbuild/kbuild.rst).
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.formats import bzimage, compression, elf
from tasks.kernel import kbuild, killed_build, source_tree
from tasks.toolchain import launcher
from tasks.util.files import atomic_dir, remove_tree, sha256_file, write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.progress import Progress

OBJECT = re.compile(r"^\s+(CC|AS|LD|AR|HOSTCC|CC \[M\]|LD \[M\]|AS \[M\])\s")
INSTALLER = Path(__file__).with_name("installkernel")


def fresh_build_folder(settings: Settings) -> None:
    """Drop objects that another source or toolchain made.

    `make` compares mtimes, and a newer kernel release is unpacked with mtimes
    older than yesterday's objects: it would keep objects of the old release.
    """
    stamp = settings.build / source_tree.BUILD_STAMP
    # Of a folder that is edited, what it was when it was copied: make sees to the edits.
    source = (settings.linux / source_tree.SOURCE).read_text().partition("\n")[0] + "\n"
    made_by = json.dumps({"source": source, "toolchain": kbuild.fingerprint(settings)}, indent=2) + "\n"
    if stamp.is_file() and stamp.read_text() == made_by:
        return
    if settings.build.exists():
        logger.info("kernel: source or toolchain changed, starting from an empty build folder")
    remove_tree(settings.build)
    settings.build.mkdir(parents=True)
    write_atomic(stamp, made_by)


def build(settings: Settings) -> None:
    """Compile bzImage and modules out of tree, then install and prove them.

    An interrupted build continues from its objects.  `artifacts/PROFILE/kernel/`
    appears only when every check has passed.
    """
    source_tree.ensure(settings)
    fresh_build_folder(settings)
    write_if_changed(settings.build / ".config", settings.config.read_bytes())
    log = settings.logs / "kernel.log"
    log.unlink(missing_ok=True)
    with (
        launcher.session(settings) as session,
        killed_build.watched(settings.build),
        Progress("kernel", "objects") as progress,
    ):

        def count(line: str) -> None:
            if OBJECT.match(line):
                progress.advance()

        kbuild.make(
            settings,
            # A farm has slots of its own, beside those that all makes here share.
            [*([f"-j{session.jobs}"] if session.jobs else []), "bzImage", "modules"],
            log=log,
            env=session.env,
            on_line=count,
            hint="the same command continues where this one stopped",
            jobs=0 if session.jobs else kbuild.jobs(),
        )
    install(settings)


def built_release(settings: Settings) -> str:
    """Return the release of the kernel in the build folder, as `uname -r` says it.

    It is what `make kernelrelease` prints; every build brings the file up to date.
    """
    return (settings.build / "include/config/kernel.release").read_text().strip()


def install(settings: Settings) -> None:
    """Run `make install` and `modules_install` into `kernel/` and check the result there."""
    release = built_release(settings)
    log = settings.logs / "kernel-install.log"
    log.unlink(missing_ok=True)
    with atomic_dir(settings.kernel) as folder:
        _make_install(settings, folder, log)
        image = bzimage.check_bzimage(folder / "vmlinuz64", release=release)
        modules = folder / "modules"
        goals = ["modules_install", f"INSTALL_MOD_PATH={modules}", "INSTALL_MOD_STRIP=1"]
        kbuild.make(settings, goals, log=log, jobs=kbuild.jobs())
        for link in ("build", "source"):  # they point into this machine's folders
            (modules / "lib/modules" / release / link).unlink(missing_ok=True)
        count = elf.check_modules(modules, release)
        write_atomic(folder / "release", release + "\n")
        write_atomic(folder / "config", (settings.build / ".config").read_bytes())
        write_atomic(folder / "modules.sha256", _digests(modules))
        formats = compression.unpackable((folder / "config").read_text())
        write_atomic(folder / "initramfs.formats", "".join(f"{name}\n" for name in formats))
    logger.info(str(replace(image, path=settings.kernel / "vmlinuz64")))
    logger.info(f"{count} modules for {release}")


def _make_install(settings: Settings, folder: Path, log: Path) -> None:
    # The kernel looks for $HOME/bin/$INSTALLKERNEL before /sbin/$INSTALLKERNEL.
    home = settings.output / "home"
    remove_tree(home)
    (home / "bin").mkdir(parents=True)
    shutil.copy2(INSTALLER, home / "bin" / "tcbuild-installkernel")
    where = [f"HOME={home}", f"INSTALL_PATH={folder}", "INSTALLKERNEL=tcbuild-installkernel"]
    kbuild.make(settings, ["install", *where], log=log)


def _digests(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return "".join(f"{sha256_file(path)}  {path.relative_to(root)}\n" for path in files)

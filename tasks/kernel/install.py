# SPDX-License-Identifier: MIT
"""Install the built kernel below the output folder, and check the result.

The kernel's own `make install` and `make modules_install` install it.
INSTALL_PATH, INSTALL_MOD_PATH and INSTALLKERNEL keep them away from the files of
this machine (kernel Documentation, kbuild/kbuild.rst).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Paths, Settings
from tasks.formats import bzimage, elf
from tasks.kernel import installed, kbuild, patches
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, remove_tree, write_atomic
from tasks.util.log import logger

INSTALLER = Path(__file__).with_name("installkernel")
INSTALLED_AS = "tcbuild-installkernel"


def built_release(paths: Paths) -> str:
    """Return the release of the kernel in the build folder, as `uname -r` will print it.

    `make kernelrelease` prints the same; every build updates the file.
    """
    return (paths.build / "include/config/kernel.release").read_text().strip()


def install(settings: Settings) -> None:
    """Run `make install` and `modules_install` into `kernel/` and check the result there.

    `artifacts/PROFILE/kernel/` appears only when every check has passed.
    """
    make = kbuild.of_profile(settings)
    release = built_release(settings.paths)
    architecture = settings.profile.architecture
    log = settings.paths.logs / "kernel-install.log"
    log.unlink(missing_ok=True)
    home = settings.paths.output / "home"
    _make_home(home)
    with atomic_dir(settings.paths.kernel) as folder:
        where = [f"HOME={home}", f"INSTALL_PATH={folder}", f"INSTALLKERNEL={INSTALLED_AS}"]
        make.run(["install", *where], log=log)
        vmlinuz = (folder / "vmlinuz").rename(folder / settings.paths.vmlinuz.name)
        image = bzimage.check_bzimage(vmlinuz, bits=architecture.bits, release=release)
        modules = folder / "modules"
        goals = ["modules_install", f"INSTALL_MOD_PATH={modules}", "INSTALL_MOD_STRIP=1"]
        make.run(goals, log=log, jobs=kbuild.jobs())
        for link in ("build", "source"):  # links to folders of this machine
            (modules / "lib/modules" / release / link).unlink(missing_ok=True)
        _require_index(modules / "lib/modules" / release)
        count = elf.check_modules(modules, release, architecture.machine)
        installed.write_record(folder, release, (settings.paths.build / ".config").read_text())
        write_atomic(folder / "patches", patches.outcome(settings.paths.linux))
    logger.info(str(replace(image, path=settings.paths.vmlinuz)))
    logger.info(f"{count} modules for {release}")


def _require_index(folder: Path) -> None:
    """Raise `UserError` if `folder` has no modules.dep: without depmod, `make modules_install` only warns."""
    if not (folder / "modules.dep").is_file():
        raise UserError("modules.dep was not made: modprobe would find no module", "apt-get install kmod")


def _make_home(home: Path) -> None:
    """Make the home folder in which the kernel's make finds tcbuild's installer."""
    # The kernel looks for $HOME/bin/$INSTALLKERNEL before /sbin/$INSTALLKERNEL.
    remove_tree(home)
    (home / "bin").mkdir(parents=True)
    shutil.copy2(INSTALLER, home / "bin" / INSTALLED_AS)

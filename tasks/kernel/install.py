# SPDX-License-Identifier: MIT
"""Install the built kernel below the output folder, and check the result.

The kernel's own `make install` and `make modules_install` install it.
INSTALL_PATH, INSTALL_MOD_PATH and INSTALLKERNEL keep them away from the files of
this machine (kernel Documentation, kbuild/kbuild.rst).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Paths, Settings
from tasks.engine import code
from tasks.formats import bzimage, elf
from tasks.kernel import installed, kbuild, patches
from tasks.kernel.kbuild import Kbuild
from tasks.toolchain import identity
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, is_settled, remove_tree, stamp, write_atomic
from tasks.util.log import logger
from tasks.util.verified_digests import digest

INSTALLER = Path(__file__).with_name("installkernel")
INSTALLED_AS = "tcbuild-installkernel"
MODULES = ".tcbuild.modules"
"""In the build folder, JSON: of the last `make modules_install` what it read and made, as digests."""
SYMBOLS = "Module.symvers"
"""What the kernel and its modules export (kernel Documentation, kbuild/modules.rst)."""
CERTIFICATE = "signing_key.x509"
"""Whom the kernel trusts to sign modules, if it checks signatures."""
# What modules from elsewhere are built and checked by: in kernel/ -> in the build folder.
KEPT = {SYMBOLS: SYMBOLS, CERTIFICATE: f"certs/{CERTIFICATE}"}
# What `make modules_install` reads of the build folder besides the modules (scripts/Makefile.modinst).
READ_BY_INSTALL = (
    *(".config", "include/config/kernel.release", "certs/signing_key.pem", "certs/signing_key.x509"),
    *("modules.order", "modules.builtin", "modules.builtin.modinfo", "modules.builtin.ranges"),
)
# Programs that it runs: the fingerprint of the toolchain `host` has not got their versions.
RUN_BY_INSTALL = ("strip", "depmod", "gzip", "xz", "zstd", "openssl")


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
        count = install_modules(settings, make, release, folder / "modules")
        installed.write_record(folder, release, (settings.paths.build / ".config").read_text())
        write_atomic(folder / "patches", patches.outcome(settings.paths.linux))
        for name, kept in KEPT.items():
            if (settings.paths.build / kept).is_file():
                shutil.copyfile(settings.paths.build / kept, folder / name)
    logger.info(str(replace(image, path=settings.paths.vmlinuz)))
    logger.info(f"{count} modules for {release}")


def install_modules(settings: Settings, make: Kbuild, release: str, modules: Path) -> int:
    """Install the modules into the new folder `modules`, and check them; return their number.

    If none has changed since the last time, it is a copy of what was installed then: make would
    strip each of them again, which takes longer than to compile a C file of the kernel.
    """
    record, last = settings.paths.build / MODULES, settings.paths.kernel / "modules"
    log = settings.paths.logs / "kernel-modules.log"
    state = _modules_state(settings, make)
    if state and log.is_file() and last.is_dir() and record.is_file():
        shutil.copytree(last, modules, symlinks=True)
        if record.read_text() == _modules_record(state, modules):
            return len(elf.modules_below(modules))
        remove_tree(modules)
    log.unlink(missing_ok=True)
    goals = ["modules_install", f"INSTALL_MOD_PATH={modules}", "INSTALL_MOD_STRIP=1"]
    make.run(goals, log=log, jobs=kbuild.jobs())
    for link in ("build", "source"):  # links to folders of this machine
        (modules / "lib/modules" / release / link).unlink(missing_ok=True)
    _require_index(modules / "lib/modules" / release)
    count = elf.check_modules(modules, release, settings.profile.architecture.machine)
    write_atomic(record, _modules_record(state, modules))
    return count


def _modules_record(state: str, modules: Path) -> str:
    return json.dumps([state, digest(installed.digests(modules).encode())])


def _modules_state(settings: Settings, make: Kbuild) -> str:
    """Return a digest of all that `make modules_install` depends on; "" if that is not certain."""
    build = settings.paths.build
    read = {name: (build / name).read_bytes() for name in READ_BY_INSTALL if (build / name).is_file()}
    stamps = []
    for line in read.get("modules.order", b"").decode().split():
        # Older kernels list kernel/fs/fat/fat.ko, newer ones fs/fat/fat.o.
        name = f"{line.rpartition('.')[0]}.ko"
        found = stamp(build / name) or stamp(build / name.removeprefix("kernel/"))
        if found is None or not is_settled(found.ctime):
            return ""
        stamps.append(found)
    known: list[object] = [make.state, identity.programs(*RUN_BY_INSTALL), code.digest(__name__)]
    known += [*make.argv, *make.env.items(), *read.items(), *stamps]
    return digest(*(repr(item).encode() for item in known))


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

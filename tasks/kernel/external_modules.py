# SPDX-License-Identifier: MIT
"""Build kernel modules that are not part of the kernel's source, against the profile's kernel.

The kernel's own make builds, strips, signs and installs them (`make M=`; kernel Documentation,
kbuild/modules.rst).  It needs the kernel's build folder.  If the kernel came from the shared cache, that
folder is prepared (`make modules_prepare`), and Module.symvers comes from the installed kernel.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tasks.config.settings import Paths, Settings
from tasks.formats import elf, module_symbols
from tasks.kernel import finished_builds, install, installed, kbuild, killed_build
from tasks.kernel.build import OWN_KEY, configure, forget_if_edited, fresh_build_folder
from tasks.kernel.fragments import parse_config
from tasks.kernel.kbuild import Kbuild
from tasks.util.errors import UserError
from tasks.util.files import locked, scratch_folder, write_atomic
from tasks.util.log import logger

PLACE = "usr/local/lib/modules"
"""Where extensions have modules; depmod finds what lies in RELEASE/kernel there."""
EXTRA = "kernel/extra"
READ = ("include/config/auto.conf", "include/generated/autoconf.h", "scripts/mod/modpost")
"""What a prepared build folder has."""
INDEXES = ("modules.dep", "modules.builtin")


def build(settings: Settings, source: Path, variables: Sequence[str], log: Path, into: Path) -> None:
    """Build the modules in the folder `source`, and put them below the new folder `into`.

    variables: further ones of make, as NAME=VALUE.  The kernel must be built.  Raises `UserError` if it is
    not the one that the profile declares, if the modules do not compile, or if they do not fit it.
    """
    paths, profile = settings.paths, settings.profile
    release = installed.kernel_release(paths, profile)
    make = kbuild.of_profile(settings)
    with locked(paths.output / ".external-modules.lock"):
        _prepare(settings, make)
    _require_key(paths)
    make = _mapped(make, source, paths)
    with scratch_folder(into.parent, "installed") as top, make.launcher.session() as session:
        own = [f"M={source}", *variables]
        hint = "correct the module's source, or `make` and `subfolder` in the recipe"
        make.run([*own, "modules"], log=log, env=session.env, jobs=kbuild.jobs(), hint=hint)
        if not elf.modules_below(source):
            message = "the source gave no kernel module"
            raise UserError(message, f"obj-m of its Makefile names them; see {log}")
        where = [f"INSTALL_MOD_PATH={top}", "INSTALL_MOD_DIR=extra", "INSTALL_MOD_STRIP=1"]
        make.run([*own, *where, "modules_install"], log=log, env=session.env, hint=hint)
        folder = into / PLACE / release / EXTRA
        folder.mkdir(parents=True)
        for path in elf.modules_below(top):
            (folder / f"{path.name.partition('.ko')[0]}.ko").write_bytes(elf.read_module(path))
    check(paths, release, profile.architecture.machine, source, into)
    if profile.kernel.compress_modules:
        for path in elf.modules_below(into):
            installed.compress_module(path)
    logger.info(f"{', '.join(sorted(path.name for path in elf.modules_below(into)))} for {release}")


def _mapped(make: Kbuild, source: Path, paths: Paths) -> Kbuild:
    """Return `make` so that the place of a source gets into no module."""
    # Compiler caches make paths relative to the build folder.
    places = (str(source), os.path.relpath(source, paths.build))
    flags = " ".join(f"-fmacro-prefix-map={one}/= -fdebug-prefix-map={one}=." for one in places)
    argv = [f"{word} {flags}" if word.startswith(("KCFLAGS=", "KAFLAGS=")) else word for word in make.argv]
    return dataclasses.replace(make, argv=tuple(argv))


def _prepare(settings: Settings, make: Kbuild) -> None:
    """Make the build folder of the kernel ready for modules from elsewhere."""
    paths = settings.paths
    symbols = _content(paths.kernel / install.SYMBOLS)
    if not symbols:
        raise UserError("the kernel lists no symbols for modules", "set CONFIG_MODULES=y in a fragment")
    if fresh_build_folder(paths, make.toolchain.fingerprint) or not _is_ready(paths, symbols):
        logger.info("modules: the build folder of the kernel is prepared, as the kernel was not built here")
        finished_builds.begin(paths.build)
        configure(paths)
        log = paths.logs / "modules-prepare.log"
        log.unlink(missing_ok=True)
        with killed_build.mark_running(paths.build), make.launcher.session() as session:
            make.run(["modules_prepare"], log=log, env=session.env, jobs=kbuild.jobs())
        write_atomic(paths.build / install.SYMBOLS, symbols)
    forget_if_edited(paths)


def _is_ready(paths: Paths, symbols: bytes) -> bool:
    """Tell whether the build folder is that of the kernel with this configuration and these symbols."""
    wanted = {install.SYMBOLS: symbols, ".config": paths.config.read_bytes()}
    known = all(_content(paths.build / name) == content for name, content in wanted.items())
    return known and all((paths.build / name).is_file() for name in READ)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _require_key(paths: Paths) -> None:
    """Raise `UserError` if modules must be signed, and this machine lacks the key that the kernel trusts."""
    config = parse_config(paths.config.read_text())
    if config.get("MODULE_SIG_ALL") != "y" or config.get("MODULE_SIG_KEY", "").strip('"') != OWN_KEY:
        return
    certificate = _content(paths.kernel / install.CERTIFICATE)
    here = _content(paths.build / install.KEPT[install.CERTIFICATE])
    if certificate is None or certificate != here or not (paths.build / OWN_KEY).is_file():
        raise UserError(
            "the kernel takes modules signed by a key that was made in its build, and that key is not here",
            "build the kernel here (./doit kernel -a), or name a key of your own in CONFIG_MODULE_SIG_KEY",
        )


def check(paths: Paths, release: str, machine: str, source: Path, into: Path) -> None:
    """Raise `UserError` if a module does not fit the kernel, or has a name that the kernel uses itself."""
    elf.check_modules(into, release, machine)
    tree = paths.kernel / "modules/lib/modules" / release
    own = {_name(line): line for name in INDEXES for line in _lines(tree / name)}
    magic = _magic(tree)
    there: dict[str, int] = {}
    for file in (paths.kernel / install.SYMBOLS, source / install.SYMBOLS):
        if file.is_file():
            there |= module_symbols.exported(file.read_text(), file.name)
    for path in elf.modules_below(into):
        if _name(path.name) in own:
            message = f"{path.name}: the kernel has a module of that name, and modprobe would find both"
            raise UserError(message, f"turn it off in a fragment: {own[_name(path.name)]}")
        found = elf.modinfo(path).get("vermagic", [""])[0]
        if magic not in ("", found):
            hint = "the kernel would refuse it: its source must not hold objects of another kernel"
            raise UserError(f"{path.name}: vermagic is {found!r}, the kernel's is {magic!r}", hint)
        problem = module_symbols.unmet(module_symbols.needed(path), there)
        if problem:
            hint = "set what exports it in a fragment, or take a version of the source for this kernel"
            raise UserError(f"{path.name}: {problem}", hint)


def _magic(tree: Path) -> str:
    """Return the vermagic of the kernel's own modules, "" if it has none."""
    modules = elf.modules_below(tree)
    return elf.modinfo(modules[0]).get("vermagic", [""])[0] if modules else ""


def _lines(path: Path) -> list[str]:
    """Return the paths that an index of modules begins its lines with."""
    text = path.read_text() if path.is_file() else ""
    return [line.partition(":")[0] for line in text.splitlines() if line]


def _name(path: str) -> str:
    """Return the name of a module, which has `_` for `-` (modprobe(8))."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")

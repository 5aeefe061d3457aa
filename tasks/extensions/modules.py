# SPDX-License-Identifier: MIT
"""Sort the kernel's modules as Tiny Core does: into the core and into extensions.

kconfig/modules.toml puts modules into groups.  A group becomes NAME-RELEASE.tcz with its modules
below usr/local/lib/modules/RELEASE/kernel, where depmod finds them by the core's link
`kernel.tclocal`.  original-modules-RELEASE.tcz is empty and depends on all groups.  The other
modules go into the core together with all modules they need, so the core's modules.dep lists no
module that the core lacks.  With kernel.modules = "boot", only those of the list `boot` go into
the core, and there are no extensions.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.config import plan
from tasks.config.plan import Sorting
from tasks.config.profile import Profile
from tasks.config.recipe import Info, Recipe
from tasks.config.settings import Paths
from tasks.extensions import build
from tasks.formats import cpio, elf
from tasks.formats.initramfs_unpacker import RootFs
from tasks.kernel import installed
from tasks.toolchain import tools
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, remove_tree, sha256_file
from tasks.util.log import logger
from tasks.util.text import shortened

SUFFIX = re.compile(r"\.ko(\.\w+)?$")
# Files that depmod reads besides the modules (depmod(8), `make modules_install` of the kernel).
DEPMOD_INPUTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
SHOWN = 5


@dataclass(frozen=True)
class Sorted:
    """The place of each module.  Modules are paths below lib/modules/RELEASE.

    core: the modules of the core; moved: those of them that belong to a group but that a module
    of the core needs; groups: the other modules by the group's name.
    """

    core: tuple[str, ...]
    moved: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]


def read_dep(text: str, what: str) -> dict[str, tuple[str, ...]]:
    """Return the content of a modules.dep: each module's path and the paths of all modules it needs.

    A line is `PATH: PATH PATH` (modules.dep(5)) and includes indirect needs.  what: the name of
    the file in messages.  Raises `UserError` for any other line.
    """
    needs: dict[str, tuple[str, ...]] = {}
    for line in filter(None, text.splitlines()):
        path, colon, rest = line.partition(":")
        if not colon or not SUFFIX.search(path):
            raise UserError(
                f"{what} is no modules.dep: {line[:60]!r}", "build the kernel again: ./doit kernel"
            )
        needs[path] = tuple(rest.split())
    return needs


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a module's path (`kernel/fs/nfs/nfs.ko`) matches or is below one of `patterns`.

    A pattern has no leading `kernel/` and no suffix: `fs/nfs`, `drivers/net/*`.
    """
    parts = PurePosixPath(SUFFIX.sub("", path)).parts[1:]
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False


def sort_modules(needs: Mapping[str, Sequence[str]], sorting: Sorting) -> Sorted:
    """Return the place of each module of `needs` (see `read_dep`).

    A module of the core needs only modules of the core.
    """
    group_of: dict[str, str] = {}
    for path in needs:
        if not matches(path, sorting.core):
            matching = (group.name for group in sorting.group if matches(path, group.patterns))
            group_of[path] = next(matching, "")
    core = {path for path in needs if not group_of.get(path)}
    moved = _needed_besides(core, needs)
    groups = {
        group.name: tuple(
            sorted(path for path in needs if group_of.get(path) == group.name and path not in moved)
        )
        for group in sorting.group
    }
    return Sorted(tuple(sorted(core | moved)), tuple(sorted(moved)), groups)


def boot_modules(needs: Mapping[str, Sequence[str]], sorting: Sorting) -> Sorted:
    """Return the modules of `needs` that the list `boot` has, and those that they need, as the core's."""
    core = {path for path in needs if matches(path, sorting.boot)}
    return Sorted(tuple(sorted(core | _needed_besides(core, needs))), (), {})


def _needed_besides(core: set[str], needs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the modules that those of `core` need, and that are not in it."""
    moved: set[str] = set()
    todo = list(core)
    while todo:
        for path in needs.get(todo.pop(), ()):
            if path not in core and path not in moved:
                moved.add(path)
                todo.append(path)
    return moved


def group_deps(found: Sorted, needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return for each group the other groups whose modules it needs."""
    owner = {path: name for name, paths in found.groups.items() for path in paths}
    deps = {}
    for name, paths in found.groups.items():
        wanted = {owner[dep] for path in paths for dep in needs[path] if dep in owner}
        deps[name] = tuple(sorted(wanted - {name}))
    return deps


def split(paths: Paths, profile: Profile) -> None:
    """Write artifacts/PROFILE/modules/ (the core's modules) and, with `split`, the extension of each group.

    A group without modules (all are built in or in the core) becomes an empty extension, so that
    extensions that depend on it load.  Raises `UserError` if the kernel is not built or is not
    the one that the profile declares.
    """
    release = installed.kernel_release(paths, profile)
    source = paths.kernel / "modules" / "lib/modules" / release
    dep = source / "modules.dep"
    if not dep.is_file():
        raise UserError(f"{dep} is missing", "build the kernel again: ./doit kernel")
    needs = read_dep(dep.read_text(), str(dep))
    sorting = plan.sorting()
    has_groups = profile.kernel.modules == "split"
    found = sort_modules(needs, sorting) if has_groups else boot_modules(needs, sorting)
    _write_core(paths, profile, source, release, found)
    base = build.base_root(paths, profile)
    if profile.kernel.compress_modules and uses_kmod(base):
        logger.warning("the base's modprobe is kmod, which finds no .ko.gz unless it was built with zlib")
        logger.info("  hint: leave out kernel.compress_modules")
    if not has_groups:
        left = len(needs) - len(found.core)
        logger.info(f"modules for {release}: {len(found.core)} in the core, {left} left out")
        return
    deps = group_deps(found, needs)
    for group in sorting.group:
        about = f"Kernel modules: {group.description}"
        _write_group(
            paths, profile, source, release, (group.name, about), found.groups[group.name], deps, base
        )
    everything = {plan.ORIGINAL: tuple(group.name for group in sorting.group)}
    about = "All kernel modules that are not in core.gz"
    _write_group(paths, profile, source, release, (plan.ORIGINAL, about), (), everything, base)
    outside = sum(map(len, found.groups.values()))
    logger.info(f"modules for {release}: {len(found.core)} in the core, {outside} in extensions")
    if found.moved:
        names = shortened([PurePosixPath(path).name for path in found.moved], SHOWN)
        logger.info(f"modules: the core needs {names}, so it has them")


def uses_kmod(base: RootFs) -> bool:
    """Return whether a base root's modprobe is kmod's (Tiny Core's is BusyBox's)."""
    node = base.find("sbin/modprobe")
    if node is None:
        return False
    target = base.find("sbin/modprobe", follow=True)
    is_link = stat.S_ISLNK(node.mode)
    named = is_link and Path(cpio.decode(node.data)).name == "kmod"
    return named or (target is not None and b"libkmod" in target.data)


def _write_core(paths: Paths, profile: Profile, source: Path, release: str, found: Sorted) -> None:
    compress = profile.kernel.compress_modules
    with atomic_dir(paths.output / "modules") as folder:
        top = folder / "lib/modules" / release
        top.mkdir(parents=True)
        for name in DEPMOD_INPUTS:
            if (source / name).is_file():
                shutil.copyfile(source / name, top / name)
        present = set(found.core)
        order = top / "modules.order"
        if order.is_file():
            # modules.order always has the suffix .ko, also for compressed modules.
            plain = {SUFFIX.sub(".ko", path) for path in present}
            lines = [line for line in order.read_text().splitlines() if SUFFIX.sub(".ko", line) in plain]
            order.write_text("".join(f"{line}\n" for line in lines))
        for path in found.core:
            _copy_plain(source / path, top / path)
        _depmod(paths, profile, folder, release)
        if compress:
            _compress(top)
        files = sorted(path for path in top.rglob("*") if path.is_file())
        digests = "".join(f"{sha256_file(path)}  {path.relative_to(folder)}\n" for path in files)
        (folder / "modules.sha256").write_text(digests)


def _depmod(paths: Paths, profile: Profile, root: Path, release: str) -> None:
    """Run depmod on `root`.

    Raises `UserError` if a module needs a symbol that neither the kernel nor a module there has.
    """
    symbols = paths.kernel / "System.map"
    check = ["-e", "-F", str(symbols)] if symbols.is_file() else []
    log = paths.logs / "depmod.log"
    log.unlink(missing_ok=True)
    problems: list[str] = []

    def collect_problem(line: str) -> None:
        if "unknown symbol" in line:
            problems.append(line)

    depmod: list[str | Path] = ["depmod", "-b", root, *check, release]
    tools.of_profile(paths, profile).run(depmod, log=log, on_line=collect_problem)
    if problems:
        detail = "\n".join(f"  | {line}" for line in problems[:SHOWN])
        raise UserError("modules of the core need others that are not in it", f"see {log}", detail)


def _copy_plain(source: Path, target: Path) -> None:
    """Copy a module as NAME.ko: depmod need not read each compression that others use."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".ko":
        shutil.copyfile(source, target)
    else:
        target.with_suffix("").write_bytes(elf.read_module(source))


def _compress(top: Path) -> None:
    """Replace each NAME.ko by NAME.ko.gz, in modules.dep and modules.order too.

    The .bin indexes list the uncompressed files and only kmod reads them, so they are removed.
    """
    plain = [path for path in sorted(top.rglob("*.ko")) if path.is_file()]
    for path in plain:
        installed.compress_module(path)
    if not plain:
        return
    for name in ("modules.dep", "modules.order"):
        index = top / name
        if index.is_file():
            index.write_text(re.sub(r"\.ko(?=[:\s]|$)", ".ko.gz", index.read_text()))
    for path in top.glob("modules.*.bin"):
        path.unlink()


def _write_group(
    paths: Paths,
    profile: Profile,
    source: Path,
    release: str,
    title: tuple[str, str],
    modules: Sequence[str],
    deps: Mapping[str, Sequence[str]],
    base: RootFs,
) -> None:
    """Write the extension of one group of modules.

    title: the group's name and description; paths: its modules below `source`; deps: the needed
    groups by group.
    """
    group, about = title
    name = f"{group}-{release}"
    root = paths.output / "tcz-root" / name
    recipe = Recipe(
        info=Info(title=name, description=about, copying_policy="GPLv2", tags=("kernel", "modules")),
        deps=tuple(f"{dep}{plan.KERNEL}" for dep in deps[group]),
    )
    with atomic_dir(root) as folder:
        top = folder / "usr/local/lib/modules" / release
        for path in modules:
            _copy_plain(source / path, top / path)
        if profile.kernel.compress_modules:
            _compress(top)
        if not modules:
            # tce-load takes an extension with one folder for an empty one and does not mount it.
            (folder / "lib").mkdir()
    try:
        listing = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        build.pack(paths, profile, name, recipe, root, base, listing, release)
    finally:
        remove_tree(root)

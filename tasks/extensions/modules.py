"""Sort the kernel's modules as Tiny Core does: those needed to boot, and extensions.

What kconfig/modules.toml puts into a group becomes `NAME-RELEASE.tcz` with its modules
below usr/local/lib/modules/RELEASE/kernel, where depmod finds them through the core's
`kernel.tclocal`; `original-modules-RELEASE.tcz` is empty and depends on all groups.
The rest is the core's, with all it needs: its modules.dep, made by depmod, names no
module that is not there.
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
from tasks.config.recipe import Info, Recipe
from tasks.config.settings import Settings
from tasks.extensions import build
from tasks.formats import compression, cpio
from tasks.formats.initramfs_unpacker import RootFs
from tasks.kernel import installed
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, remove_tree, sha256_file
from tasks.util.log import logger
from tasks.util.process import run

SUFFIX = re.compile(r"\.ko(\.\w+)?$")
# What depmod reads beside the modules themselves (depmod(8), modules_install of the kernel).
DEPMOD_INPUTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
LEVEL = 9
SHOWN = 5


@dataclass(frozen=True)
class Sorted:
    """Where each module goes, by its path below lib/modules/RELEASE.

    core: those of the core; moved: those of them that a group would have taken, but a
    module of the core needs; groups: by the group's name.
    """

    core: tuple[str, ...]
    moved: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]


def read_dep(text: str, what: str) -> dict[str, tuple[str, ...]]:
    """Return modules.dep: each module's path and those of all it needs, directly or not.

    A line is `PATH: PATH PATH` (modules.dep(5)).  Raises `UserError`, with `what` in it,
    for anything else.
    """
    needs: dict[str, tuple[str, ...]] = {}
    for line in filter(None, text.splitlines()):
        path, colon, rest = line.partition(":")
        if not colon or not SUFFIX.search(path):
            raise UserError(
                f"{what} is no modules.dep: {line[:60]!r}", "build the kernel again: `doit kernel`"
            )
        needs[path] = tuple(rest.split())
    return needs


def fits(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether a module's path (`kernel/fs/nfs/nfs.ko`) is one of, or below, `patterns`."""
    parts = PurePosixPath(SUFFIX.sub("", path)).parts[1:]
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False


def sort(needs: Mapping[str, Sequence[str]], sorting: Sorting) -> Sorted:
    """Return where each module of `needs` (see `read_dep`) goes.  The core is closed under needing."""
    group_of: dict[str, str] = {}
    for path in needs:
        if not fits(path, sorting.core):
            fitting = (group.name for group in sorting.group if fits(path, group.patterns))
            group_of[path] = next(fitting, "")
    core = {path for path in needs if not group_of.get(path)}
    moved: set[str] = set()
    todo = list(core)
    while todo:
        for path in needs.get(todo.pop(), ()):
            if path not in core and path not in moved:
                moved.add(path)
                todo.append(path)
    groups = {
        group.name: tuple(
            sorted(path for path in needs if group_of.get(path) == group.name and path not in moved)
        )
        for group in sorting.group
    }
    return Sorted(tuple(sorted(core | moved)), tuple(sorted(moved)), groups)


def group_deps(found: Sorted, needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return which groups each group needs modules of."""
    owner = {path: name for name, paths in found.groups.items() for path in paths}
    deps = {}
    for name, paths in found.groups.items():
        wanted = {owner[dep] for path in paths for dep in needs[path] if dep in owner}
        deps[name] = tuple(sorted(wanted - {name}))
    return deps


def split(settings: Settings) -> None:
    """Write artifacts/PROFILE/modules/ (the core's part) and every group's extension.

    A group without modules becomes an empty extension, so that what depends on it can be
    loaded: its modules are built in, or in the core.  Raises `UserError` if the kernel is not
    built or not the one the profile declares.
    """
    release = installed.kernel_release(settings)
    source = settings.kernel / "modules" / "lib/modules" / release
    dep = source / "modules.dep"
    if not dep.is_file():
        raise UserError(f"{dep} is missing", "build the kernel again: `doit kernel`")
    needs = read_dep(dep.read_text(), str(dep))
    sorting = plan.sorting()
    found = sort(needs, sorting)
    _write_core(settings, source, release, found)
    base = build.base_root(settings)
    if settings.profile.kernel.compress_modules and uses_kmod(base):
        logger.warning("the base's modprobe is kmod, which finds no .ko.gz unless it was built with zlib")
        logger.info("  hint: leave out kernel.compress_modules")
    deps = group_deps(found, needs)
    for group in sorting.group:
        about = f"Kernel modules: {group.description}"
        _write_group(settings, source, release, (group.name, about), found.groups[group.name], deps, base)
    everything = {plan.ORIGINAL: tuple(group.name for group in sorting.group)}
    about = "All kernel modules that are not in core.gz"
    _write_group(settings, source, release, (plan.ORIGINAL, about), (), everything, base)
    outside = sum(map(len, found.groups.values()))
    logger.info(f"modules for {release}: {len(found.core)} in the core, {outside} in extensions")
    if found.moved:
        names = ", ".join(PurePosixPath(path).name for path in found.moved[:SHOWN])
        more = f" and {len(found.moved) - SHOWN} more" if len(found.moved) > SHOWN else ""
        logger.info(f"modules: the core needs {names}{more}, so it has them")


def uses_kmod(base: RootFs) -> bool:
    """Tell whether a base root's modprobe is kmod's (Tiny Core's is BusyBox)."""
    node = base.find("sbin/modprobe")
    if node is None:
        return False
    target = base.find("sbin/modprobe", follow=True)
    is_link = stat.S_ISLNK(node.mode)
    named = is_link and Path(cpio.decode(node.data)).name == "kmod"
    return named or (target is not None and b"libkmod" in target.data)


def _write_core(settings: Settings, source: Path, release: str, found: Sorted) -> None:
    compress = settings.profile.kernel.compress_modules
    with atomic_dir(settings.output / "modules") as folder:
        top = folder / "lib/modules" / release
        top.mkdir(parents=True)
        for name in DEPMOD_INPUTS:
            if (source / name).is_file():
                shutil.copyfile(source / name, top / name)
        present = set(found.core)
        order = top / "modules.order"
        if order.is_file():
            # The order names objects as built, `kernel/fs/nls/nls_utf8.ko`, compressed or not.
            plain = {SUFFIX.sub(".ko", path) for path in present}
            lines = [line for line in order.read_text().splitlines() if SUFFIX.sub(".ko", line) in plain]
            order.write_text("".join(f"{line}\n" for line in lines))
        for path in found.core:
            _copy(source / path, top / path)
        _depmod(settings, folder, release)
        if compress:
            _compress(top)
        files = sorted(path for path in top.rglob("*") if path.is_file())
        digests = "".join(f"{sha256_file(path)}  {path.relative_to(folder)}\n" for path in files)
        (folder / "modules.sha256").write_text(digests)


def _depmod(settings: Settings, root: Path, release: str) -> None:
    """Run depmod on `root`; a symbol that no module there and not the kernel has is refused."""
    symbols = settings.kernel / "System.map"
    check = ["-e", "-F", str(symbols)] if symbols.is_file() else []
    log = settings.logs / "depmod.log"
    log.unlink(missing_ok=True)
    problems: list[str] = []

    def look(line: str) -> None:
        if "unknown symbol" in line:
            problems.append(line)

    run(["depmod", "-b", root, *check, release], log=log, on_line=look)
    if problems:
        detail = "\n".join(f"  | {line}" for line in problems[:SHOWN])
        raise UserError("modules of the core need others that are not in it", f"see {log}", detail)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _compress(top: Path) -> None:
    """Make every plain NAME.ko a NAME.ko.gz, in modules.dep and modules.order too.

    The .bin indexes name the plain files, and only kmod reads them: they go.
    """
    plain = [path for path in sorted(top.rglob("*.ko")) if path.is_file()]
    for path in plain:
        packed = compression.compress(path.read_bytes(), "gzip", LEVEL)
        path.with_name(f"{path.name}.gz").write_bytes(packed)
        path.unlink()
    if not plain:
        return
    for name in ("modules.dep", "modules.order"):
        index = top / name
        if index.is_file():
            index.write_text(re.sub(r"\.ko(?=[:\s]|$)", ".ko.gz", index.read_text()))
    for path in top.glob("modules.*.bin"):
        path.unlink()


def _write_group(
    settings: Settings,
    source: Path,
    release: str,
    title: tuple[str, str],
    paths: Sequence[str],
    deps: Mapping[str, Sequence[str]],
    base: RootFs,
) -> None:
    """Make one extension of modules; `title`: the group's name and description."""
    group, about = title
    name = f"{group}-{release}"
    root = settings.output / "tcz-root" / name
    made = Recipe(
        info=Info(title=name, description=about, copying_policy="GPLv2", tags=("kernel", "modules")),
        deps=tuple(f"{dep}{plan.KERNEL}" for dep in deps[group]),
    )
    with atomic_dir(root) as folder:
        top = folder / "usr/local/lib/modules" / release
        for path in paths:
            _copy(source / path, top / path)
        if settings.profile.kernel.compress_modules:
            _compress(top)
        if not paths:
            # tce-load does not mount what holds a single folder.
            (folder / "lib").mkdir()
    try:
        listing = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        build.pack(settings, name, made, root, base, listing, release)
    finally:
        remove_tree(root)

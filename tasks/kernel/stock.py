# SPDX-License-Identifier: MIT
"""Take a kernel that others built: find its files, check them, and put them where a built one lies.

It is checked as a built one is: the image by its headers and payload, each module by its vermagic
and machine.  `tasks/config/kernel_image.py` says in which forms it comes.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config import inputs
from tasks.config.kernel_image import CONFIG, MODULES, SYSTEM_MAP, VMLINUZ, KernelImage
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import bzimage, debian_package, elf, ikconfig, iso9660, magic
from tasks.formats.initramfs_file import read_core, unpacked
from tasks.formats.initramfs_unpacker import Node, RootFs
from tasks.kernel import installed
from tasks.kernel.fragments import parse_config
from tasks.toolchain import tools
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, scratch_folder, write_atomic
from tasks.util.log import logger

# Debian's says that the real one is in a package of debug symbols.
REAL_MAP = b" _text\n"
INDEX = "modules.dep"


@dataclass(frozen=True)
class Found:
    """The files of a kernel.

    vmlinuz: its image.  modules: a folder of lib/modules, or a file system that has /lib/modules; None
    if there are none.  folder: where config and System.map may lie; config: the config that the
    profile names.  ours: the folder was unpacked here, so files may be moved out of it.
    """

    vmlinuz: Path
    modules: Path | RootFs | None
    folder: Path | None = None
    config: Path | None = None
    ours: bool = False


def take(paths: Paths, profile: Profile) -> None:
    """Write `kernel/` in the output folder from the kernel that the profile names.

    It appears only when every check has passed.  Raises `UserError` if a file is missing or is no
    kernel, if modules are of another release, and if the profile declares another release.
    """
    image = profile.kernel.image
    assert image is not None
    with scratch_folder(paths.output, "kernel") as scratch, _found(paths, profile, image, scratch) as found:
        architecture = profile.architecture
        facts = bzimage.check_bzimage(found.vmlinuz, bits=architecture.bits)
        release = facts.version.split(" ")[0]
        installed.check_release(paths, profile, release)
        with atomic_dir(paths.kernel) as folder:
            shutil.copyfile(found.vmlinuz, folder / paths.vmlinuz.name)
            target = folder / "modules/lib/modules" / release
            target.mkdir(parents=True)
            _put_modules(found, target)
            _index(paths, profile, folder / "modules", release)
            count = elf.check_modules(folder / "modules", release, architecture.machine)
            config, origin = _config(found, release, target)
            installed.write_record(folder, release, config)
            system_map = _file_of(found.folder, SYSTEM_MAP, release)
            if system_map is not None and REAL_MAP in system_map.read_bytes():
                shutil.copyfile(system_map, folder / "System.map")
    logger.info(str(replace(facts, path=paths.vmlinuz)))
    logger.info(f"{count} modules for {release}; its config: {origin or 'not known'}")
    if not config:
        logger.warning("what this kernel has cannot be checked, because its config is not known")
        logger.info("  hint: name it by kernel.source.config")


# --- find ------------------------------------------------------------------


@contextmanager
def _found(paths: Paths, profile: Profile, image: KernelImage, scratch: Path) -> Iterator[Found]:
    """Yield the kernel's files; those that had to be unpacked lie in `scratch`."""
    files = {key: inputs.source_file(paths, source) for key, source in image.files.items()}
    config = files.get("config")
    if "package" in files:
        debian_package.unpack_deb(files["package"], scratch / "deb")
        yield replace(_in_folder(profile, scratch / "deb", files["package"].name, config), ours=True)
    elif "folder" in files:
        yield _in_folder(profile, files["folder"], str(files["folder"]), config)
    elif "iso" in files:
        yield replace(_in_iso(files["iso"], scratch), config=config)
    else:
        archives = [files["modules"]] if "modules" in files else inputs.base_archives(paths, profile)
        yield Found(files["vmlinuz"], _root(archives), config=config)


def _in_folder(profile: Profile, folder: Path, name: str, config: Path | None) -> Found:
    """Return the kernel of a folder; of several, the one of the release that the profile declares."""
    if not folder.is_dir():
        raise UserError(f"{name} is not a folder", "kernel.source.folder names a folder with a kernel")
    found = (path for pattern in VMLINUZ for path in sorted(folder.glob(pattern)) if path.is_file())
    # Distributions have a link vmlinuz to vmlinuz-RELEASE.
    kernels = list({path.resolve(): path for path in found}.values())
    if not kernels:
        raise UserError(f"{name} holds no kernel", f"looked for {', '.join(VMLINUZ)}")
    if len(kernels) > 1:
        releases = {path: _release(path) for path in kernels}
        declared = profile.kernel.release
        kernels = [path for path in kernels if declared and releases[path] == declared]
    if len(kernels) != 1:
        names = ", ".join(
            f"{path.relative_to(folder)} ({of or 'no kernel'})" for path, of in releases.items()
        )
        hint = "kernel.release chooses the one of that release"
        raise UserError(f"{name} holds several kernels: {names}", hint)
    there = (folder / one for one in MODULES if any(path.is_dir() for path in (folder / one).glob("*")))
    modules = next(there, None)
    return Found(kernels[0], modules, folder, config)


def _release(path: Path) -> str:
    """Return the release that a kernel's headers say, "" if it is no kernel."""
    with path.open("rb") as stream:
        head = stream.read(magic.HEAD_BYTES)
    try:
        return bzimage.version_string(head, bzimage.read_header(head)).partition(" ")[0]
    except UserError:
        return ""


def _in_iso(iso: Path, scratch: Path) -> Found:
    """Return the kernel in /boot of an ISO, and the modules in the cores beside it."""
    extents = iso9660.extents(iso)
    boot = {name: extent for name, extent in extents.items() if name.rpartition("/")[0] == "boot"}
    kernels = [name for name in boot if name.removeprefix("boot/").startswith("vmlinuz")]
    if len(kernels) != 1:
        what = f"several kernels: {', '.join(sorted(kernels))}" if kernels else "no /boot/vmlinuz*"
        raise UserError(
            f"{iso.name} holds {what}", "give the kernel's files: kernel.source.vmlinuz, .modules"
        )
    unpacked_files = []
    for name, extent in sorted(boot.items()):
        if name == kernels[0] or name.endswith(".gz"):
            path = scratch / name.removeprefix("boot/")
            write_atomic(path, iso9660.content(iso, extent))
            unpacked_files.append(path)
    vmlinuz = scratch / kernels[0].removeprefix("boot/")
    return Found(vmlinuz, _root(path for path in unpacked_files if path != vmlinuz))


def _root(files: Iterable[Path]) -> RootFs:
    return unpacked(archive for path in files for archive in read_core(path))


# --- modules ---------------------------------------------------------------


def _put_modules(found: Found, target: Path) -> None:
    """Write the files of lib/modules/RELEASE to the empty `target`, whose name is RELEASE; no links.

    Raises `UserError` if there are modules, but of other releases only.
    """
    release, modules = target.name, found.modules
    if isinstance(modules, RootFs):
        top = modules.find("lib/modules", follow=True)
        there = sorted(top.children) if top else []
        # A root may have /lib as a link to usr/lib.
        if own := modules.find(f"lib/modules/{release}", follow=True):
            _write_files(own, target)
    elif modules is not None:
        there = sorted(path.name for path in modules.iterdir() if path.is_dir())
        if found.ours and release in there:
            os.rename(modules / release, target)
            _remove_links(target)
        else:
            _copy_files(modules / release, target)
    else:
        there = []
    if there and release not in there:
        raise UserError(
            f"the kernel is Linux {release}, but the modules are of {', '.join(there)}",
            "the kernel would load none of them; take kernel and modules of one build",
        )


def _write_files(folder: Node, target: Path) -> None:
    """Write the regular files below a folder of an archive to `target`, which exists."""
    for name, node in folder.children.items():
        if node.is_dir:
            (target / name).mkdir()
            _write_files(node, target / name)
        elif node.kind == stat.S_IFREG:
            (target / name).write_bytes(node.data)


def _remove_links(top: Path) -> None:
    for folder, folders, names in os.walk(top):
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink():
                path.unlink()


def _copy_files(source: Path, target: Path) -> None:
    """Copy the regular files below `source`; the links `build` and `source` lead to a build machine."""
    for folder, _, names in os.walk(source):
        into = target / Path(folder).relative_to(source)
        into.mkdir(exist_ok=True)
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                shutil.copyfile(path, into / name)


def _index(paths: Paths, profile: Profile, root: Path, release: str) -> None:
    """Run depmod on `root` if nobody did, or if modules were added since.

    A package leaves that to the machine that installs it.
    """
    folder = root / "lib/modules" / release
    index = folder / INDEX
    modules = elf.modules_below(folder)
    if index.is_file():
        indexed = {line.partition(":")[0] for line in index.read_text(errors="replace").splitlines()}
        added = [path for path in modules if str(path.relative_to(folder)) not in indexed]
        if not added:
            return
        logger.info(f"modules.dep does not have {added[0].name}: depmod writes it anew")
    if not modules:
        logger.info(f"the kernel {release} comes without modules")
        index.write_text("")
        return
    log = paths.logs / "depmod-kernel.log"
    log.unlink(missing_ok=True)
    tools.of_profile(paths, profile).run(["depmod", "-b", root, release], log=log)
    if not index.is_file() or not index.read_text():
        raise UserError(
            f"depmod cannot read {modules[0].name}",
            "take the modules with the modules.dep that belongs to them",
        )


# --- config ----------------------------------------------------------------


def _config(found: Found, release: str, modules: Path) -> tuple[str, str]:
    """Return the kernel's .config and where it was found; ("", "") if nobody knows it."""
    path = found.config or _file_of(found.folder, CONFIG, release)
    if path is not None:
        text = path.read_text(errors="replace")
        if not parse_config(text):
            raise UserError(f"{path.name}: not a kernel config", "it has no line CONFIG_...=...")
        return text, path.name
    with found.vmlinuz.open("rb") as stream:
        data = memoryview(stream.read())
    if text := ikconfig.find(bzimage.payload(data, bzimage.read_header(data))[1]):
        return text, "inside the kernel (IKCONFIG)"
    for name in elf.modules_below(modules / "kernel/kernel"):
        if name.name.partition(".")[0] == "configs" and (text := ikconfig.find(elf.read_module(name))):
            return text, f"inside {name.name} (IKCONFIG)"
    return "", ""


def _file_of(folder: Path | None, names: Iterable[str], release: str) -> Path | None:
    """Return the first of `names` that is a file below `folder`."""
    if folder is None:
        return None
    paths = (folder / name.format(release=release) for name in names)
    return next((path for path in paths if path.is_file()), None)

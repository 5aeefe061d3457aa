# SPDX-License-Identifier: MIT
"""The built kernel, taken from a package and from an ISO as one that others built."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.extensions.modules import read_dep
from tasks.kernel import stock
from tasks.kernel.installed import kernel_release
from tasks.origins.lock import Lock, LockedPackage
from tasks.origins.sources.file import FileSource
from tasks.util.files import sha256_file
from tests.support import debs
from tests.support.built import built
from tests.support.settings import both, record_lock


def with_kernel(settings: Settings, image: KernelImage) -> Settings:
    kernel = Kernel(source=image)
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def modules(kernel: Path) -> dict[str, str]:
    """Return the sha256 of each module of a kernel by path."""
    rows = (line.split("  ") for line in (kernel / "modules.sha256").read_text().splitlines())
    return {path: sha256 for sha256, path in rows if path.endswith(".ko")}


def needed(kernel: Path, release: str) -> Mapping[str, set[str]]:
    text = (kernel / "modules/lib/modules" / release / "modules.dep").read_text()
    return {path: set(needs) for path, needs in read_dep(text, "modules.dep").items()}


def test_a_package_is_unpacked_and_its_modules_are_indexed(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """A package of a kernel has no modules.dep: the machine that installs it runs depmod."""
    image = built()
    release = kernel_release(*both(image))
    top = f"lib/modules/{release}"
    index = image.paths.kernel / "modules" / top / "modules.dep"
    some = [path for path, needs in read_dep(index.read_text(), "x").items() if "fs/" in path or needs]
    wanted = {name: (index.parent / name).read_bytes() for name in some}
    for name in [need for path in some for need in read_dep(index.read_text(), "x")[path]]:
        wanted[name] = (index.parent / name).read_bytes()
    files = {f"{top}/{name}": content for name, content in wanted.items()}
    files |= {
        f"boot/vmlinuz-{release}": image.paths.vmlinuz.read_bytes(),
        f"boot/config-{release}": (image.paths.kernel / "config").read_bytes(),
    }
    made = with_kernel(make_settings(), KernelImage(package="linux-image-*"))
    deb = debs.write(tmp_path / "linux-image-made.deb", files)
    entry = LockedPackage("linux-image-made", "1", sha256_file(deb), "debian", "pool/linux-image-made.deb")
    record_lock(made, Lock(package=(entry,)))
    cached = entry.cached_in(made.paths.cache)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(deb.read_bytes())
    stock.take(*both(made))
    assert kernel_release(*both(made)) == release
    assert made.paths.vmlinuz.read_bytes() == image.paths.vmlinuz.read_bytes()
    assert modules(made.paths.kernel).items() <= modules(image.paths.kernel).items()
    found = needed(made.paths.kernel, release)
    assert found.keys() == wanted.keys()
    assert all(found[path] == needed(image.paths.kernel, release)[path] for path in found)


def test_the_kernel_of_an_iso(make_settings: Callable[..., Settings]) -> None:
    """Its modules lie in the core of the ISO, and its config inside it or nowhere."""
    image = built()
    made = with_kernel(make_settings(), KernelImage(iso=FileSource(path=str(image.paths.iso))))
    stock.take(*both(made))
    assert made.paths.vmlinuz.read_bytes() == image.paths.vmlinuz.read_bytes()
    assert modules(made.paths.kernel) == modules(image.paths.kernel)
    known = "CONFIG_IKCONFIG=y" in (image.paths.kernel / "config").read_text()
    assert bool((made.paths.kernel / "config").read_text()) == known


@pytest.mark.parametrize("config", [True, False])
def test_what_tcbuild_has_built_is_taken_as_a_folder(
    make_settings: Callable[..., Settings], config: bool
) -> None:
    image = built()
    given = FileSource(path=str(image.paths.kernel / "config")) if config else None
    made = with_kernel(make_settings(), KernelImage(folder=str(image.paths.kernel), config=given))
    stock.take(*both(made))
    for name in ("modules.sha256", "config", "release", "initramfs.formats", "squashfs.formats"):
        assert (made.paths.kernel / name).read_bytes() == (image.paths.kernel / name).read_bytes()


def test_a_module_that_was_added_to_a_folder_is_indexed(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """modprobe finds no module that modules.dep does not have."""
    image = built()
    release = kernel_release(*both(image))
    top = f"modules/lib/modules/{release}"
    shutil.copytree(image.paths.kernel, tmp_path / "kernel")
    index = tmp_path / "kernel" / top / "modules.dep"
    short = "".join(index.read_text().splitlines(keepends=True)[1:])
    index.write_text(short)
    made = with_kernel(make_settings(), KernelImage(folder=str(tmp_path / "kernel")))
    stock.take(*both(made))
    assert needed(made.paths.kernel, release) == needed(image.paths.kernel, release)
    assert index.read_text() == short, "the folder stays as it is"

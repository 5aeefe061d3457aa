# SPDX-License-Identifier: MIT
"""Kernels that others built, as profiles name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import inputs, profile
from tasks.config.kernel_image import KernelImage
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.file import FileSource
from tasks.toolchain import prepare
from tasks.util.errors import UserError
from tests.support.profiles import MINIMAL, minimal_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return minimal_checkout(tmp_path, monkeypatch)


OWN = '{ kind = "apt", package = "linux-source-*" }\nbase = "base.config"\nbase_mode = "allnoconfig"\n'
FILE = '{ kind = "file", path = "x" }'
NONE_OF_THEM = "source.kind: 'image' has one of package, vmlinuz, folder, iso; here is"
IMAGE_MISTAKES = [
    ("", "", f"kernel.{NONE_OF_THEM} none of them"),
    ('folder = "a", package = "b"', "", f"kernel.{NONE_OF_THEM} package and folder"),
    (f'folder = "a", modules = {FILE}', "", "kernel.source.modules: only beside vmlinuz; folder brings its"),
    (
        'vmlinuz = { kind = "apt", package = "x" }',
        "",
        "kernel.source.vmlinuz: expected a file; `package` takes",
    ),
    ('folder = "a"', 'patches = "linux-5.4"', "kernel.patches: a kernel that others built"),
    ('folder = "a"', 'localversion = "-x"', "kernel.localversion: a kernel that others built"),
    ('folder = "a"', 'toolchain = "debian11"', "kernel.toolchain: a kernel that others built"),
    ('floder = "a"', "", "unknown key 'kernel.source.floder'"),
]
"""The keys of the source, those of [kernel], and what their author is told."""


@pytest.mark.parametrize("keys, kernel, expected", IMAGE_MISTAKES)
def test_mistake_in_a_kernel_that_others_built(checkout: Path, keys: str, kernel: str, expected: str) -> None:
    source = '{ kind = "image"' + (f", {keys} }}" if keys else " }")
    assert OWN in MINIMAL
    (checkout / "profiles/mine.toml").write_text(MINIMAL.replace(OWN, f"{source}\n{kernel}\n"))
    with pytest.raises(UserError) as caught:
        profile.load("mine")
    assert expected in caught.value.message


def test_a_kernel_that_others_built_needs_no_base_config_and_no_compiler(checkout: Path) -> None:
    text = MINIMAL.replace(OWN, '{ kind = "image", package = "linux-image-*" }\n')
    (checkout / "profiles/mine.toml").write_text(text)
    loaded = profile.load("mine")
    assert loaded.kernel.sources == (AptSource(package="linux-image-*"),)
    assert inputs.sources(loaded) == [*loaded.kernel.sources]
    assert (loaded.kernel.tree, loaded.kernel.image) == (None, loaded.kernel.source)
    assert prepare.host_groups(loaded) == ["build"]
    (checkout / "profiles/mine.toml").write_text(MINIMAL)
    assert prepare.host_groups(profile.load("mine")) == ["build", "compile"]
    (checkout / "profiles/mine.toml").write_text(MINIMAL.replace('base = "base.config"\n', ""))
    with pytest.raises(UserError, match=r"kernel\.base: needed by a kernel that is built"):
        profile.load("mine")


def test_where_its_modules_are(tmp_path: Path) -> None:
    one = FileSource(path=str(tmp_path))
    assert KernelImage(vmlinuz=one).modules_in_base
    assert not KernelImage(vmlinuz=one, modules=one).modules_in_base
    assert not KernelImage(folder=str(tmp_path)).modules_in_base
    assert KernelImage(folder=str(tmp_path)).tree == tmp_path
    assert list(KernelImage(vmlinuz=one, config=one).files) == ["vmlinuz", "config"]


def test_of_a_folder_only_the_files_of_a_kernel_count(tmp_path: Path) -> None:
    """It may be /, with all that a machine has."""
    counted = [
        *("boot/config-6.1", "boot/vmlinuz-6.1", "bzImage", "config", "lib/modules/6.1/a.ko"),
        *("modules/6.1/b.ko", "modules/lib/modules/6.1/modules.dep", "usr/lib/modules/6.1/c.ko"),
    ]
    for name in (*counted, "home/me/secret", "boot/grub/grub.cfg", "proc/1/maps"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "vmlinuz").symlink_to("boot/vmlinuz-6.1")
    (tmp_path / "lib/modules/6.1/build").symlink_to(tmp_path / "home")
    made = KernelImage(folder=str(tmp_path))
    assert [str(path.relative_to(tmp_path)) for path in made.folder_files] == sorted([*counted, "vmlinuz"])
    trees = [str(path.relative_to(tmp_path)) for path in made.modules_trees]
    assert trees == ["lib/modules", "usr/lib/modules", "modules"]
    gone = KernelImage(folder=str(tmp_path / "gone"))
    assert (gone.folder_files, gone.modules_trees) == ([], [])

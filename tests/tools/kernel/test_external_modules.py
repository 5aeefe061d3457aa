# SPDX-License-Identifier: MIT
"""Modules from elsewhere, built by the real make against the built kernel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats import elf
from tasks.kernel import build, external_modules, install
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file
from tests.support import smallkernel
from tests.support.built import compiled

SOURCE = """\
#include <linux/module.h>
#include <linux/printk.h>
MORE
static int __init begin(void)
{
	BODY
	pr_info("hello from " __FILE__ "\\n");
	return 0;
}
module_init(begin);
MODULE_LICENSE("GPL");
"""
EXTRA = "usr/local/lib/modules/{release}/kernel/extra"


@pytest.fixture(scope="module")
def settings() -> Settings:
    """The built kernel with its build folder, by a profile that names its release."""
    image = compiled()
    release = (image.paths.kernel / "release").read_text().strip()
    kernel = replace(image.profile.kernel, release=release)
    return replace(image, profile=replace(image.profile, kernel=kernel))


@pytest.fixture
def folder(settings: Settings) -> Iterator[Path]:
    """A folder that the toolchain sees."""
    with scratch_folder(settings.paths.output, "modules-of-a-test") as made:
        yield made


def source(folder: Path, name: str = "hello_there", more: str = "", body: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / f"{name}.c").write_text(SOURCE.replace("MORE", more).replace("BODY", body))
    (folder / "Makefile").write_text(f"obj-m := {name}.o\n")
    return folder


def made(settings: Settings, source: Path, into: Path, *variables: str) -> dict[str, str]:
    """Build, and return the sha256 of each file by its path."""
    log = source.with_name("module.log")
    external_modules.build(settings, source, variables, log, into)
    return {str(path.relative_to(into)): sha256_file(path) for path in into.rglob("*") if path.is_file()}


def test_a_module_has_the_same_bytes_wherever_its_source_lies(settings: Settings, folder: Path) -> None:
    release = settings.profile.kernel.release
    first = made(settings, source(folder / "here"), folder / "one")
    again = made(settings, source(folder / "there/is/another/place"), folder / "two")
    assert first == again
    (path,) = first
    assert path == f"{EXTRA.format(release=release)}/hello_there.ko"
    module = folder / "one" / path
    assert elf.modinfo(module)["vermagic"][0].startswith(f"{release} ")
    assert not elf.has_debug_information(module)
    assert b"hello_there.c" in module.read_bytes()
    assert str(folder).encode() not in module.read_bytes()


def test_variables_of_make_reach_the_module_and_modules_are_packed(settings: Settings, folder: Path) -> None:
    packed = replace(settings.profile, kernel=replace(settings.profile.kernel, compress_modules=True))
    top = source(folder / "source", more="#ifndef ASKED\n#error not asked\n#endif")
    (top / "Makefile").write_text("obj-m := hello_there.o\nccflags-y := $(WHAT)\n")
    found = made(replace(settings, profile=packed), top, folder / "into", "WHAT=-DASKED")
    assert [Path(path).name for path in found] == ["hello_there.ko.gz"]


@pytest.mark.parametrize(
    ("name", "more", "body", "says"),
    [
        ("hello", "", "nobody_has_this();", "implicit declaration of function"),
        (
            "hello",
            "void nobody_has_this(void);",
            "nobody_has_this();",
            r'"nobody_has_this" \[.*\] undefined!',
        ),
        ("overlay", "", "", "overlay.ko: the kernel has a module of that name, and modprobe would find both"),
    ],
    ids=["undeclared", "undefined", "taken-name"],
)
def test_what_does_not_fit_is_told_in_one_line(
    settings: Settings, folder: Path, name: str, more: str, body: str, says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        made(settings, source(folder / "source", name, more, body), folder / "into")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_source_without_a_module_is_told(settings: Settings, folder: Path) -> None:
    top = source(folder / "source")
    (top / "Makefile").write_text("obj-m :=\n")
    with pytest.raises(UserError, match="the source gave no kernel module"):
        made(settings, top, folder / "into")


def test_another_release_than_the_declared_one_is_told(settings: Settings, folder: Path) -> None:
    other = replace(settings.profile, kernel=replace(settings.profile.kernel, release="1.2.3"))
    with pytest.raises(UserError, match=r"declares kernel\.release = '1\.2\.3', but the kernel's is"):
        made(replace(settings, profile=other), source(folder / "source"), folder / "into")


SIGNED = {"64BIT": "y", "MODULES": "y", "MODVERSIONS": "y", "CRC7": "m", "PRINTK": "y"}
SIGNED |= {"MODULE_SIG": "y", "MODULE_SIG_ALL": "y", "MODULE_SIG_SHA256": "y"}


@pytest.mark.slow
def test_a_kernel_that_signs_and_compares_symbols(tmp_path: Path) -> None:
    """The build folder is prepared again where it is gone, and with it the key of the build."""
    small = smallkernel.prepare(tmp_path / "out", SIGNED)
    build.build(small)
    install.install(small)
    release = (small.paths.kernel / "release").read_text().strip()
    small = replace(
        small, profile=replace(small.profile, kernel=replace(small.profile.kernel, release=release))
    )
    top = source(small.paths.output / "source")
    (path,) = made(small, top, small.paths.output / "into")
    module = small.paths.output / "into" / path
    assert module.read_bytes().endswith(b"~Module signature appended~\n")
    assert build.is_untouched(small.paths)
    (small.paths.linux / "include/new.h").touch()
    made(small, source(small.paths.output / "edited"), small.paths.output / "of-an-edited-tree")
    (small.paths.linux / "include/new.h").unlink()
    assert not build.is_untouched(small.paths), "what make prepared may be of the edited tree"
    symbols = small.paths.kernel / install.SYMBOLS
    text = symbols.read_text()
    crc = next(line.split("\t")[0] for line in text.splitlines() if "\t_printk\t" in line)
    symbols.write_text(text.replace(crc, "0x00000001"))
    with pytest.raises(
        UserError, match=rf"built for a _printk of CRC {crc}, and the kernel's has 0x00000001"
    ):
        external_modules.check(small.paths, release, "EM_X86_64", top, small.paths.output / "into")
    symbols.write_text(text)
    shutil.rmtree(small.paths.build)
    with pytest.raises(
        UserError, match="signed by a key that was made in its build, and that key is not here"
    ):
        made(small, source(small.paths.output / "other"), small.paths.output / "more")
    plain = small.paths.config.read_text().replace("CONFIG_MODULE_SIG_ALL=y", "")
    small.paths.config.write_text(plain)
    assert list(made(small, source(small.paths.output / "third"), small.paths.output / "last")) == [path]

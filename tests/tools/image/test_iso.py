# SPDX-License-Identifier: MIT
"""The boot menus and the partitions of the ISO.

GRUB's own parser takes its menu, and both menus give the kernel the same command line.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import bootcodes
from tasks.config.settings import Settings
from tasks.image import grub, iso
from tasks.util.process import run
from tests.support.built import built

HARD = (
    "cde",
    "a;reboot",
    "b|c&d",
    "e=$root${root}",
    "f=`g`",
    "h=<i>#{j}",
    "k=*?[l]~!",
    "@TITLE@",
    'dyndbg="file ext4 +p; $x"',
    '"opt=1 2"',
    "tce=LABEL=müsli",
    "x" * 1700,
)


def of_grub(line: str) -> str:
    """Return the command line that GRUB's `linux` gives the kernel for a line of its menu.

    Between single quotes, and outside of quotes for what `grub.PLAIN_WORD` lets pass, GRUB's shell
    reads a word as POSIX's does.  `linux` puts a word with a space between double quotes.
    """
    words = shlex.split(line)[2:]
    assert not any(set(word) & set("\"'\\") for word in words)
    return " ".join(f'"{word}"' if " " in word else word for word in words)


@pytest.mark.parametrize("codes", [("cde", "console=tty0", "console=ttyS0,115200"), HARD])
def test_both_menus_give_the_kernel_the_same_line(
    codes: tuple[str, ...], make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings()
    bootcodes.check(codes)
    profile = replace(settings.profile, boot=replace(settings.profile.boot, bootcodes=codes, timeout=0))
    paths = replace(settings.paths, name='odd"$(reboot)\\')
    paths.kernel.mkdir(parents=True, exist_ok=True)
    (paths.kernel / "release").write_text("5.4.3-tinycore64\n")
    values = iso.menu_values(paths, profile)
    menu, config = grub.fill("grub.cfg", values), grub.fill("isolinux.cfg", values)
    (tmp_path / "grub.cfg").write_text(menu)
    run(["grub-script-check", tmp_path / "grub.cfg"])
    by_grub = [of_grub(line) for line in menu.splitlines() if line.strip().startswith("linux ")]
    by_isolinux = [line.removeprefix("APPEND ") for line in config.splitlines() if line.startswith("APPEND ")]
    line = bootcodes.line(codes)
    assert by_grub == by_isolinux
    assert by_grub == [
        f"loglevel=3 {line}",
        f"loglevel=3 {line.removeprefix('cde ')} base norestore",
        f"loglevel=3 {line} noembed",
    ]
    assert max(len(text.encode()) for text in by_grub) <= bootcodes.KERNEL_LIMIT - 54
    assert 'menuentry "Tiny Core (odd\\"\\$(reboot)\\\\, 5.4.3-tinycore64)" --id tc {' in menu
    assert "\nTIMEOUT 1\n" in config
    assert "set timeout=0\n" in menu


def test_the_menu_for_an_iso_that_is_a_file(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Tiny Core's iso= takes the place of cde; all else is as in the other menus."""
    settings = make_settings()
    boot = replace(settings.profile.boot, bootcodes=("cde", "console=tty0"))
    settings.paths.kernel.mkdir(parents=True, exist_ok=True)
    (settings.paths.kernel / "release").write_text("5.4.3-tinycore64\n")
    menu = grub.fill("loopback.cfg", iso.menu_values(settings.paths, replace(settings.profile, boot=boot)))
    (tmp_path / "loopback.cfg").write_text(menu)
    run(["grub-script-check", tmp_path / "loopback.cfg"])
    where = '"iso=UUID=$rootuuid$iso_path"'
    assert [line.split(maxsplit=2)[2] for line in menu.splitlines() if line.strip().startswith("linux ")] == [
        f"loglevel=3 console=tty0 {where}",
        "loglevel=3 console=tty0 base norestore",
        f"loglevel=3 console=tty0 {where} noembed",
    ]
    assert "@" not in menu


def test_the_menus_of_ordinary_bootcodes_have_no_quotes(make_settings: Callable[..., Settings]) -> None:
    values = iso.code_values(("cde", "noembed", "console=ttyS0,115200"))
    assert values["GRUB_BOOTCODES"] == values["BOOTCODES"] == "cde noembed console=ttyS0,115200"
    assert values["GRUB_BASE_CODES"] == values["BASE_CODES"] == "noembed console=ttyS0,115200"


def test_the_partition_table_is_sound() -> None:
    """GPT with the ISO and the EFI partition side by side, as the tool says that repairs such tables."""
    image = built().paths.iso
    said = run(["sgdisk", "-v", image]).stdout
    assert "No problems found" in said
    assert "Caution" not in said
    table = run(["sgdisk", "-p", image]).stdout
    assert [line.split()[-2:] for line in table.splitlines()[-2:]] == [
        ["0700", "ISO9660"],
        ["EF00", "Appended2"],
    ]
    mbr = image.read_bytes()[446:510]
    assert [mbr[n] for n in range(0, 64, 16)].count(0x80) == 1  # what some BIOSes ask for
    assert mbr[4] == 0xEE


def test_a_copy_of_its_files_has_the_efi_partitions_programs(tmp_path: Path) -> None:
    """Byte for byte; and the file that they look for has a name that any file system can hold."""
    image, loaders = built().paths.iso, built().profile.architecture.efi
    extract = ("-osirrox", "on", "-extract", "/EFI/BOOT", tmp_path / "copy", "-extract", "/boot/grub")
    run(["xorriso", "-indev", image, *extract, tmp_path])
    first = int(run(["sgdisk", "-i", "2", image]).stdout.partition("First sector: ")[2].split()[0])
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(efi.file for efi in loaders)
    (found_by,) = tmp_path.glob("*.id")
    for efi in loaders:
        source = ["-i", f"{image.name}@@{first * 512}", f"::EFI/BOOT/{efi.file}"]
        subprocess.run(["mcopy", "-n", *source, tmp_path / efi.file], cwd=image.parent, check=True)
        program = (tmp_path / efi.file).read_bytes()
        assert program == (tmp_path / "copy" / efi.file).read_bytes()
    assert len(found_by.stem) == 8


def test_an_image_is_found_by_all_that_is_in_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "cde").mkdir(parents=True)
    (tree / "cde/onboot.lst").write_text("one.tcz\n")
    before = iso.identity(tree)
    assert iso.identity(tree) == before
    (tree / "cde/onboot.lst").write_text("two.tcz\n")
    other = iso.identity(tree)
    (tree / "cde/onboot.lst").rename(tree / "cde/copy2fs.lst")
    assert len({before, other, iso.identity(tree)}) == 3

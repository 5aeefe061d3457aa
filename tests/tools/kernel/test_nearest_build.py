# SPDX-License-Identifier: MIT
"""A build that starts from another checkout's objects: the bytes of one from nothing, by the real make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import build, finished_builds
from tasks.util.checkout import CHECKOUT
from tasks.util.files import sha256_file
from tests.support import smallkernel
from tests.support.settings import with_values

FIRST = {"64BIT": "y", "MODULES": "y", "CRC7": "m", "CRC8": "m", "DEFAULT_HOSTNAME": '"one"', "SYSFS": "y"}
KINDS = {
    # A module comes, one goes, one becomes built-in; a symbol and a text differ.
    "symbols": {
        "CRC7": "y",
        "CRC8": "n",
        "CRC_ITU_T": "m",
        "SGETMASK_SYSCALL": "y",
        "DEFAULT_HOSTNAME": '"two"',
    },
    # The compiler's flags, debug information, and gdb's scripts, which are symbolic links to the tree.
    "flags": {
        "CC_OPTIMIZE_FOR_PERFORMANCE": "y",
        "DEBUG_KERNEL": "y",
        "DEBUG_INFO_DWARF5": "y",
        "GDB_SCRIPTS": "y",
        "SMP": "y",
    },
    # What scripts write: versions, checksums of symbols, the configuration, an initramfs.
    "scripts": {
        "LOCALVERSION": '"-other"',
        "MODVERSIONS": "y",
        "IKCONFIG": "y",
        "BLK_DEV_INITRD": "y",
        "KALLSYMS": "y",
        "KALLSYMS_ALL": "y",
    },
}
"""Symbols whose values differ from the first configuration.  Then they go back."""
EPOCH = 1_000_000_000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return a function that prepares a small kernel of the built image's tree in a checkout of its own."""
    monkeypatch.setattr(finished_builds, "NOTES", str(tmp_path / "notes"))

    def made(checkout: str, wanted: dict[str, str], *, own_cache: bool = True) -> Settings:
        artifacts = tmp_path / checkout / "artifacts"
        monkeypatch.setattr(CHECKOUT, "artifacts", artifacts)
        return with_values(smallkernel.prepare(artifacts / "apt", wanted), own_cache=own_cache)

    return made


def at(settings: Settings, epoch: int) -> Settings:
    """Return settings whose results have another time."""
    return with_values(settings, profile=replace(settings.profile, source_date_epoch=epoch))


def objects(settings: Settings) -> int:
    return (settings.paths.logs / "kernel.log").read_text().count("  CC ")


def results(settings: Settings) -> dict[str, str]:
    """Return the digests of all that is installed of a build, and of what a debugger reads."""
    folder = settings.paths.build
    made = [folder / name for name in ("arch/x86/boot/bzImage", "vmlinux", "modules.order", "System.map")]
    made += [folder / name.replace(".o", ".ko") for name in (folder / "modules.order").read_text().split()]
    return {str(path.relative_to(folder)): sha256_file(path) for path in made}


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what tells of a change of a file."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for path, one in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_a_build_from_nothing(
    settings: Callable[..., Settings], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = settings("first", FIRST)
    build.build(first)
    wanted, untouched = results(first), state(first.paths.build)
    other = at(settings("other", FIRST | KINDS[kind]), EPOCH)
    capsys.readouterr()
    build.build(other)
    assert f"kernel: starts from the objects of {first.paths.build}: " in capsys.readouterr().out
    assert state(first.paths.build) == untouched
    nothing = at(settings("nothing", FIRST | KINDS[kind], own_cache=False), EPOCH)
    build.build(nothing)
    assert "starts from" not in capsys.readouterr().out
    assert results(other) == results(nothing) != wanted
    if kind == "symbols":
        assert 0 < objects(other) < objects(nothing) / 4
        assert "lib/crc-itu-t.ko" in results(other)
    # Nothing leads to the first checkout any more.
    shutil.rmtree(tmp_path / "first")
    assert not [path for path in other.paths.build.rglob("*") if path.is_symlink() and not path.exists()]
    back = settings("back", FIRST)
    capsys.readouterr()
    build.build(back)
    assert f"kernel: starts from the objects of {other.paths.build}: " in capsys.readouterr().out
    assert results(back) == wanted
    for folder in (other, back):
        assert (folder.paths.build / ".config").read_bytes() == folder.paths.config.read_bytes()

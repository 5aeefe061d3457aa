# SPDX-License-Identifier: MIT
"""A disc with Tiny Core's own root and extensions in all four places, imported and built again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.config import plan, profile
from tasks.config.profile import Extension
from tasks.config.settings import Network, Paths, Settings
from tasks.config.sources import Core
from tasks.extensions import upstream
from tasks.fetch import inputs
from tasks.formats import iso9660
from tasks.formats.initramfs_file import merged, read_core
from tasks.image import iso
from tasks.initramfs import core
from tasks.kernel import stock
from tasks.origins.lock import load_lock
from tasks.origins.sources.file import FileSource
from tasks.remaster import importer
from tasks.util.checkout import CHECKOUT
from tasks.vm import qemu
from tasks.vm.guest import Guest
from tests.support.built import built
from tests.support.media import checkout
from tests.support.settings import both
from tests.support.tinycore import real
from tests.vm.contract import LIMIT
from tests.vm.test_consoles import CODES, take

PLACES = {"parted": "onboot", "liblvm2": "copy2fs", "dosfstools": "ondemand", "ncursesw": "initrd"}


class Imported(NamedTuple):
    """The disc, what was built of its import, and what the import said."""

    original: Settings
    again: Settings
    said: str


def files(image: Path) -> dict[str, bytes]:
    """Return the files of an ISO in cde/ and the kernel and the core."""
    found = iso9660.extents(image)
    wanted = ("cde/", "boot/vmlinuz64", "boot/corepure64.gz")
    return {name: iso9660.content(image, one) for name, one in found.items() if name.startswith(wanted)}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    image = built()
    root = real("x86_64/rootfs64.gz")
    original = replace(image, paths=replace(image.paths, output=tmp_path_factory.mktemp("original")))
    (original.paths.output / "kernel").symlink_to(image.paths.kernel)
    for name in PLACES:
        take(name, original.paths.tcz)
    changed = replace(
        original.profile,
        core=Core(archives=(FileSource(path=str(root)),)),
        boot=replace(original.profile.boot, bootcodes=CODES, timeout=2, volume_id="TC-11"),
        extensions=tuple(Extension(name, place) for name, place in PLACES.items()),  # type: ignore[arg-type]
    )
    original = replace(original, profile=changed)
    core.build(*both(original))
    iso.build(*both(original))
    folder = checkout(tmp_path_factory.mktemp("checkout"), CHECKOUT.profiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CHECKOUT, "profiles", folder / "profiles")
        patch.setattr(CHECKOUT, "artifacts", folder / "artifacts")
        cache = image.paths.cache
        importer.import_system(cache, folder, [str(original.paths.iso), "again"], base=str(root))
        made = replace(profile.load("again"), toolchain=image.profile.toolchain)
        again = Settings(Paths("again", folder / "artifacts/again", cache), made, Network(offline=True))
        inputs.fetch(again)
        stock.take(*both(again))
        for name in plan.plan(made, load_lock(again.paths.used_lock)).of_kind("upstream"):
            upstream.install(*both(again), name)
        core.build(*both(again))
        iso.build(*both(again))
        yield Imported(original, again, (folder / "artifacts/again/import.txt").read_text())


def test_the_profile_says_the_same(imported: Imported) -> None:
    one, other = imported.original.profile, imported.again.profile
    assert (one.boot, other.core.compression) == (other.boot, "gzip")
    assert {item.name: item.place for item in other.extensions} == {
        # One in the core is part of it; one that others need lies on the disc, too.
        **{name: place for name, place in PLACES.items() if place != "initrd"},
        **dict.fromkeys(("ncursesw", "readline", "udev-lib"), "ondemand"),
    }


def test_the_disc_comes_back_byte_for_byte(imported: Imported) -> None:
    """The kernel, the core, the extensions and the lists of those that are loaded at boot."""
    before, after = files(imported.original.paths.iso), files(imported.again.paths.iso)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert before["cde/onboot.lst"] == b"parted.tcz\nliblvm2.tcz\n"
    assert real("x86_64/rootfs64.gz").read_bytes().rstrip(b"\0") in after["boot/corepure64.gz"]


def test_what_the_core_has_apart_from_the_release_is_shown(imported: Imported) -> None:
    root = merged(read_core(imported.original.paths.core))
    base = merged(read_core(real("x86_64/rootfs64.gz")))
    added = {line.split()[1] for line in imported.said.splitlines() if line.startswith("  + ")}
    release = imported.again.profile.kernel.release
    modules = f"lib/modules/{release}"
    own = {name for name in root.keys() - base.keys() if not name.startswith(f"{modules}/")}
    assert {name.rstrip("/") for name in added} == own
    assert modules in own
    assert "sbin/serial-console" in own
    assert "  ~ etc/inittab (content)\n" in imported.said
    assert "the core against rootfs64.gz: " in imported.said


def test_it_boots_with_the_same_extensions(imported: Imported, tmp_path: Path) -> None:
    again = imported.again
    with Guest(qemu.machine(*both(again), "bios", "tcg"), tmp_path / "log", limit=LIMIT) as guest:
        guest.login()
        loaded = guest.run("ls /usr/local/tce.installed").split()
        assert sorted(loaded) == ["liblvm2", "ncursesw", "parted", "readline", "udev-lib"]
        assert guest.run("ls /tmp/tcloop").replace("/", "").split() == ["parted", "readline", "udev-lib"]
        assert guest.run("tce-load -i dosfstools && ls /usr/local/tce.installed/dosfstools", check=False)
        guest.power_off()

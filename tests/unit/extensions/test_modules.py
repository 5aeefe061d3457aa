# SPDX-License-Identifier: MIT
"""Sorting a kernel's modules into the core and into extensions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import plan
from tasks.config.plan import Group, Sorting
from tasks.extensions import modules
from tasks.formats.cpio import Member, directory, regular, symlink
from tasks.formats.initramfs_unpacker import RootFs
from tasks.util.errors import UserError


@pytest.mark.parametrize(
    ("path", "pattern", "fitting"),
    [
        ("kernel/fs/nfs/nfs.ko", "fs/nfs", True),
        ("kernel/fs/nfs/flexfilelayout/nfs_layout.ko.xz", "fs/nfs", True),
        ("kernel/fs/nfsd/nfsd.ko", "fs/nfs", False),
        ("kernel/fs/btrfs/btrfs.ko", "fs/[bcehjmrux]*/*", True),
        ("kernel/fs/binfmt_misc.ko", "fs/[bcehjmrux]*/*", False),
        ("kernel/fs/overlayfs/overlay.ko", "fs/[bcehjmrux]*/*", False),
        ("kernel/drivers/scsi/hv_storvsc.ko", "drivers/scsi/hv_*", True),
        ("kernel/drivers/scsi/a/hv_storvsc.ko", "drivers/scsi/hv_*", False),
        ("kernel/lib/raid6/raid6_pq.ko.gz", "lib/raid*", True),
        ("kernel/sound/soundcore.ko", "sound", True),
        ("extra/sound/x.ko", "sound", True),
        ("kernel/fs/Nfs/nfs.ko", "fs/nfs", False),
    ],
)
def test_patterns_match_modules_and_folders(path: str, pattern: str, fitting: bool) -> None:
    assert modules.matches(path, [pattern]) is fitting


def test_modules_dep_is_read() -> None:
    text = "kernel/a.ko: kernel/b.ko.gz kernel/c.ko\nkernel/b.ko.gz:\n\n"
    assert modules.read_dep(text, "x") == {
        "kernel/a.ko": ("kernel/b.ko.gz", "kernel/c.ko"),
        "kernel/b.ko.gz": (),
    }


@pytest.mark.parametrize("text", ["kernel/a.ko", "<html>: x", "kernel/a: kernel/b.ko"])
def test_what_is_no_modules_dep_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"lib/modules\.dep is no modules\.dep"):
        modules.read_dep(text, "lib/modules.dep")


SORTING = Sorting(
    core=("drivers/scsi/hv_*",),
    boot=("drivers/scsi/s[dr]_mod", "net/veth"),
    group=(
        Group("net", "", ("net",)),
        Group("scsi", "", ("drivers/scsi", "net/scsi")),
        Group("none", "", ("no",)),
    ),
)


def test_the_first_matching_group_takes_a_module() -> None:
    needs: dict[str, tuple[str, ...]] = {
        "kernel/net/scsi/a.ko": (),
        "kernel/drivers/scsi/b.ko": ("kernel/net/scsi/a.ko",),
        "kernel/drivers/scsi/hv_c.ko": (),
        "kernel/fs/d.ko": (),
    }
    found = modules.sort_modules(needs, SORTING)
    assert found.core == ("kernel/drivers/scsi/hv_c.ko", "kernel/fs/d.ko")
    assert found.moved == ()
    assert found.groups == {
        "net": ("kernel/net/scsi/a.ko",),
        "scsi": ("kernel/drivers/scsi/b.ko",),
        "none": (),
    }
    assert modules.group_deps(found, needs) == {"net": (), "scsi": ("net",), "none": ()}


def test_modules_that_the_core_needs_go_there_through_any_number_of_steps() -> None:
    """modules.dep lists indirect needs too, but the sorting does not rely on that."""
    needs = {
        "kernel/fs/d.ko": ("kernel/net/a.ko",),
        "kernel/net/a.ko": ("kernel/drivers/scsi/b.ko",),
        "kernel/drivers/scsi/b.ko": (),
        "kernel/net/e.ko": ("kernel/net/a.ko",),
    }
    found = modules.sort_modules(needs, SORTING)
    assert found.core == ("kernel/drivers/scsi/b.ko", "kernel/fs/d.ko", "kernel/net/a.ko")
    assert found.moved == ("kernel/drivers/scsi/b.ko", "kernel/net/a.ko")
    assert found.groups["net"] == ("kernel/net/e.ko",)


PATHS = st.sampled_from(
    [f"kernel/{top}/m{number}.ko" for top in ("net", "drivers/scsi", "fs", "lib") for number in range(5)]
)


@given(st.dictionaries(PATHS, st.lists(PATHS, max_size=3), max_size=20))
def test_every_module_is_in_one_place_and_the_core_needs_nothing_outside(needs: dict[str, list[str]]) -> None:
    known = {path: tuple(dep for dep in deps if dep in needs) for path, deps in needs.items()}
    found = modules.sort_modules(known, SORTING)
    everywhere = [*found.core, *(path for paths in found.groups.values() for path in paths)]
    assert sorted(everywhere) == sorted(known)
    assert all(dep in found.core for path in found.core for dep in known[path])
    # Nothing is in the core without a reason.
    reasons = {dep for path in found.core for dep in known[path]}
    assert all(not modules.matches(path, ["net", "drivers/scsi"]) or path in reasons for path in found.core)
    deps = modules.group_deps(found, known)
    for name, paths in found.groups.items():
        reach = {name, *deps[name]}
        inside = {path for group in reach for path in found.groups[group]} | set(found.core)
        assert all(dep in inside for path in paths for dep in known[path])


def test_the_projects_own_sorting_is_sound() -> None:
    sorting = plan.sorting()
    names = [group.name for group in sorting.group]
    assert len(set(names)) == len(names)
    assert plan.ORIGINAL not in names
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert all(group.description and group.patterns for group in sorting.group)
    # What boots a CD or a disk and mounts extensions is in none of the groups.
    for path in ("drivers/block/loop", "fs/squashfs/squashfs", "fs/isofs/isofs", "drivers/block/virtio_blk"):
        assert not any(modules.matches(f"kernel/{path}.ko", group.patterns) for group in sorting.group)


@pytest.mark.parametrize(
    ("members", "kmod"),
    [
        ([], False),
        ([symlink("sbin/modprobe", "/bin/kmod")], True),
        ([symlink("sbin/modprobe", "../bin/busybox")], False),
        ([regular("sbin/modprobe", b"\x7fELF libkmod.so.2", 0o755)], True),
        ([regular("sbin/modprobe", b"\x7fELF busybox", 0o755)], False),
    ],
)
def test_which_modprobe_a_base_has(members: list[Member], kmod: bool) -> None:
    root = RootFs()
    root.unpack([directory("sbin"), *members])
    assert modules.uses_kmod(root) is kmod


def test_the_suffix_of_any_compression_is_removed() -> None:
    for suffix in (".ko", ".ko.gz", ".ko.xz", ".ko.zst"):
        assert modules.SUFFIX.sub("", f"a/b.ko.d{suffix}") == "a/b.ko.d"


def test_what_boots_and_what_it_needs_is_all_that_the_core_gets() -> None:
    needs = {
        "kernel/drivers/scsi/sr_mod.ko": ("kernel/drivers/cdrom/cdrom.ko", "kernel/drivers/scsi/scsi_mod.ko"),
        "kernel/drivers/scsi/scsi_mod.ko": (),
        "kernel/drivers/cdrom/cdrom.ko": (),
        "kernel/drivers/scsi/st.ko": ("kernel/drivers/scsi/scsi_mod.ko",),
        "kernel/net/veth.ko.xz": (),
        "kernel/net/wireless/cfg80211.ko": (),
    }
    found = modules.boot_modules(needs, SORTING)
    assert found.core == (
        *("kernel/drivers/cdrom/cdrom.ko", "kernel/drivers/scsi/scsi_mod.ko"),
        *("kernel/drivers/scsi/sr_mod.ko", "kernel/net/veth.ko.xz"),
    )
    assert (found.moved, found.groups) == ((), {})

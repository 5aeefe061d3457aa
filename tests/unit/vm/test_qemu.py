# SPDX-License-Identifier: MIT
"""Which checks of the guest are about what a profile has, and what it is booted from."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.config import profile
from tasks.config.profile import Extension, Profile
from tasks.config.sources import Core
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.vm import qemu
from tasks.vm.qemu import Check, Checks

CONTAINERS = {"MEMCG": "y", "NET_NS": "y", "BRIDGE": "m", "OVERLAY_FS": "m"}


def named(made: Profile, config: dict[str, str]) -> set[str]:
    every = toml_schema.load(qemu.CHECKS, Checks).check
    return {check.name for check in qemu.fitting(every, made, config)}


def test_the_profile_apt_has_all_checks() -> None:
    every = {check.name for check in toml_schema.load(qemu.CHECKS, Checks).check}
    assert named(profile.load("apt"), CONTAINERS) == every


def test_a_root_of_others_without_attr_and_containers_has_the_others() -> None:
    made = profile.load("apt")
    other = dataclasses.replace(made, core=Core(), extensions=(Extension("parted"),))
    left = named(made, CONTAINERS) - named(other, {"BRIDGE": "n"})
    assert left == {
        "attr works",
        "modules of this kernel load",
        "a container host's cgroups, namespaces and bridge are there",
    }


@pytest.mark.parametrize("place", ["onboot", "copy2fs", "initrd", "ondemand"])
def test_an_extension_that_is_not_loaded_at_boot_is_not_checked(place: str) -> None:
    made = dataclasses.replace(profile.load("apt"), extensions=(Extension("attr", place),))  # type: ignore[arg-type]
    check = Check("attr works", "true", extension="attr")
    assert bool(qemu.fitting([check], made, {})) is (place != "ondemand")


USB = {"USB_STORAGE": "m", "VFAT_FS": "y"}


def boots(*names: str, config: dict[str, str] = USB) -> list[tuple[str, str]]:
    media = toml_schema.load(qemu.CHECKS, Checks).medium
    return [*qemu.chosen_boots(media, qemu.FIRMWARES, names, config)]


def test_cd_stick_and_copy_are_booted_by_each_firmware_that_can() -> None:
    assert boots() == [
        *(("bios", "cd"), ("uefi", "cd"), ("bios", "stick"), ("uefi", "stick"), ("uefi", "fat")),
        ("direct", ""),
    ]
    assert boots("disk") == [("bios", "disk"), ("uefi", "disk")]
    assert boots("fat", "direct") == [("uefi", "fat"), ("direct", "")]


def test_a_medium_that_the_kernel_cannot_read_is_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert boots(config={"USB_STORAGE": "n"}) == [("bios", "cd"), ("uefi", "cd"), ("direct", "")]
    assert "fat: this kernel has no USB_STORAGE, VFAT_FS; not booted" in capsys.readouterr().out
    with pytest.raises(UserError, match="stick: this kernel has no USB_STORAGE"):
        boots("stick", config={})


def test_an_unknown_medium_is_said() -> None:
    with pytest.raises(UserError, match="--media tape: unknown") as caught:
        boots("cd", "tape")
    assert "cd, stick, fat, disk, direct" in caught.value.hint

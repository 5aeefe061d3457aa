# SPDX-License-Identifier: MIT
"""Which checks of the guest are about what a profile has."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.config import profile
from tasks.config.profile import Extension, Profile
from tasks.config.sources import Core
from tasks.util import toml_schema
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

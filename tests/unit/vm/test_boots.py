# SPDX-License-Identifier: MIT
"""What an image is booted from, and what a run of boots says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.config.settings import Settings
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.vm import boots, qemu
from tasks.vm.boots import COMES_UP, MEDIA, POWERS_OFF, Media
from tasks.vm.machine import Disk
from tasks.vm.results import Result, whole
from tests.support.settings import both

USB = {"USB_STORAGE": "m", "VFAT_FS": "y"}


def chosen(*names: str, config: dict[str, str] = USB) -> list[tuple[str, str]]:
    media = toml_schema.load(MEDIA, Media).medium
    return [*boots.chosen_boots(media, qemu.FIRMWARES, names, config)]


def test_cd_stick_and_copy_are_booted_by_each_firmware_that_can() -> None:
    assert chosen() == [
        *(("bios", "cd"), ("uefi", "cd"), ("bios", "stick"), ("uefi", "stick"), ("uefi", "fat")),
        ("direct", ""),
    ]
    assert chosen("disk") == [("bios", "disk"), ("uefi", "disk")]
    assert chosen("fat", "direct") == [("uefi", "fat"), ("direct", "")]


def test_a_medium_that_the_kernel_cannot_read_is_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(config={"USB_STORAGE": "n"}) == [("bios", "cd"), ("uefi", "cd"), ("direct", "")]
    assert "fat: this kernel has no USB_STORAGE, VFAT_FS; not booted" in capsys.readouterr().out
    with pytest.raises(UserError, match="stick: this kernel has no USB_STORAGE"):
        chosen("stick", config={})


def test_a_guest_without_a_disc_looks_for_none(make_settings: Callable[..., Settings]) -> None:
    paths, profile = both(make_settings())
    codes = ("cde", "console=ttyS0", "cdex=cde")
    profile = replace(profile, boot=replace(profile.boot, bootcodes=codes))
    assert qemu.machine(paths, profile, "direct", "tcg").append == "console=ttyS0 cdex=cde"
    disc = (Disk(paths.iso, "cdrom"),)
    assert qemu.machine(paths, profile, "direct", "tcg", disks=disc).append == "cde console=ttyS0 cdex=cde"


def test_an_unknown_medium_is_said() -> None:
    with pytest.raises(UserError, match="--media tape: unknown") as caught:
        chosen("cd", "tape")
    assert "cd, stick, fat, disk, direct" in caught.value.hint


def boot(*checks: Result) -> Result:
    parts = [Result(COMES_UP, "passed", 20.0), *checks, Result(POWERS_OFF, "passed", 2.0)]
    return whole("bios-cd", parts, 30.0)


def test_a_boot_is_summed_up_in_a_line() -> None:
    good, bad = Result("one", "passed"), Result("two", "failed", 1.0, "exited with status 1, expected 0")
    assert boots.summary(boot(good), "tcg") == (
        "bios-cd: 1 checks passed, up after 20.0 s, off after 30.0 s (tcg)"
    )
    assert boots.summary(boot(good, bad), "kvm").startswith("bios-cd: 1 of 2 checks passed, ")
    dead = whole("uefi-cd", [Result(COMES_UP, "failed", 240.0, "x"), Result("one", "skipped")], 241.0)
    assert boots.summary(dead, "tcg").startswith("uefi-cd: 0 of 1 checks passed, not up after 240.0 s, ")


def test_a_failure_of_any_boot_fails_the_run_and_is_told() -> None:
    boots.refuse_failures([boot(Result("one", "passed"))])
    two = Result("two", "failed", 1.0, "exited with status 1, expected 0", "console:\n  | tc@box")
    three = Result("three", "skipped", message="not made")
    with pytest.raises(UserError) as caught:
        boots.refuse_failures([boot(Result("one", "passed")), boot(two, three)])
    assert caught.value.message == "1 of 7 tests failed"
    assert caught.value.detail == ("bios-cd: two: exited with status 1, expected 0\nconsole:\n  | tc@box")

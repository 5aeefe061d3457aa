# SPDX-License-Identifier: MIT
"""What a guest's kernel can do, by its configuration and by the modules that are loaded at boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.config.settings import Settings
from tasks.vm.guest_kernel import GuestKernel, hint_for

SYMBOLS = {"ONE": "one", "TWO": "two"}


@pytest.mark.parametrize(
    ("config", "modules", "lacking"),
    [
        ({"ONE": "y", "TWO": "y"}, (), ""),
        ({"ONE": "m", "TWO": "y"}, ("one",), ""),
        ({"ONE": "m", "TWO": "y"}, ("two",), "nothing that is loaded at boot has the module one"),
        ({"ONE": "y"}, (), "the kernel has no CONFIG_TWO"),
        ({"THREE": "y"}, (), "the kernel has no CONFIG_ONE, CONFIG_TWO"),
        ({}, ("one", "two"), ""),
        ({}, ("one",), "nothing that is loaded at boot has the module two"),
    ],
)
def test_what_it_lacks(config: dict[str, str], modules: tuple[str, ...], lacking: str) -> None:
    assert GuestKernel(config, frozenset(modules)).lacking(SYMBOLS) == lacking


def test_the_hint_says_who_can_change_it(make_settings: Callable[..., Settings]) -> None:
    profile = make_settings().profile
    bare = replace(profile, kernel=replace(profile.kernel, fragments=()))
    assert hint_for(bare, ["VIRTIO_NET"]) == "add the fragment qemu"
    assert hint_for(bare, ["MADE_UP"]) == "build them into the kernel"
    stock = make_settings("quick").profile
    assert stock.kernel.image is not None
    assert "kernel" in hint_for(stock, ["VIRTIO_NET"])
    assert hint_for(stock, ["VIRTIO_NET"]) != hint_for(bare, ["VIRTIO_NET"])

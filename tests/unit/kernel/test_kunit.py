# SPDX-License-Identifier: MIT
"""The second kernel stands beside the profile's; tests/vm/test_kunit.py builds and boots one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tasks.config.settings import Settings
from tasks.kernel import kunit
from tasks.kernel.fragments import read_fragment
from tasks.util.checkout import CHECKOUT
from tests.support.settings import with_values


def test_it_has_folders_of_its_own_and_the_profile_s_tree(make_settings: Callable[..., Settings]) -> None:
    paths = make_settings().paths
    own = kunit.paths_of(paths)
    for name in ("build", "config", "kernel", "vmlinuz", "logs"):
        assert getattr(own, name) != getattr(paths, name), name
        assert getattr(own, name).is_relative_to(paths.output), name
    assert own.linux == paths.linux
    # Command lines that the compiler gets name the tree as ../linux.
    assert own.build.parent == paths.build.parent == paths.linux.parent
    assert own.core == paths.core


def test_the_fragment_comes_last_and_once(make_settings: Callable[..., Settings]) -> None:
    profile = with_values(make_settings(), fragments=("kunit", "qemu")).profile
    tested = kunit.profile_of(profile)
    assert tested.kernel.fragments == ("qemu", "kunit")
    assert replace(tested, kernel=profile.kernel) == profile


def test_the_fragment_asks_for_the_tests_and_for_the_console() -> None:
    asked = {one.symbol: one.value for one in read_fragment(CHECKOUT.kconfig / "kunit.config")}
    assert asked["KUNIT"] == "y"  # a module's tests would not run at boot
    assert asked["SERIAL_8250_CONSOLE"] == "y"

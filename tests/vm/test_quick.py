# SPDX-License-Identifier: MIT
"""Profile quick: Debian's own kernel and our root, made and booted by the commands of a person."""

from __future__ import annotations

import pytest

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.extensions.modules import read_dep
from tasks.kernel.installed import core_modules, kernel_release
from tasks.util.checkout import CHECKOUT
from tasks.vm import boots
from tests.support.built import doit
from tests.support.settings import both


@pytest.fixture(scope="module")
def quick() -> Settings:
    done = doit(CHECKOUT.root, "iso", "profile=quick")
    assert done.status == 0, done.output
    assert not {"linux", "kconfig:base"} & set(done.ran), "nothing is configured or compiled"
    return variables.resolve({"profile": "quick"}, CHECKOUT.root / "artifacts")


def test_the_core_has_the_modules_of_the_list_and_all_that_they_need(quick: Settings) -> None:
    """modprobe would fail on one that is not there."""
    release = kernel_release(*both(quick))
    top = core_modules(*both(quick)) / "lib/modules" / release
    needs = read_dep((top / "modules.dep").read_text(), "modules.dep")
    names = {path.rpartition("/")[2].removesuffix(".ko") for path in needs}
    assert {"isofs", "sr_mod", "ahci", "virtio_blk", "virtio_net", "ext4", "overlay", "bridge"} <= names
    assert {need for path in needs for need in needs[path]} <= needs.keys()
    assert all((top / path).is_file() for path in needs)
    assert 200 < len(needs) < 1000, "Debian's kernel has 4,000"


def test_it_boots_from_the_disc_without_a_driver_built_in(
    quick: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its drivers of discs, loop devices and squashfs are modules that the root has to load."""
    config = (quick.paths.kernel / "config").read_text()
    assert all(f"CONFIG_{name}=m\n" in config for name in ("ISO9660_FS", "BLK_DEV_SR", "BLK_DEV_LOOP"))
    boots.test(*both(quick), ("uefi",), ("cd",))
    assert "uefi-cd: 7 checks passed" in capsys.readouterr().out

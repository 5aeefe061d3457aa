# SPDX-License-Identifier: MIT
"""Cells of a matrix boot with their devices, and one without a driver is told."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tasks.cli import variables
from tasks.util.checkout import CHECKOUT
from tasks.vm import cells, devices
from tasks.vm.boots import Reports
from tasks.vm.matrix import Cell
from tests.support.built import built, doit


def test_cells_run_their_devices_checks_and_name_missing_drivers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = built()
    name = settings.paths.name
    good = Cell(name, "direct", "", 512, 1, "virtio-net+virtio-scsi+usb-storage")
    bare = Cell(name, "direct", "", 512, 1, "vmxnet3")
    if not cells.Image.of(settings, tmp_path).lacking(bare):
        pytest.skip("this kernel has a driver of vmxnet3")
    cells.test([good, bare], {name: settings}, Reports(tmp_path / "matrix.xml"))
    said = capsys.readouterr().out
    assert f"{bare.name}: not booted, vmxnet3: the kernel has no CONFIG_VMXNET3" in said
    assert said.endswith("2 cells: 1 passed, 0 failed, 1 without a driver\n")
    cases = {
        case.get("name"): [child.tag for child in case]
        for case in ElementTree.parse(tmp_path / "matrix.xml").getroot().iter("testcase")
    }
    for device in ("virtio-net", "virtio-scsi", "usb-storage"):
        assert cases[f"the driver of {device} works"] == []
    assert cases[bare.name] == ["skipped"]
    assert (settings.paths.output / "matrix" / good.name / "dmesg.txt").is_file()


@pytest.mark.slow
def test_every_device_works_with_a_kernel_that_has_all_drivers() -> None:
    """Debian's, whose drivers are modules; the system boots from a disk of VMware's and of a cloud's."""
    done = doit(CHECKOUT.root, "iso", "disk", "profile=quick")
    assert done.status == 0, done.output
    quick = variables.resolve({"profile": "quick"}, CHECKOUT.root / "artifacts")
    others = [name for name in devices.names() if name not in ("vmxnet3", "pvscsi", "nvme")]
    every = [
        Cell("quick", "direct", "", 1024, 2, "+".join(others)),
        Cell("quick", "bios", "disk", 1024, 2, "vmxnet3+pvscsi"),
        Cell("quick", "uefi", "disk", 1024, 2, "nvme"),
    ]
    image = cells.Image.of(quick, quick.paths.output)
    assert [image.lacking(cell) for cell in every] == ["", "", ""]
    cells.test(every, {"quick": quick}, Reports())

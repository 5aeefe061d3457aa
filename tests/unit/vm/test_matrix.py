# SPDX-License-Identifier: MIT
"""The cells of `matrix.toml`, and what is refused in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util.errors import UserError
from tasks.vm import matrix
from tasks.vm.matrix import Cell

TWO = """
[axes]
memory = [256, 512]
cpus = [2]

[[matrix]]
name = "one"
firmware = ["bios", "uefi", "direct"]
media = ["cd", "fat"]
exclude = [{ firmware = ["uefi"], memory = [256] }]

[[matrix]]
name = "two"
memory = [512]
devices = ["none", "e1000+nvme"]
"""


def cells(tmp_path: Path, text: str, *wanted: str, current: str = "apt", only: bool = False) -> list[Cell]:
    path = tmp_path / "matrix.toml"
    path.write_text(text)
    return matrix.cells(matrix.load(path), current, only=only, wanted=wanted)


def names(found: list[Cell]) -> list[str]:
    return [cell.name for cell in found]


def test_a_matrix_has_a_cell_for_each_combination_that_can_boot(tmp_path: Path) -> None:
    """BIOS does not start a FAT copy, `direct` has no medium, and a cell of two matrices is one."""
    assert names(cells(tmp_path, TWO)) == [
        *("apt-bios-cd-256MiB-2cpu", "apt-bios-cd-512MiB-2cpu"),
        *("apt-uefi-cd-512MiB-2cpu", "apt-uefi-fat-512MiB-2cpu"),
        *("apt-direct-256MiB-2cpu", "apt-direct-512MiB-2cpu"),
        "apt-bios-cd-512MiB-2cpu-e1000+nvme",
    ]
    assert len(cells(tmp_path, TWO, "two")) == 2


def test_values_come_from_the_matrix_then_from_axes_then_from_tcbuild(tmp_path: Path) -> None:
    (first, _) = cells(tmp_path, TWO, "two")
    assert first == Cell("apt", "bios", "cd", 512, 2, "none")
    (bare,) = cells(tmp_path, '[[matrix]]\nname = "m"')
    assert bare == Cell("apt", "bios", "cd", 1024, 1, "none")


def test_the_profile_of_the_command_line_takes_the_place_of_the_axis(tmp_path: Path) -> None:
    text = '[[matrix]]\nname = "m"\nprofile = ["quick", "apt"]'
    assert [cell.profile for cell in cells(tmp_path, text)] == ["quick", "apt"]
    assert [cell.profile for cell in cells(tmp_path, text, current="ide", only=True)] == ["ide"]


def test_an_exclusion_of_all_matrices_needs_to_fit_one(tmp_path: Path) -> None:
    rule = "[[exclude]]\nmemory = [256]\n"
    assert names(cells(tmp_path, rule + TWO, "one"))[0] == "apt-bios-cd-512MiB-2cpu"
    with pytest.raises(UserError, match=r"exclude\[0\] fits no cell"):
        cells(tmp_path, rule.replace("256", "128") + TWO, "two")


MISTAKES = {
    "profile": ('profile = ["atp"]', "matrix[0].profile[0]: there is no profile 'atp'", "'apt'"),
    "device": ('devices = ["e100"]', "matrix[0].devices[0]: there is no device 'e100'", "'e1000'"),
    "second-device": ('devices = ["nvme+pvscs"]', "matrix[0].devices[0]: there is no device", "'pvscsi'"),
    "none-and-more": ('devices = ["none+nvme"]', "there is no device 'none'", "'none'"),
    "twin-device": ('devices = ["nvme+nvme"]', "devices[0]: nvme stands twice in 'nvme+nvme'", ""),
    "firmware": ('firmware = ["bois"]', "expected one of 'bios', 'uefi', 'direct', got 'bois'", ""),
    "medium": ('media = ["tape"]', "expected one of 'cd', 'stick', 'fat', 'disk', got 'tape'", ""),
    "key": ("memroy = [1]", "unknown key 'matrix[0].memroy'", "'memory'"),
    "empty": ("media = []", "matrix[0].media: expected at least one value", ""),
    "twin": ("memory = [512, 512]", "matrix[0].memory: 512 stands twice", ""),
    "memory": ("memory = [63]", "memory: expected 64 to 1048576 MiB, got 63", ""),
    "cpus": ("cpus = [0]", "cpus: expected 1 to 255, got 0", ""),
    "no-cell": ('media = ["fat"]', "matrix 'm' has no cell", "no firmware boots its media"),
    "all-excluded": ("exclude = [{ cpus = [1] }]", "matrix 'm' has no cell", "all are excluded"),
    "nothing-excluded": ("exclude = [{ cpus = [2] }]", "matrix[0].exclude[0] fits no cell", "mend"),
    "all-of-nothing": ("exclude = [{}]", "matrix[0].exclude[0]: names no axis", "profile, firmware"),
    "exclusion": (
        'exclude = [{ devices = ["e100"] }]',
        "exclude[0].devices[0]: there is no device",
        "'e1000'",
    ),
    "second": ('[[matrix]]\nname = "m"', "matrix[1].name: there is a matrix 'm' already", ""),
}


@pytest.mark.parametrize("text, message, hint", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        cells(tmp_path, f'[[matrix]]\nname = "m"\n{text}\n')
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_unknown_matrix_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no matrix 'tow'") as caught:
        cells(tmp_path, TWO, "tow")
    assert caught.value.hint == "did you mean 'two'?"


def test_the_file_of_the_checkout_is_sound() -> None:
    found = matrix.cells(matrix.load(), "apt", only=False)
    assert len(found) == len({cell.name for cell in found}) > 20

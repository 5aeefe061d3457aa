# SPDX-License-Identifier: MIT
"""Architectures are data: each file is whole, and names of files are Tiny Core's."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tasks.config import architecture
from tasks.config.architecture import FileNames
from tasks.config.settings import Paths
from tasks.formats import elf
from tasks.util.errors import UserError


def test_every_file_is_whole() -> None:
    assert architecture.names() == ["x86", "x86_64"]
    for name, one in zip(architecture.names(), architecture.every(), strict=True):
        assert one.mirror == name
        assert elf.machine_name(one.machine) not in ("", "<unknown>")
        assert not Path(one.loader).is_absolute()


def test_no_file_name_stands_for_two_things() -> None:
    """What a file is can be told by its name, whatever the architecture is."""
    roles = {
        field.name: {getattr(one.files, field.name) for one in architecture.every()}
        for field in fields(FileNames)
    }
    found = [name for names in roles.values() for name in names]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("x86_64", ["kernel/vmlinuz64", "corepure64.gz", "rootfs64.gz", "modules64.gz"]),
        ("x86", ["kernel/vmlinuz", "core.gz", "rootfs.gz", "modules.gz"]),
    ],
)
def test_results_have_tiny_cores_names(tmp_path: Path, arch: str, expected: list[str]) -> None:
    paths = Paths("x", tmp_path, tmp_path, arch)
    made = [paths.vmlinuz, paths.core, paths.rootfs, paths.modules]
    assert [str(path.relative_to(tmp_path)) for path in made] == expected


def test_a_64_bit_pc_runs_programs_of_both() -> None:
    assert architecture.load("x86_64").runs == ("EM_X86_64", "EM_386")
    assert architecture.load("x86").runs == ("EM_386",)


def test_an_unknown_architecture_is_said() -> None:
    with pytest.raises(UserError, match="unknown architecture 'vax'") as caught:
        architecture.load("vax")
    assert "x86_64" in caught.value.hint

# SPDX-License-Identifier: MIT
"""Which package brings a program of this machine."""

from __future__ import annotations

import pytest

from tasks.util.host import package_of


@pytest.mark.parametrize("tool", ["mksquashfs", "xorriso", "qemu-system-x86_64", "make"])
def test_host_toml_names_the_package_of(tool: str) -> None:
    assert package_of(tool)

# SPDX-License-Identifier: MIT
"""Shared by the tests of the kernel's stages: a kernel tree to configure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.fetch import inputs, stage_inputs
from tasks.kernel import source_tree
from tasks.util.checkout import CHECKOUT
from tests.support.kerneltree import kconfig_part


@pytest.fixture(scope="session")
def apt_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Kconfig part of the `apt` profile's kernel."""
    own = CHECKOUT.root / "artifacts" / "apt" / "linux"
    tree = Path(os.environ.get("TCBUILD_LINUX", own))
    if not (tree / "Kconfig").is_file():
        scratch = tmp_path_factory.mktemp("fetched")
        settings = variables.resolve({"profile": "apt", "out": str(scratch)}, scratch)
        inputs.fetch(settings)
        stage_inputs.fetch_kernel_source(settings)
        source_tree.unpack_linux(settings)
        tree = settings.paths.linux
    return kconfig_part(tree, tmp_path_factory.mktemp("linux"))

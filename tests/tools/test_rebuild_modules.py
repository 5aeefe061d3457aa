# SPDX-License-Identifier: MIT
"""What rebuilds a kernel module from elsewhere; tests/tools/test_rebuild_chains.py has the other chains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.util.files import sha256_file
from tests.support.built import Outcome, built
from tests.support.edits import edited
from tests.tools.test_rebuild_chains import clone, run  # noqa: F401

HELLO = """\
#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("one");
"""
HELLO_KERNEL = """
[info]
title = "h"
description = "d"
[[origin]]
kind = "module"
version = "1"
source = { kind = "folder", path = "extensions/hello-KERNEL/src" }
"""


@pytest.mark.slow
def test_a_module_from_elsewhere_is_built_again_when_the_kernel_changes_and_only_then(
    clone: Path,  # noqa: F811
    run: Callable[..., Outcome],  # noqa: F811
) -> None:
    release = (built().paths.kernel / "release").read_text().strip()
    folder = clone / "extensions/hello-KERNEL"
    task, made = "tcz:hello-KERNEL", clone / "artifacts" / built().paths.name / f"tcz/hello-{release}.tcz"
    (folder / "src").mkdir(parents=True)
    try:
        (folder / "recipe.toml").write_text(HELLO_KERNEL)
        (folder / "src/hello.c").write_text(HELLO)
        (folder / "src/Makefile").write_text("obj-m := hello.o\n")
        assert "the profile does not set the kernel's release" in run(task).output
        with edited(clone / "profiles/apt.toml", "[kernel]", f'[kernel]\nrelease = "{release}"'):
            done = run(task)
            assert done.status == 0, done.output
            assert done.ran[-1] == task and "kernel" not in done.ran
            first = sha256_file(made)
            assert run(task).ran == []
            with edited(clone / "kconfig/qemu.config", "# What", "# This"):
                assert task not in run(task).ran
            assert task not in run(task).ran
            with edited(folder / "src/hello.c", '"one"', '"two"'):
                assert run(task).ran == [task]
                assert sha256_file(made) != first
            more = "CONFIG_SQUASHFS_XZ=y\nCONFIG_UDF_FS=m"
            with edited(clone / "kconfig/qemu.config", "CONFIG_SQUASHFS_XZ=y", more):
                assert [name for name in run(task).ran if name in ("kernel", task)] == ["kernel", task]
            assert run(task).ran[-1] == task
            assert sha256_file(made) == first
    finally:
        shutil.rmtree(folder)
    assert run("iso").status == 0

# SPDX-License-Identifier: MIT
"""Which extensions stand on the code that compiles a kernel."""

from __future__ import annotations

from tasks.engine import code
from tasks.engine.code import Code
from tasks.util.checkout import CHECKOUT

KERNEL = {"tasks/kernel/external_modules.py", "tasks/kernel/install.py", "tasks/kernel/installkernel"}


def test_only_extensions_with_kernel_modules_do() -> None:
    whole = Code(CHECKOUT.root, CHECKOUT.artifacts / code.RECORD)
    assert set(whole.digests(["tasks.extensions.external"])) >= KERNEL
    assert KERNEL.isdisjoint(whole.digests(["tasks.extensions.build"]))

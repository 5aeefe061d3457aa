# SPDX-License-Identifier: MIT
"""What several of the vm tests boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats import bzimage
from tasks.util.checkout import CHECKOUT
from tests.support.built import built, doit


@pytest.fixture(scope="session")
def plain_kernel() -> Path:
    """Build the kernel without the ext3-xattr fragment, by the command a person would use."""
    settings = built()
    fragments = ",".join(name for name in settings.profile.kernel.fragments if name != "ext3-xattr")
    out = CHECKOUT.root / "artifacts" / f"{settings.paths.name}-no-ext3-xattr"
    done = doit(
        CHECKOUT.root, "kernel", f"profile={settings.paths.name}", f"fragments={fragments}", f"out={out}"
    )
    assert done.status == 0, done.output
    image = out / "kernel" / "vmlinuz64"
    bzimage.check_bzimage(image, release=(settings.paths.kernel / "release").read_text().strip())
    return image

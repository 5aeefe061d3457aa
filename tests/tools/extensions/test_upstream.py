# SPDX-License-Identifier: MIT
"""Upstream extensions that bring devices and set-id programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.extensions.upstream import install
from tasks.origins.lock import Lock, LockedExtension
from tasks.util.files import sha256_file
from tests.support.squashed import squashed
from tests.support.workshop import Workshop


def upstream(settings: Settings, image: Path) -> None:
    """Fetch `image` as the upstream extension x."""
    item = LockedExtension("x", sha256_file(image), "0" * 32, image.stat().st_size)
    cached = item.cached_in(settings.paths.cache)
    cached.parent.mkdir(parents=True)
    image.rename(cached)
    settings.paths.used_lock.parent.mkdir(parents=True, exist_ok=True)
    settings.paths.used_lock.write_text(Lock(extension=(item,)).to_toml())


def test_upstream_devices_and_set_id_programs_are_told(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    for name in ("su", "wall", "plain"):
        (tmp_path / "files" / name).write_text(name)
    lines = ["su m 4755 0 0", "wall m 2755 0 5", "disk b 660 0 6 8 17", "pipe i 640 0 0 f", "d d 2755 0 0"]
    upstream(workshop.settings, squashed(tmp_path / "files", tmp_path / "x.tcz", *lines))
    install(workshop.settings.paths, workshop.settings.profile, "x")
    said = capsys.readouterr().out
    assert said == (
        "warning: x.tcz contains -rwsr-xr-x su, -rwxr-sr-x wall, "
        "the device node or FIFO disk, the device node or FIFO pipe\n"
    )
    assert workshop.side("x", ".list") == "disk\npipe\nplain\nsu\nwall\n"

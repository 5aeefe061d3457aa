# SPDX-License-Identifier: MIT
"""GRUB's EFI image in folders whose names mean something to a shell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.image import grub


def test_the_folders_name_reaches_no_shell(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """mtools gives the path of an image to a shell, which would expand it and run what it names."""
    settings = make_settings()
    images = []
    for name in ("plain", "$HOME `touch pwned` $(touch pwned)", 'it\'s "a" %d,b=c;é'):
        output = tmp_path / name
        image = output / "efi.img"
        grub.efi_image(
            replace(settings.paths, output=output), settings.profile, "halt\n", image, output / "log"
        )
        images.append(image.read_bytes())
        assert sorted(path.name for path in output.iterdir()) == ["efi.img", "log"]
    assert images[0] == images[1] == images[2]
    for efi in settings.profile.architecture.efi:
        assert efi.file.encode().partition(b".")[0] in images[0]
    assert not list(tmp_path.rglob("pwned"))
    assert not (Path.cwd() / "pwned").exists()

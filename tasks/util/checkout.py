# SPDX-License-Identifier: MIT
"""The two folders of tcbuild: the checkout (which holds `dodo.py`) and the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


class Checkout:
    """A checkout: `root` holds dodo.py, the other folders what a user edits.

    Everything that looks for a file of the checkout asks this object.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.extensions = root / "extensions"
        self.images = root / "images"
        self.kconfig = root / "kconfig"
        self.patches = root / "patches"
        self.profiles = root / "profiles"
        self.rootfs = root / "rootfs"
        self.secrets = root / "secrets.toml"

    def name_of(self, path: Path) -> str:
        """Return `path` as seen from `root`, or as it is if it lies elsewhere."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


CHECKOUT = Checkout(Path(__file__).resolve().parents[2])


def caller_folder() -> Path:
    """Return the folder in which the command was typed; the wrapper changes the folder."""
    return Path(os.environ.get("TCBUILD_CWD") or ".")


def cache_folder() -> Path:
    """Return the user cache folder: $TCBUILD_CACHE, or tcbuild below $XDG_CACHE_HOME or ~/.cache.

    A container may have no home, or one that cannot be written to; then it is artifacts/.cache.
    """
    chosen = os.environ.get("TCBUILD_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "tcbuild"
    # `~` stays as it is for a user id without a name if HOME is unset.
    if base.startswith("~") or not _can_write(folder):
        return CHECKOUT.artifacts / ".cache"
    return folder.absolute()


def _can_write(folder: Path) -> bool:
    """Tell whether `folder` can be written to; if it does not exist, whether it can be made."""
    # os.path: for a folder in another user's home, Path.exists raises an error.
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    return os.access(there, os.W_OK | os.X_OK)

# SPDX-License-Identifier: MIT
"""What hatchling asks to build a wheel of this checkout: its version, and its files (docs/install.md).

https://hatch.pypa.io/latest/plugins/build-hook/reference/
https://hatch.pypa.io/latest/plugins/metadata-hook/reference/
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

NOT_IN_WHEEL = (".ci/", "tests/")
RECORD = "wheel.toml"  # tasks/util/checkout.py looks for it


def git(root: str, *words: str) -> str:
    """Return what git says of the checkout.  Raises `CalledProcessError` if it is none."""
    command = ["git", "-C", root, *words]
    env = {**os.environ, "TZ": "UTC"}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def has_changes(root: str) -> bool:
    """Tell whether a file that git tracks differs from the commit."""
    return bool(git(root, "status", "--porcelain", "--untracked-files=no"))


class Version(MetadataHookInterface):
    """The version of a wheel: 0.TIME+gCOMMIT, so a newer commit is a newer version."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the version."""
        date = "--date=format-local:%Y%m%d%H%M%S"
        time, commit = git(self.root, "show", "--no-patch", date, "--format=%cd %H").split()
        metadata["version"] = f"0.{time}+g{commit[:12]}{'.changed' if has_changes(self.root) else ''}"


class Files(BuildHookInterface):
    """The files of a wheel: in tcbuild/ what git tracks but tests, and a record of the commit."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files.  The times in the wheel are the commit's, whatever the environment says."""
        root = Path(self.root)
        os.environ["SOURCE_DATE_EPOCH"] = git(self.root, "show", "--no-patch", "--format=%ct")
        tracked = git(self.root, "ls-files", "-z").split("\0")
        names = [name for name in tracked if name and not name.startswith(NOT_IN_WHEEL)]
        links = [name for name in names if (root / name).is_symlink()]
        if links:
            raise ValueError(f"a wheel can hold no links: {', '.join(links)}")
        files = {str(root / name): f"tcbuild/{name}" for name in names if (root / name).is_file()}
        changes = "true" if has_changes(self.root) else "false"
        self.scratch = tempfile.TemporaryDirectory(prefix="tcbuild-wheel-")
        record = Path(self.scratch.name, RECORD)
        record.write_text(f'commit = "{git(self.root, "rev-parse", "HEAD")}"\nchanges = {changes}\n')
        build_data["force_include"] = {**files, str(record): f"tcbuild/{RECORD}"}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the record; the wheel has it."""
        self.scratch.cleanup()

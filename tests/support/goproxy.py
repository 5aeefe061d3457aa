# SPDX-License-Identifier: MIT
"""A Go module proxy made of files, as GOPROXY=file://FOLDER takes it (go.dev/ref/mod#goproxy-protocol)."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import go_module
from tasks.formats.go_module import Module


@dataclass(frozen=True)
class GoProxy:
    """The proxy in `folder`."""

    folder: Path

    @property
    def address(self) -> str:
        return f"file://{self.folder}"

    def publish(self, module: Module, files: dict[str, str], compression: int = zipfile.ZIP_DEFLATED) -> str:
        """Serve a module with these files, and return its two lines of a go.sum."""
        archive = self.folder / module.at("zip")
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w", compression) as packed:
            for name, content in files.items():
                packed.writestr(f"{module}/{name}", content)
        (self.folder / module.at("mod")).write_text(files["go.mod"])
        (self.folder / module.at("info")).write_text(f'{{"Version":"{module.version}"}}')
        line = f"{hashlib.sha256(files['go.mod'].encode()).hexdigest()}  go.mod\n"
        of_mod = base64.b64encode(hashlib.sha256(line.encode()).digest()).decode()
        first = f"{module.path} {module.version} {go_module.h1(archive)}\n"
        return first + f"{module.path} {module.version}/go.mod h1:{of_mod}\n"

    def withdraw(self, module: Module) -> None:
        for ending in ("zip", "mod", "info"):
            (self.folder / module.at(ending)).unlink()

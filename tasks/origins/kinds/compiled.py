# SPDX-License-Identifier: MIT
"""The base class of the kinds of origins that are compiled from a source: `module` and `source`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.origins.kinds.base import LockedOrigin, Resources
from tasks.origins.origin_lock import OriginFile
from tasks.origins.source_trees import FOLDER, AnyTree
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.links import is_below


@dataclass(frozen=True, kw_only=True)
class CompiledOrigin(LockedOrigin):
    """What is compiled from a source.

    source: where the source comes from: kind `archive`, `git` or `folder`.
    subfolder: the folder of the source to compile in; empty for its top.
    """

    source: AnyTree
    subfolder: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subfolder and not is_below(self.subfolder):
            raise ValueError(f"subfolder: expected a path below the source, got {self.subfolder!r}")

    @property
    def is_locked(self) -> bool:
        return self.source.is_locked

    def identity(self) -> str:
        return self.source.identity(self.version)

    def label(self) -> str:
        return Path(self.source.identity(self.version).removeprefix(FOLDER)).name

    def source_folder(self) -> Path | None:
        return self.source.folder()

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        return self.source.pin(self.version, resources.cache, scratch)

    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        return self.source.newest(self.version)

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        self.source.fetch(self.version, files, resources.cache, offline=resources.offline)

    @contextmanager
    def unpacked_source(
        self, resources: Resources, files: tuple[OriginFile, ...], beside: Path
    ) -> Iterator[tuple[Path, Path]]:
        """Yield a scratch folder beside `beside`, and in it the folder of the source to compile.

        Raises `UserError` if the source has no such folder.
        """
        with scratch_folder(beside.parent, "source") as top:
            self.source.unpack(files, resources.cache, top / "source")
            folder = top / "source" / self.subfolder
            if not folder.is_dir():
                raise UserError(f"{self.label()} has no folder {self.subfolder}", "correct `subfolder`")
            yield top, folder

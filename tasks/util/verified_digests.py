# SPDX-License-Identifier: MIT
"""Digests of content that a check has passed, so that only new content is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tasks.util.files import write_if_changed


def digest(*pieces: bytes) -> str:
    """Return the sha256 of `pieces` with their lengths, so that no other division gives the same digest."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(b"%d:" % len(piece))
        whole.update(piece)
    return whole.hexdigest()


class VerifiedDigests:
    """A file of digests, one a line.  The first line is a digest of the rules that the content passed.

    A damaged file, or one of other rules, counts as empty: then everything is checked again.
    """

    def __init__(self, file: Path, rules: str) -> None:
        self.file = file
        self.rules = rules
        self.good: set[str] = set()
        if file.is_file():
            first, *lines = file.read_text(errors="replace").splitlines() or [""]
            self.good = set(lines) if first == rules else set()

    def __contains__(self, found: str) -> bool:
        return found in self.good

    def keep(self, good: Iterable[str]) -> None:
        """Replace the digests in the file by `good`."""
        write_if_changed(self.file, "\n".join([self.rules, *sorted(set(good))]) + "\n")

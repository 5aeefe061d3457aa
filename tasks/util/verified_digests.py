"""What a check has found good before, by digest, so that only what is new is looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tasks.util.files import write_if_changed


def digest(*pieces: bytes) -> str:
    """Return the sha256 of pieces that cannot be taken for others put together otherwise."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(b"%d:" % len(piece))
        whole.update(piece)
    return whole.hexdigest()


class VerifiedDigests:
    """A file of digests, a line each; the first line says by what rules they were found good.

    One that is damaged or of other rules counts as empty: all is looked at again.
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
        """Remember `good`, and nothing else any more."""
        write_if_changed(self.file, "\n".join([self.rules, *sorted(set(good))]) + "\n")

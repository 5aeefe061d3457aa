# SPDX-License-Identifier: MIT
"""Hashes of files that others than the mirror publish, and what they say of a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.origins.lock import MD5, SHA256, LockedFile
from tasks.util.errors import UserError

OWN_MD5 = "the mirror's own .md5.txt"


@dataclass(frozen=True)
class Published:
    """A hash of a file that somebody publishes who is not its mirror.

    path: of the file below a mirror.
    by: who publishes the hash.
    sha256: hex digits; empty if nobody publishes it.
    md5: hex digits; empty if nobody publishes it.
    """

    path: str
    by: tuple[str, ...]
    sha256: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if not self.by:
            raise ValueError("by: expected who publishes the hash")
        if not (self.sha256 or self.md5):
            raise ValueError("sha256: expected it, or md5")
        for key, form in (("sha256", SHA256), ("md5", MD5)):
            value = getattr(self, key)
            if value and not form.fullmatch(value):
                raise ValueError(f"{key}: expected hex digits, got {value!r}")

    @property
    def algorithm(self) -> str:
        """The hash that counts: `sha256`, or `md5` if only that is published."""
        return "sha256" if self.sha256 else "md5"

    def contradiction(self, url: str, sha256: str, md5: str) -> str:
        """Return how the file that `url` serves differs from what is published, "" if it does not."""
        got = {"sha256": sha256, "md5": md5}[self.algorithm]
        expected = getattr(self, self.algorithm)
        if got == expected:
            return ""
        return f"{url} has {self.algorithm} {got}, {', '.join(self.by)} published {expected}"


def contradicted(entry: LockedFile, known: Published | None) -> str:
    """Return how a locked entry differs from the sha256 that is published, "" if it does not."""
    if known is None or known.sha256 in ("", entry.sha256):
        return ""
    return f"{entry.path}: the locked sha256 {entry.sha256} is not that which is published"


def checked(entry: LockedFile, known: Published | None, md5: str = "") -> LockedFile:
    """Return a locked entry, with those who vouch for it now.

    md5: of the locked file, empty if it is not in the cache.
    Raises `UserError` if another hash is published than that of the locked file.
    """
    own = tuple(by for by in entry.published_by if by == OWN_MD5)
    if known is None:  # nobody else publishes its hash, or does so no longer
        return (
            replace(entry, vouched="md5" if own else "nobody", published_by=own) if entry.vouched else entry
        )
    if not known.sha256:
        if not md5:
            return entry
        if problem := known.contradiction(entry.path, entry.sha256, md5):
            raise UserError(problem, "./doit lock relock=1 takes the published one")
        return replace(entry, vouched="md5", published_by=(*known.by, *own))
    if problem := contradicted(entry, known):
        hint = f"./doit lock relock=1 takes the published one ({', '.join(known.by)})"
        raise UserError(problem, hint, f"  published: {known.sha256}")
    return replace(entry, vouched="sha256", published_by=known.by)

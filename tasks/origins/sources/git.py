# SPDX-License-Identifier: MIT
"""Sources of kind `git`: a commit of a git repository."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.origins import git_clone
from tasks.origins.lock import OBJECT, Lock, LockedCommit
from tasks.origins.sources.base import Access, Entry, Source, States
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.toml_schema import PATTERN, check_patterns

URL = re.compile(r"(?:(?:https?|git|ssh|file)://|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:)\S+")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
"""A name that git takes and that is no option (git-check-ref-format(1))."""
FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{4} ?){10}|(?:[0-9A-Fa-f]{4} ?){16}")


@dataclass(frozen=True, kw_only=True)
class GitSource(Source):
    """A commit of a git repository.  Only `kernel.source` takes this kind.

    url: the address of the repository: https://, git://, ssh://, file:// or USER@HOST:PATH.
    ref: a tag, a branch, or the whole id of a commit.  The lock has the commit that it was.
    keyring: a file of public keys, as `gpg --export --armor` writes it; a relative path begins at a tree
    or at the checkout.  With it, `ref` must be a tag that one of `fingerprints` has signed.
    fingerprints: of the keys that may sign, each with all its hex digits.
    """

    url: str = field(metadata={PATTERN: URL})
    ref: str = field(metadata={PATTERN: REF})
    keyring: str = ""
    fingerprints: tuple[str, ...] = ()
    kind: Literal["git"] = "git"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patterns(self)
        if ".." in self.ref:
            raise ValueError(f"ref: expected a tag, a branch or a commit, got {self.ref!r}")
        if bool(self.keyring) != bool(self.fingerprints):
            raise ValueError("keyring, fingerprints: one needs the other")
        for one in self.fingerprints:
            if not FINGERPRINT.fullmatch(one):
                raise ValueError(f"fingerprints: expected 40 or 64 hex digits, got {one!r}")

    def label(self) -> str:
        return f"{git_clone.shown(self.url)} {self.ref}"

    def clone(self, cache: Path) -> git_clone.Clone:
        """Return the clone of its repository."""
        return git_clone.of(cache, self.url)

    def locked_in(self, lock: Lock) -> LockedCommit | None:
        return lock.find_commit(self.url, self.ref)

    def pinned_in(self, lock: Lock, access: Access) -> LockedCommit:
        entry = self.locked_in(lock)
        if entry is None:
            message = f"no commit is locked for {self.label()} of profile {access.profile}"
            raise UserError(message, f"./doit lock profile={access.profile}")
        if self.keyring and not entry.signed_by:
            message = f"{self.label()} was locked without a look at its signature"
            raise UserError(message, f"./doit update kernel profile={access.profile}")
        return entry

    def pin(self, access: Access, scratch: Path) -> LockedCommit:
        """Fetch what `ref` is now into the cache, without history; verify its signature if there are keys."""
        keyring = CHECKOUT.path(self.keyring) if self.keyring else None
        if keyring and not keyring.is_file():
            raise UserError(f"{keyring} does not exist", "check `keyring` in the profile")
        return self.clone(access.cache).pin(self.ref, keyring, self.fingerprints)

    def fetch(self, entry: Entry, access: Access) -> None:
        assert isinstance(entry, LockedCommit)
        clone = self.clone(access.cache)
        if access.offline and not clone.has(entry.commit):
            message = f"commit {entry.commit} of {self.label()} is not in the cache"
            raise UserError(f"{message}, and offline=1 forbids to fetch it", "run once without offline=1")
        clone.fetch(entry)

    def states(self, lock: Lock, access: Access) -> States | None:
        entry = self.locked_in(lock)
        if entry is None:
            return None
        now = entry.commit if OBJECT.fullmatch(self.ref) else self.clone(access.cache).remote(self.ref)[1]
        return States(entry.commit[:12], now[:12], git_clone.shown(self.url))

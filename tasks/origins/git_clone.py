# SPDX-License-Identifier: MIT
"""Bare clones of git repositories in the cache: one for each address, shared by all checkouts.

A clone begins shallow: it has the commits that were locked, without their history.  `complete` fetches
the history, which a bisect needs.  A commit that was fetched once is kept by a ref of ours.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.origins.lock import OBJECT, LockedCommit
from tasks.util.errors import DiskFull, ToolMissing, UserError
from tasks.util.files import atomic_dir, locked
from tasks.util.log import logger
from tasks.util.process import CREDENTIALS, CommandFailed, Result, run

KEPT = "refs/tcbuild/commits"
WHOLE = "tcbuild-whole"
"""In a clone: its history is there."""
BRANCHES = "+refs/heads/*:refs/heads/*"
TAGS = "+refs/tags/*:refs/tags/*"
# What this machine says about reaching a repository.
PASSED = ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO")
# What comes out of a commit is decided by the commit alone.
PLAIN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n"
    rb"([A-Za-z0-9+/=\s]+?)(?:\r?\n=[^\r\n]{4})?\r?\n-----END PGP PUBLIC KEY BLOCK-----"
)
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
VALID = re.compile(r"^\[GNUPG:\] VALIDSIG (\w+) .*?(\w+)$", re.MULTILINE)
HINT = "check the address, the network, and git's settings on this machine"


def folder(cache: Path, url: str) -> Path:
    """Return the folder of the clone of a repository in the cache; it may not exist."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", url.rstrip("/").rpartition("/")[2].removesuffix(".git")) or "git"
    return cache / "git" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"


def shown(url: str) -> str:
    """Return an address for messages, without a user and password."""
    return CREDENTIALS.sub("://***@", url)


@dataclass(frozen=True)
class Clone:
    """The clone in the folder `top` of the repository at `url`."""

    top: Path
    url: str

    @property
    def label(self) -> str:
        """Its address for messages."""
        return shown(self.url)

    @property
    def is_whole(self) -> bool:
        """Whether its history is there, as it was when it was fetched."""
        return (self.top / WHOLE).exists()

    # --- asking and fetching ----------------------------------------------------------------

    def pin(self, ref: str, keyring: Path | None = None, fingerprints: Sequence[str] = ()) -> LockedCommit:
        """Fetch what `ref` is now: a tag, a branch or the id of a commit; return its lock entry.

        keyring: a file of public keys, of which those of `fingerprints` may sign; then `ref` must be a tag
        that one of them has signed.  Raises `UserError` if there is no such ref, and for a bad signature.
        """
        name = ref if OBJECT.fullmatch(ref) else self.full_name(ref)
        found = self._fetch(name)
        signer = self._verified(ref, found, keyring, fingerprints) if keyring else ""
        commit = self.text("rev-parse", "--verify", f"{found}^{{commit}}")
        self._keep(commit)
        return LockedCommit(self.url, ref, commit, self.text("rev-parse", f"{commit}^{{tree}}"), signer)

    def fetch(self, entry: LockedCommit) -> None:
        """Fetch a locked commit, unless it is there.

        Raises `UserError` if the repository has it no more, or if its tree is another one.
        """
        if not self.has(entry.commit):
            logger.info(f"{self.label}: fetching {entry.ref} ({entry.commit[:12]})")
            # A server may give commits by their names alone.
            for name in (entry.commit, entry.ref):
                try:
                    self._fetch(name if OBJECT.fullmatch(name) else self.full_name(name))
                except (ToolMissing, DiskFull):
                    raise
                except UserError:
                    if name == entry.ref:
                        raise
                if self.has(entry.commit):
                    break
            else:
                self.complete()
        if not self.has(entry.commit):
            message = f"{self.label} has no commit {entry.commit} any more, which {entry.ref} was"
            raise UserError(message, "find out why; ./doit update kernel locks what it is now")
        tree = self.text("rev-parse", f"{entry.commit}^{{tree}}")
        if tree != entry.tree:
            raise UserError(f"commit {entry.commit} has the tree {tree}, and {entry.tree} is locked")
        self._keep(entry.commit)

    def complete(self) -> None:
        """Fetch all branches and tags with their history."""
        self._make()
        logger.info(f"{self.label}: fetching the history")
        shallow = self.text("rev-parse", "--is-shallow-repository") == "true"
        whole = ["--unshallow"] if shallow else []
        try:
            self._run("fetch", "--force", *whole, self.url, BRANCHES, TAGS)
        except CommandFailed as error:
            raise self._unreached(error) from None
        (self.top / WHOLE).touch()

    def full_name(self, ref: str) -> str:
        """Return the full name of a tag or branch.  Raises `UserError` if the repository has none."""
        return self.remote(ref)[0]

    def remote(self, ref: str) -> tuple[str, str]:
        """Return the full name of a tag or branch, and the id of what it is in the repository now."""
        wanted = [ref] if ref.startswith("refs/") else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
        said = self._asked("ls-remote", "--", self.url, *wanted, *(f"{name}^{{}}" for name in wanted))
        found = {name: one for one, name in (line.split("\t") for line in said.splitlines())}
        for name in wanted:
            if name in found:
                return name, found.get(f"{name}^{{}}", found[name])
        raise UserError(f"{self.label} has no tag and no branch {ref!r}", "check `ref`")

    def _fetch(self, name: str) -> str:
        """Fetch a full name or an id, without history if possible; return the id of the object."""
        self._make()
        if OBJECT.fullmatch(name) and self.has(name):
            return name
        depth = [] if self.is_whole else ["--depth=1"]
        with locked(self.top.with_suffix(".lock")):
            try:
                self._run("fetch", "--no-tags", "--force", *depth, self.url, name)
            except CommandFailed as error:
                if not depth or "shallow" not in error.detail:
                    raise self._unreached(error) from None
                # A web server without git's own protocol has whole histories only.
                try:
                    self._run("fetch", "--no-tags", "--force", self.url, name)
                except CommandFailed as again:
                    raise self._unreached(again) from None
            return self.text("rev-parse", "--verify", "FETCH_HEAD")

    def _make(self) -> None:
        if not self.top.is_dir():
            self.top.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.top.with_suffix(".lock")):
                if not self.top.is_dir():
                    with atomic_dir(self.top) as partial:
                        run(["git", "init", "--quiet", "--bare", partial], env=PLAIN)

    def _keep(self, commit: str) -> None:
        self.text("update-ref", f"{KEPT}/{commit}", commit)

    def _asked(self, *words: str) -> str:
        try:
            return run(["git", *words], env=_network()).stdout
        except CommandFailed as error:
            raise self._unreached(error) from None

    def _run(self, *words: str) -> None:
        run(["git", f"--git-dir={self.top}", *words], env=_network())

    def _unreached(self, error: CommandFailed) -> UserError:
        lines = [line.partition("fatal: ")[2] for line in error.detail.splitlines()]
        why = next(filter(None, lines), error.message)
        if secret := CREDENTIALS.search(self.url):  # git says a part of the address, in other words
            why = why.replace(secret[0].removeprefix("://"), "***@")
        return UserError(f"{self.label}: {why}", HINT)

    # --- signatures -----------------------------------------------------------------------------

    def _verified(self, ref: str, found: str, keyring: Path | None, fingerprints: Sequence[str]) -> str:
        """Return the fingerprint of the key that signed a tag.  Raises `UserError` if none of ours did."""
        assert keyring is not None
        if self.text("cat-file", "-t", found) != "tag":
            message = f"{self.label}: {ref} is no signed tag, and a key is given"
            raise UserError(message, "name a signed tag, or leave out keyring and fingerprints")
        content = run(["git", f"--git-dir={self.top}", "cat-file", "tag", found], env=PLAIN).stdout.encode()
        text, mark, rest = content.partition(SIGNATURE)
        with tempfile.TemporaryDirectory(prefix="tcbuild-tag-") as scratch:
            top = Path(scratch)
            (top / "keys.gpg").write_bytes(binary_keys(keyring))
            (top / "text").write_bytes(text)
            (top / "signature").write_bytes(mark + rest)
            argv: list[str | Path] = ["gpgv", "--status-fd", "1", "--keyring", top / "keys.gpg"]
            said = run([*argv, top / "signature", top / "text"], check=False).stdout
        wanted = {one.replace(" ", "").upper() for one in fingerprints}
        for signature in VALID.finditer(said):
            if wanted & {*signature.groups()}:
                return next(one for one in signature.groups() if one in wanted)
        message = f"{self.label}: the tag {ref} has no good signature of a key of `fingerprints`"
        raise UserError(message, f"who signed it instead? the keys are those of {keyring.name}")

    # --- looking ----------------------------------------------------------------------------------

    def has(self, commit: str) -> bool:
        """Tell whether a commit is there with all its files."""
        if not self.top.is_dir():
            return False
        kept = self._git("rev-parse", "--quiet", "--verify", f"{KEPT}/{commit}", check=False)
        return kept.status == 0 or self._git("cat-file", "-e", f"{commit}^{{tree}}", check=False).status == 0

    def text(self, *words: str) -> str:
        """Return what a git command without network prints, without white space around."""
        return self._git(*words).stdout.strip()

    def _git(self, *words: str, check: bool = True) -> Result:
        return run(["git", f"--git-dir={self.top}", *words], env=PLAIN, check=check)

    def export(self, tree: str, into: Path, paths: Iterable[str] | None = None) -> None:
        """Write the files of a tree below the folder `into`: all, or those of `paths`; links stay links."""
        with tempfile.TemporaryDirectory(prefix="tcbuild-index-") as scratch:
            env = PLAIN | {"GIT_INDEX_FILE": f"{scratch}/index"}
            git: list[str | Path] = ["git", f"--git-dir={self.top}", f"--work-tree={into}"]
            git += ["-c", "core.autocrlf=false", "-c", "core.bare=false"]
            run([*git, "read-tree", tree], env=env, cwd=into)
            if paths is None:
                run([*git, "checkout-index", "--all", "--force", "--quiet"], env=env, cwd=into)
            else:
                names = b"".join(os.fsencode(path) + b"\0" for path in paths)
                argv = [*git, "checkout-index", "--force", "--quiet", "-z", "--stdin"]
                run(argv, env=env, cwd=into, stdin=names)

    def archive(self, commit: str, file: Path) -> None:
        """Write the files of a commit as a tar (git-archive(1)): the same bytes on every machine."""
        fixed = ["-c", "tar.umask=0022", "-c", f"core.attributesFile={os.devnull}"]
        self._git(*fixed, "archive", "--format=tar", f"--output={file}", commit)

    def differing(self, old: str, new: str) -> Mapping[str, bool]:
        """Return the paths of the files that differ between two trees, and whether the new one has each."""
        said = self.text("diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new)
        words = [word for word in said.split("\0") if word]
        return {path: status != "D" for status, path in zip(words[::2], words[1::2], strict=True)}


def of(cache: Path, url: str) -> Clone:
    """Return the clone of a repository in the cache."""
    return Clone(folder(cache, url), url)


def _network() -> dict[str, str]:
    """Return the environment of a git command that uses the network, by this machine's settings."""
    return {"GIT_TERMINAL_PROMPT": "0"} | {name: os.environ[name] for name in PASSED if name in os.environ}


def binary_keys(keyring: Path) -> bytes:
    """Return the public keys of a file, without the ASCII armour that it may have (RFC 9580, 6.2)."""
    content = keyring.read_bytes()
    blocks = ARMOUR.findall(content)
    return b"".join(base64.b64decode(block) for block in blocks) if blocks else content

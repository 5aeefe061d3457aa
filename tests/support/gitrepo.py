# SPDX-License-Identifier: MIT
"""Git repositories made for a test: commits of files, branches and tags, signed ones too."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.util.process import run
from tests.support.repository import signing_key

WHO = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "n@invalid", "GIT_COMMITTER_NAME": "n"}
WHO |= {"GIT_COMMITTER_EMAIL": "n@invalid", "GIT_CONFIG_GLOBAL": os.devnull}
FIRST = 1_700_000_000
"""Seconds since 1970: when the first commit was made.  Each is a minute later."""


@dataclass
class GitRepository:
    """A repository with a work tree at `top`, on branch `main`."""

    top: Path
    commits: int = 0

    def __post_init__(self) -> None:
        self.git("init", "--quiet", "--initial-branch=main", str(self.top), inside=False)

    @property
    def url(self) -> str:
        return f"file://{self.top}"

    def git(self, *words: str, inside: bool = True, **env: str) -> str:
        """Run git there, and return what it prints."""
        where = ["-C", str(self.top)] if inside else []
        return run(["git", *where, *words], env=WHO | env).stdout.strip()

    def commit(self, files: Mapping[str, str | None], message: str = "") -> str:
        """Commit files (None removes one), and return the commit's id."""
        for name, text in files.items():
            path = self.top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        date = f"{FIRST + 60 * self.commits} +0000"
        self.commits += 1
        self.git("add", "--all")
        said = message or f"commit {self.commits}"
        self.git("commit", "--quiet", "-m", said, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
        return self.git("rev-parse", "HEAD")

    def import_commits(self, versions: Sequence[tuple[str, str]], name: str) -> list[str]:
        """Commit versions of one file on top of `main`, quickly; return their ids.

        versions: subject and content of each; name: of the file.  The work tree stays as it was.
        """
        stream, marks = b"", self.top / ".git/marks"
        before = self.git("for-each-ref", "--format=%(objectname)", "refs/heads/main")
        for number, (subject, text) in enumerate(versions, 1):
            date, content = f"{FIRST + 60 * (self.commits + number)} +0000", text.encode()
            stream += f"commit refs/heads/main\nmark :{number}\ncommitter n <n@invalid> {date}\n".encode()
            stream += f"data {len(subject)}\n{subject}\n".encode()
            stream += f"from {before}\n".encode() if number == 1 and before else b""
            stream += f"M 644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n"
        run(["git", "-C", self.top, "fast-import", "--quiet", f"--export-marks={marks}"], stdin=stream)
        self.commits += len(versions)
        known = dict(line.split() for line in marks.read_text().splitlines())
        return [known[f":{number}"] for number in range(1, len(versions) + 1)]

    def sign_tag(self, name: str) -> str:
        """Make a signed tag of the last commit; return the key's fingerprint."""
        key = fingerprint()
        self.git("tag", "-u", key, "-m", name, name, GNUPGHOME=signing_key())
        return key


def fingerprint() -> str:
    """Return the fingerprint of the key of tests."""
    said = run(["gpg", "--homedir", signing_key(), "--with-colons", "--list-keys"]).stdout
    return next(line.split(":")[9] for line in said.splitlines() if line.startswith("fpr:"))


def public_key(path: Path, armour: bool = True) -> Path:
    """Write the public key of tests to `path`."""
    options = ["--armor"] if armour else []
    run(["gpg", "--homedir", signing_key(), *options, "--output", path, "--export"])
    return path


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """Serve the repositories below `folder` by git's own protocol; yield the address of the folder."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    with subprocess.Popen(
        [*words, str(folder)], stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            for _ in range(200):
                with (
                    contextlib.suppress(ConnectionRefusedError),
                    socket.create_connection(("127.0.0.1", port)),
                ):
                    break
                time.sleep(0.05)
            yield f"git://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)

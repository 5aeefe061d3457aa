# SPDX-License-Identifier: MIT
"""npm-shrinkwrap.json: which packages a package depends on, and where each is installed.

npm's documentation, "package-lock.json", lockfileVersion 2 and 3.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.util.errors import UserError

SHRINKWRAP = "npm-shrinkwrap.json"
NODE_MODULES = "node_modules"
# What the image is, in the words of package.json's `os`, `cpu` and `libc`.
PLATFORM = {"os": "linux", "cpu": "x64", "libc": "glibc"}
NAME = re.compile(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_~-]*")


@dataclass(frozen=True)
class Package:
    """One entry of a shrinkwrap: the folder it goes to (relative), its name, version, sha512 (hex)."""

    folder: str
    name: str
    version: str
    sha512: str

    @property
    def file_name(self) -> str:
        """What the tarball is called in locks and in the cache."""
        return file_name(self.name, self.version)


def file_name(name: str, version: str) -> str:
    """Return what the tarball of a package is called in locks and in the cache."""
    return f"{flat(name)}@{version}.tgz"


def flat(name: str) -> str:
    """Return a package's name as a part of a file name: @SCOPE/NAME as @SCOPE+NAME."""
    return name.replace("/", "+")  # no package's name has a "+"


def read_shrinkwrap(content: bytes, skip: Sequence[str], what: str) -> list[Package]:
    """Return the packages a shrinkwrap installs on `PLATFORM`, parents first.

    skip: patterns of names; they, and what only they need, are left out, as are
    development dependencies.  Raises `UserError`, with `what` in it, if it is malformed.
    """
    try:
        data = json.loads(content)
        entries = dict(data["packages"].items())
        return [_package(path, entries[path], what) for path in sorted(_reachable(entries, skip, what))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{what} is not a lock file of version 2 or 3: {problem}") from None


def _reachable(entries: Mapping[str, Any], skip: Sequence[str], what: str) -> set[str]:
    """Return the folders of all packages that the root depends on."""
    reached: set[str] = set()
    todo = [""]
    while todo:
        folder = todo.pop()
        entry = entries[folder]
        needed = entry.get("dependencies", {})
        optional = {
            name for name, about in entry.get("peerDependenciesMeta", {}).items() if about.get("optional")
        }
        peers = {name for name in entry.get("peerDependencies", {}) if name not in optional}
        may_lack = {*entry.get("optionalDependencies", {}), *peers}
        for name in {*needed, *may_lack}:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in skip):
                continue
            path = _resolve(entries, folder, name)
            if path is None:
                if name not in may_lack:
                    raise UserError(f"{what} lacks {name}, which {folder or 'the package'} needs")
                continue
            if path not in reached and _fits(entries[path]):
                reached.add(path)
                todo.append(path)
    return {path for path in reached if not entries[path].get("inBundle")}


def _resolve(entries: Mapping[str, Any], folder: str, name: str) -> str | None:
    """Return where Node.js finds `name` for the package in `folder` (its modules' resolution)."""
    while True:
        path = posixpath.join(folder, NODE_MODULES, name)
        if path in entries:
            return path
        if not folder:
            return None
        folder = folder.rpartition(NODE_MODULES)[0].rstrip("/")


def _fits(entry: Mapping[str, Any]) -> bool:
    """Tell whether a package is for `PLATFORM`: a list of what it is for, or of `!` what not."""
    for key, here in PLATFORM.items():
        words = entry.get(key, [])
        words = [words] if isinstance(words, str) else words
        if f"!{here}" in words or (any(word[0] != "!" for word in words) and here not in words):
            return False
    return True


def _package(path: str, entry: Mapping[str, Any], what: str) -> Package:
    name, version = entry.get("name") or path.rpartition(f"{NODE_MODULES}/")[2], entry["version"]
    outside = {"", ".", ".."} & set(path.split("/"))
    if outside or not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise UserError(f"{what}: {path!r} is no package that could be installed")
    for word in entry.get("integrity", "").split():
        kind, _, text = word.partition("-")
        digest = base64.b64decode(text, validate=True)
        if kind == "sha512" and len(digest) == hashlib.sha512().digest_size:
            return Package(path, name, version, digest.hex())
    raise UserError(f"{what} has no sha512 of {name}", "what nobody vouches for is not taken")

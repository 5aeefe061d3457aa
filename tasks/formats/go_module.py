# SPDX-License-Identifier: MIT
"""Go modules as files: their hashes, and where a module proxy and a module cache keep them.

A module's zip has all files below `MODULE@VERSION/` (go.dev/ref/mod#zip-files).  Proxy and cache keep
it at `MODULE/@v/VERSION.zip`, where each capital letter of the path is written as `!` and the small
letter (go.dev/ref/mod#goproxy-protocol).  The hash `h1:` is that of golang.org/x/mod/sumdb/dirhash:
it depends on the names and contents of the files, and not on how the zip was packed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tasks.formats.archive import BAD_ZIP

# golang.org/x/mod/module: no + in a path, so that + can stand for its slashes in a file name.
PATH = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+(/[A-Za-z0-9_~.-]*[A-Za-z0-9_~-])*")
VERSION = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")
H1 = re.compile(r"h1:[A-Za-z0-9+/]{43}=")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Module:
    """A Go module in one version: `path` as an import names it, `version` with its v."""

    path: str
    version: str

    @property
    def file_name(self) -> str:
        """The name of its zip where all modules lie in one folder: slashes become `+`."""
        return f"{self.path.replace('/', '+')}@{self.version}.zip"

    def at(self, ending: str) -> str:
        """Return the path below a proxy of its file with that ending: info, mod or zip."""
        return f"{escaped(self.path)}/@v/{escaped(self.version)}.{ending}"

    def __str__(self) -> str:
        return f"{self.path}@{self.version}"


def of_file_name(name: str) -> Module | None:
    """Return the module of a zip with the name `name` (`Module.file_name`), None for another file."""
    path, at, version = name.removesuffix(".zip").partition("@")
    path = path.replace("+", "/")
    fits = name.endswith(".zip") and at and PATH.fullmatch(path) and VERSION.fullmatch(version)
    return Module(path, version) if fits else None


def of_proxy_path(path: str) -> Module:
    """Return the module of a path below a proxy, as `Module.at` returns it."""
    folder, _, file = path.partition("/@v/")
    return Module(_unescaped(folder), _unescaped(file.rpartition(".")[0]))


def escaped(text: str) -> str:
    """Return a module's path or version as proxies write it."""
    return re.sub("[A-Z]", lambda found: "!" + found[0].lower(), text)


def _unescaped(text: str) -> str:
    return re.sub("!([a-z])", lambda found: found[1].upper(), text)


def h1(archive: Path) -> str:
    """Return the hash of a module's zip, as go.sum and the checksum database have it; "" if it is no zip."""
    lines = []
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in sorted(packed.namelist()):
                digest = hashlib.sha256()
                with packed.open(name) as stream:
                    while chunk := stream.read(CHUNK):
                        digest.update(chunk)
                lines.append(f"{digest.hexdigest()}  {name}\n")
    except BAD_ZIP:
        return ""
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()

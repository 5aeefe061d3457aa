# SPDX-License-Identifier: MIT
"""Cargo.lock: which crates a Rust program is made of, and the sha256 of each.

The format is that of versions 1 to 4 (doc.rust-lang.org/cargo, "Cargo.toml vs Cargo.lock", and Cargo's
source, core/resolver/encode.rs).  An entry without `source` is a folder of the program's own source.  A
crate of a registry has the sha256 of its archive in `checksum`; version 1 has these in `[metadata]`.
"""

from __future__ import annotations

import re
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.util.errors import UserError

NAME = "Cargo.lock"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
"""What Cargo.lock calls the registry that cargo asks if a program names none."""
CRATE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]*)@([0-9][A-Za-z0-9.+-]*)\.crate")
SHA256 = re.compile("[0-9a-f]{64}")
MAX_TEXT = 1 << 20  # bytes of Cargo.toml that are read


@dataclass(frozen=True)
class Crate:
    """A package of Cargo.lock that is not in the program's own source.

    source: where it comes from, as Cargo.lock has it; sha256: of its archive, "" for a commit of git.
    """

    name: str
    version: str
    source: str
    sha256: str = ""

    @property
    def file_name(self) -> str:
        """What its archive is called in locks and in the cache.

        Cargo's own name, `NAME-VERSION.crate`, does not tell where the version begins.
        """
        return f"{self.name}@{self.version}.crate"

    @property
    def folder(self) -> str:
        """The name of its one folder in its archive."""
        return f"{self.name}-{self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def crates(path: Path, label: str) -> list[Crate]:
    """Return the crates of the Cargo.lock at `path`, in its order; label: of the program, for messages.

    Raises `UserError` if it is malformed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        found = [_crate(entry, data.get("metadata", {})) for entry in data.get("package", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{label}: its {NAME} is malformed: {problem}") from None
    return [crate for crate in found if crate]


def _crate(entry: dict[str, Any], metadata: dict[str, str]) -> Crate | None:
    """Return what an entry of Cargo.lock stands for, None for a folder of the source."""
    if "source" not in entry:
        return None
    name, version, source = (str(entry[key]) for key in ("name", "version", "source"))
    sha256 = str(entry.get("checksum") or metadata.get(f"checksum {name} {version} ({source})", ""))
    crate = Crate(name, version, source, sha256)
    if not CRATE.fullmatch(crate.file_name):
        raise ValueError(f"{name!r} {version!r} is no name and version of a crate")
    if not SHA256.fullmatch(sha256) and not source.startswith("git+"):
        raise ValueError(f"{crate} has no sha256")
    return crate


def of_file_name(name: str) -> tuple[str, str] | None:
    """Return name and version of the crate whose archive is called `name`, None for another file."""
    found = CRATE.fullmatch(name)
    return (found[1], found[2]) if found else None


def stated_licence(archive: Path) -> str:
    """Return `package.license` in the Cargo.toml of a crate's archive, "" if it states none.

    Old crates write a slash for OR (doc.rust-lang.org/cargo, "The license and license-file fields").
    """
    try:
        with tarfile.open(archive) as packed:
            wanted = (one for one in packed if one.isreg() and one.name.partition("/")[2] == "Cargo.toml")
            stream = packed.extractfile(next(wanted))
            text = stream.read(MAX_TEXT).decode() if stream else ""
        said = tomllib.loads(text)["package"]["license"]
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError, StopIteration):
        return ""
    return re.sub(r"\s*/\s*", " OR ", said) if isinstance(said, str) else ""

# SPDX-License-Identifier: MIT
"""The licences that inputs declare, as SPDX expressions.

A .deb declares them in a machine-readable copyright file (Debian's copyright-format 1.0).  Other
files of an origin are read by the origin's kind (tasks/origins/kinds/).  A licence without SPDX
id becomes LicenseRef-...; no licence is guessed.
"""

from __future__ import annotations

import functools
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

from license_expression import ExpressionError, get_spdx_licensing

from tasks.origins import kinds
from tasks.provenance.manifest_schema import Input
from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.util.toml_schema import read_toml

FORMAT = "copyright-format/1.0"
MAX_DEB_SIZE = 64 << 20  # bytes; only kernel sources are larger, and they have COPYING
MAX_TEXT_SIZE = 1 << 20
KERNEL_ID = re.compile(r"^\s*SPDX-License-Identifier:\s*(.+?)\s*$", re.MULTILINE)


@functools.cache
def _spdx_ids() -> dict[str, str]:
    table = read_toml(Path(__file__).with_name("licences.toml"))["spdx"]
    return {str(name): str(spdx) for name, spdx in table.items()}


def of(one: Input, path: Path) -> str:
    """Return the SPDX expression of the input at `path`, "" if it declares none.

    Raises `UserError` if it is a damaged zip.
    """
    if one.kind == "deb":
        found = _of_deb(one.name, path)
        return " AND ".join(f"({word})" if " " in word and len(found) > 1 else word for word in found)
    kind = kinds.kind_of(one.origin) if one.kind == "origin" else None
    try:
        return _valid(kind.stated_licence(path)) if kind else ""
    except zipfile.BadZipFile:
        raise UserError(
            f"{path.name} in the cache is damaged", f"remove it and fetch it again: {path}"
        ) from None


def of_kernel(tree: Path) -> str:
    """Return the SPDX expression in COPYING of a kernel tree, "" if there is none."""
    copying = tree / "COPYING"
    text = copying.read_text(errors="replace") if copying.is_file() else ""
    found = KERNEL_ID.search(text)
    return _valid(found[1]) if found else ""


def from_debian(text: str) -> list[str]:
    """Return the licences in a Debian copyright file as sorted SPDX expressions; [] for free text."""
    if FORMAT not in text[:2000]:
        return []
    names = re.findall(r"^License:[ \t]*(\S.*?)\s*$", text, re.MULTILINE)
    return sorted({_spdx(name) for name in names})


def _spdx(name: str) -> str:
    known = _spdx_ids()
    if name.lower() in known:
        return known[name.lower()]
    for word in ("or", "and"):
        parts = re.split(rf",?\s+{word}\s+", name.lower())
        if len(parts) > 1 and all(part in known for part in parts):
            return f" {word.upper()} ".join(known[part] for part in parts)
    return "LicenseRef-Debian-" + re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def _of_deb(name: str, path: Path) -> list[str]:
    if path.stat().st_size > MAX_DEB_SIZE:
        return []
    with tempfile.TemporaryDirectory(prefix="tcbuild-licence-") as folder:
        packed = Path(folder, "data.tar")
        run(["dpkg-deb", "--fsys-tarfile", path], stdout=packed)
        wanted = f"./usr/share/doc/{name}/copyright"
        with tarfile.open(packed) as tar:
            found = next((member for member in tar if member.name == wanted and member.isreg()), None)
            return from_debian(_text(tar, found)) if found else []


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member)
    return stream.read(MAX_TEXT_SIZE).decode(errors="replace") if stream else ""


def _valid(text: str) -> str:
    """Return `text` as a normalized SPDX expression, "" if it is not valid."""
    try:
        parsed = get_spdx_licensing().parse(text, validate=True) if text else None
    except ExpressionError:
        return ""
    return str(parsed) if parsed else ""

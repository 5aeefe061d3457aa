# SPDX-License-Identifier: MIT
"""The licences of a source archive, by the texts of its licence files.

A Go module states its licence by nothing but such a file.  licence_text.toml has sentences of each
licence.  A text that fits none has no known licence: none is guessed.
"""

from __future__ import annotations

import functools
import re
import zipfile
from pathlib import Path

from tasks.util.toml_schema import read_toml

NAME = re.compile(r"(?i)(un)?(licen[cs]e|copying)([-._][a-z0-9._-]*)?|mit-licen[cs]e[a-z.]*")
MAX_TEXT = 1 << 20  # bytes of a licence file that are read


@functools.cache
def _sentences() -> tuple[tuple[str, tuple[str, ...]], ...]:
    table = read_toml(Path(__file__).with_name("licence_text.toml"))["licence"]
    return tuple((str(one["spdx"]), tuple(one["has"])) for one in table)


def spdx(text: str) -> str:
    """Return the SPDX id of a licence's text, "" if it is not known."""
    plain = " ".join(re.findall("[a-z0-9]+", text.lower()))
    return next((name for name, has in _sentences() if all(words in plain for words in has)), "")


def of_zip(archive: Path) -> str:
    """Return an SPDX expression of the licence files at the top of a Go module's zip, "" if one is unknown.

    The top is the folder `MODULE@VERSION/`.
    """
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        top = len(names[0].partition("@")[0].split("/")) if names else 0
        found = [name for name in names if name.count("/") == top and NAME.fullmatch(name.rpartition("/")[2])]
        texts = [packed.read(name)[:MAX_TEXT].decode(errors="replace") for name in sorted(found)]
    known = [spdx(text) for text in texts]
    return " AND ".join(sorted(set(known))) if all(known) else ""

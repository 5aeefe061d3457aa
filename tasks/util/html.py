# SPDX-License-Identifier: MIT
"""HTML pages in one file: a Jinja template, and a policy that forbids to load anything else."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@functools.cache
def templates(folder: Path) -> Environment:
    """Return the Jinja environment of `folder`: values are escaped, and a missing one is an error."""
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"size": size_text, "count": count}
    return found


def render(template: Path, **values: object) -> bytes:
    """Return the page of a template as UTF-8; the template places its policy as `policy`."""
    allowed = Markup(policy(template.read_text()))  # it consists of hashes, so it needs no escaping
    page = templates(template.parent).get_template(template.name).render(values, policy=allowed)
    # A file name need not be UTF-8; such a byte is shown as \udcXX.
    return page.encode(errors="backslashreplace")


def policy(content: str) -> str:
    """Return a Content-Security-Policy that allows the template's own script and style, by hash."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, inline in INLINE.findall(content):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    sources = "; ".join(
        f"{kind}-src {' '.join(hashes) or chr(39) + 'none' + chr(39)}" for kind, hashes in allowed.items()
    )
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; {sources}"


def size_text(size: int) -> str:
    """Return a number of bytes as a text for people: 512 B, 34 KiB, 1.2 MiB."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def count(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

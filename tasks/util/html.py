"""Pages that need nothing but themselves: a template with `@KEY@`s and a policy against all else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path

KEY = re.compile(r"@([A-Z_]+)@")
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def fill(template: Path, values: Mapping[str, str]) -> bytes:
    """Return a template with `values` (HTML, escaped where need be) and its policy in place."""
    content = template.read_text()
    found = {**values, "POLICY": policy(content)}
    # In one pass: nothing in a value is a key.
    filled = KEY.sub(lambda match: found[match[1]], content)
    # Names of files may be no UTF-8; such a byte is shown as \udcXX.
    return filled.encode(errors="backslashreplace")


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
    """Return bytes for people: 512 B, 34 KiB, 1.2 MiB."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def count(number: int, what: str) -> str:
    """Return a number with its noun, in the plural where it needs to be."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def escape(text: str) -> str:
    """Return text as it may stand in an element or an attribute."""
    return html.escape(text, quote=True)

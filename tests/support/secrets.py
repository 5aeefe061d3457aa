# SPDX-License-Identifier: MIT
"""Secrets for tests.  They are put together here: none stands in a file as it would be found."""

from __future__ import annotations

import random
import string

RANDOM = random.Random(5)
LETTERS = string.ascii_letters + string.digits
BASE64 = "".join(RANDOM.choices(LETTERS, k=64))


def word(count: int, letters: str = LETTERS) -> str:
    return "".join(RANDOM.choices(letters, k=count))


def token() -> str:
    """Return a GitHub token of no account."""
    return f"gh{'p'}_{word(36)}"


def der(tag: int, content: bytes) -> bytes:
    """Return a value of ASN.1 in DER (X.690): tag, length, content."""
    size = len(content)
    length = size.to_bytes(max(1, (size.bit_length() + 7) // 8), "big")
    return bytes([tag]) + (length if size < 0x80 else bytes([0x80 | len(length)]) + length) + content


def pem(kind: str, newline: str = "\n") -> str:
    begin = f"-----BEGIN {kind}PRIVATE KEY-----"
    return newline.join([begin, BASE64, BASE64, begin.replace("BEGIN", "END")])

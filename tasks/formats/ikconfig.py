# SPDX-License-Identifier: MIT
"""The .config that a kernel holds if it was built with CONFIG_IKCONFIG.

kernel/configs.c puts it as a gzip stream between the marks IKCFG_ST and IKCFG_ED, into the kernel or
into the module configs.ko.  scripts/extract-ikconfig of the kernel looks for the same mark.
"""

from __future__ import annotations

import zlib

from tasks.formats.compression import Buffer
from tasks.util.errors import UserError

START = b"IKCFG_ST\x1f\x8b\x08"
"""The mark, and the first bytes of a gzip stream: the mark alone may stand elsewhere in a kernel."""
MARK = 8
LIMIT = 4 << 20
"""Bytes of the longest config; one of 11,000 lines has 300 KB."""


def find(content: Buffer) -> str:
    """Return the .config in an unpacked kernel or a module, "" if it holds none.

    Raises `UserError` if it is damaged.
    """
    data = bytes(content)
    at = data.find(START)
    if at < 0:
        return ""
    decoder = zlib.decompressobj(wbits=31)
    try:
        text = decoder.decompress(data[at + MARK : at + MARK + LIMIT], LIMIT)
    except zlib.error as error:
        raise UserError(f"the config inside the kernel is damaged: {error}") from None
    if not decoder.eof:
        raise UserError("the config inside the kernel is cut short")
    return text.decode(errors="replace")

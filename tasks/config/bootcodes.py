# SPDX-License-Identifier: MIT
"""Bootcodes: the words of the kernel's command line, and which of them both boot menus can carry.

The kernel's next_arg (lib/cmdline.c) ends a word at white space outside of double quotes, and
removes quotes around a word or around the value after its first `=`.  It has no escapes.  GRUB's
`linux` command writes a backslash before each quote and each backslash in a word, and double quotes
around a word with a space (grub-core/lib/cmdline.c).  isolinux takes the rest of an APPEND line as
it is.  So both give the kernel the same line if a word with a space has its quotes around the
whole of it, and if no word has a quote or a backslash in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Bytes.  COMMAND_LINE_SIZE of x86 is 2,048, with the zero byte at its end; longer lines are cut.
KERNEL_LIMIT = 2047
# Bytes that the menus of tasks/image/boot/ and the boot loaders add at most:
# `BOOT_IMAGE=/boot/vmlinuz64 initrd=/boot/corepure64.gz loglevel=3 tce=UUID=... noembed`.
MENU_BYTES = 160
ONE_CODE = re.compile(r'"([^"]+)"|([^" ]+)="([^"]*)"|[^" ]+')


def check(codes: Sequence[str], key: str = "bootcodes") -> None:
    """Raise `ValueError`, which names the item of `key`, for a bootcode that the boot menus cannot carry."""
    for number, code in enumerate(codes):
        reason = _refusal(code)
        if reason:
            raise ValueError(f"{key}[{number}]: {reason}, got {_shown(code)}")
    size, most = len(line(codes).encode()), KERNEL_LIMIT - MENU_BYTES
    if size > most:
        raise ValueError(f"{key}: {size:,} bytes in all; the kernel's command line has room for {most:,}")


def line(codes: Sequence[str]) -> str:
    """Return the bootcodes as the kernel gets them from either menu."""
    words = map(word, codes)
    return " ".join(f'"{one}"' if " " in one else one for one in words)


def word(code: str) -> str:
    """Return a bootcode without the quotes that the kernel removes."""
    return code.replace('"', "")


def _refusal(code: str) -> str:
    if not code.isprintable():
        return "expected characters that can be printed"
    if "'" in code or "\\" in code:
        return "GRUB changes ' and \\ in a bootcode"
    if not ONE_CODE.fullmatch(code):
        return "expected one word, or one with a space in quotes, as in 'name=\"some value\"'"
    return ""


def _shown(code: str) -> str:
    return repr(code if len(code) <= 60 else f"{code[:60]}...")

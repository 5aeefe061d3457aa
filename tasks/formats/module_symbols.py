# SPDX-License-Identifier: MIT
"""The symbols that kernel modules need of the kernel and of each other, and their CRCs.

`Module.symvers` lists what is exported: a line each with CRC, symbol and module, with tabs between (kernel
Documentation, kbuild/modules.rst).  A kernel with CONFIG_MODVERSIONS compares the CRCs that a module was
built with.  The module has them in the section `__versions`, an array of struct modversion_info
(include/linux/module.h), or since Linux 6.13 in `__version_ext_crcs` and `__version_ext_names`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tasks.formats import elf
from tasks.util.errors import UserError

VERSIONS, MORE_CRCS, MORE_NAMES = "__versions", "__version_ext_crcs", "__version_ext_names"
ENTRY = 64
"""The size of a struct modversion_info in bytes: an unsigned long, and a name in the rest."""


def exported(text: str, what: str) -> dict[str, int]:
    """Return the CRC of each symbol of a Module.symvers; 0 without CONFIG_MODVERSIONS.

    what: the file's name in messages.  Raises `UserError` for any other text.
    """
    found = {}
    for line in filter(None, text.splitlines()):
        crc, _, rest = line.partition("\t")
        symbol, tab, _ = rest.partition("\t")
        try:
            if not tab or not symbol:
                raise ValueError
            found[symbol] = int(crc, 16)
        except ValueError:
            raise UserError(f"{what} is no Module.symvers: {line[:60]!r}") from None
    return found


def needed(path: Path) -> dict[str, int | None]:
    """Return the symbols that a module needs, with the CRC that it was built with; None for one without.

    Raises `UserError` if the file is no ELF file, or damaged.
    """
    data = elf.read_module(path)
    with elf.open_elf(data, str(path)) as found:
        crcs = _versions(found)
        table = found.get_section_by_name(".symtab")
        symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
        wanted = [
            one.name
            for one in symbols
            if one.name and one["st_shndx"] == "SHN_UNDEF" and one["st_info"]["bind"] != "STB_WEAK"
        ]
        # `module_layout`, for one, is compared, and no symbol of the table.
        return {name: crcs.get(name) for name in dict.fromkeys([*wanted, *crcs])}


def _versions(found: ELFFile) -> dict[str, int]:
    order = "<" if found.little_endian else ">"
    number = struct.Struct(order + ("Q" if found.elfclass == 64 else "I"))
    data = _content(found, VERSIONS)
    crcs = {}
    for at in range(0, len(data) - ENTRY + 1, ENTRY):
        name = data[at + number.size : at + ENTRY].split(b"\0")[0]
        crcs[name.decode(errors="replace")] = number.unpack_from(data, at)[0] & 0xFFFFFFFF
    more = _content(found, MORE_CRCS)
    values = struct.unpack(f"{order}{len(more) // 4}I", more[: len(more) // 4 * 4])
    names = _content(found, MORE_NAMES).split(b"\0")
    return crcs | {name.decode(errors="replace"): crc for name, crc in zip(names, values, strict=False)}


def _content(found: ELFFile, name: str) -> bytes:
    section = found.get_section_by_name(name)
    return bytes(section.data()) if section is not None else b""


def unmet(needs: Mapping[str, int | None], there: Mapping[str, int]) -> str:
    """Return what is wrong with the first symbol that `there` lacks or has with another CRC, or ""."""
    for name, crc in sorted(needs.items()):
        if name not in there:
            return f"it needs the symbol {name}, which the kernel does not export"
        if crc is not None and there[name] and crc != there[name]:
            return f"it was built for a {name} of CRC {crc:#010x}, and the kernel's has {there[name]:#010x}"
    return ""

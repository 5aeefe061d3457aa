# SPDX-License-Identifier: MIT
"""What extensions need of the kernel's configuration: the key `kconfig` of their recipes.

It is held against the checked config, before the kernel is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel.fragments import display_path, known_fragments, parse_config, read_fragment
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.log import logger

STOCK = "the stock kernel cannot get it, build one that has it"
"""What to do if a kernel that others built lacks something."""


def check(paths: Paths, profile: Profile, needs: Mapping[str, Sequence[str]]) -> None:
    """Raise `UserError` if the checked config lacks a symbol that an extension needs.

    needs: extension -> symbols without CONFIG_.  A module (m) is as good as y.  The error names
    the fragment of kconfig/ that sets the symbol.
    """
    config = parse_config(paths.config.read_text())
    if not config:  # of a kernel that others built; stage kernel has said so
        logger.info(f"kconfig:needs: nobody knows if the kernel has what {', '.join(needs)} need of it")
        return
    stock = profile.kernel.image is not None
    lines = missing(config, needs, {} if stock else fragments_by_symbol(profile), stock=stock)
    if lines:
        where = f"kernel.{'source' if stock else 'fragments'} in {display_path(paths.profile_file)}"
        raise UserError(lines[0], where, "\n".join(f"  {line}" for line in lines[1:]))


def missing(
    config: Mapping[str, str],
    needs: Mapping[str, Sequence[str]],
    fragments: Mapping[str, str],
    *,
    stock: bool = False,
) -> list[str]:
    """Return a line for each extension and fragment that would give it what `config` lacks.

    fragments: symbol -> the fragment that sets it.  stock: the kernel is one that others built.
    """
    otherwise = STOCK if stock else "request it by =y or =m in a fragment"
    lines = []
    for name, symbols in needs.items():
        by_fragment: dict[str, list[str]] = {}
        for symbol in symbols:
            if config.get(symbol, "n") == "n":
                by_fragment.setdefault(fragments.get(symbol, ""), []).append(f"CONFIG_{symbol}")
        for fragment, lacking in by_fragment.items():
            what = f"add the fragment {fragment}" if fragment else otherwise
            lines.append(f"{name} needs {', '.join(lacking)}: {what}")
    return lines


def fragments_by_symbol(profile: Profile) -> dict[str, str]:
    """Return, for each symbol that a fragment of kconfig/ sets to y or m, the fragment.

    The profile's own fragments are left out: what they ask for is in the checked config.
    """
    found: dict[str, str] = {}
    for name in known_fragments():
        if name not in profile.kernel.fragments:
            for request in read_fragment(CHECKOUT.find("kconfig", f"{name}.config")):
                if request.value in ("y", "m"):
                    found.setdefault(request.symbol, name)
    return found

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


def check(paths: Paths, profile: Profile, needs: Mapping[str, Sequence[str]]) -> None:
    """Raise `UserError` if the checked config lacks a symbol that an extension needs.

    needs: extension -> symbols without CONFIG_.  A module (m) is as good as y.  The error names
    the fragment of kconfig/ that sets the symbol.
    """
    config = parse_config(paths.config.read_text())
    lines = missing(config, needs, fragments_by_symbol(profile))
    if lines:
        where = display_path(paths.profile_file)
        raise UserError(
            lines[0], f"kernel.fragments in {where}", "\n".join(f"  {line}" for line in lines[1:])
        )


def missing(
    config: Mapping[str, str], needs: Mapping[str, Sequence[str]], fragments: Mapping[str, str]
) -> list[str]:
    """Return a line for each extension and fragment that would give it what `config` lacks.

    fragments: symbol -> the fragment that sets it.
    """
    lines = []
    for name, symbols in needs.items():
        by_fragment: dict[str, list[str]] = {}
        for symbol in symbols:
            if config.get(symbol, "n") == "n":
                by_fragment.setdefault(fragments.get(symbol, ""), []).append(f"CONFIG_{symbol}")
        for fragment, lacking in by_fragment.items():
            what = f"add the fragment {fragment}" if fragment else "request it by =y or =m in a fragment"
            lines.append(f"{name} needs {', '.join(lacking)}: {what}")
    return lines


def fragments_by_symbol(profile: Profile) -> dict[str, str]:
    """Return, for each symbol that a fragment of kconfig/ sets to y or m, the fragment.

    The profile's own fragments are left out: what they ask for is in the checked config.
    """
    found: dict[str, str] = {}
    for name in known_fragments():
        if name not in profile.kernel.fragments:
            for request in read_fragment(CHECKOUT.kconfig / f"{name}.config"):
                if request.value in ("y", "m"):
                    found.setdefault(request.symbol, name)
    return found

# SPDX-License-Identifier: MIT
"""What the kernel of the built image can do once its guest is up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tasks.config.plan import AT_BOOT, extensions_at
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.initramfs import embedded
from tasks.kernel import needs
from tasks.kernel.fragments import parse_config
from tasks.kernel.installed import core_modules


@dataclass(frozen=True)
class GuestKernel:
    """A kernel and its modules.

    config: symbol without CONFIG_ -> value; empty if nobody knows it.
    modules: the names of the modules in the core and in the extensions that are loaded at boot.
    """

    config: Mapping[str, str]
    modules: frozenset[str]

    @classmethod
    def of(cls, paths: Paths, profile: Profile) -> GuestKernel:
        """Return the built kernel of a profile."""
        release = (paths.kernel / "release").read_text().strip()
        names = [path.name for path in core_modules(paths, profile).rglob("*.ko*")]
        loaded = embedded.with_dependencies(paths.tcz, extensions_at(profile, *AT_BOOT), release)
        for name in loaded:
            listed = paths.tcz / f"{name}.tcz.list"
            if listed.is_file():
                lines = listed.read_text().splitlines()
                names += [line.rpartition("/")[2] for line in lines if ".ko" in line]
        config = parse_config((paths.kernel / "config").read_text())
        return cls(config, frozenset(name.partition(".ko")[0] for name in names))

    def lacking(self, symbols: Mapping[str, str]) -> str:
        """Return what is missing of `symbols`, in words; "" if nothing is.

        symbols: symbol without CONFIG_ -> the module that it makes, if it is no part of the kernel's image.
        """
        for symbol, module in symbols.items():
            value = self.config.get(symbol, "n") if self.config else "m"
            if value == "n":
                missing = [f"CONFIG_{one}" for one in symbols if self.config.get(one, "n") == "n"]
                return f"the kernel has no {', '.join(missing)}"
            if value == "m" and module not in self.modules:
                return f"nothing that is loaded at boot has the module {module}"
        return ""


def hint_for(profile: Profile, symbols: Collection[str]) -> str:
    """Return what to do so that the kernel gets `symbols`."""
    if profile.kernel.image is not None:
        return needs.STOCK
    by_symbol = needs.fragments_by_symbol(profile)
    fragments = {by_symbol[symbol] for symbol in symbols if symbol in by_symbol}
    return f"add the fragment {', '.join(sorted(fragments))}" if fragments else "build them into the kernel"

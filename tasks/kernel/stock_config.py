# SPDX-License-Identifier: MIT
"""Prove that a kernel that others built has what the profile's fragments request.

Its configuration cannot be changed.  So a request that it does not meet is an error.  A module is as
good as a built-in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel import kconfig_explain
from tasks.kernel.fragments import Request, config_line, parse_config, same_value
from tasks.kernel.requests import profile_requests
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

BUILD = 'build one: kernel.source = { kind = "apt", package = "linux-source-[0-9]*" }, and a base config'
SHOWN = 3


def known_config(paths: Paths, asked: Sequence[Request]) -> dict[str, str]:
    """Return the kernel's config, {} if it is not known.

    Raises `UserError` if it is not known and something is asked of it.
    """
    text = (paths.kernel / "config").read_text()
    if asked and not text:
        release = (paths.kernel / "release").read_text().strip()
        raise UserError(
            f"the config of the kernel {release} is not known, so nobody can tell if it has "
            f"what {len(asked)} lines of the fragments request",
            "name it by kernel.source.config, or leave out kernel.fragments",
        )
    return parse_config(text)


def prove(paths: Paths, profile: Profile) -> None:
    """Write the config of the kernel as the checked one, if it meets every request of the fragments.

    Raises `UserError` that explains each request that it does not meet, and as `known_config` does.
    """
    asked = profile_requests(paths, profile)
    config = known_config(paths, asked)
    misses = [request for request in asked if not meets(request, config)]
    if misses:
        release = (paths.kernel / "release").read_text().strip()
        raise UserError(headline(misses, release), BUILD, _explained(misses, config))
    write_if_changed(paths.config, (paths.kernel / "config").read_bytes())
    as_modules = [one for one in asked if one.value == "y" and config.get(one.symbol) == "m"]
    if asked:
        logger.info(f"kconfig: {len(asked)} requested lines hold, {len(as_modules)} of them as modules")


def meets(request: Request, config: Mapping[str, str]) -> bool:
    """Tell whether `config` has what is requested; m does for y."""
    got = config.get(request.symbol, "n")
    return same_value(request.value, got) or (request.value == "y" and got == "m")


def headline(misses: Sequence[Request], release: str) -> str:
    """Return the sentence that names the first of the requests that are not met."""
    lacking = [miss.symbol for miss in misses if miss.value in ("y", "m")]
    names = lacking or [miss.symbol for miss in misses]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    what = "has no" if lacking else "has another value of"
    return f"the stock kernel {release} {what} {', '.join(names[:SHOWN])}{more}"


def _explained(misses: Sequence[Request], config: Mapping[str, str]) -> str:
    notes = kconfig_explain.load_notes()
    blocks = []
    for miss in misses:
        got = config_line(miss.symbol, config.get(miss.symbol, "n"))
        blocks.append(f"  {miss.where}: {miss.text}: the kernel has {got}")
        if miss.symbol in notes and miss.symbol not in config:
            blocks.append(f"    note: {notes[miss.symbol]}")
    return "\n".join(blocks)


def print_report(paths: Paths, profile: Profile) -> None:
    """Print a line for each requested line: its place, and its value in the kernel.

    Raises `UserError` as `known_config` does.
    """
    asked = profile_requests(paths, profile)
    config = known_config(paths, asked)
    for one in asked:
        print(f"{one.where}  {one.text}  {config_line(one.symbol, config.get(one.symbol, 'n'))}")


def refuse(**_: object) -> None:
    """Raise `UserError`: nothing here configures this kernel.  _: the names and options of a command."""
    raise UserError("a kernel that others built is not configured here", "./doit kconfig:report")

# SPDX-License-Identifier: MIT
"""What a profile requests of the kernel's configuration, read without a kernel tree.

So a mistake in it is found before anything is fetched or built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel.fragments import (
    Request,
    display_path,
    find_conflicts,
    fragment_files,
    read_fragment,
    split_overridden,
)
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


def check(paths: Paths, profile: Profile) -> None:
    """Raise `UserError` for fragments and a base config that stage kconfig would refuse.

    A base config that must be fetched is left to the stage.
    """
    profile_requests(paths, profile)
    if isinstance(profile.kernel.base, str) and not profile.kernel.image:
        path = base_file(paths, profile)
        if profile.kernel.base_mode == "allnoconfig":
            check_conflicts(read_fragment(path))


def profile_requests(paths: Paths, profile: Profile) -> list[Request]:
    """Return the requests of the profile and its fragments; of a kernel that others built, of these alone.

    Those that a later fragment overrides are left out.  Raises `UserError` if two of the others
    contradict each other.
    """
    requests, _overridden = split_overridden(all_requests(paths, profile))
    check_conflicts(requests)
    return requests


def overridden_requests(paths: Paths, profile: Profile) -> list[Request]:
    """Return the lines of the profile's fragments that a later fragment overrides."""
    return split_overridden(all_requests(paths, profile))[1]


def all_requests(paths: Paths, profile: Profile) -> list[Request]:
    """Return the requests of the profile and its fragments in order, those that are overridden, too."""
    requests = [] if profile.kernel.image else implied_requests(paths, profile)
    for path in fragment_files(profile):
        requests += read_fragment(path)
    return requests


def implied_requests(paths: Paths, profile: Profile) -> list[Request]:
    """Return the requests that the profile itself makes: those for the release string.

    Raises `UserError` for a localversion that cannot be part of a release.
    """
    local = profile.kernel.localversion
    requests = [Request("LOCALVERSION_AUTO", "n", "tcbuild, no git state in the release")]
    if not re.fullmatch(r"[A-Za-z0-9._+~-]*", local):
        raise UserError(
            f"{display_path(paths.profile_file)}: kernel.localversion {local!r} cannot be part of a release",
            "a release is part of a folder's name: use letters, digits and . _ + ~ -",
        )
    if local:
        # Without its name, so that profiles with the same kernel share the configuration.
        requests.append(Request("LOCALVERSION", f'"{local}"', "kernel.localversion of the profile"))
    return requests


def base_file(paths: Paths, profile: Profile) -> Path:
    """Return the profile's base config: a file of kconfig/ by name, or a fetched source.

    Raises `UserError` if it does not exist.
    """
    base = profile.kernel.base
    if not isinstance(base, str):
        return inputs.source_file(paths, base)
    path = CHECKOUT.find("kconfig", base)
    if not path.is_file():
        known = ", ".join(CHECKOUT.found("kconfig", "base-*.config"))
        raise UserError(f"base config {base!r} does not exist", f"in kconfig/: {known}")
    return path


def check_conflicts(requests: Iterable[Request]) -> None:
    conflicts = find_conflicts(requests)
    if conflicts:
        blocks = [
            f"  {earlier.where}: {earlier.text}\n    asked otherwise at {later.where}: {later.text}"
            for earlier, later in conflicts
        ]
        raise UserError(
            f"{len(conflicts)} requested kernel option(s) are asked two different values",
            "remove one of the two lines, or put `# override` above the one in the later fragment",
            "\n".join(blocks),
        )

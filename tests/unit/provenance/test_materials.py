# SPDX-License-Identifier: MIT
"""What a manifest says of the profile it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from tasks.config.settings import Settings
from tasks.config.system import System, User
from tasks.provenance import manifest_schema, materials
from tests.support.settings import both

HASH = "$6$salt$" + "a" * 86


def test_the_profile_of_a_manifest_holds_no_hash_and_no_credentials(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()
    system = System(users=(User("tc", HASH),), bootlocal=("wget http://u:p@host/x",))
    profile = replace(settings.profile, system=system, mirrors=("http://u:p@mirror",))
    used = materials.profile(*both(replace(settings, profile=profile)))
    said = json.dumps(manifest_schema.plain(used))
    assert HASH not in said
    assert "u:p@" not in said
    assert "sha256:" in said
    assert used.resolved["kernel"]["fragments"] == list(profile.kernel.fragments)  # type: ignore[index]

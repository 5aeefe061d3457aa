# SPDX-License-Identifier: MIT
"""What a manifest says of the profile it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.config.system import System, User
from tasks.provenance import manifest_schema, materials
from tasks.util.errors import UserError
from tests.support.secrets import token
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


def test_a_profile_with_a_token_is_refused_by_its_key(make_settings: Callable[..., Settings]) -> None:
    settings, secret = make_settings(), token()
    named = replace(settings, profile=replace(settings.profile, description=f"a kiosk ({secret})"))
    with pytest.raises(UserError) as caught:
        materials.profile(*both(named))
    assert caught.value.message == (
        f"profile {settings.paths.name} holds what looks like a secret: "
        "description: a GitHub token, at byte 9"
    )
    assert secret not in str(caught.value)
    lines = replace(settings.profile.boot, bootcodes=("cde", f'note="x{secret} y={secret}"'))
    with pytest.raises(UserError, match=r"boot\.bootcodes\.1: a GitHub token"):
        materials.profile(*both(replace(settings, profile=replace(settings.profile, boot=lines))))
    # After such a word a manifest has `***`, but the boot menu has the token.
    lines = replace(settings.profile.boot, bootcodes=(f"token={secret}",))
    with pytest.raises(UserError, match=r"boot\.bootcodes\.0: a GitHub token"):
        materials.profile(*both(replace(settings, profile=replace(settings.profile, boot=lines))))


def test_the_compile_farm_is_not_published(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    farm = Compiler(hosts=("10.1.2.3/4",))
    used = materials.profile(*both(replace(settings, profile=replace(settings.profile, compiler=farm))))
    assert used == materials.profile(*both(settings))
    assert "compiler" not in used.resolved

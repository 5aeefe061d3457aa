# SPDX-License-Identifier: MIT
"""What a manifest says of the profile it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tasks.config.compiler import Compiler
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.config.system import System, User
from tasks.origins.sources.recipe import RecipeSource
from tasks.provenance import manifest_schema, materials
from tasks.toolchain import build_root
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


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, ["debian12"]),
        ({"extensions": (Extension("containerd", alternative="go"),)}, ["debian12", "debian12-go"]),
        ({"extensions": (Extension("containerd", alternative="apt"),)}, ["debian12"]),
        ({"extensions": (Extension("cni-plugins", "ondemand"),)}, ["debian12", "debian12-go"]),
        (
            {"images": (Image("localhost/nats:1", RecipeSource(recipe="nats-streaming")),)},
            ["debian12", "debian12-go"],
        ),
    ],
)
def test_every_pinned_toolchain_that_makes_bytes_of_the_image_is_named(
    make_settings: Callable[..., Settings], values: dict[str, Any], names: list[str]
) -> None:
    settings = make_settings()
    chosen = {"toolchain": "debian12", "extensions": (), **values}
    profile = replace(settings.profile, **chosen)
    said = materials.tools(settings.paths, profile).pinned
    assert [line.partition(",")[0] for line in said] == names
    assert [line.rpartition("root ")[2] for line in said] == [
        build_root.digest(name).rpartition("-")[2] for name in names
    ]
    assert all("gcc-12 12." in line for line in said)

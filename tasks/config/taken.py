# SPDX-License-Identifier: MIT
"""Which files are taken of packages.  The packages of libraries in a lock hold for these files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tasks.config import plan, rootfs_rules
from tasks.config.profile import Profile
from tasks.origins.lock import CORE
from tasks.util.errors import UserError
from tasks.util.files import sha256_file


def digest(profile: Profile, user: str) -> str:
    """Return a digest of which files of packages are taken by `user`, and by the recipes it depends on.

    user: `core` or an extension.
    """
    if user == CORE:
        rules = rootfs_rules.load()
        return _digest([rules.drop, rules.keep, rules.libraries])
    facts: dict[str, Any] = {}
    todo = [user]
    while todo:
        name = todo.pop()
        if name in facts:
            continue
        facts[name] = []
        try:
            made = plan.recipe_of(profile, name)
        except UserError:  # it has no recipe, or a broken one
            continue
        origins = [origin for origin in made.origin if origin.apt_packages()]
        files = [[one.apt_packages(), one.keep, one.drop, one.rename, one.join] for one in origins]
        facts[name] = [files, made.deps]
        todo += made.deps
    return _digest(facts)


def keys(profile: Profile, packages: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return what task `fetch` depends on: the packages that recipes name, and what is taken of them.

    packages: by extension.
    """
    found: dict[str, Any] = {
        f"packages.{name}": [names, digest(profile, name) if names else ""]
        for name, names in packages.items()
    }
    # The file's digest: to read all its rules takes ten milliseconds, in each run.
    return found | (
        {"packages.core": " ".join(map(sha256_file, rootfs_rules.files()))} if profile.core.packages else {}
    )


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

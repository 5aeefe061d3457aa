# SPDX-License-Identifier: MIT
"""Made-up profiles and locks for tests that read or plan one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.config.profile import Extension, Profile
from tasks.origins.lock import Lock, LockedExtension
from tasks.util.checkout import CHECKOUT

RELEASE = "5.4.3-tinycore64"
MINIMAL = """
description = "made up"
source_date_epoch = 1
[kernel]
source = { kind = "apt", package = "linux-source-*" }
base = "base.config"
base_mode = "allnoconfig"
fragments = ["one", "two"]
[core]
[boot]
bootcodes = []
"""


def locked(**deps: str) -> Lock:
    """Return a lock of upstream extensions: `name="its deps"`; `_` in a name is `-`."""
    return Lock(
        extension=tuple(
            LockedExtension(name.replace("_", "-"), "a" * 64, "b" * 32, 1024, tuple(text.split()))
            for name, text in deps.items()
        )
    )


def up(name: str, place: str = "onboot") -> Extension:
    return Extension(name, place, "upstream")  # type: ignore[arg-type]


def profile_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Profile]:
    """Return a function that makes a profile: `upstream` names, `recipes` with their deps."""
    loaded = profile.load("tc11")
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")

    def call(
        *extensions: Extension,
        recipes: dict[str, str] | None = None,
        modules: str = "split",
        tcz: str = "tcz",
    ) -> Profile:
        for name, text in (recipes or {}).items():
            folder = tmp_path / "extensions" / name
            folder.mkdir(parents=True)
            deps = ", ".join(f'"{dep}"' for dep in text.split())
            (folder / "recipe.toml").write_text(f'deps = [{deps}]\n[info]\ntitle="t"\ndescription="d"\n')
        kernel = replace(loaded.kernel, modules=modules, release=RELEASE)  # type: ignore[arg-type]
        return replace(loaded, extensions=extensions, kernel=kernel, tcz=tcz)

    return call


def minimal_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout with one profile, `mine`, in `tmp_path`; the readers of profiles look there."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.toml").write_text(MINIMAL)
    (tmp_path / "profiles/mine.lock.toml").write_text(Lock().to_toml())
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "cache"))
    return tmp_path

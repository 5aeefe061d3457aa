# SPDX-License-Identifier: MIT
"""The commands that a manifest tells of: of this machine's logs, and of entries of a shared cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.origins.sources.recipe import RecipeSource
from tasks.provenance import commands
from tasks.util.checkout import CHECKOUT


def test_what_was_compiled_for_a_container_image_is_told(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    image = Image("localhost/nats:1", RecipeSource(recipe="nats-streaming"))
    profile = replace(settings.profile, extensions=(), images=(image,))
    name = "go-github.com+nats-io+nats-streaming-server@v0.25.6.log"
    settings.paths.logs.mkdir(parents=True)
    (settings.paths.logs / name).write_text("+ go build -trimpath .\n")
    assert commands.of_image(settings.paths, profile, ()) == {"go": ("go build -trimpath .",)}


def test_the_logs_of_a_task_are_those_that_a_manifest_reads(make_settings: Callable[..., Settings]) -> None:
    profile, tcz = make_settings().profile, Path("artifacts/apt/tcz")
    assert commands.logs_of(profile, "kernel", []) == ["kernel", "kernel-install", "kernel-modules"]
    assert commands.logs_of(profile, "kconfig:base", []) == ["kconfig-base"]
    assert commands.logs_of(profile, "core", [Path("corepure64.gz"), Path("modules64.gz")]) == []
    made = [tcz / "attr.tcz", tcz / "attr.tcz.dep"]
    assert commands.logs_of(profile, "tcz:attr", made) == ["tcz-attr"]
    modules = [tcz / f"{name}-6.12.1-tinycore64.tcz" for name in ("net-bridging", "original-modules")]
    found = ["tcz-net-bridging-6.12.1-tinycore64", "tcz-original-modules-6.12.1-tinycore64"]
    assert commands.logs_of(profile, "modules", modules) == found
    nats = ["go-github.com+nats-io+nats-streaming-server@v0.25.6"]
    assert commands.logs_of(profile, "image:nats-streaming", [Path("images/nats.tar")]) == nats


def test_the_tree_is_told_as_a_new_one_is_patched(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree that was patched and taken back in turn gives no other manifest, and a kernel without a tree."""
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    monkeypatch.setattr(CHECKOUT, "patches", tmp_path / "patches")
    series = tmp_path / "patches/trial"
    series.mkdir(parents=True)
    for name in ("one.patch", "two.patch"):
        (series / name).write_text("of no matter")
    (series / "series").write_text("one.patch\ntwo.patch\n")
    settings = make_settings()
    kernel = replace(settings.profile.kernel, patches="trial")
    profile = replace(settings.profile, kernel=kernel, extensions=())
    settings.paths.kernel.mkdir(parents=True)
    (settings.paths.kernel / "patches").write_text(
        "one.patch: applied\ntwo.patch: left out, the source has it\n"
    )
    settings.paths.logs.mkdir(parents=True)
    (settings.paths.logs / "patches.log").write_text("+ patch of an older series\n")
    (line,) = commands.of_image(settings.paths, profile, ())["linux"]
    assert line == (
        "(cd ${OUTPUT}/linux && patch -p1 --forward --batch --fuzz=0 --no-backup-if-mismatch "
        "-i ${CHECKOUT}/patches/trial/one.patch)"
    )

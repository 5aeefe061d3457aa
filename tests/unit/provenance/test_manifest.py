# SPDX-License-Identifier: MIT
"""The commands that a manifest tells of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tasks.config.settings import Settings
from tasks.config.sources import Image
from tasks.origins.sources.recipe import RecipeSource
from tasks.provenance import manifest


def test_what_was_compiled_for_a_container_image_is_told(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    image = Image("localhost/nats:1", RecipeSource(recipe="nats-streaming"))
    profile = replace(settings.profile, extensions=(), images=(image,))
    name = "go-github.com+nats-io+nats-streaming-server@v0.25.6.log"
    settings.paths.logs.mkdir(parents=True)
    (settings.paths.logs / name).write_text("+ go build -trimpath .\n")
    assert manifest.commands(settings.paths, profile, ()) == {"go": ("go build -trimpath .",)}

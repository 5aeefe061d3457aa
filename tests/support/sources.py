# SPDX-License-Identifier: MIT
"""Sources that tests compile, recipes for them in a tree, and the extensions made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.config import plan, recipe_lock
from tasks.config.settings import Settings
from tasks.extensions import build
from tasks.fetch import recipe_inputs, toolchain
from tasks.formats import elf
from tasks.formats.squashfs import squashfs_members
from tasks.origins import distribution
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock
from tasks.util.checkout import CHECKOUT
from tests.support.built import built
from tests.support.settings import record_lock

INFO = '[info]\ntitle = "t"\ndescription = "made from its source"\n'


@dataclass(frozen=True)
class Upstream:
    """An archive of a source in Debian's pool.  path: below the mirror; sha256: as Debian's index has it."""

    version: str
    path: str
    sha256: str

    def table(self) -> str:
        """Return `version` and `source` of an origin; the lock takes the sha256 and downloads nothing."""
        mirror = distribution.mirrors(Suite("debian", "bookworm"))["debian"][0]
        keys = f'sha256 = "{self.sha256}", published_by = ["Debian"]'
        source = f'source = {{ kind = "archive", urls = ["{mirror}/pool/main/{self.path}"], {keys} }}'
        return f'version = "{self.version}"\n{source}\n'


ACPI_CALL = Upstream(
    "1.2.2",
    "a/acpi-call/acpi-call_1.2.2.orig.tar.gz",
    "8b1902a94395c2fa5a97f81c94868a9cbc46a48e12309ad01626439bde96f1d9",
)
EXA = Upstream(
    "0.10.1",
    "r/rust-exa/rust-exa_0.10.1.orig.tar.gz",
    "04b8049a14b743985f26184c67f2f41f8b17268af0e2e7790facdb25b0e2a7b5",
)
HELLO = Upstream(
    "2.10",
    "h/hello/hello_2.10.orig.tar.gz",
    "31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b",
)
JSON_C = Upstream(
    "0.16",
    "j/json-c/json-c_0.16.orig.tar.gz",
    "3ecaeedffd99a60b1262819f9e60d7d983844073abc74e495cb822b251904185",
)
PKGCONF = Upstream(
    "1.8.1",
    "p/pkgconf/pkgconf_1.8.1.orig.tar.xz",
    "644361ada2942be05655d4452eb018791647c31bba429b287f1f68deb2dc6840",
)
TREE = Upstream(
    "2.1.0",
    "t/tree/tree_2.1.0.orig.tar.gz",
    "0160c535bff2b0dc6a830b9944e981e3427380f63e748da96ced7071faebabf6",
)

TREE_BUILD = """\
build = "make"
install = ["DESTDIR={into}/usr/local/bin", "MANDIR={into}/usr/local/share/man"]
keep = ["usr/local/bin/tree"]
"""


def write_recipe(tree: Path, name: str, origin: str) -> Path:
    """Write extensions/NAME/recipe.toml of a tree, with the table of one origin; return its folder."""
    folder = tree / "extensions" / name
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(f"{INFO}\n[[origin]]\n{origin}")
    return folder


def with_own_tree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with the built image's base, whose tree and results lie in `folder`."""
    image = built()
    monkeypatch.setattr(CHECKOUT, "trees", (folder / "tree",))
    made = replace(image, paths=replace(image.paths, output=folder / "out"))
    made.paths.output.mkdir()
    made.paths.rootfs.symlink_to(image.paths.rootfs)
    record_lock(made, Lock())
    return made


def build_extension(settings: Settings, name: str) -> Path:
    """Build a locked extension of a source; return the .tcz."""
    recipe_inputs.fetch(settings, name)
    origins = recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name))
    toolchain.make_roots(settings, [origin.toolchain for origin in origins])
    build.build(settings, name)
    return settings.paths.tcz / f"{name}.tcz"


def moved(settings: Settings) -> Settings:
    """Return the settings with the output folder in another place."""
    elsewhere = settings.paths.output.rename(settings.paths.output.with_name("another-folder-of-results"))
    return replace(settings, paths=replace(settings.paths, output=elsewhere))


def programs(tcz: Path) -> dict[str, bytes]:
    """Return the programs and libraries of an extension: path -> bytes."""
    members = squashfs_members(tcz)
    return {one.name: one.data for one in members if one.data.startswith(elf.MAGIC)}

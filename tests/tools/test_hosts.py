# SPDX-License-Identifier: MIT
"""Root, extensions and configuration, built on a fresh Debian 13 by a user without root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.provenance.reproduce import compare
from tests.support import hosts
from tests.support.built import built
from tests.support.hosts import System


@pytest.fixture(scope="module")
def here() -> Settings:
    return built()


@pytest.fixture(scope="module")
def debian13() -> Iterator[System]:
    """A fresh Debian 13 with a copy of this checkout; it has this machine's downloads, and nothing else."""
    with hosts.debian13("user") as system:
        yield system


def test_debian_13_is_another_system(debian13: System) -> None:
    release = debian13.run(
        "sh", "-c", ". /etc/os-release; echo $ID $VERSION_ID; id -u; id -un; echo ${HOME-none}"
    )
    uid, nameless = hosts.NAMELESS, f"id: cannot find name for user ID {hosts.NAMELESS}"
    assert release.output.splitlines() == ["debian 13", uid, *([nameless]), uid, "none"]
    for forbidden in ("unshare --user true", "touch /etc/new", "mkdir /new"):
        assert debian13.run("sh", "-c", forbidden).status != 0


def test_root_extensions_and_configuration_have_the_same_bytes_on_debian_13(
    debian13: System, here: Settings
) -> None:
    name = here.paths.name
    done = debian13.run("./doit", "rootfs", "tcz", "kconfig", f"profile={name}")
    assert done.status == 0, done.output
    there = debian13.checkout / "artifacts" / name
    parts = [Path("rootfs64.gz"), here.paths.config.relative_to(here.paths.output)]
    parts += sorted(path.relative_to(here.paths.output) for path in here.paths.tcz.glob("*.tcz*"))
    made = {path.name for path in (there / "tcz").iterdir()}
    wanted = [part for part in parts if part.parent.name != "tcz" or part.name in made]
    assert any(part.suffix == ".tcz" for part in wanted)
    differing = {str(part): compare.difference(there / part, here.paths.output / part) for part in wanted}
    assert not {part: what for part, what in differing.items() if what}

# SPDX-License-Identifier: MIT
"""Files that were imported: the profile has their sha256, and only the cache has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.origins.lock import Lock, LockedFile
from tasks.origins.sources.base import Access, Material
from tasks.origins.sources.imported import ImportedSource
from tasks.util.errors import UserError

SUM = hashlib.sha256(b"core").hexdigest()
SOURCE = ImportedSource(name="core.gz", sha256=SUM)


@pytest.fixture
def access(make_settings: Callable[..., Settings]) -> Access:
    return replace(inputs.access(make_settings(frozen=True)), medium="my.iso", profile="mine")


@pytest.mark.parametrize("name", ["../core.gz", "a/b", "", ".core", "x\ny"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="name: "):
        ImportedSource(name=name, sha256=SUM)


@pytest.mark.parametrize("sha256", ["", "0", "g" * 64, "A" * 64])
def test_it_has_a_sha256(sha256: str) -> None:
    with pytest.raises(ValueError, match="sha256: "):
        ImportedSource(name="core.gz", sha256=sha256)


def test_the_profile_locks_it(access: Access) -> None:
    entry = LockedFile("core.gz", SUM)
    other = Lock(file=(LockedFile("core.gz", "0" * 64),))
    assert SOURCE.locked_in(other) == SOURCE.pinned_in(Lock(), access) == SOURCE.pin(access, Path()) == entry


def test_what_left_the_cache_must_be_imported_again(access: Access) -> None:
    entry = SOURCE.entry
    path = entry.cached_in(access.cache)
    with pytest.raises(UserError) as caught:
        SOURCE.fetch(entry, access)
    message = "core.gz is not in the cache, and no server has it: it was imported from my.iso"
    assert (caught.value.message, caught.value.hint) == (
        message,
        "import it again: ./doit import my.iso mine",
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"core\.gz in the cache is damaged, and no server has it"):
        SOURCE.fetch(entry, access)
    with pytest.raises(UserError, match="imported from the medium that it came from"):
        SOURCE.fetch(entry, replace(access, medium=""))
    path.write_bytes(b"core")
    SOURCE.fetch(entry, access)
    assert SOURCE.material(Lock(), access.cache) == Material(
        "local", "core.gz", SUM, 4, "imported from a medium"
    )

# SPDX-License-Identifier: MIT
"""The keys of a source of kind git, and what its lock must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.config import inputs
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.origins.lock import Lock, LockedCommit, load_lock
from tasks.origins.sources.git import GitSource
from tasks.util.errors import UserError

URL = "https://example.org/linux.git"
ENTRY = LockedCommit(URL, "v6.1", "a" * 40, "b" * 40)
KEY = "ABAF 11C6 5A29 70B1 30AB  E3C4 79BE 3E43 0041 1886".replace("  ", " ")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "linux.git"}, "url: expected"),
        ({"url": "ext::sh -c whoami"}, "url: expected"),
        ({"url": "--upload-pack=x"}, "url: expected"),
        ({"ref": "--upload-pack=x"}, "ref: expected"),
        ({"ref": "v1..v2"}, "ref: expected a tag, a branch or a commit"),
        ({"keyring": "keys.asc"}, "keyring, fingerprints: one needs the other"),
        ({"fingerprints": (KEY,)}, "keyring, fingerprints: one needs the other"),
        (
            {"keyring": "keys.asc", "fingerprints": ("00411886",)},
            "fingerprints: expected 40 or 64 hex digits",
        ),
    ],
)
def test_what_is_wrong_is_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GitSource(**{"url": URL, "ref": "v6.1", **keys})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [URL, "git://h/p", "ssh://u@h:22/p", "file:///srv/linux", "git@h.example:u/linux.git", "http://h/p"],
)
def test_addresses_that_git_knows(url: str) -> None:
    assert GitSource(url=url, ref="v6.1", keyring="k", fingerprints=(KEY, KEY.replace(" ", ""))).url == url


def test_the_lock_has_the_commit(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    access, source = inputs.access(settings), GitSource(url=URL, ref="v6.1")
    with pytest.raises(UserError, match=r"no commit is locked for https://example\.org/linux\.git v6\.1"):
        source.pinned_in(Lock(), access)
    lock = Lock(commit=(replace(ENTRY, ref="v6.2"), ENTRY))
    path = settings.paths.output / "lock.toml"
    path.parent.mkdir()
    path.write_text(lock.to_toml())
    assert source.pinned_in(load_lock(path), access) == ENTRY
    signed = replace(source, keyring="keys", fingerprints=(KEY,))
    with pytest.raises(UserError, match="was locked without a look at its signature"):
        signed.pinned_in(lock, access)
    profile = replace(settings.profile, kernel=Kernel(source, "base.config"))
    assert inputs.lock_parts(lock, profile, {}, ())["linux"] == Lock(commit=(ENTRY,))


def test_offline_takes_the_commit_from_the_cache_alone(make_settings: Callable[..., Settings]) -> None:
    access = inputs.access(make_settings(offline=True))
    with pytest.raises(
        UserError, match=f"commit {'a' * 40} of .* is not in the cache, and offline=1 forbids"
    ):
        GitSource(url=URL, ref="v6.1").fetch(ENTRY, access)


@pytest.mark.parametrize("bad", ["a" * 39, "A" * 40, "../x", ""])
def test_ids_of_a_lock_are_those_of_git(bad: str) -> None:
    with pytest.raises(ValueError, match="expected the id of an object of git"):
        replace(ENTRY, commit=bad)

# SPDX-License-Identifier: MIT
"""profile=auto against mirrors that answer, that do not, and that hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.config.profile import Extension, Profile
from tasks.fetch import mirror_probe
from tasks.origins.lock import Lock, LockedExtension, LockedFile
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page, forbid_sockets

SOURCE = LockedFile("11.x/linux.txz", "1" * 64)
BASE = LockedFile("11.x/config", "2" * 64)
CORE = LockedFile("11.x/core.gz", "3" * 64)


APT = profile.load("apt")


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, and a checkout and a cache of our own, in which all files of `tc` are locked."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "profiles").mkdir()
    pin(tmp_path, [SOURCE, BASE, CORE])


def pin(checkout: Path, files: list[LockedFile], extensions: list[LockedExtension] | None = None) -> None:
    lock = Lock(file=tuple(files), extension=tuple(extensions or ()))
    (checkout / "profiles/tc.lock.toml").write_text(lock.to_toml())


@pytest.fixture
def mirrors() -> Iterator[list[Mirror]]:
    with Mirror() as one, Mirror() as two:
        yield [one, two]


def profiles(*urls: str) -> dict[str, Profile]:
    """The project's apt profile, and one that lives on mirrors."""
    apt = APT
    kernel = replace(apt.kernel, source=HttpSource(path=SOURCE.path), base=HttpSource(path=BASE.path))
    core = replace(apt.core, archives=(HttpSource(path=CORE.path),), packages=(), rootfs=False)
    return {
        "apt": apt,
        "tc": replace(apt, kernel=kernel, core=core, mirrors=urls, probe="11.x/probe", extensions=()),
    }


def test_mirror_that_answers_is_chosen_and_named(mirrors: list[Mirror]) -> None:
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    name, reason = mirror_probe.choose(profiles(mirrors[0].url, mirrors[1].url + "/"), offline=False)
    assert name == "tc"
    assert reason == f"mirror {mirrors[1].url}/ answered"
    assert mirrors[1].requests[0].method == "HEAD"


def test_a_variant_is_not_chosen(mirrors: list[Mirror]) -> None:
    mirrors[0].pages["11.x/probe"] = Page(b"content")
    there = profiles(mirrors[0].url)
    there["a-variant"] = replace(there["tc"], inherit="tc")
    assert mirror_probe.choose(there, offline=False)[0] == "tc"


def test_first_mirror_wins_though_it_is_slower(mirrors: list[Mirror]) -> None:
    mirrors[0].pages["11.x/probe"] = Page(b"content", wait=0.2)
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    _, reason = mirror_probe.choose(profiles(*(mirror.url for mirror in mirrors)), offline=False)
    assert mirrors[0].url in reason


def test_mirror_that_hangs_is_not_waited_for_long(
    mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_probe, "BUDGET", 0.5)
    mirrors[0].pages["11.x/probe"] = Page(b"content", wait=60)
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    started = time.monotonic()
    name, reason = mirror_probe.choose(profiles(*(mirror.url for mirror in mirrors)), offline=False)
    assert (name, reason) == ("tc", f"mirror {mirrors[1].url} answered")
    # Not a measure of speed: it would be 60 s if the hanging mirror were waited for.
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_silent_mirrors_lead_to_apt(mirrors: list[Mirror], status: int) -> None:
    mirrors[0].pages["11.x/probe"] = Page(status=status)
    urls = [mirrors[0].url, "http://127.0.0.1:1", "https://127.0.0.1:1"]
    assert mirror_probe.choose(profiles(*urls), offline=False) == (
        "apt",
        "tc: none of its 3 mirrors answered",
    )


def test_redirect_is_followed(mirrors: list[Mirror]) -> None:
    mirrors[0].pages["11.x/probe"] = Page(location=f"{mirrors[1].url}/moved")
    mirrors[1].pages["moved"] = Page(b"content")
    assert mirror_probe.choose(profiles(mirrors[0].url), offline=False)[0] == "tc"


def test_one_mirror_is_spoken_of_as_one(mirrors: list[Mirror]) -> None:
    assert (
        mirror_probe.choose(profiles(mirrors[0].url), offline=False)[1] == "tc: its one mirror did not answer"
    )


def test_without_a_profile_on_mirrors_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    only = {"apt": APT}
    assert mirror_probe.choose(only, offline=False) == ("apt", "no other profile is declared")


def test_nothing_left_to_choose(mirrors: list[Mirror]) -> None:
    chosen = profiles(mirrors[0].url)
    del chosen["apt"]
    with pytest.raises(UserError, match=r"no profile can be used \(tc: its one mirror") as caught:
        mirror_probe.choose(chosen, offline=False)
    assert "profile=" in caught.value.hint


@pytest.mark.parametrize(
    ("locked", "says"),
    [
        ([SOURCE, BASE], "tc: 11.x/core.gz has no sha256 yet (./doit lock profile=tc)"),
        ([], "tc: 3 of its files have no sha256 yet (./doit lock profile=tc)"),
    ],
)
@pytest.mark.parametrize("offline", [True, False])
def test_a_profile_that_is_not_locked_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: list[LockedFile], says: str, offline: bool
) -> None:
    forbid_sockets(monkeypatch)
    pin(tmp_path, locked)
    assert mirror_probe.choose(profiles("http://mirror.invalid"), offline) == ("apt", says)


def test_kernel_orgs_archive_must_be_locked_too(mirrors: list[Mirror], tmp_path: Path) -> None:
    mirrors[0].pages["11.x/probe"] = Page(b"content")
    there = profiles(mirrors[0].url)
    source = KernelOrgSource(version="5.4.3")
    there["tc"] = replace(there["tc"], kernel=replace(there["tc"].kernel, source=source))
    assert mirror_probe.choose(there, offline=False) == (
        "apt",
        f"tc: {source.path} has no sha256 yet (./doit lock profile=tc)",
    )
    pin(tmp_path, [LockedFile(source.path, "4" * 64), BASE, CORE])
    assert mirror_probe.choose(there, offline=False)[0] == "tc"


def test_extensions_must_be_locked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirrors: list[Mirror]
) -> None:
    mirrors[0].pages["11.x/probe"] = Page(b"content")
    chosen = profiles(mirrors[0].url)
    chosen["tc"] = replace(chosen["tc"], extensions=(Extension("a", origin="upstream"),), tcz="tcz")
    name, reason = mirror_probe.choose(chosen, offline=False)
    assert (name, reason) == ("apt", "tc: a has no sha256 yet (./doit lock profile=tc)")
    assert mirrors[0].requests == []
    a = LockedExtension("a", "4" * 64, "4" * 32, 1, ("b",))
    pin(tmp_path, [SOURCE, BASE, CORE], [a])
    assert mirror_probe.choose(chosen, offline=False)[1] == "tc: b has no sha256 yet (./doit lock profile=tc)"
    pin(tmp_path, [SOURCE, BASE, CORE], [a, LockedExtension("b", "5" * 64, "5" * 32, 1)])
    assert mirror_probe.choose(chosen, offline=False)[0] == "tc"
    assert mirror_probe.choose(chosen, offline=True)[0] == "apt"


@pytest.mark.parametrize(
    ("cached", "expected"),
    [
        ([SOURCE, BASE, CORE], ("tc", "offline, and the cache holds all its files")),
        ([SOURCE, BASE], ("apt", "offline, and the cache does not hold the files of tc")),
        ([], ("apt", "offline, and the cache does not hold the files of tc")),
    ],
)
def test_offline_the_cache_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: list[LockedFile], expected: tuple[str, str]
) -> None:
    forbid_sockets(monkeypatch)
    for entry in cached:
        path = entry.cached_in(tmp_path / "cache")
        path.parent.mkdir(parents=True)
        path.write_text("")
    assert mirror_probe.choose(profiles("http://mirror.invalid"), offline=True) == expected

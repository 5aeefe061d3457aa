"""profile=auto against mirrors that answer, that do not, and that hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import probe, profile
from tasks.errors import UserError
from tasks.profile import Lock, LockedFile, Profile, Source
from tests.mirror import Mirror, Page, forbid_sockets

SOURCE = LockedFile("11.x/linux.txz", "1" * 64)
BASE = LockedFile("11.x/config", "2" * 64)
CORE = LockedFile("11.x/core.gz", "3" * 64)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def mirrors() -> Iterator[list[Mirror]]:
    with Mirror() as one, Mirror() as two:
        yield [one, two]


def profiles(*urls: str) -> dict[str, Profile]:
    """The project's apt profile, and one that lives on mirrors."""
    apt = profile.load("apt")
    kernel = replace(apt.kernel, source=Source("http", path=SOURCE.path), base=Source("http", path=BASE.path))
    core = replace(apt.core, archives=(Source("http", path=CORE.path),), packages=(), rootfs=False)
    return {"apt": apt, "tc": replace(apt, kernel=kernel, core=core, mirrors=urls, probe="11.x/probe")}


def test_mirror_that_answers_is_chosen_and_named(mirrors: list[Mirror]) -> None:
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    name, reason = probe.choose(profiles(mirrors[0].url, mirrors[1].url + "/"), offline=False)
    assert name == "tc"
    assert reason == f"mirror {mirrors[1].url}/ answered"
    assert mirrors[1].requests[0].method == "HEAD"


def test_first_mirror_wins_though_it_is_slower(mirrors: list[Mirror]) -> None:
    mirrors[0].pages["11.x/probe"] = Page(b"content", wait=0.2)
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    _, reason = probe.choose(profiles(*(mirror.url for mirror in mirrors)), offline=False)
    assert mirrors[0].url in reason


def test_mirror_that_hangs_is_not_waited_for_long(
    mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "BUDGET", 0.5)
    mirrors[0].pages["11.x/probe"] = Page(b"content", wait=60)
    mirrors[1].pages["11.x/probe"] = Page(b"content")
    started = time.monotonic()
    name, reason = probe.choose(profiles(*(mirror.url for mirror in mirrors)), offline=False)
    assert (name, reason) == ("tc", f"mirror {mirrors[1].url} answered")
    # Not a measure of speed: it would be 60 s if the hanging mirror were waited for.
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_silent_mirrors_lead_to_apt(mirrors: list[Mirror], status: int) -> None:
    mirrors[0].pages["11.x/probe"] = Page(status=status)
    urls = [mirrors[0].url, "http://127.0.0.1:1", "nonsense"]
    assert probe.choose(profiles(*urls), offline=False) == ("apt", "tc: none of its 3 mirrors answered")


def test_redirect_is_followed(mirrors: list[Mirror]) -> None:
    mirrors[0].pages["11.x/probe"] = Page(location=f"{mirrors[1].url}/moved")
    mirrors[1].pages["moved"] = Page(b"content")
    assert probe.choose(profiles(mirrors[0].url), offline=False)[0] == "tc"


def test_one_mirror_is_spoken_of_as_one(mirrors: list[Mirror]) -> None:
    assert probe.choose(profiles(mirrors[0].url), offline=False)[1] == "tc: its one mirror did not answer"


def test_without_a_profile_on_mirrors_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    only = {"apt": profile.load("apt")}
    assert probe.choose(only, offline=False) == ("apt", "no other profile is declared")


def test_nothing_left_to_choose(mirrors: list[Mirror]) -> None:
    chosen = profiles(mirrors[0].url)
    del chosen["apt"]
    with pytest.raises(UserError, match=r"no profile can be used \(tc: its one mirror") as caught:
        probe.choose(chosen, offline=False)
    assert "profile=" in caught.value.hint


@pytest.mark.parametrize(
    "locked, cached, expected",
    [
        ([SOURCE, BASE, CORE], [SOURCE, BASE, CORE], "tc"),
        ([SOURCE, BASE, CORE], [SOURCE, BASE], "apt"),
        ([SOURCE, BASE], [SOURCE, BASE, CORE], "apt"),
        ([], [], "apt"),
    ],
)
def test_offline_the_cache_decides(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: list[LockedFile],
    cached: list[LockedFile],
    expected: str,
) -> None:
    forbid_sockets(monkeypatch)
    chosen = profiles("http://mirror.invalid")
    monkeypatch.setattr(probe, "ROOT", tmp_path)
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/tc.lock.toml").write_text(Lock(file=tuple(locked)).to_toml())
    for entry in cached:
        path = entry.cached_in(tmp_path / "cache")
        path.parent.mkdir(parents=True)
        path.write_text("")
    name, reason = probe.choose(chosen, offline=True)
    assert name == expected
    assert "offline" in reason

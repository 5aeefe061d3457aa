# SPDX-License-Identifier: MIT
"""The real apt against a distribution of tiny packages on the loopback interface."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.origins import distribution, suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import LockedArchive, LockedPackage
from tasks.util.errors import UserError, WrongSha256
from tests.support.mirror import Page
from tests.support.repository import STAMP, SUITE, Repository, serving

NOBODY = 65534
DATES = (LockedArchive("debian", "bookworm", STAMP),)


@pytest.fixture
def tmp_path(open_folder: Path) -> Path:
    """An ordinary user needs to get to the repository."""
    return open_folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with serving(tmp_path / "apt", monkeypatch) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def debs(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "downloads").rglob("*.deb"))


class TestNewest:
    @pytest.fixture(autouse=True)
    def kernels(self, repository: Repository) -> None:
        repository.add("linux-source-6.1", "6.1.9-1")
        repository.add("linux-source-6.12", "6.12.1-1~bpo1", archive="debian-security")
        repository.add("linux-source-6.9", "6.9.7-1")
        repository.add("linux-source", "6.99", depends="linux-source-6.12 (= 6.12.1-1~bpo1)")
        repository.publish()

    @pytest.mark.parametrize(
        "pattern, expected",
        [
            ("linux-source-[0-9]*", "linux-source-6.12"),  # not 6.9, which is last by the alphabet
            ("linux-source*", "linux-source-6.12"),  # not the metapackage, though its version is higher
            ("linux-source-6.?", "linux-source-6.9"),
            ("linux-source-6.1", "linux-source-6.1"),
            ("linux-source", "linux-source"),  # asked for by name, nothing else matches
        ],
    )
    def test_newest_by_version(self, cache: Path, pattern: str, expected: str) -> None:
        assert suite.newest(SUITE, pattern, cache).name == expected

    def test_nothing_matches(self, cache: Path) -> None:
        with pytest.raises(suite.NotOffered, match=r"debian bookworm has no package linux-source-7\*"):
            suite.newest(SUITE, "linux-source-7*", cache)


def test_a_cache_with_a_space_and_a_quote_in_its_path(repository: Repository, tmp_path: Path) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    cache = tmp_path / "my cache, 'it'"
    assert suite.candidates(SUITE, ["attr"], cache) == {"attr": attr}
    suite.fetch(SUITE, [attr], cache)
    assert suite.is_cached(attr, cache)


def test_a_password_in_the_address_of_a_mirror_is_not_shown(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    address = repository.mirror.url.replace("://", "://me:geheim@")
    mine = Suite("debian", "bookworm", f"{address}/{{archive}}")
    assert suite.candidates(mine, ["attr"], cache) == {"attr": attr}
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    repository.mirror.pages[f"debian/{attr.path}"].status = 503
    with pytest.raises(UserError, match=r"http://\*\*\*@127\.0\.0\.1.*: 503") as refused:
        suite.fetch(mine, [attr], cache)
    suite.UPDATED.clear()
    repository.mirror.pages.clear()
    with pytest.raises(UserError, match="could not be fetched or verified") as failed:
        suite.candidates(mine, ["attr"], cache)
    said = capsys.readouterr()
    assert "geheim" not in f"{said} {refused.value} {failed.value} {failed.value.hint} {failed.value.detail}"


def test_the_newest_version_wins_whichever_archive_has_it(repository: Repository, cache: Path) -> None:
    old = repository.add("sudo", "1.9.13-1+deb12u1")
    new = repository.add("sudo", "1.9.13-1+deb12u2", archive="debian-security")
    older = repository.add("attr", "1:2.4-1", archive="debian-security")
    attr = repository.add("attr", "1:2.5-1")
    repository.publish()
    assert suite.candidates(SUITE, ["attr", "sudo", "unknown"], cache) == {"attr": attr, "sudo": new}
    assert set(suite.versions(SUITE, ["attr", "sudo"], cache)) == {old, new, older, attr}


def test_dependencies_are_resolved_as_apt_does_from_an_empty_system(
    repository: Repository, cache: Path
) -> None:
    libc = repository.add("libc6", "2.36-9", provides="libc")
    ssl = repository.add("libssl3t64", "3.5", depends="libc6", provides="libssl3 (= 3.5)")
    tool = repository.add("tool", "1", depends="libc | other, gone | libssl3 (>= 3)")
    more = repository.add("essential", "1")
    repository.add("unused", "1")
    repository.publish()
    assert suite.resolve(SUITE, ["tool", "essential"], cache) == (more, libc, ssl, tool)
    offers = suite.offers(SUITE, ["tool", "libssl3t64"], cache)
    assert offers["tool"].depends == ("libc", "other", "gone", "libssl3")
    assert offers["libssl3t64"].provides == ("libssl3",)


def test_another_version_than_the_newest_is_resolved_by_name(repository: Repository, cache: Path) -> None:
    old = repository.add("rustc", "1.78")
    repository.add("rustc", "1.96", archive="debian-security")
    repository.publish()
    assert suite.resolve(SUITE, ["rustc=1.78"], cache) == (old,)
    with pytest.raises(UserError, match=r"Version '1\.80' for 'rustc' was not found"):
        suite.resolve(SUITE, ["rustc=1.80"], cache)


def test_what_is_unknown_or_has_no_solution_is_said(repository: Repository, cache: Path) -> None:
    repository.add("tool", "1", depends="gone")
    repository.publish()
    with pytest.raises(suite.NotOffered, match="debian bookworm has no package atr") as caught:
        suite.resolve(SUITE, ["tool", "atr"], cache)
    assert caught.value.package == "atr"
    with pytest.raises(UserError, match="apt-get failed") as failed:
        suite.resolve(SUITE, ["tool"], cache)
    assert "gone" in failed.value.detail
    assert "no solution in debian bookworm" in failed.value.hint


def test_dates_of_the_release_files_are_locked(repository: Repository, cache: Path) -> None:
    assert suite.archives(SUITE, cache) == (
        LockedArchive("debian", "bookworm", STAMP),
        LockedArchive("debian", "bookworm-updates", STAMP),
        LockedArchive("debian-security", "bookworm-security", STAMP),
    )


def test_the_lists_are_asked_for_once_in_a_run_and_serve_offline(repository: Repository, cache: Path) -> None:
    with pytest.raises(UserError, match="lists of debian bookworm are not in the cache, and offline=1"):
        suite.resolve(SUITE, ["attr"], cache, offline=True)
    attr = repository.add("attr", "1")
    repository.publish()
    assert suite.candidates(SUITE, ["attr"], cache) == {"attr": attr}
    repository.mirror.requests.clear()
    assert suite.resolve(SUITE, ["attr"], cache) == (attr,)
    assert suite.resolve(SUITE, ["attr"], cache, offline=True) == (attr,)
    assert repository.mirror.requests == []


@pytest.mark.parametrize("fault", ["unsigned", "another key", "changed list", "no server"])
def test_lists_that_are_not_the_distributions_are_refused(
    repository: Repository, cache: Path, fault: str
) -> None:
    repository.add("attr", "1")
    repository.publish()
    pages = repository.mirror.pages
    release = pages["debian/dists/bookworm/InRelease"].content
    if fault == "unsigned":
        pages["debian/dists/bookworm/InRelease"] = Page(release.split(b"\n\n")[1])
    elif fault == "another key":
        (repository.folder / "distributions/debian.asc").write_bytes(
            Path(suite.__file__).with_name("distributions").joinpath("debian.asc").read_bytes()
        )
    elif fault == "changed list":
        pages["debian/dists/bookworm/main/binary-amd64/Packages"] = Page(b"Package: evil\n")
    else:
        for path in [path for path in pages if path.startswith("debian-security/")]:
            del pages[path]
    with pytest.raises(
        UserError, match="lists of debian bookworm could not be fetched or verified"
    ) as caught:
        suite.candidates(SUITE, ["attr"], cache)
    assert "127.0.0.1" in caught.value.hint


def test_packages_arrive_verified_without_apt(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attr = repository.add("attr", "1:2.5-1")
    tool = repository.add("tool", "1+b1~x", archive="debian-security")
    monkeypatch.setattr(suite, "run", lambda argv, **_: pytest.fail(f"{argv} was run"))
    suite.fetch(SUITE, [attr, tool], cache)
    assert debs(cache) == ["attr_1%3a2.5-1.deb", "tool_1+b1~x.deb"]
    assert all(suite.is_cached(package, cache) for package in (attr, tool))
    repository.mirror.requests.clear()
    suite.fetch(SUITE, [attr, tool], cache, offline=True)
    assert repository.mirror.requests == []
    attr.cached_in(cache).write_bytes(b"rotten")
    suite.fetch(SUITE, [attr, tool], cache)
    assert suite.is_cached(attr, cache)


def test_what_has_left_the_mirror_comes_from_the_snapshot_of_its_date(
    repository: Repository, cache: Path
) -> None:
    attr, tool = repository.add("attr", "1"), repository.add("tool", "1")
    repository.withdraw(attr, snapshot=True)
    repository.publish()
    suite.fetch(SUITE, [attr, tool], cache, dates=DATES)
    assert debs(cache) == ["attr_1.deb", "tool_1.deb"]
    assert suite.is_cached(attr, cache)
    asked = [request.path for request in repository.mirror.requests if "attr" in request.path]
    dates = ("20231115T221320Z", STAMP)
    places = [f"{archive}/debian/{date}/" for date in dates for archive in ("no-snapshot", "snapshot")]
    assert asked == [f"debian/{attr.path}", *(f"{place}{attr.path}" for place in places)]


def test_a_snapshot_archive_imports_a_release_after_its_date(repository: Repository, cache: Path) -> None:
    """It redirects to its last import before the date that it is asked for."""
    attr = repository.add("attr", "1")
    pages = repository.mirror.pages
    pages[f"snapshot/debian/20231115T030000Z/{attr.path}"] = pages[f"debian/{attr.path}"]
    for asked, imported in {"20231115T221320Z": "20231115T030000Z", STAMP: "20231114T210000Z"}.items():
        target = f"/snapshot/debian/{imported}/{attr.path}"
        pages[f"snapshot/debian/{asked}/{attr.path}"] = Page(location=target)
    repository.withdraw(attr)
    suite.fetch(SUITE, [attr], cache, dates=DATES)
    assert suite.is_cached(attr, cache)


def test_an_archive_below_another_keeps_its_name(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = repository.mirror.url
    addresses = {"debian": [f"{url}/all"], "debian-security": [f"{url}/all/security"]}
    monkeypatch.setattr(distribution, "mirrors", lambda suite: addresses)
    tool = repository.add("tool", "1", archive="debian-security")
    repository.publish()
    pages = repository.mirror.pages
    for path in list(pages):
        archive, _, rest = path.partition("/")
        pages[("all" if archive == "debian" else "all/security") + f"/{rest}"] = pages[path]
    assert suite.candidates(SUITE, ["tool"], cache) == {"tool": tool}


def test_what_no_server_has_is_named_and_the_rest_is_kept(repository: Repository, cache: Path) -> None:
    attr, tool, zoo = (repository.add(name, "1") for name in ("attr", "tool", "zoo"))
    repository.withdraw(attr)
    repository.withdraw(zoo)
    with pytest.raises(suite.Gone, match=r"debian bookworm has any more: attr 1, zoo 1") as caught:
        suite.fetch(SUITE, [zoo, attr, tool], cache, dates=DATES)
    assert set(caught.value.packages) == {attr, zoo}
    assert debs(cache) == ["tool_1.deb"]


def test_a_snapshot_archive_that_does_not_answer_makes_no_other_error(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attr = repository.add("attr", "1")
    monkeypatch.setattr(distribution, "snapshots", lambda *_: ["http://127.0.0.1:9/nobody"])
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    repository.mirror.pages[f"debian/{attr.path}"].status = 503
    with pytest.raises(UserError, match="503") as caught:
        suite.fetch(SUITE, [attr], cache, dates=DATES)
    assert not isinstance(caught.value, suite.Gone), "the mirror may have it"
    repository.withdraw(attr)
    with pytest.raises(suite.Gone, match="has any more: attr 1") as gone:
        suite.fetch(SUITE, [attr], cache, dates=DATES)
    assert "newest=1" in gone.value.hint


def test_a_changed_deb_is_refused(repository: Repository, cache: Path) -> None:
    attr = repository.add("attr", "1")
    repository.mirror.pages[f"debian/{attr.path}"] = Page(b"evil" * 100)
    with pytest.raises(WrongSha256, match=r"attr_1\.deb: no mirror has the locked file"):
        suite.fetch(SUITE, [attr], cache)
    assert debs(cache) == []


def test_a_lock_without_addresses_is_to_be_made_again(repository: Repository, cache: Path) -> None:
    with pytest.raises(UserError, match="the lock has no address of attr 1") as caught:
        suite.fetch(SUITE, [LockedPackage("attr", "1", "0" * 64)], cache)
    assert "./doit lock" in caught.value.hint


def test_installed_packages_and_preferences_of_this_machine_do_not_count(
    repository: Repository, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    (folder / "status").write_text(
        "Package: attr\nStatus: install ok installed\nVersion: 9\nArchitecture: all\n"
        "Maintainer: Nobody <n@invalid>\nDescription: made up\n"
    )
    (folder / "preferences").write_text("Package: attr\nPin: version 1\nPin-Priority: 900\n")
    lines = (f'Dir::State::status "{folder}/status";', f'Dir::Etc::preferences "{folder}/preferences";')
    with (repository.folder / "apt/apt.conf").open("a") as settings:
        settings.write(
            "\n".join((*lines, 'APT::Default-Release "sid";', 'APT::Install-Recommends "true";\n'))
        )
    repository.add("attr", "1")
    attr = repository.add("attr", "2")
    repository.publish()
    assert suite.resolve(SUITE, ["attr"], cache) == (attr,)


def as_nobody(work: Callable[[], object]) -> int:
    """Do `work` in a child process without root's rights; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            status = 0
        except BaseException as error:
            print(error, flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_works_for_an_ordinary_user(repository: Repository, cache: Path) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    cache.mkdir()
    os.chown(cache, NOBODY, NOBODY)
    importlib.import_module("tasks.origins.http")  # nobody may be unable to read the venv

    def work() -> None:
        suite.fetch(SUITE, suite.resolve(SUITE, ["attr"], cache), cache)

    assert as_nobody(work) == 0
    assert attr.cached_in(cache).stat().st_uid == NOBODY

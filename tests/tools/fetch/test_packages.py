# SPDX-License-Identifier: MIT
"""Programs are named, and the packages of their libraries are found, with the real apt and dpkg-deb."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import taken
from tasks.config.inputs import needed_packages
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.fetch import needs, packages
from tasks.origins import suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedNeeds
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.images import shared
from tests.support.repository import SUITE, Repository, serving
from tests.support.settings import with_values
from tests.support.workshop import INFO

LIB = "usr/lib/x86_64-linux-gnu"
LD = "/lib64/ld-linux-x86-64.so.2"


def program(*needed: str) -> bytes:
    return shared(*needed, interpreter=LD)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A suite in which `tool` needs libraries of packages that it depends on, directly and not."""
    with serving(tmp_path / "apt", monkeypatch) as made:
        libc = {f"{LIB}/{name}": shared(soname=name) for name in ("libc.so.6", "libm.so.6", "libnss_x.so.2")}
        libc |= {LD[1:]: shared(), "etc/ld.so.conf.d/x86_64-linux-gnu.conf": b"/usr/lib/x86_64-linux-gnu\n"}
        made.add("libc6", "2", libc, depends="libgcc-s1")
        made.add("libgcc-s1", "1", {f"{LIB}/libgcc_s.so.1": shared(soname="libgcc_s.so.1")})
        made.add("libx1", "1", {f"{LIB}/libx.so.1": shared("liby.so.2", soname="libx.so.1")}, "liby2t64, big")
        made.add("liby2t64", "1", {f"{LIB}/liby.so.2": shared(soname="liby.so.2")}, "libc6", provides="liby2")
        made.add("big", "1", {"usr/share/big": b"x"})
        tool = {"usr/bin/tool": program("libx.so.1", "libc.so.6"), "usr/bin/other": program("libz.so.1")}
        made.add("tool", "1", tool, "libx1, libc6, libz1, big", provides="tools")
        made.add("libz1", "1", {f"{LIB}/libz.so.1": shared(soname="libz.so.1")}, "libc6")
        made.add("shell", "1", {"bin/busybox": program("libc.so.6")}, "libc6")
        made.publish()
        yield made


@pytest.fixture
def settings(
    repository: Repository,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    made = make_settings()
    kernel = replace(made.profile.kernel, source=FileSource(path="linux"), base="base.config")
    core = Core(packages=("shell",), rootfs=True)
    profile = replace(made.profile, suite=SUITE, kernel=kernel, core=core, extensions=(), images=())
    return replace(made, profile=profile)


def write_recipe(name: str, origin: str, deps: str = "") -> None:
    (CHECKOUT.extensions / name).mkdir(parents=True)
    text = f'deps = [{deps}]\n{INFO}[[origin]]\nkind = "apt"\n{origin}\n'
    (CHECKOUT.extensions / name / "recipe.toml").write_text(text)


def chosen(settings: Settings, pinned: Lock, **named: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found = packages.choose(settings, pinned, {"core": ("shell",), **named})
    return {entry.of: entry.packages for entry in found.needs}


def test_the_root_gets_the_libraries_of_its_programs_and_what_these_use(settings: Settings) -> None:
    """libm is among the libraries that the root has for extensions; libgcc_s is loaded by libc."""
    found = packages.choose(settings, Lock(), {"core": ("shell",)})
    takes = taken.digest(settings.profile, "core")
    assert found.needs == (LockedNeeds("core", ("shell",), ("libc6", "libgcc-s1"), takes),)
    assert {package.name for package in found.package} == {"shell", "libc6", "libgcc-s1"}
    assert all(package.path for package in found.package)
    assert {(entry.name, entry.suite) for entry in found.archive} == {
        ("debian", "bookworm"),
        ("debian", "bookworm-updates"),
        ("debian-security", "bookworm-security"),
    }


def test_an_extension_gets_what_the_root_and_its_dependencies_lack(
    settings: Settings, repository: Repository
) -> None:
    write_recipe("tool", 'packages = ["tool"]\nkeep = ["usr/bin/tool"]')
    write_recipe("more", 'packages = ["tool"]\nkeep = ["usr/bin/other"]', '"tool"')
    named = {"tool": ("tool",), "more": ("tool",)}
    assert chosen(settings, Lock(), **named) == {
        "core": ("libc6", "libgcc-s1"),
        "tool": ("libx1", "liby2t64"),
        "more": ("libz1",),
    }
    # What cannot have the library by its name is not fetched, as long as another package has it.
    assert not any("/big_" in request.path for request in repository.mirror.requests)


def test_a_library_that_the_recipe_leaves_out_is_searched_elsewhere_and_not_there(settings: Settings) -> None:
    write_recipe("tool", 'packages = ["tool", "libx1"]\nkeep = ["usr/bin/tool"]')
    assert chosen(settings, Lock(), tool=("tool", "libx1"))["tool"] == ("libx1", "liby2t64")


def test_what_is_locked_stays_and_asks_nobody(
    settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packages.choose(settings, Lock(), {"core": ("shell",)})
    repository.add("shell", "2", {"bin/busybox": program("libc.so.6")}, "libc6")
    repository.publish()
    write_recipe("tool", 'packages = ["tool"]\nkeep = ["usr/bin/tool"]')
    more = packages.choose(settings, first, {"core": ("shell",), "tool": ("tool",)})
    assert set(first.package) < set(more.package)
    monkeypatch.setattr(suite, "run", lambda argv, **_: pytest.fail(f"{argv} was run"))
    assert packages.choose(settings, more, {"core": ("shell",)}).package == first.package
    assert packages.unlocked(first, {"core": ("shell", "tool")}) == ["core"], "the profile names another one"
    frozen = with_values(settings, frozen=True)
    with pytest.raises(UserError, match="frozen=1, but no version is locked for tool"):
        packages.choose(frozen, first, {"core": ("shell",), "tool": ("tool",)})
    with pytest.raises(UserError, match="frozen=1, but libraries are not locked"):
        packages.choose(frozen, replace(first, needs=()), {"core": ("shell",)})


def test_where_other_files_are_taken_the_libraries_are_searched_again(
    settings: Settings,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def rewrite(keep: str, deps: str = "") -> None:
        shutil.rmtree(CHECKOUT.extensions / "tool")
        write_recipe("tool", f'packages = ["tool"]\nkeep = ["{keep}"]', deps)

    write_recipe("more", 'packages = ["tool"]\nkeep = ["usr/bin/other"]')
    write_recipe("tool", 'packages = ["tool"]\nkeep = ["usr/bin/*"]')
    named = {"core": ("shell",), "tool": ("tool",)}
    locked = packages.choose(settings, Lock(), named)
    assert needed_packages(locked, "tool") == ("libx1", "liby2t64", "libz1")
    assert packages.choose(settings, locked, named) == locked
    assert "are not those of the lock" not in capsys.readouterr().out
    # Less is taken, or a dependency has it: what is locked tells all, and nobody is asked.
    with monkeypatch.context() as patch:
        patch.setattr(suite, "run", lambda argv, **_: pytest.fail(f"{argv} was run"))
        rewrite("usr/bin/tool")
        assert packages.outdated(settings.profile, locked, named) == ["tool"]
        assert needed_packages(packages.choose(settings, locked, named), "tool") == ("libx1", "liby2t64")
        assert "the files that tool takes of packages are not those of the lock" in capsys.readouterr().out
        with pytest.raises(UserError, match="frozen=1, but the files that tool takes") as caught:
            packages.choose(with_values(settings, frozen=True), locked, named)
        assert caught.value.hint == "./doit lock"
    with_more = {**named, "more": ("tool",)}
    rewrite("usr/bin/*", '"more"')
    assert needed_packages(packages.choose(settings, locked, with_more), "tool") == ("libx1", "liby2t64")
    # More is taken: the suite is asked.
    rewrite("usr/bin/tool")
    less = packages.choose(settings, Lock(), named)
    rewrite("usr/bin/*")
    found = packages.choose(settings, less, named)
    assert (found.needs, {*found.package}) == (locked.needs, {*locked.package})
    # A lock of an earlier version does not say what was taken.
    earlier = replace(less, needs=tuple(replace(entry, takes="") for entry in less.needs))
    assert packages.choose(settings, earlier, named) == earlier


@pytest.mark.parametrize("kept", [True, False])
def test_a_lock_of_another_suite_is_refused(settings: Settings, kept: bool) -> None:
    first = packages.choose(settings, Lock(), {"core": ("shell",)})
    other = Suite("debian", "trixie") if kept else None
    settings = replace(settings, profile=replace(settings.profile, suite=other))
    words = "names debian trixie, and its lock has packages of bookworm, " if kept else "names no suite"
    with pytest.raises(UserError, match=words) as caught:
        packages.choose(settings, first, {"core": ("shell",)})
    assert "./doit lock" in caught.value.hint or not kept


def test_a_library_that_no_package_has_is_left_to_the_check_of_the_build(settings: Settings) -> None:
    write_recipe("tool", 'packages = ["tool"]\nkeep = ["usr/bin/tool"]')
    found = needs.Finder(settings, Lock(), {"tool": ("tool",)}, settings.paths.cache / "scratch")
    found.packages |= suite.candidates(SUITE, ["tool"], settings.paths.cache)
    assert found.find("tool").packages == ("libc6", "libgcc-s1", "libx1", "liby2t64")


def test_an_older_version_is_refused() -> None:
    packages.refuse_older("attr", "1:1", "1:1")
    with pytest.raises(
        UserError, match="attr: the suite has 9, which is older than the locked 1:1"
    ) as caught:
        packages.refuse_older("attr", "1:1", "9")
    assert "relock=1" in caught.value.hint

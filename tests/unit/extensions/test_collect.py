# SPDX-License-Identifier: MIT
"""Which files of an origin go where, and the errors for files that were not fetched."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.settings import Settings
from tasks.extensions import collect
from tasks.extensions.collect import Placer
from tasks.origins.kinds.apt import AptOrigin
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import LockedOrigin, Origin
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError
from tasks.util.files import sha256_file

pytestmark = pytest.mark.usefixtures("own_programs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a package might unpack to."""
    top = tmp_path / "tree"
    files = {
        "usr/sbin/tool": 0o755,
        "usr/bin/other": 0o755,
        "usr/bin/deep/one": 0o644,
        "usr/share/certs/b.crt": 0o644,
        "usr/share/certs/a.crt": 0o644,
        "etc/tool.conf": 0o600,
    }
    for name, mode in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
        (top / name).chmod(mode)
    (top / "usr/share/certs/a.crt").write_text("ends with a newline\n")
    (top / "usr/bin/link").symlink_to("../sbin/tool")
    return top


def placed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (
            AptOrigin(packages=("p",), keep=("usr/bin/*",)),
            ["usr/bin/deep/one", "usr/bin/link", "usr/bin/other"],
        ),
        (
            AptOrigin(packages=("p",), keep=("usr/bin/*", "etc/tool.conf"), drop=("*/deep/*", "*.no-such")),
            ["etc/tool.conf", "usr/bin/link", "usr/bin/other"],
        ),
        (
            AptOrigin(
                packages=("p",),
                keep=("usr/*bin/*",),
                rename={
                    "usr/sbin/tool": "usr/local/bin/renamed",
                    "usr/bin/": "opt/",
                    "usr/bin/deep/": "opt/shallow/",
                },
            ),
            ["opt/link", "opt/other", "opt/shallow/one", "usr/local/bin/renamed"],
        ),
    ],
)
def test_keep_drop_and_rename(tree: Path, tmp_path: Path, origin: Origin, expected: list[str]) -> None:
    root = tmp_path / "root"
    placer = Placer(origin, root)
    placer.place("p", tree)
    placer.finish()
    assert placed(root) == expected


def test_modes_and_links_stay(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    Placer(AptOrigin(packages=("p",)), root).place("p", tree)
    assert (root / "etc/tool.conf").stat().st_mode & 0o777 == 0o600
    assert (root / "usr/sbin/tool").stat().st_mode & 0o777 == 0o755
    assert os.readlink(root / "usr/bin/link") == "../sbin/tool"


def test_join_sorts_over_all_packages_and_ends_every_part(tree: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    (second / "usr/share/certs").mkdir(parents=True)
    (second / "usr/share/certs/aa.crt").write_text("of the second\n")
    root = tmp_path / "root"
    pattern = "usr/share/certs/*"
    placer = Placer(AptOrigin(packages=("p", "q"), keep=(pattern,), join={"etc/bundle": pattern}), root)
    placer.place("p", tree)
    placer.place("q", second)
    placer.finish()
    assert placed(root) == ["etc/bundle"]
    assert (root / "etc/bundle").read_text() == (
        "ends with a newline\nof the second\nusr/share/certs/b.crt\n"
    )


def test_the_umask_does_not_show_in_a_joined_file(tree: Path, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        placer = Placer(AptOrigin(packages=("p",), join={"etc/bundle": "*.crt"}), tmp_path / "root")
        placer.place("p", tree)
        placer.finish()
    finally:
        os.umask(old)
    assert (tmp_path / "root/etc/bundle").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("origin", "idle"),
    [
        (AptOrigin(packages=("p",), keep=("usr/bin/*", "usr/bim/*")), "'usr/bim/*'"),
        (AptOrigin(packages=("p",), rename={"usr/sbin/gone": "x"}), "'usr/sbin/gone'"),
        (AptOrigin(packages=("p",), join={"x": "*.pem"}), "'*.pem'"),
        (AptOrigin(packages=("p",), drop=("usr/*",), keep=("etc/*", "usr/bin/*")), "'usr/bin/*'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(
    tree: Path, tmp_path: Path, origin: Origin, idle: str
) -> None:
    placer = Placer(origin, tmp_path / "root")
    placer.place("p", tree)
    with pytest.raises(UserError, match=re.escape(f"no file of p matches {idle} in the recipe")):
        placer.finish()


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (
            {"usr/bin/": "usr/sbin/", "usr/bin/other": "usr/sbin/tool"},
            "p has usr/sbin/tool, which the extension has already",
        ),
        ({"usr/sbin/tool": "usr/bin/link/x"}, "usr/bin/link is no folder"),
        ({"usr/sbin/tool": "etc/tool.conf/x"}, "etc/tool.conf is no folder"),
    ],
)
def test_a_taken_path_is_refused(tree: Path, tmp_path: Path, rename: dict[str, str], words: str) -> None:
    placer = Placer(AptOrigin(packages=("p",), rename=rename), tmp_path / "root")
    with pytest.raises(UserError, match=words):
        placer.place("p", tree)


def test_nothing_is_written_through_a_link_out_of_the_folder(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "etc").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"p has etc/tool\.conf, but etc is no folder"):
        Placer(AptOrigin(packages=("p",)), root).place("p", tree)
    assert not list((tmp_path / "outside").iterdir())


def fetched(settings: Settings, origin: LockedOrigin, content: Path) -> Path:
    """Put a file into the cache as the last fetch of extension `x` would have; return where it is."""
    file = OriginFile(origin.identity(), content.name, sha256_file(content), content.stat().st_size)
    cached = file.cached_in(settings.paths.cache)
    cached.parent.mkdir(parents=True)
    content.rename(cached)
    used = recipe_lock.used_path(settings.paths, "x")
    used.parent.mkdir(parents=True)
    used.write_text(OriginLock((file,)).to_toml())
    return cached


def packed(tree: Path, path: Path) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        tar.add(tree, "tool-1.0")
    return path


URLS = ("https://h/tool-{version}.tar.xz",)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (
            ArchiveOrigin(version="1.0", urls=URLS, strip=2, keep=("*bin/*", "*/one"), drop=("*/link",)),
            ["bin/deep/one", "bin/other", "sbin/tool"],
        ),
        (
            ArchiveOrigin(version="1.0", urls=URLS, into="opt/x", keep=("*.conf",)),
            ["opt/x/tool-1.0/etc/tool.conf"],
        ),
        (
            ArchiveOrigin(version="1.0", urls=URLS, mode=0o755, into="usr/bin"),
            ["usr/bin/tool-1.0.tar.xz"],
        ),
    ],
    ids=["strip", "into", "a single file"],
)
def test_an_archive(
    tree: Path,
    tmp_path: Path,
    make_settings: Callable[..., Settings],
    origin: ArchiveOrigin,
    expected: list[str],
) -> None:
    settings = make_settings()
    cached = fetched(settings, origin, packed(tree, tmp_path / "tool-1.0.tar.xz"))
    root = tmp_path / "root"
    collect.collect(settings, "x", origin, root)
    assert placed(root) == expected
    if origin.mode:
        found = root / expected[0]
        assert found.read_bytes() == cached.read_bytes()
        assert found.stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.glob(".root*"))


def test_a_file_that_was_not_fetched_is_named(
    tree: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    """Also for another version of the recipe, and for files missing or damaged in the cache."""
    settings = make_settings()
    origin = ArchiveOrigin(version="1.0", urls=URLS)
    cached = fetched(settings, origin, packed(tree, tmp_path / "tool-1.0.tar.xz"))
    newer = ArchiveOrigin(version="2.0", urls=URLS)
    with pytest.raises(UserError, match=r"https://h/tool-2\.0\.tar\.xz was not fetched yet") as caught:
        collect.collect(settings, "x", newer, tmp_path / "root")
    assert caught.value.hint == "./doit fetch:x"
    cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"tool-1\.0\.tar\.xz in the cache is damaged") as caught:
        collect.collect(settings, "x", origin, tmp_path / "root")
    assert caught.value.hint == "./doit fetch:x"
    cached.unlink()
    with pytest.raises(UserError, match=r"tool-1\.0\.tar\.xz is not in the cache") as caught:
        collect.collect(settings, "x", origin, tmp_path / "root")
    assert caught.value.hint == "./doit fetch:x"


def test_a_pattern_that_matches_nothing_in_an_archive(
    tree: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings()
    origin = ArchiveOrigin(version="1.0", urls=URLS, keep=("*/gone",))
    fetched(settings, origin, packed(tree, tmp_path / "tool-1.0.tar.xz"))
    with pytest.raises(UserError, match=r"no file of tool-1\.0\.tar\.xz matches '\*/gone'") as caught:
        collect.collect(settings, "x", origin, tmp_path / "root")
    assert "tar -tf" in caught.value.hint

# SPDX-License-Identifier: MIT
"""A mirror: its databases, release and page, and what it refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import architecture, mirror_layout, sources
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import cpio, initramfs_file, tcz
from tasks.formats.initramfs_unpacker import RootFs
from tasks.image import container_images, mirror
from tasks.image.mirror_page import MirrorExtension
from tasks.initramfs import core
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError
from tests.support import oci
from tests.support.secrets import token

INFO = """\
Title:          tool.tcz
Description:    A tool: it does things
Version:        1.2
Copying-policy:
Tags:           cli   good
Comments:       first
                second: with a colon
                ----

                last
Current:        2023/11/14 1.2
"""


@pytest.fixture
def shop(make_settings: Callable[..., Settings]) -> Settings:
    """Settings with a base root of release 11.4 and no extension yet."""
    settings = make_settings()
    settings = replace(settings, profile=replace(settings.profile, core=Core(rootfs=True), extensions=()))
    settings.paths.tcz.mkdir(parents=True)
    base = [
        *map(cpio.directory, ["etc", "lib", "lib64"]),
        cpio.regular("etc/os-release", b'NAME="x"\nVERSION="12.0"\nVERSION_ID=11.4\n'),
        cpio.symlink("lib/ld-linux-x86-64.so.2", "/lib64/ld.so"),
        cpio.regular("lib64/ld.so", b"", 0o755),
    ]
    core.write_core([initramfs_file.Archive("gzip", tuple(base))], settings.paths.output / "rootfs64.gz")
    return settings


def put(
    settings: Settings,
    name: str,
    deps: str = "",
    info: str = "",
    paths: str = "usr/x\n",
    content: bytes = b"hsqs",
) -> None:
    path = settings.paths.tcz / f"{name}.tcz"
    path.write_bytes(content)
    Path(f"{path}.md5.txt").write_text(f"{hashlib.md5(content).hexdigest()}  {name}.tcz\n")
    Path(f"{path}.dep").write_text(deps)
    Path(f"{path}.list").write_text(paths)
    if info:
        Path(f"{path}.info").write_text(info)


def test_info_fields() -> None:
    fields = mirror.info_fields(INFO)
    assert fields["Description"] == "A tool: it does things"
    assert fields["Copying-policy"] == ""
    assert fields["Comments"] == "first\nsecond: with a colon\n----\nlast"
    assert fields["Current"] == "2023/11/14 1.2"
    assert mirror.info_fields("no fields\n  here\n") == {}


def test_databases_in_tiny_cores_formats() -> None:
    entries = [
        MirrorExtension(
            "a", 5, "0" * 32, "", info={"Tags": "cli\tgood"}, paths=("usr/bin/a", "usr/bin/\udcff")
        ),
        MirrorExtension("b", 12, "1" * 32, "", deps=("a", "net-KERNEL"), paths=("etc/b",)),
        MirrorExtension("empty", 7, "2" * 32, ""),
    ]
    found = mirror.databases(entries)
    assert set(found) == set(tcz.DATABASES)
    assert found == {
        "info.lst": b"a.tcz\nb.tcz\nempty.tcz\n",
        "md5.db": b"".join(
            digit * 32 + b"  " + name + b".tcz\n"
            for digit, name in ((b"0", b"a"), (b"1", b"b"), (b"2", b"empty"))
        ),
        "sizelist": b"a.tcz 5\nb.tcz 12\nempty.tcz 7\n",
        "tags.db": b"a.tcz cli good\nb.tcz\nempty.tcz\n",
        "dep.db": b"b.tcz\na.tcz\nnet-KERNEL.tcz\n\n",
        "provides.db": b"a.tcz\nusr/bin/a\nusr/bin/\xff\n\nb.tcz\netc/b\n\n",
    }


@pytest.mark.parametrize(
    ("release", "loader", "found"),
    [
        ("VERSION_ID=11.1\n", True, ("11.1", "11.x/x86_64/tcz")),
        ('ID=t\nVERSION_ID="9.0.1"\nX=1', True, ("9.0.1", "9.x/x86_64/tcz")),
        ("VERSION_ID=16\n", False, ("16", "16.x/x86/tcz")),
        ("VERSION=11.1\n", True, None),
        ("VERSION_ID=../../11.1\n", True, None),
        ("VERSION_ID=11.1/..\n", True, None),
        (None, True, None),
    ],
)
def test_release_of_a_root(release: str | None, loader: bool, found: tuple[str, str] | None) -> None:
    root = RootFs()
    root.unpack([cpio.directory("etc"), cpio.directory("lib")])
    if release is not None:
        root.unpack([cpio.regular("etc/os-release", release.encode())])
    if loader:
        root.unpack([cpio.regular("lib/ld-linux-x86-64.so.2", b"")])
    if found is None:
        with pytest.raises(UserError, match="does not say which release"):
            mirror.release_of(root, architecture.load("x86_64"))
    else:
        assert mirror.release_of(root, architecture.load("x86_64")) == found


def test_a_32_bit_root_asks_for_its_own_folder() -> None:
    root = RootFs()
    root.unpack([cpio.directory("etc"), cpio.directory("lib"), cpio.regular("lib/ld-linux.so.2", b"")])
    root.unpack([cpio.regular("etc/os-release", b"VERSION_ID=11.1\n")])
    assert mirror.release_of(root, architecture.load("x86")) == ("11.1", "11.x/x86/tcz")


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_tree(shop: Settings) -> None:
    """All side files but empty .dep files; times and modes; nothing of the tree before is left."""
    put(shop, "a", info=INFO)
    put(shop, "b", deps="a.tcz\n")
    (shop.paths.tcz / "stray.tcz").write_bytes(b"not asked for")
    (mirror_layout.mirror(shop.paths) / "old").mkdir(parents=True)
    mirror.build(shop.paths, shop.profile, ["b", "a"])
    folder = "11.x/x86_64/tcz"
    databases = {name + packed for name in tcz.DATABASES for packed in ("", ".gz")}
    beside = {"a.tcz", "a.tcz.info", "a.tcz.list", "a.tcz.md5.txt"}
    beside |= {"b.tcz", "b.tcz.dep", "b.tcz.list", "b.tcz.md5.txt"}
    tops = {"index.html", "SHA256SUMS", "latest-x86_64"}
    assert files_of(mirror_layout.mirror(shop.paths)) == tops | {
        f"{folder}/{name}" for name in databases | beside
    }
    assert not (mirror_layout.mirror(shop.paths) / "old").exists()
    assert (mirror_layout.mirror(shop.paths) / "latest-x86_64").read_text() == "11.4\n"
    every = [mirror_layout.mirror(shop.paths), *mirror_layout.mirror(shop.paths).rglob("*")]
    assert {path.stat().st_mtime for path in every} == {shop.profile.source_date_epoch}
    assert {oct(path.stat().st_mode) for path in every} == {"0o40755", "0o100644"}


def test_container_images_and_their_list(shop: Settings, tmp_path: Path) -> None:
    tar = tmp_path / "local.tar"
    tar.write_bytes(oci.tar(oci.oci_image([oci.tar({"a": b"b"})])))
    declared = (sources.Image("localhost/tool:1", FileSource(path=str(tar))),)
    shop = replace(shop, profile=replace(shop.profile, images=declared))
    put(shop, "a")
    with pytest.raises(UserError, match=r"images\.lst does not exist"):
        mirror.build(shop.paths, shop.profile, ["a"])
    assert not mirror_layout.mirror(shop.paths).exists()
    container_images.build(shop.paths, shop.profile)
    mirror.build(shop.paths, shop.profile, ["a"])
    carried = mirror_layout.mirror(shop.paths) / "images"
    assert files_of(carried) == {"images.lst", "localhost_tool_1.tar"}
    assert (carried / "localhost_tool_1.tar").read_bytes() == tar.read_bytes()
    page = (mirror_layout.mirror(shop.paths) / "index.html").read_text()
    assert '<a href="images/localhost_tool_1.tar" download>' in page
    assert hashlib.sha256(tar.read_bytes()).hexdigest() in page
    assert container_images.parse_list((carried / "images.lst").read_text())[0].digest in page
    assert "images/localhost_tool_1.tar\n" in (mirror_layout.mirror(shop.paths) / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda shop: (shop.paths.tcz / "a.tcz").unlink(), r"a\.tcz does not exist"),
        (
            lambda shop: (shop.paths.tcz / "a.tcz").write_bytes(b"x"),
            r"a\.tcz and its \.md5\.txt do not agree",
        ),
        (lambda shop: (shop.paths.tcz / "a.tcz.md5.txt").unlink(), r"do not agree: \w+, expected nothing"),
        (lambda shop: put(shop, "a", deps="b.tcz\nc.tcz\n"), r"would lack an extension: a\.tcz needs c\.tcz"),
        (lambda shop: put(shop, "a", deps="../x.tcz\n"), "is no list of extensions"),
        (lambda shop: (shop.paths.output / "rootfs64.gz").unlink(), r"rootfs64\.gz does not exist"),
    ],
)
def test_a_refused_mirror_leaves_the_old_tree(
    shop: Settings, spoil: Callable[[Settings], None], words: str
) -> None:
    for name in "ab":
        put(shop, name)
    mirror.build(shop.paths, shop.profile, ["a", "b"])
    before = {
        path: (path.stat().st_ino, path.stat().st_mtime)
        for path in mirror_layout.mirror(shop.paths).rglob("*")
    }
    spoil(shop)
    with pytest.raises(UserError, match=words):
        mirror.build(shop.paths, shop.profile, ["a", "b"])
    assert {
        path: (path.stat().st_ino, path.stat().st_mtime)
        for path in mirror_layout.mirror(shop.paths).rglob("*")
    } == before
    assert not list(shop.paths.output.glob(".mirror*"))


def test_a_full_disk_leaves_the_old_tree(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shop, "a")
    mirror.build(shop.paths, shop.profile, ["a"])
    before = files_of(mirror_layout.mirror(shop.paths))
    put(shop, "b")

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        mirror.build(shop.paths, shop.profile, ["a", "b"])
    assert files_of(mirror_layout.mirror(shop.paths)) == before
    assert not list(shop.paths.output.glob(".mirror*"))


def test_kernel_dependencies_are_the_profiles_release(shop: Settings) -> None:
    kernel = replace(shop.profile.kernel, release="6.6-x")
    shop = replace(shop, profile=replace(shop.profile, kernel=kernel))
    put(shop, "net-6.6-x")
    put(shop, "tool", deps="net-KERNEL.tcz\n")
    mirror.build(shop.paths, shop.profile, ["net-6.6-x", "tool"])
    assert (
        mirror_layout.mirror(shop.paths) / "11.x/x86_64/tcz/tool.tcz.dep"
    ).read_text() == "net-KERNEL.tcz\n"
    assert (
        '<a href="#ext-net-6.6-x">net-6.6-x</a>'
        in (mirror_layout.mirror(shop.paths) / "index.html").read_text()
    )


def test_a_profile_for_another_release_is_refused(shop: Settings) -> None:
    put(shop, "a")
    shop = replace(shop, profile=replace(shop.profile, tcz="../../12.x/x86_64/tcz"))
    with pytest.raises(UserError, match=r"asks a mirror for 11\.x/x86_64/tcz") as caught:
        mirror.build(shop.paths, shop.profile, ["a"])
    assert "tcz = '11.x/x86_64/tcz'" in caught.value.hint


def test_a_secret_on_the_page_is_refused_by_its_key(shop: Settings) -> None:
    secret = token()
    put(shop, "a", info=INFO)
    told = replace(shop.profile, description=f"of {secret}")
    with pytest.raises(UserError, match="secret: description: a GitHub token, at byte 3"):
        mirror.build(shop.paths, told, ["a"])
    put(shop, "a", info=INFO.replace("A tool:", f"{secret}:"))
    with pytest.raises(UserError, match=r"the mirror holds .*index\.html: a GitHub token"):
        mirror.build(shop.paths, shop.profile, ["a"])
    assert not mirror_layout.mirror(shop.paths).exists()

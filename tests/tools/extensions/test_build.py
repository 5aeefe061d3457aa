# SPDX-License-Identifier: MIT
"""Extensions made by the real mksquashfs from real packages."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tasks.checks import conflicts
from tasks.config import plan, recipe
from tasks.config.profile import Extension
from tasks.extensions import build
from tasks.formats.squashfs import squashfs_members
from tasks.image import iso
from tasks.origins import lock
from tasks.origins.lock import LockedNeeds
from tasks.util import jobserver
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.built import built
from tests.support.images import shared
from tests.support.settings import with_values
from tests.support.workshop import INFO, LD, Workshop, origin


def simple(workshop: Workshop) -> None:
    workshop.package(
        "tool",
        {
            "usr/bin/tool": shared("libc.so.6", interpreter=LD),
            "usr/share/doc/tool/README": b"text",
            "etc/motd": b"of the package",
            "opt/tool/data": b"data",
        },
    )
    more = 'drop = ["usr/share/doc/*"]\nrename = { "usr/bin/" = "usr/local/bin/" }'
    script = {"usr/local/tce.installed/tool": "#!/bin/sh\n", "usr/local/etc/tool.conf": "x"}
    workshop.extension("tool", INFO + origin("tool", more=more), script)


def test_what_is_in_an_extension(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    simple(workshop)
    build.build(workshop.settings, "tool")
    made = workshop.settings.paths.tcz / "tool.tcz"
    found = {
        member.name: (stat.filemode(member.mode), member.uid, member.gid) for member in squashfs_members(made)
    }
    assert found == {
        "etc": ("drwxr-xr-x", 0, 0),
        "etc/motd": ("-rw-r--r--", 0, 0),
        "opt": ("drwxrwsr-x", 0, 50),
        "opt/tool": ("drwxr-xr-x", 0, 0),
        "opt/tool/data": ("-rw-r--r--", 0, 0),
        "usr": ("drwxr-xr-x", 0, 0),
        "usr/local": ("drwxr-xr-x", 0, 0),
        "usr/local/bin": ("drwxr-xr-x", 0, 0),
        "usr/local/bin/tool": ("-rwxr-xr-x", 0, 0),
        "usr/local/etc": ("drwxr-xr-x", 0, 0),
        "usr/local/etc/tool.conf": ("-rw-r--r--", 0, 0),
        "usr/local/tce.installed": ("drwxrwxr-x", 0, 50),
        "usr/local/tce.installed/tool": ("-rwxrwxr-x", 0, 50),
    }
    assert workshop.side("tool", ".list").splitlines() == [
        *("etc/motd", "opt/tool/data", "usr/local/bin/tool", "usr/local/etc/tool.conf"),
        "usr/local/tce.installed/tool",
    ]
    digest = hashlib.md5(made.read_bytes()).hexdigest()
    assert workshop.side("tool", ".md5.txt") == f"{digest}  tool.tcz\n"
    assert workshop.side("tool", ".dep") == ""
    assert "Version:        1.2-3\n" in workshop.side("tool", ".info")
    assert "tool.tcz: the base has etc/motd too" in capsys.readouterr().out
    about = subprocess.run(["unsquashfs", "-s", made], capture_output=True, text=True, check=True).stdout
    assert "Block size 4096" in about
    assert "Xattrs are not stored" in about
    assert "Tue Nov 14 22:13:20 2023" in about


def test_same_inputs_same_bytes(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time, the umask, the modes of a checkout, the processors and the folder of the results."""
    simple(workshop)
    monkeypatch.setattr(jobserver, "_current", jobserver.create(1))
    build.build(workshop.settings, "tool")
    jobserver.current().close()
    monkeypatch.setattr(jobserver, "_current", jobserver.create(3))
    first = {path.name: sha256_file(path) for path in workshop.settings.paths.tcz.iterdir()}
    other = with_values(workshop.settings, output=tmp_path / "elsewhere" / "out")
    old = os.umask(0o077)
    try:
        (other.paths.output / "locks/tcz").mkdir(parents=True)
        for name in ("rootfs64.gz", "lock.toml", "locks/tcz/tool.toml"):
            (other.paths.output / name).write_bytes((workshop.settings.paths.output / name).read_bytes())
        for path in [recipe.folder("tool") / "recipe.toml", *recipe.own_files("tool")]:
            os.utime(path, (1, 1))
            path.chmod(path.stat().st_mode & 0o700)
        time.sleep(1.1)
        build.build(other, "tool")
    finally:
        os.umask(old)
        jobserver.current().close()
    assert {path.name: sha256_file(path) for path in other.paths.tcz.iterdir()} == first
    assert len(first) == 5


def test_a_missing_library_is_named_with_its_package(workshop: Workshop) -> None:
    workshop.package(
        "tool",
        {"usr/bin/tool": shared("libc.so.6", "libfine_thing.so.3", interpreter=LD)},
        depends="libc6 (>= 2.3), libfine-thing3 (= 1.0) | libother, adduser",
    )
    workshop.extension("tool", INFO + origin("tool"))
    with pytest.raises(UserError, match=r"usr/bin/tool needs libfine_thing\.so\.3") as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint.endswith("else add libfine-thing3 to `packages` of its recipe")
    assert not list(workshop.settings.paths.output.rglob("*tool.tcz*"))
    workshop.package("libfine-thing3", {"usr/lib/libfine_thing.so.3": shared()})
    workshop.extension("tool", INFO + origin("tool", "libfine-thing3"))
    build.build(workshop.settings, "tool")


def test_of_packages_that_the_lock_adds_only_the_needed_libraries_are_taken(workshop: Workshop) -> None:
    lib = "usr/lib/x86_64-linux-gnu"
    program = shared("libc.so.6", "libx.so.1", interpreter=LD)
    workshop.package("tool", {"usr/bin/tool": program, "usr/bin/other": shared("libz.so.1", interpreter=LD)})
    files = {f"{lib}/libx.so.1": shared("liby.so.2", soname="libx.so.1"), f"{lib}/libx-more.so.1": shared()}
    workshop.package("libx1", {**files, "usr/share/doc/libx1/copyright": b"x", "usr/bin/x": b"x"})
    workshop.package("liby2", {f"{lib}/liby.so.2": shared("libc.so.6", soname="liby.so.2")})
    workshop.package("libc6", {f"{lib}/libc.so.6": shared(soname="libc.so.6")})
    workshop.needs = (LockedNeeds("tool", ("tool",), ("libc6", "libx1", "liby2")),)
    workshop.extension("tool", INFO + origin("tool", more='keep = ["usr/bin/tool"]'))
    build.build(workshop.settings, "tool")
    assert workshop.side("tool", ".list").split() == ["usr/bin/tool", f"{lib}/libx.so.1", f"{lib}/liby.so.2"]


def test_a_library_nobody_is_known_for(workshop: Workshop) -> None:
    program = shared("libno-such.so.9", interpreter=LD)
    workshop.package("tool", {"usr/bin/tool": program}, depends="one, two")
    workshop.extension("tool", INFO + origin("tool"))
    with pytest.raises(UserError) as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint == "a dependency of its packages may provide it: one, two"


def test_a_library_this_machine_knows(workshop: Workshop) -> None:
    """tar itself was unpacked by dpkg here, so dpkg knows whose libacl is."""
    workshop.package("tool", {"usr/bin/tool": shared("libacl.so.1", interpreter=LD)})
    workshop.extension("tool", INFO + origin("tool"))
    with pytest.raises(UserError) as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint.startswith("libacl1 provides it")


def test_a_library_that_keep_leaves_out(workshop: Workshop) -> None:
    workshop.package("tool", {"usr/bin/tool": shared("libwide.so.6", interpreter=LD)}, depends="libwide6")
    workshop.package("libwide6", {"lib/x86_64-linux-gnu/libwide.so.6": shared(), "usr/lib/wide": b"x"})
    keep = 'keep = ["usr/bin/*", "usr/lib/*"]'
    workshop.extension("tool", INFO + origin("tool", "libwide6", more=keep))
    with pytest.raises(UserError, match=r"usr/bin/tool needs libwide\.so\.6") as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint == (
        "libwide6 has it as lib/x86_64-linux-gnu/libwide.so.6, which `keep` in the recipe leaves out"
    )


def test_a_version_that_the_base_lacks(workshop: Workshop) -> None:
    versions = {"libdeep.so.1": ["DEEP_1.2"]}
    program = shared("libdeep.so.1", interpreter=LD, versions=versions)
    workshop.package("libdeep1", {"usr/lib/libdeep.so.1": shared(defines=["DEEP_1.1"])})
    workshop.package("tool", {"usr/local/bin/x": program})
    workshop.extension("deep", INFO + origin("libdeep1"))
    workshop.extension("tool", 'deps = ["deep"]\n' + INFO + origin("tool"))
    build.build(workshop.settings, "deep")
    with pytest.raises(UserError) as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.message == (
        "extension tool: usr/local/bin/x needs DEEP_1.2 of libdeep.so.1; extension deep has up to 1.1"
    )


def test_scripts_find_their_interpreters_in_dependencies(workshop: Workshop) -> None:
    """And a dependency's interpreter is no longer there when the recipe does not name it."""
    workshop.package("unused", {"x": b""})
    workshop.extension("shells", INFO, {"usr/local/bin/rash": "#!/bin/sh\n"})
    build.build(workshop.settings, "shells")
    script = {"usr/local/bin/tool": "#!/usr/bin/env rash\n"}
    workshop.extension("tool", 'deps = ["shells"]\n' + INFO, script)
    build.build(workshop.settings, "tool")
    workshop.extension("tool", INFO, script)
    with pytest.raises(UserError, match="tool: usr/local/bin/tool is a script for rash, which is neither"):
        build.build(workshop.settings, "tool")
    (recipe.folder("tool") / "files/usr/local/bin/tool").chmod(0o644)
    with pytest.raises(UserError, match="usr/local/bin/tool is a program, but has no x bit") as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint == "chmod +x extensions/tool/files/usr/local/bin/tool"


@pytest.mark.parametrize(
    "name", ["new\nline", "tab\t", os.fsdecode(b"latin-\xe9"), "escape\x1b", "next\x85", "line\u2028"]
)
def test_a_file_name_that_no_list_can_hold(workshop: Workshop, name: str) -> None:
    workshop.extension("tool", INFO, {f"usr/share/{name}": "x"})
    workshop.package("unused", {"x": b""})
    with pytest.raises(UserError, match="extension tool: a file has a name that no list can hold") as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.message.endswith(repr(f"usr/share/{name}"))
    assert not (workshop.settings.paths.tcz / "tool.tcz").exists()


def test_dependencies_bring_libraries_and_must_be_built_first(workshop: Workshop) -> None:
    """Also those of dependencies."""
    workshop.package("libdeep1", {"usr/lib/libdeep.so.1": shared()})
    workshop.package("tool", {"usr/bin/tool": shared("libdeep.so.1", interpreter=LD)})
    workshop.extension("deep", INFO + origin("libdeep1"))
    workshop.extension("middle", 'deps = ["deep"]\n' + INFO, {"usr/share/middle": "x"})
    workshop.extension("tool", 'deps = ["middle"]\n' + INFO + origin("tool"))
    with pytest.raises(UserError, match="is not built yet") as caught:
        build.build(workshop.settings, "tool")
    assert caught.value.hint == "./doit tcz:deep"
    for name in ("deep", "middle", "tool"):
        build.build(workshop.settings, name)
    assert workshop.side("tool", ".dep") == "middle.tcz\n"


def test_a_file_of_a_dependency_is_refused(workshop: Workshop) -> None:
    workshop.extension("below", INFO, {"usr/share/thing": "x", "usr/share/other": "x"})
    workshop.extension("above", 'deps = ["below"]\n' + INFO, {"usr/share/thing": "y"})
    workshop.package("unused", {"x": b""})
    build.build(workshop.settings, "below")
    with pytest.raises(UserError, match=r"below\.tcz and above\.tcz both contain usr/share/thing"):
        build.build(workshop.settings, "above")
    assert not (workshop.settings.paths.tcz / "above.tcz").exists()


@pytest.mark.parametrize("place", ["onboot", "copy2fs", "initrd", "ondemand"])
def test_an_image_with_two_files_at_one_path_is_refused(
    workshop: Workshop, tmp_path: Path, place: Literal["onboot", "copy2fs", "initrd", "ondemand"]
) -> None:
    """Also where one comes as a dependency; what is loaded later, or the same in both, is fine."""
    workshop.extension("below", INFO, {"usr/share/thing": "one", "usr/share/both": "same"})
    workshop.extension("one", 'deps = ["below"]\n' + INFO, {"usr/share/one": ""})
    workshop.extension("two", INFO, {"usr/share/thing": "two", "usr/share/both": "same"})
    workshop.package("unused", {"x": b""})
    extensions = (Extension("one"), Extension("two", place))
    settings = replace(workshop.settings, profile=replace(workshop.settings.profile, extensions=extensions))
    settings.paths.kernel.mkdir()
    (settings.paths.kernel / "release").write_text("1.0\n")
    for name in ("initramfs.formats", "squashfs.formats"):
        (settings.paths.kernel / name).write_text("gzip\n")
    for name in ("below", "one", "two"):
        build.build(settings, name)
    if place == "ondemand":
        iso.copy_extensions(settings.paths, settings.profile, tmp_path / "cde")
        return
    with pytest.raises(UserError, match=r"below\.tcz and two\.tcz both contain usr/share/thing\n") as caught:
        iso.copy_extensions(settings.paths, settings.profile, tmp_path / "cde")
    assert "leave it out of below or two" in caught.value.hint
    (tmp_path / "extensions/two/files/usr/share/thing").write_text("one")
    build.build(settings, "two")
    iso.copy_extensions(settings.paths, settings.profile, tmp_path / "cde-2")


def test_an_extension_without_files_is_refused(workshop: Workshop) -> None:
    workshop.extension("empty", INFO)
    with pytest.raises(UserError, match="extension empty would be empty"):
        build.build(workshop.settings, "empty")


def test_own_files_replace_those_of_packages(workshop: Workshop) -> None:
    workshop.package("tool", {"usr/share/a": b"of the package"})
    workshop.extension("tool", INFO + origin("tool"), {"usr/share/a": "own"})
    build.build(workshop.settings, "tool")
    members = {member.name: member for member in squashfs_members(workshop.settings.paths.tcz / "tool.tcz")}
    assert members["usr/share/a"].data == b"own"


def test_links_of_the_recipe_replace_files_of_packages(workshop: Workshop) -> None:
    workshop.package("tool", {"usr/share/a": b"of the package", "usr/share/b": b"b"})
    links = '[links]\n"usr/share/a" = "b"\n"usr/lib/new/c" = "/usr/share/b"\n'
    workshop.extension("tool", links + INFO + origin("tool"))
    build.build(workshop.settings, "tool")
    members = {member.name: member for member in squashfs_members(workshop.settings.paths.tcz / "tool.tcz")}
    assert {name: members[name].data for name in ("usr/share/a", "usr/lib/new/c")} == {
        "usr/share/a": b"b",
        "usr/lib/new/c": b"/usr/share/b",
    }
    assert all(stat.S_ISLNK(members[name].mode) for name in ("usr/share/a", "usr/lib/new/c"))


def test_the_projects_extensions_fit_each_other() -> None:
    settings = built()
    if not settings.profile.core.rootfs:
        pytest.skip("recipes are for roots made of packages")
    found = plan.plan(settings.profile, lock.load_lock(settings.paths.pinned_lock), also=recipe.names())
    # cni-plugins is for a containerd without them; the one of packages brings Debian's.
    without = {*plan.left_out(settings.profile, found), "cni-plugins"}
    conflicts.check(
        settings.paths, settings.profile, [name for name in found.of_kind("recipe") if name not in without]
    )


def scripts() -> list[Path]:
    own = (path for name in recipe.names() for path in recipe.own_files(name))
    return [path for path in own if not path.is_symlink() and path.read_bytes().startswith(b"#!")]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_scripts_of_extensions_parse_and_can_be_executed(path: Path) -> None:
    assert path.read_text().startswith("#!/bin/sh\n")
    assert os.access(path, os.X_OK)
    done = subprocess.run(["/bin/busybox", "ash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

# SPDX-License-Identifier: MIT
"""The rules of the apt profile's root, on small made-up packages."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.config import architecture
from tasks.config.rootfs_rules import Busybox, Device, Permissions, Rules, is_included, load
from tasks.formats import cpio
from tasks.initramfs import rootfs
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

BUSYBOX = Busybox(("bin/busybox", "usr/bin/busybox"), "bin/busybox.suid", ("mount",), ("linuxrc",))
PASSWD = "root:x:0:0::/root:/bin/sh\ntc:x:1001:50::/home/tc:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:\nshadow:x:42:\n"


def make_rules(
    drop: tuple[str, ...] = (),
    keep: Mapping[str, tuple[str, ...]] | None = None,
    folders: Mapping[str, Permissions] | None = None,
    files: Mapping[str, Permissions] | None = None,
    devices: Mapping[str, Device] | None = None,
) -> Rules:
    return Rules(
        drop,
        keep=dict(keep or {}),
        busybox=BUSYBOX,
        links={},
        folders=dict(folders or {}),
        files=dict(files or {}),
        devices=dict(devices or {}),
    )


def fill(folder: Path, files: Mapping[str, str], mode: int = 0o644) -> Path:
    """Write files; content `-> x` makes a link to x."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
            path.chmod(mode)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "root", {"etc/passwd": PASSWD, "etc/group": GROUP})


@pytest.mark.parametrize(
    ("package", "name", "expected"),
    [
        ("any", "usr/share/doc/any/copyright", False),
        ("any", "usr/bin/any", True),
        ("part", "usr/bin/one", True),
        ("part", "usr/bin/two", False),
        ("part", "usr/share/doc/wanted", True),  # `keep` alone decides
    ],
)
def test_which_files_of_a_package_are_included(package: str, name: str, expected: bool) -> None:
    rules = make_rules(("usr/share/*",), {"part": ("usr/bin/one", "*/wanted")})
    assert is_included(rules, package, name) is expected


def test_merge_moves_files_and_reports_set_id(root: Path, tmp_path: Path) -> None:
    unpacked = fill(tmp_path / "deb", {"bin/su": "x", "bin/link": "-> su", "usr/share/man/su": "x"})
    (unpacked / "bin/su").chmod(0o4755)
    assert rootfs.merge(make_rules(("usr/share/*",)), "pkg", unpacked, root) == ["bin/su"]
    assert (root / "bin/link").readlink() == Path("su")
    assert not (root / "usr").exists()  # folders of what is left out are left out too


def test_merge_refuses_a_file_of_another_package(root: Path, tmp_path: Path) -> None:
    unpacked = fill(tmp_path / "deb", {"etc/passwd": "other"})
    with pytest.raises(UserError, match="package pkg has etc/passwd, which another package has too"):
        rootfs.merge(make_rules(), "pkg", unpacked, root)


def test_merge_refuses_a_folder_where_a_link_is(root: Path, tmp_path: Path) -> None:
    """What `cp -ais` would lose in the guest must not happen here either."""
    (root / "lib").symlink_to("usr/lib")
    with pytest.raises(UserError, match="pkg has a folder lib, where the root has something else"):
        rootfs.merge(make_rules(), "pkg", fill(tmp_path / "deb", {"lib/a/b": "x"}), root)


def test_keep_pattern_that_matches_nothing_is_an_error(root: Path, tmp_path: Path) -> None:
    unpacked = fill(tmp_path / "deb", {"usr/bin/new": "x"})
    with pytest.raises(UserError, match=r"keep\.pkg: 'bin/old' matches no file"):
        rootfs.merge(make_rules(keep={"pkg": ("usr/bin/new", "bin/old")}), "pkg", unpacked, root)


def test_overlay_replaces_files_but_not_folders(root: Path, tmp_path: Path) -> None:
    fill(root, {"bin/tool": "package's", "etc/motd": "-> /elsewhere"})
    overlay = fill(tmp_path / "rootfs", {"bin/tool": "#!/bin/sh\n", "etc/motd": "ours"}, 0o755)
    rootfs.add_overlay(overlay, root)
    assert (root / "bin/tool").read_text() == "#!/bin/sh\n"
    assert (root / "etc/motd").read_text() == "ours"  # not written through the link
    assert (overlay / "bin/tool").exists()
    with pytest.raises(UserError, match="/bad has a file etc, where the root has a folder"):
        rootfs.add_overlay(fill(tmp_path / "bad", {"etc": "x"}), root)
    assert CHECKOUT.name_of(rootfs.OVERLAY) == "rootfs/files"  # so the message names it


def test_applets_never_cover_a_program() -> None:
    links = rootfs.applet_links(
        ["bin/ls", "bin/mount", "bin/tar", "linuxrc", "sbin/modprobe", "usr/bin/awk"],
        ["bin/tar", "usr/sbin/modprobe", "usr/share/awk"],
        BUSYBOX,
    )
    assert links == {
        "bin/ls": "/bin/busybox",
        "bin/mount": "/bin/busybox.suid",
        "sbin/modprobe": "/usr/sbin/modprobe",
        "usr/bin/awk": "/bin/busybox",
    }


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (
            "x86_64",
            {
                "lib64/ld-linux-x86-64.so.2": "/usr/lib64/ld-linux-x86-64.so.2",
                "lib/ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2",
            },
        ),
        ("x86", {"lib/ld-linux.so.2": "/usr/lib/ld-linux.so.2"}),
    ],
)
def test_programs_of_debian_and_of_tiny_core_find_ld_so(arch: str, expected: dict[str, str]) -> None:
    assert rootfs.loader_links(architecture.load(arch)) == expected


def test_missing_busybox(root: Path) -> None:
    with pytest.raises(UserError, match="no package has BusyBox") as caught:
        rootfs.add_busybox(make_rules(), architecture.load("x86_64"), root)
    assert "core.packages" in caught.value.hint


def test_members_have_owners_modes_and_devices(root: Path) -> None:
    fill(root, {"bin/su": "x", "etc/shadow": "x", "bin/link": "-> su"}, 0o700)
    (root / "tmp").mkdir(0o700)
    rules = make_rules(
        folders={".": Permissions(0o755), "tmp": Permissions(0o1777)},
        files={"*bin/su": Permissions(0o4755), "etc/shadow": Permissions(0o640, "root:shadow")},
        devices={"dev/console": Device("c", 5, 1, 0o600, "root:staff")},
    )
    found = {member.name: member for member in rootfs.members(rules, root)}
    assert found["."].mode == stat.S_IFDIR | 0o755
    assert found["tmp"].mode == stat.S_IFDIR | 0o1777
    assert found["bin/su"].mode == stat.S_IFREG | 0o4755
    assert (found["etc/shadow"].uid, found["etc/shadow"].gid) == (0, 42)
    assert stat.S_IMODE(found["etc/passwd"].mode) == 0o644
    assert found["bin/link"].data == b"su"
    console = found["dev/console"]
    assert (console.kind, console.rdevmajor, console.rdevminor, console.gid) == (stat.S_IFCHR, 5, 1, 50)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (make_rules(files={"bin/gone": Permissions(0o4755)}), "files: 'bin/gone' matches no file"),
        (make_rules(files={"etc/passwd": Permissions(0o644, "root:wheel")}), "unknown owner 'root:wheel'"),
        (make_rules(files={"etc/passwd": Permissions(0o644, "root")}), "unknown owner 'root'"),
        (make_rules(folders={"etc": Permissions(0o755, "nobody:staff")}), r"folders\.etc: unknown owner"),
        (make_rules(folders={"gone": Permissions(0o755)}), "gone"),
    ],
)
def test_rules_that_match_nothing(root: Path, rules: Rules, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rootfs.members(rules, root)


def test_set_id_files_need_a_rule() -> None:
    rules = make_rules(files={"*bin/su": Permissions(0o4755)})
    rootfs.check_set_id(rules, {"usr/bin/su": "util-linux"})
    with pytest.raises(UserError, match="package passwd: usr/bin/chfn is set-uid"):
        rootfs.check_set_id(rules, {"usr/bin/su": "util-linux", "usr/bin/chfn": "passwd"})


@pytest.mark.parametrize(
    ("name", "target", "good"),
    [
        ("bin/a", "passwd", False),
        ("etc/a", "passwd", True),
        ("etc/a", "/etc/passwd", True),
        ("bin/a", "../etc/passwd", True),
        ("bin/a", "/etc/nothing", False),
        ("bin/a", "a", False),
        ("etc/mtab", "/proc/self/mounts", True),
    ],
)
def test_links_lead_somewhere(root: Path, name: str, target: str, good: bool) -> None:
    fill(root, {name: f"-> {target}"})
    if good:
        rootfs.check_links(root)
    else:
        with pytest.raises(UserError, match=f"{name} leads to"):
            rootfs.check_links(root)


def test_the_shipped_rules_are_sound() -> None:
    """rootfs.toml fits its schema, and its owners stand in rootfs/etc."""
    rules = load()
    owners = rootfs.Owners(rootfs.OVERLAY)
    assert owners("tc:staff", "") == (1001, 50)
    entries = [*rules.folders.values(), *rules.files.values()]
    for owner in [*(entry.owner for entry in entries), *(node.owner for node in rules.devices.values())]:
        owners(owner, "")
    assert {"dev/console", "dev/null"} <= rules.devices.keys()


def test_passwords_are_locked() -> None:
    lines = (rootfs.OVERLAY / "etc/shadow").read_text().splitlines()
    assert {line.split(":")[1] for line in lines} == {"*"}
    names = {line.split(":")[0] for line in lines}
    assert names == {line.split(":")[0] for line in (rootfs.OVERLAY / "etc/passwd").read_text().splitlines()}


def test_the_index_changes_with_what_an_extension_sees_of_the_root() -> None:
    script, library = cpio.regular("sbin/x", b"one", 0o755), cpio.regular("usr/lib/liba.so.1", b"one")
    before = rootfs.index([script, library])
    assert rootfs.index([library, cpio.regular("sbin/x", b"two", 0o755)]) == before
    assert rootfs.index([script, cpio.regular("usr/lib/liba.so.1", b"two")]) != before
    assert rootfs.index([library, cpio.regular("sbin/x", b"one", 0o4755)]) != before
    assert rootfs.index([library]) != before
    links = [rootfs.index([cpio.symlink("bin/sh", target)]) for target in ("busybox", "bash")]
    assert links[0] != links[1]

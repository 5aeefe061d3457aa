# SPDX-License-Identifier: MIT
"""What a remastered core has apart from that of its release."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.remaster.core_difference import against_release, compare, known_bases, members
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.media import ROOT, core, write

CHANGED = (
    cpio.regular("etc/fstab", b"# other\n"),
    cpio.regular("init", b"#!/bin/sh\n", 0o700, 5, 6),
    cpio.directory("opt"),
    cpio.regular("opt/new", b"12345"),
    cpio.symlink("opt/link", "new"),
    cpio.device("dev/x", "c", 1, 3),
    *(cpio.regular(f"lib/modules/5.4.3-x/kernel/{n}.ko", b"") for n in range(3)),
)
LINES = (
    "+ opt/",
    "+ opt/link -> new",
    "+ opt/new (5 bytes)",
    "+ lib/modules/5.4.3-x (3 files)",
    "~ etc/fstab (content)",
    "~ init (mode 755 -> 700, owner 0:0 -> 5:6)",
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write(tmp_path, {"rootfs64.gz": core(cpio.regular("gone", b"1"))})
    return tmp_path / "rootfs64.gz"


def changed(tmp_path: Path) -> dict[str, Member]:
    microcode = cpio.write([cpio.regular("kernel/x86/microcode/x.bin", b"1")], mtime=0)
    folders = [cpio.directory(name) for name in ("dev", "lib", "lib/modules", "lib/modules/5.4.3-x")]
    folders.append(cpio.directory("lib/modules/5.4.3-x/kernel"))
    write(tmp_path, {"ucode": microcode, "core.gz": core(*folders, *CHANGED)})
    return members([tmp_path / "ucode", tmp_path / "core.gz"])


def test_each_member_is_named(base: Path, tmp_path: Path) -> None:
    found = compare("rootfs64.gz", members([base]), changed(tmp_path))
    assert set(LINES) <= set(found.lines)
    assert "- gone (1 bytes)" in found.lines
    assert not [line for line in found.lines if "microcode" in line or ".ko" in line]
    assert found.summary() == f"against rootfs64.gz: {len(found.lines) - 3} added, 2 changed, 1 removed"


def test_times_are_no_difference() -> None:
    before = {member.name: member for member in ROOT}
    after = {name: replace(member, mtime=99) for name, member in before.items()}
    assert compare("x", before, after).summary() == "against x: the same as that of the release"


def test_modules_of_one_release_are_named_singly() -> None:
    one, two = (cpio.regular(f"lib/modules/5/{name}", b"") for name in ("a.ko", "b.ko"))
    assert compare("x", {one.name: one}, {one.name: one, two.name: two}).lines == (
        "+ lib/modules/5/b.ko (0 bytes)",
    )


def test_the_base_is_that_of_the_same_release(
    base: Path, tmp_path: Path, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a profile whose archives lie here; a broken profile is nothing to an import."""
    shutil.copytree(CHECKOUT.profiles, tmp_path / "profiles")
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    text = (tmp_path / "profiles/tc11.toml").read_text()
    archives = f'[core]\narchives = [{{ kind = "file", path = "{base}" }}]\n'
    later = cpio.write([*ROOT[:-1], cpio.regular(ROOT[-1].name, b"16.0\n")], mtime=0)
    files = {
        "profiles/mine.toml": text.replace("[boot]", f"{archives}[boot]").encode(),
        "profiles/broken.toml": b"=",
        "later.gz": gzip.compress(later),
    }
    write(tmp_path, files)
    assert list(known_bases(tmp_path)) == [("rootfs64.gz of profile mine", base)]
    found = against_release(tmp_path, changed(tmp_path), None)
    assert found and found.base == "rootfs64.gz of profile mine" and "~ etc/fstab (content)" in found.lines
    assert against_release(tmp_path, members([tmp_path / "later.gz"]), None) is None
    given = against_release(tmp_path, changed(tmp_path), tmp_path / "later.gz")
    assert given and given.base == "later.gz"
    with pytest.raises(UserError, match="not a core"):
        against_release(tmp_path, {}, CHECKOUT.root / "dodo.py")

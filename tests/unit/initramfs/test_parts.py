# SPDX-License-Identifier: MIT
"""The parts of a core: what the kernel unpacks from them; their content alone decides the bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, device, directory, hard_links, regular, symlink
from tasks.formats.initramfs_file import Archive
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs import core
from tasks.initramfs.parts import Parts, arranged, joined, split
from tasks.toolchain.entry import Entry
from tasks.toolchain.tools import Tools
from tasks.util import jobserver
from tasks.util.errors import UserError
from tests.support.settings import both
from tests.support.trees import trees
from tests.unit.initramfs.test_core import BASE, RELEASE, make_stage, write_base

pytestmark = pytest.mark.usefixtures("own_programs")

FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
SIZES = st.sampled_from([1, 150, 400, 1 << 20])


def view(archives: Sequence[Sequence[Member]]) -> tuple[dict[str, Member], list[str]]:
    """Return what the kernel unpacks from the written archives, and what it loses."""
    root = RootFs()
    for members in archives:
        root.unpack(cpio.read(memoryview(cpio.write(members, mtime=None, in_order=True)))[0])
    return root.members(), root.lost


@FEW
@given(trees(), SIZES)
def test_the_kernel_unpacks_the_same_from_parts_as_from_one_archive(tree: list[Member], size: int) -> None:
    parts = split(arranged(tree), size)
    assert sorted(m.name for part in parts for m in part) == sorted(m.name for m in tree)
    assert all(parts)
    whole = view([sorted(tree, key=lambda member: cpio.by_path(member.name))])
    assert view(parts) == whole
    assert whole[1] == []


@FEW
@given(st.lists(trees(), min_size=2, max_size=4), SIZES)
def test_extensions_in_parts_make_what_the_overlay_said(layers: list[list[Member]], size: int) -> None:
    """Each laid over what is there; the parts over the base alone must give the same."""
    base, *extensions = layers
    root = initramfs_file.unpacked([Archive("plain", tuple(arranged(base)))])
    added: list[Member] = []
    for extension in extensions:
        try:
            new, _ = core.overlay(root, extension, "x.tcz")
        except UserError:  # a folder and a file meet
            return
        added += core._renumbered(new, len(added))
    parts = split(added, size)
    assert view([arranged(base), *parts]) == (root.members(), [])


def test_an_extension_writes_through_the_symlink_of_another() -> None:
    """In one archive sorted by path `a/x` would come before `z`, and be lost."""
    root = initramfs_file.unpacked([Archive("plain", (directory("usr"),))])
    first, _ = core.overlay(root, [symlink("a", "z"), directory("z")], "first.tcz")
    second, _ = core.overlay(root, [regular("a/x", b"1")], "second.tcz")
    assert "z/x" in root.members()
    assert view([[directory("usr")], *split([*first, *second], 1 << 20)])[0] == root.members()


@settings(FEW, max_examples=15)
@given(st.lists(trees(), min_size=2, max_size=3), st.sampled_from(["gzip", "xz", "plain"]))
def test_earlier_builds_and_processors_do_not_change_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, versions: list[list[Member]], method: str
) -> None:
    used, fresh = tmp_path_factory.mktemp("used"), tmp_path_factory.mktemp("fresh")
    last = b""
    for tree in versions:
        parts = Parts(used, method, None, 7)
        parts.size = 150
        (last,) = parts.pack([arranged(tree)])
        parts.remove_unused()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jobserver, "_current", jobserver.create(7))
        parts = Parts(fresh, method, None, 7)
        parts.size = 150
        assert parts.pack([arranged(versions[-1])]) == [last]
        assert jobserver.current().free() == 6
        jobserver.current().close()
    names = {path.name for path in fresh.iterdir()}
    assert {path.name for path in used.iterdir()} == names, "nothing of older versions is left"
    again = Parts(used, method, None, 7)
    again.size = 150
    assert again.pack([arranged(versions[-1])]) == [last]
    assert again.compressed == []


FILES = [regular(f"d/{number:03}", bytes([number]) * 5000) for number in range(200)]
TREE = [directory("d"), *FILES]


@pytest.mark.parametrize(
    ("change", "made"),
    [
        (lambda tree: tree, 0),
        (lambda tree: [regular(m.name, b"other") if m.name == "d/077" else m for m in tree], 1),
        (lambda tree: [m for m in tree if m.name != "d/120"], 1),
        (lambda tree: [*tree, regular("d/120a", b"new")], 1),
        (lambda tree: [symlink(m.name, "x") if m.name == "d/020" else m for m in tree], 1),
        (lambda tree: [directory("d", 0o700) if m.name == "d" else m for m in tree], 1),
        (lambda tree: [*tree, regular("d/big", bytes(60_000))], 1),
    ],
    ids=["nothing", "changed", "removed", "added", "other-type", "mode-of-folder", "added-large"],
)
def test_only_what_changed_is_compressed(
    tmp_path: Path, change: Callable[[list[Member]], list[Member]], made: int
) -> None:
    """In about ten parts; a file that begins or ends one, or splits it, costs two or three."""
    for tree in (TREE, change(TREE)):
        parts = Parts(tmp_path, "gzip", None, 0)
        parts.size = 100_000
        (data,) = parts.pack([arranged(tree)])
        (tmp_path / "core.gz").write_bytes(data)
        found = initramfs_file.merged(initramfs_file.read_core(tmp_path / "core.gz"))
        (tmp_path / "core.gz").unlink()
        assert found == initramfs_file.unpacked([Archive("plain", tuple(arranged(tree)))]).members()
    assert len(parts._used) > 6
    assert made <= len(parts.compressed) <= 3 * made


def test_a_large_file_stands_alone_and_names_of_one_file_together() -> None:
    big = hard_links(regular("x", bytes(5000)), ["a", "m", "z"], 1)
    nodes = hard_links(device("x", "c", 1, 3), ["b", "n"], 2)
    rows = split(arranged([*big, *nodes, regular("c", b"")]), 1000)
    assert [[m.name for m in row] for row in rows if len(row) > 1 or row[0].data] == [
        ["a", "m", "z"],
        *([m.name for m in row] for row in rows[1:] if len(row) > 1),
    ]
    assert [m.name for m in rows[0]] == ["a", "m", "z"]
    assert any({"b", "n"} <= {m.name for m in row} for row in rows)


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    (data,) = Parts(tmp_path, "gzip", None, 0).pack([TREE])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    parts = Parts(tmp_path, "gzip", None, 0)
    assert parts.pack([TREE]) == [data]
    assert len(parts.compressed) == len(list(tmp_path.iterdir())) > 0


def test_xz_is_the_toolchains_program_and_not_the_library_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes are the same while their versions are; a kernel takes a CRC32 alone."""
    library = Parts(tmp_path / "library", "xz", 1, 0).pack([TREE])
    monkeypatch.setattr("lzma.compress", None)
    programs = Tools(Entry("host", ""), ())
    assert Parts(tmp_path / "program", "xz", 1, 0, programs).pack([TREE]) == library
    again = Parts(tmp_path / "program", "xz", 1, 0, programs)
    assert (again.pack([TREE]), again.compressed) == (library, [])


@pytest.mark.parametrize(("method", "level"), [("gzip", 13), ("xz", 10), ("zopfli", 0), ("lzip", None)])
def test_a_level_that_does_not_exist_is_refused(tmp_path: Path, method: str, level: int | None) -> None:
    with pytest.raises(UserError):
        Parts(tmp_path, method, level, 0)


# --- the stage -------------------------------------------------------------


@pytest.fixture
def stage(make_settings: Callable[..., Settings]) -> Settings:
    return make_stage(make_settings)


def with_core(made: Settings, **keys: Any) -> Settings:
    changed = dataclasses.replace(made.profile.core, **keys)
    return dataclasses.replace(made, profile=dataclasses.replace(made.profile, core=changed))


def test_a_base_keeps_its_bytes_unless_the_profile_sets_recompress(stage: Settings) -> None:
    base = write_base(stage, BASE, mtime=5).read_bytes()
    core.build(*both(with_core(stage, compression="zstd")))
    assert stage.paths.core.read_bytes().startswith(base)
    assert [a.method for a in initramfs_file.read_core(stage.paths.core)] == ["gzip", "zstd"]
    core.build(*both(with_core(stage, compression="zstd", recompress=True)))
    archives = initramfs_file.read_core(stage.paths.core)
    assert {a.method for a in archives} == {"zstd"}
    assert {m.mtime for a in archives for m in a.members} == {1700000000}


def test_only_the_archive_with_modules_of_a_base_is_rewritten(stage: Settings) -> None:
    """corepure64.gz of others is rootfs64.gz and modules64.gz, one after the other."""
    first = write_base(stage, BASE, mtime=5).read_bytes()
    old = "usr/lib/modules/5.4.3"
    folders = [directory("usr/lib/modules"), directory(old)]
    second = compression.compress(cpio.write([*folders, regular(f"{old}/x.ko", b"")], mtime=5), "xz")
    (stage.paths.output / "rootfs64.gz").write_bytes(joined([first, second]))
    core.build(stage.paths, stage.profile)
    assert stage.paths.core.read_bytes().startswith(first)
    found = initramfs_file.merged(initramfs_file.read_core(stage.paths.core))
    assert not [name for name in found if "5.4.3" in name]
    assert f"usr/lib/modules/{RELEASE}/modules.dep" in found


def test_a_build_after_others_equals_one_from_nothing(stage: Settings) -> None:
    module = stage.paths.kernel / f"modules/lib/modules/{RELEASE}/kernel/fs/squashfs.ko.xz"
    for content in (b"one", b"two"):
        module.write_bytes(content)
        core.build(stage.paths, stage.profile)
    incremental = stage.paths.core.read_bytes()
    parts = sorted(path.name for path in (stage.paths.core_parts / "core").iterdir())
    for path in (stage.paths.core_parts / "core").iterdir():
        path.unlink()
    stage.paths.core.unlink()
    core.build(stage.paths, stage.profile)
    assert stage.paths.core.read_bytes() == incremental
    assert sorted(path.name for path in (stage.paths.core_parts / "core").iterdir()) == parts


@pytest.mark.parametrize(
    ("formats", "keys", "says"),
    [
        ("gzip\n", {"compression": "xz"}, "CONFIG_RD_XZ"),
        ("xz\n", {"compression": "zopfli", "recompress": True}, "CONFIG_RD_GZIP"),
        ("xz\n", {"compression": "xz"}, "CONFIG_RD_GZIP"),  # the base is kept as it is
        ("", {}, "CONFIG_RD_GZIP"),
    ],
)
def test_what_the_kernel_cannot_unpack_is_refused(
    stage: Settings, formats: str, keys: dict[str, Any], says: str
) -> None:
    (stage.paths.kernel / "initramfs.formats").write_text(formats)
    with pytest.raises(UserError, match=says) as caught:
        core.build(*both(with_core(stage, **keys)))
    assert f"add {says}=y to a fragment" in caught.value.hint
    assert not stage.paths.core.exists()


def test_the_formats_of_a_kernel_are_read_from_its_config() -> None:
    config = "CONFIG_RD_GZIP=y\n# CONFIG_RD_XZ is not set\nCONFIG_RD_LZ4=m\nCONFIG_RD_ZSTD=y\n"
    assert compression.kernel_formats(config) == ["gzip", "zstd"]


def test_levels_stand_in_the_profile() -> None:
    assert (Core().compression, Core().level, Core().recompress) == ("gzip", None, False)

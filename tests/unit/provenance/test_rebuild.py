# SPDX-License-Identifier: MIT
"""`./doit rebuild` refuses, in one line and before it writes anything, what it cannot build from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats.iso_layout import File
from tasks.origins.lock import Lock, LockedArchive, LockedNeeds, LockedPackage
from tasks.provenance import manifest_schema, rebuild
from tasks.provenance.manifest_schema import (
    ArchiveMember,
    CoreArchive,
    Input,
    Manifest,
    Outputs,
    ProfileUsed,
    TreeUsed,
)
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.smallimage import manifest_of
from tests.unit.provenance.test_manifest_schema import outputs

ISO = File("tcbuild-apt.iso", 1, "a" * 64)
GOOD = replace(
    manifest_of(replace(outputs(), images=(ISO,))), profile=ProfileUsed("apt", {"fragments": "qemu"}, {})
)
BAD_INPUT = replace(GOOD.inputs[0], sha256="short")


@pytest.mark.parametrize(
    ("made", "anyway", "says"),
    [
        (replace(GOOD, outputs=None), False, "is not the manifest of an ISO"),
        (replace(GOOD, profile=ProfileUsed("../../x", {}, {})), True, "there is no profile '../../x' here"),
        (
            replace(GOOD, profile=ProfileUsed("apt", {"out": "/x"}, {})),
            True,
            "tcbuild does not write such an image name or such variables",
        ),
        (manifest_of(outputs()), True, "there is no profile 'small' here"),
        (
            replace(GOOD, outputs=replace(outputs(), images=(File("../x.iso", 1, "a" * 64),))),
            True,
            "tcbuild does not write such an image name or such variables",
        ),
        (GOOD, False, "tcbuild or tools differ"),
        (replace(GOOD, trees=(TreeUsed("", True, ()),)), True, "was made with 1 trees, and 0 are used"),
        (replace(GOOD, inputs=(BAD_INPUT,)), True, "sha256: expected 64 hex digits"),
        (
            replace(GOOD, inputs=(replace(GOOD.inputs[3], used_by=("zzz",)),)),
            True,
            "no recipe for extension zzz here",
        ),
        (
            replace(GOOD, inputs=(replace(GOOD.inputs[3], used_by=("attr",)),)),
            True,
            "is not the one locked here",
        ),
    ],
)
def test_what_cannot_be_rebuilt_is_told_and_leaves_nothing(
    make_settings: Callable[..., Settings], tmp_path: Path, made: Manifest, anyway: bool, says: str
) -> None:
    settings = make_settings()
    manifest_schema.write(tmp_path / "m.json", made)
    with pytest.raises(UserError) as caught:
        rebuild.rebuild(settings, tmp_path, "m.json", "", anyway)
    assert says in str(caught.value)
    assert [path.name for path in settings.paths.output.rglob("*")] == []


def test_a_manifest_holds_the_lock_of_its_packages() -> None:
    """The recipe names libx1 and leaves its library out, so that the lock needs it, too."""
    lock = Lock(
        package=(LockedPackage("libx1", "1:1", "a" * 64, "debian", "pool/main/libx1_1_amd64.deb"),),
        needs=(LockedNeeds("tool", ("libx1", "tool"), ("libx1",)),),
        archive=(LockedArchive("debian", "bookworm", "20260711T101637Z"),),
    )
    deb = Input("deb", "libx1", "a" * 64, 1, "debian: pool/main/libx1_1_amd64.deb", version="1:1")
    made = replace(GOOD, inputs=(deb,), archives=lock.archive, needs=lock.needs)
    assert rebuild._lock(manifest_schema.parse(manifest_schema.to_json(made).encode(), "m.json")) == lock


def test_differing_files_and_tools_are_listed(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    manifest_schema.write(tmp_path / "m.json", GOOD)
    with pytest.raises(UserError) as caught:
        rebuild.rebuild(make_settings(), tmp_path, "m.json", "", False)
    assert "doit differs" in caught.value.detail
    assert "l is missing" in caught.value.detail
    assert "tool " in caught.value.detail


def test_a_folder_that_is_not_empty_is_never_built_in(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    manifest_schema.write(tmp_path / "m.json", GOOD)
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2/mine").write_text("x")
    with pytest.raises(UserError, match="out2 is not empty"):
        rebuild.rebuild(make_settings(), tmp_path, "m.json", "out2", True)
    with pytest.raises(UserError, match="rebuild needs a manifest"):
        rebuild.rebuild(make_settings(), tmp_path, "", "", True)


def changed(**more: object) -> Outputs:
    return replace(outputs(), **more)  # type: ignore[arg-type]


FILE = outputs().files[0]


OTHER = replace(FILE, sha256="0" * 64)


@pytest.mark.parametrize(
    ("made", "first"),
    [
        (changed(images=(OTHER,)), f"boot/x: sha256 {'0' * 64}, expected {FILE.sha256}"),
        (changed(outside=(OTHER,)), "boot/x: sha256"),
        (changed(files=(OTHER,)), "boot/x: differs"),
        (changed(files=()), "boot/x: only in one"),
        (changed(kernel=replace(outputs().kernel, modules=(OTHER,))), "module boot/x: differs"),
        (changed(kernel=replace(outputs().kernel, config=OTHER)), "the kernel's .config differs"),
        (
            changed(core=(CoreArchive("xz", outputs().core[0].members),)),
            "core: archive 1: is compressed",
        ),
        (
            changed(core=(CoreArchive("gzip", outputs().core[0].members[::-1]),)),
            "core: archive 1: the members are the same, but in another order",
        ),
        (
            changed(extensions=(replace(outputs().extensions[0], members=()),)),
            "a.tcz: 'na",
        ),
    ],
)
def test_the_first_difference_of_two_builds_is_named(made: Outputs, first: str) -> None:
    assert list(rebuild.differences(outputs(), outputs())) == []
    assert next(iter(rebuild.differences(made, outputs()))).startswith(first)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", "-rwsr-xr-x"), ("owner", "1:0"), ("mtime", 2), ("target", "x"), ("device", "1:1")],
)
def test_every_property_of_a_member_counts(field: str, value: object) -> None:
    part = ArchiveMember("p", "-rw-r--r--", "0:0", 1, 3, "c" * 64)
    other = replace(part, **{field: value})  # type: ignore[arg-type]
    made = changed(core=(CoreArchive("gzip", (other,)),))
    wanted = changed(core=(CoreArchive("gzip", (part,)),))
    assert list(rebuild.differences(made, wanted)) == [
        f"core: archive 1: 'p': {field} is {value!r}, expected {getattr(part, field)!r}"
    ]


def test_the_copy_has_each_folder_that_a_build_reads() -> None:
    paths = (path for path in vars(CHECKOUT).values() if isinstance(path, Path))
    read = {path.name for path in paths if path != CHECKOUT.root}
    assert read - {"artifacts", "wheel.toml"} <= set(rebuild.COPIED)

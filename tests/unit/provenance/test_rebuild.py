"""`./doit rebuild` refuses, in one line and before it writes anything, what it cannot build from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats.iso_layout import File
from tasks.provenance import manifest_schema, rebuild
from tasks.provenance.manifest_schema import Manifest, ProfileUsed
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
        (replace(GOOD, inputs=(BAD_INPUT,)), True, "sha256: expected 64 hex digits"),
        (
            replace(GOOD, inputs=(replace(GOOD.inputs[3], used_by=("zzz",)),)),
            True,
            "no recipe for extension 'zzz'",
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
    assert [path.name for path in settings.output.rglob("*")] == []


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

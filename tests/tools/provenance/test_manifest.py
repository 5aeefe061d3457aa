# SPDX-License-Identifier: MIT
"""The manifest, the bills of materials and the provenance of the image that `./doit` built."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.kernel.inputs import config_files
from tasks.provenance import manifest, manifest_schema, signature, slsa, verify
from tasks.provenance.manifest_schema import Manifest
from tasks.provenance.sbom import components
from tasks.provenance.sbom import cyclonedx as sbom_cyclonedx
from tasks.provenance.sbom import spdx as sbom_spdx
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.built import built
from tests.support.settings import with_values
from tests.tools.provenance.test_signature import ssh_key


@pytest.fixture(scope="module")
def made() -> Manifest:
    return manifest_schema.load(manifest.path_of(built().paths.iso))


def test_every_locked_input_is_there_with_what_it_is_used_for(made: Manifest) -> None:
    found = {one.name: one for one in made.inputs}
    for package in inputs.used_lock(built().paths).package:
        one = found[package.name]
        assert (one.version, one.sha256) == (package.version, package.sha256)
        assert one.architecture in ("amd64", "all")
        assert one.size == package.cached_in(built().paths.cache).stat().st_size
    assert "core" in found["busybox"].used_by
    assert "attr" in found["attr"].used_by
    kernel = [one for one in made.inputs if "kernel" in one.used_by]
    assert [one.name.startswith("linux-source-") for one in kernel] == [True]


def test_every_file_of_the_checkout_that_counts_is_there(made: Manifest) -> None:
    found = {file.path: file for file in made.tcbuild.files}
    expected = [
        *config_files(built().profile),
        *(CHECKOUT.root / "tasks/image/boot").iterdir(),
        *(CHECKOUT.root / "tasks").rglob("*.py"),
    ]
    expected += [CHECKOUT.root / "profiles/apt.toml", CHECKOUT.root / "rootfs/rootfs.toml"]
    expected += [
        CHECKOUT.root / "extensions/attr/recipe.toml",
        CHECKOUT.root / "dodo.py",
        CHECKOUT.root / "doit",
    ]
    for path in expected:
        name = str(path.relative_to(CHECKOUT.root))
        assert name in found
        assert found[name].sha256
    assert found["doit"].executable
    assert not [name for name in found if "__pycache__" in name or name.startswith(("/", ".."))]
    assert not [name for name in found if name.startswith("extensions/containerd")], "not on this image"


def test_it_tells_tools_and_commands_without_folders_of_this_machine(made: Manifest) -> None:
    assert {"gcc", "binutils", "squashfs-tools", "xorriso"} <= made.tools.debian.keys()
    assert made.tools.python["doit"]
    assert "gcc" in made.tools.toolchain
    assert {"kconfig:base", "kconfig", "kernel", "iso", "tcz:attr"} <= made.commands.keys()
    assert any(" bzImage modules" in line for line in made.commands["kernel"])
    text = manifest_schema.to_json(made)
    for folder in (CHECKOUT.root, built().paths.output, built().paths.cache, Path.home() / "x"):
        assert f"{folder}/" not in text


def test_outputs_are_the_files_that_lie_there(made: Manifest) -> None:
    assert made.outputs is not None
    kernel = built().paths.kernel
    modules = {file.path: file.sha256 for file in made.outputs.kernel.modules}
    for path in (kernel / "modules").rglob("*.ko"):
        assert (
            modules[str(path.relative_to(kernel / "modules"))]
            == hashlib.sha256(path.read_bytes()).hexdigest()
        )
    assert made.config == hashlib.sha256(built().paths.config.read_bytes()).hexdigest()
    attr = next(item for item in made.outputs.extensions if item.name == "attr")
    listed = (built().paths.tcz / "attr.tcz.list").read_text().splitlines()
    assert sorted(part.path for part in attr.members if part.mode[0] != "d") == listed
    assert verify.differences(built().paths.iso, made.outputs) == []


def test_an_early_manifest_needs_nothing_that_is_built(
    make_settings: Callable[..., Settings], made: Manifest
) -> None:
    settings = with_values(make_settings("apt", offline=True), cache=built().paths.cache)
    settings.paths.output.mkdir()
    shutil.copyfile(built().paths.used_lock, settings.paths.used_lock)
    manifest.write_early(settings.paths, settings.profile)
    early = manifest_schema.load(manifest.early_path(settings.paths))
    assert early.outputs is None
    assert early.config == ""
    assert early.inputs == made.inputs
    bare = with_values(
        settings, cache=make_settings().paths.cache
    )  # with a shared cache, nothing may be fetched
    manifest.write_early(bare.paths, bare.profile)
    known = {
        one.name: (one.version, one.sha256)
        for one in manifest_schema.load(manifest.early_path(bare.paths)).inputs
    }
    assert known == {one.name: (one.version, one.sha256) for one in made.inputs}


def test_bills_of_materials_cover_every_package_and_are_valid(made: Manifest) -> None:
    parts = components.collect(built(), made)
    assert made.outputs is not None
    when = datetime.datetime.fromtimestamp(built().profile.source_date_epoch, datetime.UTC)
    image = made.outputs.images[0]
    cyclonedx, spdx = sbom_cyclonedx.cyclonedx(parts, image, when), sbom_spdx.text(parts, image, when)
    used = {"kernel", "core", "attr"}
    wanted = {one.name for one in made.inputs if used & set(one.used_by)}
    held = {one["name"]: one for part in json.loads(cyclonedx)["components"] for one in part["components"]}
    assert held.keys() == wanted
    assert wanted <= {one["name"] for one in json.loads(spdx)["packages"]}
    assert "LGPL" in held["libattr1"]["licenses"][0]["expression"]
    assert held["libc6"]["purl"].startswith("pkg:deb/debian/libc6@2.")


def test_provenance_is_written_and_signed(made: Manifest, tmp_path: Path) -> None:
    settings = with_values(built(), output=tmp_path)
    for path in (built().paths.iso, manifest.path_of(built().paths.iso)):
        shutil.copyfile(path, tmp_path / path.name)
    key = ssh_key(tmp_path / "key")
    slsa.build(settings.paths, str(key))
    statement = settings.paths.iso.with_name(settings.paths.iso.name + slsa.ENDING)
    subjects = {one["name"]: one["digest"]["sha256"] for one in json.loads(statement.read_text())["subject"]}
    assert subjects[settings.paths.iso.name] == hashlib.sha256(settings.paths.iso.read_bytes()).hexdigest()
    assert {"vmlinuz64", "corepure64.gz", "attr.tcz"} <= subjects.keys()
    public = key.with_name("key.pub")
    for path in (statement, manifest.path_of(settings.paths.iso)):
        assert signature.verify(path.read_bytes(), path.name, signature.find(path), public)
        private = key.read_text().splitlines()[1]
        assert private not in path.read_text()
    verify.check(tmp_path, [settings.paths.iso.name], "", str(public))
    other = ssh_key(tmp_path / "other").with_name("other.pub")
    with pytest.raises(UserError, match="is not valid for other"):
        verify.check(tmp_path, [settings.paths.iso.name], "", str(other))

# SPDX-License-Identifier: MIT
"""Images of a profile: how they are declared, checked, listed and laid out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import inputs, plan, profile, recipe
from tasks.config.profile import Extension, Profile
from tasks.config.settings import Settings
from tasks.config.sources import Image, check_images
from tasks.image import container_images, iso, targets
from tasks.origins.lock import Lock, LockedExtension, LockedFile
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.http import HttpSource
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support import oci
from tests.support.settings import both

TAR = oci.tar(oci.oci_image([oci.tar({"a": b"b"})]))


@pytest.mark.parametrize(
    "name",
    ["localhost/tool:1", "docker.io/library/busybox:latest", "registry.example.org:5000/a/b-c_d:v1.2_3-x"],
)
def test_names_of_images(name: str) -> None:
    image = Image(name, FileSource(path="x.tar"))
    assert set(image.file) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert image.file.endswith(".tar")


DECLARED = '[[images]]\nname = "localhost/tool:1"\nsource = { kind = "file", path = "x.tar" }\n'


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "localhost/tool:1",
            "tool:1",
            "images[0].name: expected a full reference like localhost/tool:1, got",
        ),
        ("localhost/tool:1", "localhost/tool", "images[0].name: expected a full reference"),
        ("localhost/tool:1", "localhost/../tool:1", "images[0].name: expected a full reference"),
        ("localhost/tool:1", "localhost/tool:1 x", "images[0].name: expected a full reference"),
        ('"file", path', '"apt", package', "images[0].source.kind: expected 'http' or 'file'"),
        ("source = {", 'digest = "sha256:12"\nsource = {', "images[0].digest: expected sha256: and 64 hex"),
        ("source = {", 'namespace = "a b"\nsource = {', "images[0].namespace: expected letters"),
        ("source", "sauce", "did you mean"),
        ("[[images]]", DECLARED + "[[images]]", "images: 'localhost/tool:1' and 'localhost/tool:1' would"),
        # `/` and `_` are the same in a file's name.
        (
            "[[images]]",
            DECLARED.replace("st/tool", "st/a/b") + DECLARED.replace("st/tool", "st/a_b") + "[[images]]",
            "images: 'localhost/a/b:1' and 'localhost/a_b:1' would have the same file name on the image",
        ),
    ],
)
def test_mistakes_in_a_declaration_are_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert old in DECLARED
    path = tmp_path / "x.toml"
    path.write_text((CHECKOUT.root / "profiles/apt.toml").read_text() + DECLARED.replace(old, new))
    with pytest.raises(UserError) as caught:
        toml_schema.load(path, Profile)
    assert says in str(caught.value)


def test_one_name_may_stand_in_two_namespaces() -> None:
    source = FileSource(path="x")
    check_images((Image("localhost/a:1", source), Image("localhost/a:1", source, namespace="k8s.io")))


@pytest.fixture
def made(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Settings with an image of each kind; the fetched one is in the cache and the lock."""
    (tmp_path / "local.tar").write_bytes(TAR)
    entry = LockedFile("images/far.tar", hashlib.sha256(TAR).hexdigest())
    settings = make_settings()
    entry.cached_in(settings.paths.cache).parent.mkdir(parents=True)
    entry.cached_in(settings.paths.cache).write_bytes(TAR)
    settings.paths.output.mkdir()
    settings.paths.used_lock.write_text(Lock(file=(entry,)).to_toml())
    declared = (
        Image("localhost/near:1", FileSource(path=str(tmp_path / "local.tar"))),
        Image("localhost/far:1", HttpSource(path="images/far.tar"), namespace="openfaas"),
    )
    return replace(settings, profile=replace(settings.profile, images=declared))


def with_image(settings: Settings, **fields: object) -> Settings:
    changed = (replace(settings.profile.images[0], **fields),)  # type: ignore[arg-type]
    return replace(settings, profile=replace(settings.profile, images=changed))


def test_the_list_names_both_hashes(made: Settings, tmp_path: Path) -> None:
    container_images.build(made.paths, made.profile)
    text = made.paths.images_list.read_text()
    sha256 = hashlib.sha256(TAR).hexdigest()
    first, second = container_images.parse_list(text)
    assert (first.name, first.file, first.sha256) == ("localhost/near:1", "localhost_near_1.tar", sha256)
    assert (second.name, second.file, second.namespace) == (
        "localhost/far:1",
        "openfaas_localhost_far_1.tar",
        "openfaas",
    )
    assert first.digest == second.digest != f"sha256:{sha256}"
    assert len(text.splitlines()[1].split()) == 5
    container_images.copy_images(made.paths, made.profile, tmp_path / "cde")
    there = {path.name: path.read_bytes() for path in (tmp_path / "cde/images").iterdir()}
    assert there == {first.file: TAR, second.file: TAR, "images.lst": text.encode()}


def test_without_images_there_is_no_folder(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    container_images.copy_images(*both(make_settings()), tmp_path / "cde")
    assert not (tmp_path / "cde").exists()


def test_an_unchanged_list_is_left_alone(made: Settings) -> None:
    container_images.build(made.paths, made.profile)
    before = made.paths.images_list.stat().st_mtime_ns
    container_images.build(made.paths, made.profile)
    assert made.paths.images_list.stat().st_mtime_ns == before


def test_another_digest_than_the_declared_one_is_refused(made: Settings) -> None:
    container_images.build(made.paths, made.profile)
    digest = container_images.parse_list(made.paths.images_list.read_text())[0].digest
    container_images.build(*both(with_image(made, digest=digest)))
    with pytest.raises(
        UserError, match=f"has the digest {digest}, the profile expects sha256:0000"
    ) as caught:
        container_images.build(*both(with_image(made, digest=f"sha256:{'0' * 64}")))
    assert caught.value.message.startswith("image localhost/near:1: ")


def test_a_tar_that_is_not_there(made: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.tar does not exist"):
        container_images.build(*both(with_image(made, source=FileSource(path="nowhere.tar"))))
    with pytest.raises(UserError, match=r"images/other\.tar was not fetched yet"):
        container_images.build(*both(with_image(made, source=HttpSource(path="images/other.tar"))))
    assert not made.paths.images_list.exists()


def test_a_tar_changed_after_its_check(made: Settings, tmp_path: Path) -> None:
    container_images.build(made.paths, made.profile)
    (tmp_path / "local.tar").write_bytes(TAR + b"\0")
    with pytest.raises(UserError, match=r"local\.tar has changed since it was checked"):
        container_images.copy_images(made.paths, made.profile, tmp_path / "cde")


def test_images_that_were_not_checked_yet(made: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.lst does not exist") as caught:
        container_images.copy_images(made.paths, made.profile, tmp_path / "cde")
    assert caught.value.hint == "./doit images"


def test_the_inputs_of_the_list(made: Settings, tmp_path: Path) -> None:
    """The lock counts only for what was fetched, a local tar only while it is there."""
    near, far = made.profile.images
    assert targets.image_files(made.paths, made.profile) == [
        made.paths.lock_part("images"),
        tmp_path / "local.tar",
    ]
    only = replace(made, profile=replace(made.profile, images=(near,)))
    assert targets.image_files(only.paths, only.profile) == [tmp_path / "local.tar"]
    (tmp_path / "local.tar").unlink()
    assert targets.image_files(only.paths, only.profile) == []
    # Fetched images are inputs like all others, local ones are not locked.
    assert far.source in inputs.sources(made.profile)
    assert near.source not in inputs.sources(made.profile)


class TestImporter:
    """A profile with images needs an extension that imports them."""

    def check(self, *extensions: Extension, name: str = "apt", lock: Lock | None = None) -> None:
        loaded = profile.load(name)
        image = Image("localhost/a:1", FileSource(path="x"))
        with_images = replace(loaded, images=(image,), extensions=extensions)
        plan.require_importer(with_images, plan.plan(with_images, lock or Lock(), also=recipe.names()))

    @pytest.mark.parametrize("place", ["onboot", "copy2fs", "ondemand", "initrd"])
    def test_wherever_it_is(self, place: str) -> None:
        self.check(Extension("containerd", place))  # type: ignore[arg-type]

    def test_as_a_dependency(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, text in {"top": 'deps = ["low"]\n', "low": "imports_images = true\n"}.items():
            (tmp_path / "extensions" / name).mkdir(parents=True)
            content = f'{text}[info]\ntitle = "t"\ndescription = "d"\n'
            (tmp_path / "extensions" / name / "recipe.toml").write_text(content)
        monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
        self.check(Extension("top"))

    def test_none(self) -> None:
        """That a recipe for one exists is not enough."""
        with pytest.raises(UserError, match=r"images \(localhost/a:1\) but no extension") as caught:
            self.check(Extension("attr"))
        assert "containerd" in caught.value.hint

    def test_an_upstream_extension_does_not_count(self) -> None:
        lock = Lock(extension=(LockedExtension("containerd", "a" * 64, "b" * 32, 1),))
        with pytest.raises(UserError, match="no extension that imports them"):
            self.check(Extension("containerd", origin="upstream"), name="tc11", lock=lock)

    def test_a_profile_without_images_needs_no_importer(self) -> None:
        nothing = replace(profile.load("apt"), extensions=())
        plan.require_importer(nothing, plan.plan(nothing, Lock()))


def test_images_lie_beside_optional(made: Settings, tmp_path: Path) -> None:
    container_images.build(made.paths, made.profile)
    (made.paths.kernel / "release").parent.mkdir(parents=True)
    (made.paths.kernel / "release").write_text("6.1\n")
    bare = replace(made, profile=replace(made.profile, extensions=()))
    iso.copy_extensions(bare.paths, bare.profile, tmp_path / "cde")
    assert sorted(path.name for path in (tmp_path / "cde").iterdir()) == ["images", "onboot.lst", "optional"]

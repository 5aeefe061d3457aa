# SPDX-License-Identifier: MIT
"""The components of a bill of materials: kernel, core and extensions, each with its materials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packageurl import PackageURL

from tasks.config import inputs, recipe
from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.image.targets import carried_recipes
from tasks.kernel import installed
from tasks.kernel.patches import series
from tasks.origins.lock import cached_path
from tasks.provenance import licences
from tasks.provenance.manifest_schema import Input, Manifest
from tasks.provenance.purl import of
from tasks.util.errors import UserError
from tasks.util.files import sha256_file

NAMED_WITH_GROUP = ("golang", "npm")
"""The types of package URLs whose namespace is a part of what people call the package."""


@dataclass(frozen=True)
class Material:
    """A package that a part was made from; licence: an SPDX expression, "" if it declares none."""

    purl: PackageURL
    name: str
    version: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class ImagePart:
    """A part of the image.

    name: `linux`, `core`, or that of an extension; licence: free text from its .info; patches:
    (name, text) of each patch file; needs: names of the parts it depends on.
    """

    name: str
    version: str
    sha256: str
    description: str
    licence: str
    materials: tuple[Material, ...]
    needs: tuple[str, ...] = ()
    patches: tuple[tuple[str, str], ...] = ()


def collect(settings: Settings, made: Manifest) -> list[ImagePart]:
    """Return the parts of the image that the manifest describes, kernel and core first.

    Raises `UserError` if one of its inputs is no longer in the cache.
    """
    assert made.outputs is not None
    out = made.outputs
    names = [item.name for item in out.extensions]
    containers = [f"{recipe.IMAGES}{name}" for name in carried_recipes(settings.profile)]
    materials = _materials(settings, made, {"kernel", "core", "iso", *names, *containers})
    applied = tuple((path.name, path.read_text(errors="replace")) for path in series(settings.profile))
    core_name = settings.paths.core.name
    core = next((file.sha256 for file in out.files if file.path.endswith(f"/{core_name}")), "")
    kernel = ImagePart(
        name="linux",
        version=out.kernel.release,
        sha256=out.kernel.vmlinuz.sha256,
        description="Linux kernel, with its modules",
        licence="",
        materials=materials["kernel"],
        patches=applied,
    )
    parts = [
        kernel,
        ImagePart("core", "", core, f"initramfs ({core_name})", "", materials["core"], ("linux",)),
    ]
    for item in out.extensions:
        about = _info(settings.paths, item.name)
        needs = tuple(name for name in _deps(settings.paths, settings.profile, item.deps) if name in names)
        materials_of = materials.get(item.name, ())
        version, description, licence = about
        parts.append(
            ImagePart(item.name, version, item.sha256, description, licence, materials_of, (*needs, "core"))
        )
    parts += [_container(settings, name, materials[name]) for name in containers]
    if materials["iso"]:
        parts.append(ImagePart("images", "", "", "container images, imported at boot", "", materials["iso"]))
    return parts


def _container(settings: Settings, name: str, materials: tuple[Material, ...]) -> ImagePart:
    """Return the part for a container image that tcbuild makes by the recipe `name`."""
    info = recipe.load(name).info
    tar = settings.paths.container_image(name.removeprefix(recipe.IMAGES))
    sha256 = sha256_file(tar) if tar.is_file() else ""
    return ImagePart(name, "", sha256, info.description, info.copying_policy, materials)


def _deps(paths: Paths, profile: Profile, deps: Iterable[str]) -> list[str]:
    release = installed.kernel_release(paths, profile)
    return [f"{dep.removesuffix('-KERNEL')}-{release}" if dep.endswith("-KERNEL") else dep for dep in deps]


def _info(paths: Paths, name: str) -> tuple[str, str, str]:
    """Return version, description and copying policy from an extension's .info."""
    path = paths.tcz / f"{name}.tcz.info"
    found: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        label, colon, value = line.partition(":")
        if colon and label and not label[0].isspace():
            found.setdefault(label.strip(), value.strip())
    return found.get("Version", ""), found.get("Description", ""), found.get("Copying-policy", "")


def _materials(settings: Settings, made: Manifest, users: set[str]) -> dict[str, tuple[Material, ...]]:
    found: dict[str, list[Material]] = {user: [] for user in users}
    for one in made.inputs:
        mine = [user for user in one.used_by if user in users]
        if not mine:
            continue
        url = of(one)
        licence = (
            licences.of_kernel(settings.paths.linux)
            if "kernel" in mine and not settings.profile.kernel.image
            else licences.of(one, _path(settings, one))
        )
        name = f"{url.namespace}/{url.name}" if url.type in NAMED_WITH_GROUP and url.namespace else url.name
        material = Material(url, name, url.version or one.version, one.sha256, licence)
        for user in mine:
            found[user].append(material)
    return {user: tuple(materials) for user, materials in found.items()}


def _path(settings: Settings, one: Input) -> Path:
    """Return the path of an input."""
    if one.kind == "deb":
        paths = settings.paths
        return inputs.package_files(paths, paths.used_lock, [one.name])[one.name]
    name = one.name.rpartition("/")[2]
    path = cached_path(settings.paths.cache, one.sha256, f"{name}.tcz" if one.kind == "tcz" else name)
    if one.kind in ("mirror", "tcz", "origin") and not path.is_file():
        raise UserError(f"{name} is no longer in the cache", "./doit fetch, or ./doit iso")
    return path

# SPDX-License-Identifier: MIT
"""Build container images by the recipes in images/: an OCI archive with one layer.

A recipe's origins are those of an extension, and so are the checks; but a container has no base
root, so the image holds every library that its programs need.  The tar can be carried by a profile
(`images`), imported by containerd, or copied to a registry.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.checks import secrets
from tasks.config import plan
from tasks.config import recipe as recipes
from tasks.config.container import DEFAULT_PATH, Container
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.extensions import build as extensions
from tasks.extensions import collect
from tasks.formats import container_archive, elf, oci_archive
from tasks.formats.elf import is_elf
from tasks.initramfs import rootfs
from tasks.util.errors import UserError
from tasks.util.files import atomic_path, scratch_folder
from tasks.util.links import follow_links
from tasks.util.log import logger
from tasks.util.text import NO_LINE

LABELS = "org.opencontainers.image"  # image-spec, annotations.md


def build(settings: Settings, name: str) -> None:
    """Build the image of the recipe `name` (`images/NAME`).  The same inputs give the same bytes.

    Raises `UserError` if a path comes twice, if a library or the program that a container starts is
    missing, if a program is for another machine or has a set-id bit, if a file holds a secret, or if there
    is no file at all.
    """
    recipes.refuse_special_files(name)
    made = plan.recipe_to_build(settings.profile, name)
    container = made.image
    assert container is not None
    short = name.removeprefix(recipes.IMAGES)
    final = settings.paths.container_image(short)
    with _name_image_in_errors(name), scratch_folder(settings.paths.output, "image") as scratch:
        root = scratch / "root"
        root.mkdir()
        left_out = [one for origin in made.origin for one in collect.collect(settings, name, origin, root)]
        extensions.copy_recipe_files(name, made, root)
        extensions.add_libraries(settings.paths, name, {}, root)
        architecture = settings.profile.architecture
        extensions.check_libraries(settings.paths, architecture, name, made, root, {}, left_out)
        if container.applets:
            _link_applets(settings, name, container.applets, root)
        _refuse(settings, name, made, root)
        owners = _make_folders(container, root)
        content = oci_archive.layer(root, owners, settings.profile.source_date_epoch)
        version = extensions.stated_version(settings.paths, name, made)
        with atomic_path(final) as partial:
            digest = oci_archive.write(
                partial,
                content,
                oci_archive.Settings(
                    architecture.platform,
                    settings.profile.source_date_epoch,
                    container.name,
                    container.config(_labels(made, version)),
                ),
            )
            found = container_archive.read(partial, architecture.platform)
            assert found.digest == digest
    logger.info(f"{short}: {container.name}, {found.size:,} bytes, {digest} ({final})")


@contextmanager
def _name_image_in_errors(name: str) -> Iterator[None]:
    """Call an image by its name in errors of what extensions have in common with it."""
    try:
        yield
    except UserError as error:
        message = error.message.replace(f"extension {name}", recipes.label(name))
        raise error.reworded(message, error.hint) from None


def _link_applets(settings: Settings, name: str, program: str, root: Path) -> None:
    """Link all commands of a BusyBox to it, but for those that the image has already."""
    if not (root / program).is_file():
        raise UserError(f"{recipes.label(name)}: applets: there is no /{program} in it", "correct the recipe")
    for path in rootfs.list_applets(settings.profile.architecture, root, program):
        target = root / path
        if os.path.lexists(target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(f"/{program}")


def _make_folders(container: Container, root: Path) -> dict[str, tuple[int, int, int]]:
    """Make the folders that the recipe names; return their modes and owners."""
    for one in container.folder:
        (root / one.path).mkdir(parents=True, exist_ok=True)
    return {one.path.strip("/"): (one.mode, one.uid, one.gid) for one in container.folder}


def _labels(made: Recipe, version: str) -> dict[str, str]:
    info = made.info
    found = {
        "title": info.title,
        "description": info.description,
        "version": version,
        "url": info.original_site,
        "licenses": info.copying_policy,
    }
    return {f"{LABELS}.{key}": value for key, value in found.items() if value}


# --- checks ----------------------------------------------------------------


def _refuse(settings: Settings, name: str, made: Recipe, root: Path) -> None:
    """Raise `UserError` for what an image must not be or hold."""
    label = recipes.label(name)
    paths = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not paths:
        raise UserError(f"{label} would be empty", "check `keep` in its recipe")
    listing = [str(path.relative_to(root)) for path in paths]
    for path in listing:
        if NO_LINE.search(path):
            raise UserError(f"{label}: a file has a name with a control character: {path!r}")
    extensions.check_set_id(name, made, root)
    for path, file in zip(listing, paths, strict=True):
        if not file.is_symlink() and file.stat().st_mode & stat.S_IXUSR and is_elf(file):
            machine = elf.program_machine(file)
            if machine not in settings.profile.architecture.runs:
                raise UserError(f"{label}: {path} is for {elf.short_machine_name(machine)}")
    assert made.image is not None
    _refuse_missing_program(label, made.image, root)
    folder = recipes.folder(name)
    said = {"info": dataclasses.asdict(made.info), "image": dataclasses.asdict(made.image)}
    secrets.refuse_in_table(label, said)
    secrets.refuse_private(label, folder / "files", folder / "recipe.toml")
    secrets.refuse_in_files(label, [(path, root / path) for path in listing])


def _refuse_missing_program(label: str, container: Container, root: Path) -> None:
    """Raise `UserError` unless the program that a container starts is in the image and executable."""
    words = container.entrypoint or container.cmd
    if not words:
        return
    search = container.env.get("PATH", DEFAULT_PATH).split(":")
    places = [words[0]] if "/" in words[0] else [posixpath.join(folder, words[0]) for folder in search]
    if not any(_is_program(root, place) for place in places):
        hint = f"correct `entrypoint` or `cmd`, or `keep` and `rename`; looked for: {', '.join(places)}"
        raise UserError(f"{label}: a container could not start {words[0]!r}: no such program in it", hint)


def _is_program(root: Path, path: str) -> bool:
    """Tell whether `path` leads to an executable file, by the links of the image."""

    def link(step: str) -> str:
        file = root / step.lstrip("/")
        return os.readlink(file) if file.is_symlink() else ""

    file = root / follow_links(path, link).lstrip("/")
    return file.is_file() and bool(file.stat().st_mode & stat.S_IXUSR)

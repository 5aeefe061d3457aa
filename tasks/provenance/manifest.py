# SPDX-License-Identifier: MIT
"""Writing of manifests: `inputs.manifest.json` before the build, `IMAGE.manifest.json` with an image.

Task `inputs` writes the early manifest when everything is fetched and before the kernel is built,
so it exists when a build fails.  The task that makes an image writes the image's manifest right
after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.config import inputs, plan
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import iso_layout, tcz
from tasks.formats.iso_layout import File
from tasks.initramfs import embedded
from tasks.kernel import installed
from tasks.provenance import archive_members, commands, materials
from tasks.provenance.manifest_schema import ENDING, FORMAT, Extension, Kernel, Manifest, Outputs, write
from tasks.util.files import sha256_file
from tasks.util.log import logger


def early_path(paths: Paths) -> Path:
    """Return the path of the early manifest."""
    return paths.output / f"inputs{ENDING}"


def path_of(image: Path) -> Path:
    """Return the path of an image's manifest, beside the image."""
    return image.with_name(image.name + ENDING)


def write_early(paths: Paths, profile: Profile) -> None:
    """Write `inputs.manifest.json`: the inputs, as far as they are known before the build."""
    write(early_path(paths), _manifest(paths, profile, (), None))


def write_iso(paths: Paths, profile: Profile) -> None:
    """Write the manifest of the ISO."""
    _write_and_log(path_of(paths.iso), of_iso(paths, profile))


def of_iso(paths: Paths, profile: Profile) -> Manifest:
    """Return the manifest of the ISO in the output folder."""
    layout = iso_layout.read(paths.iso)
    outputs = _outputs(
        paths,
        profile,
        (paths.iso,),
        iso_layout.files(paths.iso, layout),
        iso_layout.areas_outside_files(paths.iso, layout),
    )
    return _manifest(paths, profile, ("iso",), outputs)


def write_disk(paths: Paths, profile: Profile) -> None:
    """Write the manifest of the disk image, for both its formats."""
    from tasks.image import disk  # with all that makes images, which the early manifest does not need

    images = (disk.raw(paths), disk.qcow2(paths))
    _write_and_log(path_of(images[0]), _manifest(paths, profile, ("disk",), _outputs(paths, profile, images)))


def _write_and_log(path: Path, manifest: Manifest) -> None:
    write(path, manifest)
    assert manifest.outputs is not None
    reason = materials.git_state()[2]
    if reason:
        logger.info(f"{path.name} names no commit of tcbuild: {reason}")
    counts = f"{len(manifest.inputs)} inputs, {len(manifest.tcbuild.files)} files of tcbuild"
    logger.info(f"{path.name}: {counts}, {len(manifest.outputs.extensions)} extensions")


def _manifest(paths: Paths, profile: Profile, image_logs: Sequence[str], outputs: Outputs | None) -> Manifest:
    lock = inputs.used_lock(paths)
    return Manifest(
        format=FORMAT,
        profile=materials.profile(paths, profile),
        tcbuild=materials.checkout(paths, profile),
        inputs=materials.collect(paths, profile),
        tools=materials.tools(paths, profile),
        config=sha256_file(paths.config) if outputs else "",
        commands=commands.of_image(paths, profile, image_logs) if outputs else {},
        outputs=outputs,
        archives=lock.archive,
        needs=lock.needs,
        trees=materials.trees(paths, profile),
    )


def _outputs(
    paths: Paths,
    profile: Profile,
    images: Sequence[Path],
    files: tuple[File, ...] = (),
    outside: tuple[File, ...] = (),
) -> Outputs:
    release = installed.kernel_release(paths, profile)
    every = plan.extensions_at(profile, "onboot", "copy2fs", "ondemand", "initrd")
    names = embedded.with_dependencies(paths.tcz, every, release)
    digests = (paths.kernel / "modules.sha256").read_text().splitlines()
    modules = [line.split("  ", 1) for line in digests]
    root = paths.kernel / "modules"
    patched = paths.kernel / "patches"  # a kernel of an older tcbuild has none
    kernel = Kernel(
        release=release,
        config=file_of(paths.kernel / "config"),
        vmlinuz=file_of(paths.vmlinuz),
        modules=tuple(File(path, (root / path).stat().st_size, sha256) for sha256, path in modules),
        patches=tuple(patched.read_text().splitlines()) if patched.is_file() else (),
    )
    return Outputs(
        images=tuple(file_of(path) for path in images),
        kernel=kernel,
        core=archive_members.of_core(paths.core),
        extensions=tuple(_extension(paths.tcz / f"{name}.tcz") for name in sorted(names)),
        files=files,
        outside=outside,
    )


def _extension(path: Path) -> Extension:
    dep = path.with_name(f"{path.name}.dep")
    deps = tcz.parse_dep(dep.read_text(), dep.name) if dep.is_file() else ()
    found = file_of(path)
    name = path.name.removesuffix(".tcz")
    return Extension(name, found.size, found.sha256, deps, archive_members.of_squashfs(path))


def file_of(path: Path) -> File:
    """Return the name, size in bytes and sha256 of a file."""
    return File(path.name, path.stat().st_size, sha256_file(path))

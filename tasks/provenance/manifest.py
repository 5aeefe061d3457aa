"""Manifests of a profile's results: `inputs.manifest.json` early, `IMAGE.manifest.json` with the image.

The early one is written when everything is fetched and again when the kernel is about to be
built: it is there when a build fails.  The one beside an image is written by the task that
makes the image, right after it, and tells what went into that very image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tasks.config import plan, recipe
from tasks.config.settings import Settings
from tasks.formats import iso_layout, tcz
from tasks.formats.iso_layout import File
from tasks.image import disk
from tasks.initramfs import embedded
from tasks.kernel import installed
from tasks.provenance import archive_members, materials, redaction
from tasks.provenance.manifest_schema import ENDING, FORMAT, Extension, Kernel, Manifest, Outputs, write
from tasks.util.files import sha256_file
from tasks.util.log import logger

COMMAND = re.compile(r"^\+ (.*)$", re.MULTILINE)
# Which task writes which log.
LOGS = {
    "linux": ("patches",),
    "kconfig:base": ("kconfig-base",),
    "kconfig": ("kconfig",),
    "kernel": ("kernel", "kernel-install"),
}


def early_path(settings: Settings) -> Path:
    """Return where the inputs stand before there is an image."""
    return settings.output / f"inputs{ENDING}"


def path_of(image: Path) -> Path:
    """Return where the manifest of an image stands: beside it."""
    return image.with_name(image.name + ENDING)


def write_early(settings: Settings) -> None:
    """Write `inputs.manifest.json`: all that goes in, as far as it is known before the build."""
    write(early_path(settings), _manifest(settings, (), None))


def write_iso(settings: Settings) -> None:
    """Write the manifest of the ISO that was just made."""
    _tell(path_of(settings.iso), of_iso(settings))


def of_iso(settings: Settings) -> Manifest:
    """Return the manifest of the ISO that lies there and of what it was made of."""
    layout = iso_layout.read(settings.iso)
    outputs = _outputs(
        settings,
        (settings.iso,),
        iso_layout.files(settings.iso, layout),
        iso_layout.outside(settings.iso, layout),
    )
    return _manifest(settings, ("iso",), outputs)


def write_disk(settings: Settings) -> None:
    """Write the manifest of the disk image that was just made, in both its formats."""
    images = (disk.raw(settings), disk.qcow2(settings))
    _tell(path_of(images[0]), _manifest(settings, ("disk",), _outputs(settings, images)))


def _tell(path: Path, manifest: Manifest) -> None:
    write(path, manifest)
    assert manifest.outputs is not None
    counts = f"{len(manifest.inputs)} inputs, {len(manifest.tcbuild.files)} files of tcbuild"
    logger.info(f"{path.name}: {counts}, {len(manifest.outputs.extensions)} extensions")


def _manifest(settings: Settings, image_logs: Sequence[str], outputs: Outputs | None) -> Manifest:
    return Manifest(
        format=FORMAT,
        profile=materials.profile(settings),
        tcbuild=materials.checkout(settings),
        inputs=materials.collect(settings),
        tools=materials.tools(settings),
        config=sha256_file(settings.config) if settings.config.is_file() else "",
        commands=commands(settings, image_logs) if outputs else {},
        outputs=outputs,
    )


def commands(settings: Settings, images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands that the logs of the last run of each task hold, by task.

    images: the tasks `iso` or `disk` whose log counts.  A task that logs none is left out.
    """
    logs = LOGS | {image: (image,) for image in images}
    compiled: list[str] = []
    for name in materials.extensions(settings):
        logs[f"tcz:{name}"] = (f"tcz-{name}",)
        if recipe.exists(name):
            for origin in plan.recipe_of(settings.profile, name).origin:
                compiled += origin.log_names()
    logs["npm"] = tuple(sorted(set(compiled)))
    found = {}
    for task, names in logs.items():
        texts = [path.read_text(errors="replace") for path in _logs(settings, names)]
        lines = [line for text in texts for line in COMMAND.findall(text)]
        if lines:
            found[task] = tuple(redaction.command(settings, line) for line in lines)
    return dict(sorted(found.items()))


def _logs(settings: Settings, names: Sequence[str]) -> list[Path]:
    paths = [settings.logs / f"{name}.log" for name in names]
    return [path for path in paths if path.is_file()]


def _outputs(
    settings: Settings,
    images: Sequence[Path],
    files: tuple[File, ...] = (),
    outside: tuple[File, ...] = (),
) -> Outputs:
    release = installed.kernel_release(settings)
    every = plan.placed(settings.profile, "onboot", "copy2fs", "ondemand", "initrd")
    names = embedded.with_dependencies(settings.tcz, every, release)
    digests = (settings.kernel / "modules.sha256").read_text().splitlines()
    modules = [line.split("  ", 1) for line in digests]
    root = settings.kernel / "modules"
    kernel = Kernel(
        release=release,
        config=file_of(settings.kernel / "config"),
        vmlinuz=file_of(settings.kernel / "vmlinuz64"),
        modules=tuple(File(path, (root / path).stat().st_size, sha256) for sha256, path in modules),
    )
    return Outputs(
        images=tuple(file_of(path) for path in images),
        kernel=kernel,
        core=archive_members.of_core(settings.core),
        extensions=tuple(_extension(settings.tcz / f"{name}.tcz") for name in sorted(names)),
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
    """Return a file by its own name, with size and sha256."""
    return File(path.name, path.stat().st_size, sha256_file(path))

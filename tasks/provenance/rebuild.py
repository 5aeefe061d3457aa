# SPDX-License-Identifier: MIT
"""`./doit rebuild --from MANIFEST`: build an image again from the inputs of its manifest.

It copies tcbuild's own files to a folder, writes a lock there with the manifest's versions and
hashes, runs `./doit iso frozen=1`, and compares the two manifests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.config import inheritance, inputs, profile, recipe, recipe_lock
from tasks.config.profile import Profile
from tasks.config.settings import NO_CACHE, SHARED_VARIABLE, Paths, Settings
from tasks.origins.lock import Lock, LockedCommit, LockedExtension, LockedFile, LockedPackage
from tasks.provenance import manifest_schema, materials, verify
from tasks.provenance.manifest_schema import CheckoutFile, Manifest, Outputs
from tasks.util.checkout import CHECKOUT, KINDS
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import run

# The files of a checkout that a build needs: no tests, no documents, nothing that git ignores.
COPIED = (
    *("doit", "dodo.py", "pyproject.toml", "requirements.lock", "secrets.toml"),
    *(*KINDS, "tasks"),
)
SHOWN = 10


def rebuild(settings: Settings, folder: Path, source: str, out: str, anyway: bool) -> None:
    """Build the ISO of the manifest `source` again and compare it.

    folder: `source` and `out` are relative to it; out: the folder to build in and to keep, "" for
    a temporary one; anyway: build even if tcbuild or tools differ from the manifest's.  Raises
    `UserError` if they differ, if an input is no longer available, or if the image differs.
    """
    if not source:
        raise UserError("rebuild needs a manifest", "./doit rebuild --from FILE.iso.manifest.json")
    wanted = manifest_schema.load(folder / source)
    if wanted.outputs is None or not wanted.outputs.files:
        raise UserError(f"{source} is not the manifest of an ISO", "take ISO.manifest.json beside the ISO")
    if len(wanted.trees) != len(CHECKOUT.trees):
        message = f"{source} was made with {len(wanted.trees)} trees, and {len(CHECKOUT.trees)} are used"
        raise UserError(message, "name them in the same order: tree=DIR")
    _check_names(wanted, source)
    _check_tools(settings.paths, settings.profile, wanted, anyway)
    with _build_folder(settings.paths, folder / out if out else None) as top:
        checkout = top / "checkout"
        _copy(wanted, checkout)
        _pin(wanted, checkout)
        words = [f"{name}={value}" for name, value in sorted(wanted.profile.variables.items())]
        words += [f"profile={wanted.profile.name}", "frozen=1", f"out={top / 'result'}"]
        words += [f"tree={tree}" for tree in _trees(top)]
        words += ["offline=1"] if settings.network.offline else []
        logger.info(f"rebuild: {checkout}/doit iso {' '.join(words)}")
        _build(checkout, words, settings.paths, top / "rebuild.log")
        made = manifest_schema.load(
            top / "result" / f"{wanted.outputs.images[0].path}{manifest_schema.ENDING}"
        )
        assert made.outputs is not None
        _compare(made.outputs, wanted.outputs)
        image = wanted.outputs.images[0]
        logger.info(f"rebuild: equal: {image.path}, {image.size:,} bytes, sha256 {image.sha256}")


def _check_names(wanted: Manifest, source: str) -> None:
    """Raise `UserError` for names that tcbuild never writes: they become paths and a command line."""
    name = wanted.profile.name
    if name not in profile.names():
        raise UserError(f"{source}: there is no profile {name!r} here", "use the manifest's tcbuild")
    images = [file.path for file in wanted.outputs.images] if wanted.outputs else []
    if images != [f"tcbuild-{name}.iso"] or not wanted.profile.variables.keys() <= {"fragments"}:
        raise UserError(f"{source}: tcbuild does not write such an image name or such variables")


def _check_tools(paths: Paths, profile: Profile, wanted: Manifest, anyway: bool) -> None:
    found = [*_tcbuild_differences(wanted), *_tool_differences(paths, profile, wanted)]
    if not found:
        return
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    detail = "\n".join(f"  {line}" for line in [*found[:SHOWN], *more])
    if anyway:
        logger.info(f"rebuild: tcbuild or tools differ from the manifest's; --anyway goes on:\n{detail}")
        return
    commit = wanted.tcbuild.commit
    hint = "use that tcbuild and those versions, or build with --anyway"
    if commit and any(not line.startswith("tool ") for line in found):
        changed = " (with uncommitted changes)" if wanted.tcbuild.dirty else ""
        hint = f"git checkout {commit}{changed}, or build with --anyway"
    raise UserError("tcbuild or tools differ from those of the manifest", hint, detail)


def _tcbuild_differences(wanted: Manifest) -> Iterator[str]:
    sides = [(wanted.tcbuild.files, CHECKOUT.root, "")]
    for tree, root in zip(wanted.trees, CHECKOUT.trees, strict=True):
        sides.append((tree.files, root, f"{root}/"))
    for files, root, shown in sides:
        for file in files:
            path = root / file.path
            if not os.path.lexists(path):
                yield f"{shown}{file.path} is missing"
            elif file != _current_file(file, path):
                yield f"{shown}{file.path} differs"


def _current_file(file: CheckoutFile, path: Path) -> CheckoutFile:
    found = materials.checkout_file(path)
    return found if found.path == file.path else CheckoutFile(file.path)


def _tool_differences(paths: Paths, profile: Profile, wanted: Manifest) -> Iterator[str]:
    here = materials.tools(paths, profile)
    for what in ("debian", "python"):
        now, before = getattr(here, what), getattr(wanted.tools, what)
        for name in sorted(now.keys() | before.keys()):
            if now.get(name) != before.get(name):
                yield f"tool {name}: {now.get(name, 'missing')}, expected {before.get(name, 'none')}"


@contextmanager
def _build_folder(paths: Paths, out: Path | None) -> Iterator[Path]:
    """Yield the folder to build in: `out`, which must be empty, or a temporary one."""
    if out is not None:
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out} is not empty", "choose a new folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        yield out.absolute()
        return
    paths.output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rebuild-", dir=paths.output))
    try:
        yield folder
    finally:
        remove_tree(folder)


def _copy(wanted: Manifest, checkout: Path) -> None:
    """Copy tcbuild's own files, and link the builder's own files beside the checkout."""
    checkout.mkdir(parents=True)
    for name in COPIED:
        if (CHECKOUT.root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT.root / name, checkout / name, symlinks=True, ignore=ignored)
        elif (CHECKOUT.root / name).is_file():
            shutil.copy2(CHECKOUT.root / name, checkout / name)
    for tree, copy in zip(CHECKOUT.trees, _trees(checkout.parent), strict=True):
        copy.mkdir()
        for name in KINDS:
            if (tree / name).is_dir():
                shutil.copytree(tree / name, copy / name, symlinks=True)
        if (tree / CHECKOUT.own_secrets.name).is_file():
            shutil.copy2(tree / CHECKOUT.own_secrets.name, copy)
    for one in inputs.sources(profile.load(wanted.profile.name)):
        name = one.local_name()
        target = Path(os.path.normpath(checkout / name))
        there = name and CHECKOUT.path(name).exists()
        if there and not target.exists() and target.is_relative_to(checkout.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(CHECKOUT.path(name).resolve())


def _trees(top: Path) -> list[Path]:
    """Return the folders in `top` for copies of the trees."""
    return [top / f"tree{number}" for number in range(1, len(CHECKOUT.trees) + 1)]


def _pin(wanted: Manifest, checkout: Path) -> None:
    """Write the manifest's inputs as the profile's lock; check those of recipes against their locks."""
    try:
        lock = _lock(wanted)
    except ValueError as error:
        raise UserError(f"an input of the manifest is malformed: {error}") from None
    # A lock lies beside its profile.
    file = inheritance.file_of(CHECKOUT.folders("profiles"), wanted.profile.name)
    copies = dict(zip(CHECKOUT.trees, _trees(checkout.parent), strict=True))
    root = copies.get(file.parent.parent, checkout)
    write_atomic(root / "profiles" / inheritance.lock_of(file).name, lock.to_toml())
    origins: dict[str, list[manifest_schema.Input]] = {}
    for one in _inputs_of_kind(wanted, "origin"):
        for name in one.used_by:
            origins.setdefault(name, []).append(one)
    for name, files in origins.items():
        if not recipe.exists(name):
            raise UserError(f"there is no recipe for {recipe.label(name)} here", "use the manifest's tcbuild")
        known = recipe_lock.committed_lock(name)
        for one in files:
            if (one.name, one.sha256) not in {(file.name, file.sha256) for file in known.file}:
                message = f"{one.name}, an input of {recipe.label(name)}, is not the one locked here"
                raise UserError(message, f"its sha256 was {one.sha256}; use the manifest's tcbuild")


def _lock(wanted: Manifest) -> Lock:
    return Lock(
        package=tuple(map(_package, _inputs_of_kind(wanted, "deb"))),
        needs=wanted.needs,
        archive=wanted.archives,
        file=tuple(LockedFile(one.name, one.sha256) for one in _inputs_of_kind(wanted, "mirror")),
        commit=tuple(
            LockedCommit(one.name, one.origin, one.version, one.tree, one.source)
            for one in _inputs_of_kind(wanted, "git")
        ),
        extension=tuple(
            LockedExtension(one.name, one.sha256, one.md5, one.size, one.deps)
            for one in _inputs_of_kind(wanted, "tcz")
        ),
    )


def _package(one: manifest_schema.Input) -> LockedPackage:
    archive, _, path = one.origin.partition(": ")
    return LockedPackage(one.name, one.version, one.sha256, archive, path)


def _inputs_of_kind(wanted: Manifest, kind: str) -> list[manifest_schema.Input]:
    return [one for one in wanted.inputs if one.kind == kind]


def _build(checkout: Path, words: Sequence[str], paths: Paths, log: Path) -> None:
    """Run `./doit iso`.  Raises `UserError` with the build's own message if it fails."""
    # No shared cache: the same bytes from there would prove nothing.
    environment = {"TCBUILD_CACHE": str(paths.cache), SHARED_VARIABLE: NO_CACHE}
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line.startswith(("=> ", "   ")):
            logger.info(line)

    result = run(
        ["./doit", "iso", *words], cwd=checkout, env=environment, log=log, on_line=on_line, check=False
    )
    if result.status:
        starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
        error_lines = lines[starts[0] :] if starts else lines[-SHOWN:]
        detail = [line for line in error_lines[1:] if not line.startswith("  hint: ")]  # for another command
        hint = "an input of the manifest is no longer available, or a tool fails; --out DIR keeps the log"
        message = error_lines[0].removeprefix("error: ") if error_lines else "the build failed"
        raise UserError(message, hint, "\n".join(detail))


def _compare(made: Outputs, wanted: Outputs) -> None:
    found = list(differences(made, wanted))
    if found:
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        detail = "\n".join([*(f"  {line}" for line in found[:SHOWN]), *more])
        raise UserError("the rebuilt image differs", "--out DIR keeps it for inspection", detail)


def differences(made: Outputs, wanted: Outputs) -> Iterator[str]:
    """Yield the differences of two builds: image, its files, then kernel, core and extensions inside."""
    for now, before in zip((*made.images, *made.outside), (*wanted.images, *wanted.outside), strict=False):
        if now != before:
            yield f"{before.path}: sha256 {now.sha256}, expected {before.sha256}"
    sections = (("", made.files, wanted.files), ("module ", made.kernel.modules, wanted.kernel.modules))
    for what, one, other in sections:
        files, expected = {file.path: file for file in one}, {file.path: file for file in other}
        for path in sorted(files.keys() | expected.keys()):
            if files.get(path) != expected.get(path):
                yield (
                    f"{what}{path}: differs"
                    if path in files and path in expected
                    else f"{what}{path}: only in one"
                )
    if made.kernel.config.sha256 != wanted.kernel.config.sha256:
        yield "the kernel's .config differs"
    for line in verify.core_differences(made.core, wanted.core):
        yield f"core: {line}"
    extensions = {item.name: item for item in made.extensions}
    for item in wanted.extensions:
        members = extensions[item.name].members if item.name in extensions else ()
        for line in verify.member_differences(members, item.members):
            yield f"{item.name}.tcz: {line}"

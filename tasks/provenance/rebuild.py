"""`./doit rebuild --from MANIFEST`: build an image again from exactly what its manifest names.

tcbuild's own files are copied to a folder, the manifest's versions and hashes become the
lock there, and `./doit iso frozen=1` runs in it; then the two manifests are compared.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.config import inputs, profile, recipe, recipe_lock
from tasks.config.settings import Settings
from tasks.origins.lock import Lock, LockedExtension, LockedFile, LockedPackage
from tasks.provenance import manifest_schema, materials, verify
from tasks.provenance.manifest_schema import CheckoutFile, Manifest, Outputs
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, write_atomic
from tasks.util.log import logger
from tasks.util.process import run

# All that a checkout needs to build; what git ignores, tests and documents stay here.
COPIED = (
    *("doit", "dodo.py", "pyproject.toml", "requirements.lock", "secrets.toml"),
    *("extensions", "kconfig", "patches", "profiles", "rootfs", "tasks"),
)
SHOWN = 10


def rebuild(settings: Settings, folder: Path, source: str, out: str, anyway: bool) -> None:
    """Build the ISO of the manifest `source` again and say whether it is the same.

    folder: what `source` and `out` are relative to; out: where to build and leave the results
    (else a folder that goes again); anyway: go on though tcbuild or tools are not those of the
    manifest.  Raises `UserError` if they are not, if an input cannot be had any more, or with
    the first difference of the result.
    """
    if not source:
        raise UserError("rebuild: from which manifest?", "./doit rebuild --from FILE.iso.manifest.json")
    wanted = manifest_schema.load(folder / source)
    if wanted.outputs is None or not wanted.outputs.files:
        raise UserError(f"{source} is not of an ISO", "the one beside the ISO is: ISO.manifest.json")
    _refuse_odd(wanted, source)
    _refuse_unless_same(settings, wanted, anyway)
    with _workshop(settings, folder / out if out else None) as top:
        checkout = top / "checkout"
        _copy(wanted, checkout)
        _pin(wanted, checkout)
        words = [f"{name}={value}" for name, value in sorted(wanted.profile.variables.items())]
        words += [f"profile={wanted.profile.name}", "frozen=1", f"out={top / 'result'}"]
        words += ["offline=1"] if settings.offline else []
        logger.info(f"rebuild: ./doit iso {' '.join(words)} in {checkout}")
        _build(checkout, words, settings, top / "rebuild.log")
        made = manifest_schema.load(
            top / "result" / f"{wanted.outputs.images[0].path}{manifest_schema.ENDING}"
        )
        assert made.outputs is not None
        _compare(made.outputs, wanted.outputs)
        image = wanted.outputs.images[0]
        logger.info(f"rebuild: equal: {image.path}, {image.size:,} bytes, sha256 {image.sha256}")


def _refuse_odd(wanted: Manifest, source: str) -> None:
    """Refuse what no manifest of tcbuild says: its words become paths and a command line."""
    name = wanted.profile.name
    if name not in profile.names():
        raise UserError(f"{source}: there is no profile {name!r} here", "take the manifest's tcbuild")
    images = [file.path for file in wanted.outputs.images] if wanted.outputs else []
    if images != [f"tcbuild-{name}.iso"] or not wanted.profile.variables.keys() <= {"fragments"}:
        raise UserError(f"{source}: its image or its variables are none of tcbuild's")


def _refuse_unless_same(settings: Settings, wanted: Manifest, anyway: bool) -> None:
    found = [*_tcbuild_differences(wanted), *_tool_differences(settings, wanted)]
    if not found:
        return
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    detail = "\n".join(f"  {line}" for line in [*found[:SHOWN], *more])
    if anyway:
        logger.info(f"rebuild: not the tcbuild or the tools of the manifest, --anyway goes on:\n{detail}")
        return
    commit = wanted.tcbuild.commit
    hint = "take that tcbuild and those versions, or see with --anyway what comes out"
    if commit and any(not line.startswith("tool ") for line in found):
        changed = " (with uncommitted changes)" if wanted.tcbuild.dirty else ""
        hint = f"git checkout {commit}{changed}, or see with --anyway what comes out"
    raise UserError("this is not the tcbuild or not the tools that the manifest names", hint, detail)


def _tcbuild_differences(wanted: Manifest) -> Iterator[str]:
    for file in wanted.tcbuild.files:
        path = ROOT / file.path
        if not os.path.lexists(path):
            yield f"{file.path} is not here"
        elif file != _as_found(file, path):
            yield f"{file.path} differs"


def _as_found(file: CheckoutFile, path: Path) -> CheckoutFile:
    found = materials.checkout_file(path)
    return found if found.path == file.path else CheckoutFile(file.path)


def _tool_differences(settings: Settings, wanted: Manifest) -> Iterator[str]:
    here = materials.tools(settings)
    for what in ("debian", "python"):
        now, before = getattr(here, what), getattr(wanted.tools, what)
        for name in sorted(now.keys() | before.keys()):
            if now.get(name) != before.get(name):
                yield f"tool {name}: {now.get(name, 'missing')}, expected {before.get(name, 'none')}"


@contextmanager
def _workshop(settings: Settings, out: Path | None) -> Iterator[Path]:
    """Yield the folder to build in: `out`, which must be empty, or one that is gone afterwards."""
    if out is not None:
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out} is not empty", "choose a new folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        yield out.absolute()
        return
    settings.output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rebuild-", dir=settings.output))
    try:
        yield folder
    finally:
        remove_tree(folder)


def _copy(wanted: Manifest, checkout: Path) -> None:
    """Copy tcbuild's own files, and lead to files of the builder's own beside the checkout."""
    checkout.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignored)
        elif (ROOT / name).is_file():
            shutil.copy2(ROOT / name, checkout / name)
    for one in inputs.sources(profile.load(wanted.profile.name)):
        name = one.local_name()
        target = Path(os.path.normpath(checkout / name))
        there = name and (ROOT / name).exists()
        if there and not target.exists() and target.is_relative_to(checkout.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((ROOT / name).resolve())


def _pin(wanted: Manifest, checkout: Path) -> None:
    """Make what the manifest names the profile's lock, and that of its recipes."""
    try:
        lock = _lock(wanted)
    except ValueError as error:
        raise UserError(f"an input of the manifest is not well-formed: {error}") from None
    write_atomic(checkout / "profiles" / f"{wanted.profile.name}.lock.toml", lock.to_toml())
    origins: dict[str, list[manifest_schema.Input]] = {}
    for one in _kind(wanted, "origin"):
        for name in one.used_by:
            origins.setdefault(name, []).append(one)
    for name, files in origins.items():
        if name not in recipe.names():
            raise UserError(f"there is no recipe for extension {name!r} here", "take the manifest's tcbuild")
        known = recipe_lock.committed(name)
        for one in files:
            if (one.name, one.sha256) not in {(file.name, file.sha256) for file in known.file}:
                message = f"{one.name}, which extension {name} is made of, is not the one locked here"
                raise UserError(message, f"its sha256 was {one.sha256}; take the manifest's tcbuild")


def _lock(wanted: Manifest) -> Lock:
    return Lock(
        package=tuple(LockedPackage(one.name, one.version, one.sha256) for one in _kind(wanted, "deb")),
        file=tuple(LockedFile(one.name, one.sha256) for one in _kind(wanted, "mirror")),
        extension=tuple(
            LockedExtension(one.name, one.sha256, one.md5, one.size, one.deps) for one in _kind(wanted, "tcz")
        ),
    )


def _kind(wanted: Manifest, kind: str) -> list[manifest_schema.Input]:
    return [one for one in wanted.inputs if one.kind == kind]


def _build(checkout: Path, words: Sequence[str], settings: Settings, log: Path) -> None:
    """Run `./doit iso`.  Raises `UserError` with the build's own message if it fails."""
    # Without a shared cache: taking the same bytes from there would prove nothing.
    environment = {"TCBUILD_CACHE": str(settings.cache), "TCBUILD_SHARED_CACHE": ""}
    environment["TCBUILD_CWD"] = str(checkout)
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
        told = lines[starts[0] :] if starts else lines[-SHOWN:]
        detail = [line for line in told[1:] if not line.startswith("  hint: ")]  # it is for another command
        hint = "an input of the manifest is no longer to be had, or a tool fails; --out DIR keeps the log"
        message = told[0].removeprefix("error: ") if told else "the build failed"
        raise UserError(message, hint, "\n".join(detail))


def _compare(made: Outputs, wanted: Outputs) -> None:
    found = list(differences(made, wanted))
    if found:
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        detail = "\n".join([*(f"  {line}" for line in found[:SHOWN]), *more])
        raise UserError("the rebuilt image differs", "--out DIR keeps it, to be looked at", detail)


def differences(made: Outputs, wanted: Outputs) -> Iterator[str]:
    """Yield how two builds differ: the image, its files, then what is in its kernel, core and extensions."""
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
        yield f"corepure64.gz: {line}"
    extensions = {item.name: item for item in made.extensions}
    for item in wanted.extensions:
        members = extensions[item.name].members if item.name in extensions else ()
        for line in verify.part_differences(members, item.members):
            yield f"{item.name}.tcz: {line}"

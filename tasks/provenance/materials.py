# SPDX-License-Identifier: MIT
"""The materials of an image, for its manifest: fetched inputs, files of the checkout, tools.

Nothing here needs the network or a finished build.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.checks import secrets
from tasks.config import inputs, plan, recipe, recipe_lock
from tasks.config.plan import Plan
from tasks.config.profile import NO_RESULT, Profile
from tasks.config.profile import load as load_profile
from tasks.config.settings import Paths
from tasks.formats import debian_control
from tasks.image.targets import carried_recipes
from tasks.kernel import edited_tree, installed
from tasks.origins.git_clone import shown
from tasks.origins.lock import CORE, LockedCommit, LockedPackage
from tasks.origins.origin_lock import OriginFile
from tasks.origins.sources.recipe import RecipeSource
from tasks.provenance import checkout_files, redaction
from tasks.provenance.manifest_schema import CheckoutFile, Input, ProfileUsed, Tcbuild, Tools, TreeUsed
from tasks.toolchain import build_root
from tasks.toolchain.tools import ready
from tasks.util import host, python_packages
from tasks.util.checkout import CHECKOUT, KINDS
from tasks.util.errors import ToolMissing, UserError
from tasks.util.files import sha256_file
from tasks.util.process import run

# The files and folders of a checkout that every image depends on, with any profile.
ALWAYS = (*("doit", "dodo.py", python_packages.PROJECT, python_packages.LOCK),)
KCONFIG = ("modules.toml", "notes.toml")
FOLDERS = ("tasks",)
CONTROL = ("Package", "Version", "Architecture", "Section", "Source")


def profile(paths: Paths, profile: Profile) -> ProfileUsed:
    """Return the resolved profile, without passwords and without the keys that change no result.

    Raises `UserError`, which names the key, if a value is a secret.
    """
    given = {}
    if profile.kernel.fragments != load_profile(paths.name).kernel.fragments:
        given["fragments"] = ",".join(profile.kernel.fragments)
    whole = dataclasses.asdict(profile)
    for key in NO_RESULT:
        del whole[key]
    # Not what is redacted: the boot menu, for one, holds a bootcode `token=...` as it is.
    secrets.refuse_in_table(f"profile {paths.name}", redaction.table(whole, redaction.without_credentials))
    return ProfileUsed(paths.name, given, redaction.table(whole))


def extensions(paths: Paths, profile: Profile) -> list[str]:
    """Return the extensions on the image or in its core with their dependencies, in the plan's order."""
    return _on_image(profile, plan.plan(profile, inputs.pinned_lock(paths)))


def recipes(paths: Paths, profile: Profile) -> list[str]:
    """Return those of `extensions` that are built from a recipe, and the recipes of container images."""
    found = plan.plan(profile, inputs.pinned_lock(paths))
    built = [name for name in _on_image(profile, found) if found.nodes[name].kind == "recipe"]
    return [*built, *(f"{recipe.IMAGES}{name}" for name in carried_recipes(profile))]


def _on_image(profile: Profile, found: Plan) -> list[str]:
    return found.closure(plan.extensions_at(profile, "onboot", "copy2fs", "ondemand", "initrd"))


def collect(paths: Paths, profile: Profile) -> tuple[Input, ...]:
    """Return the inputs that were fetched for the profile, sorted.

    Raises `UserError` if a file of the builder's own is missing.
    """
    found = [
        *_debs(paths, profile),
        *_sources(paths, profile),
        *_upstream_extensions(paths, profile),
        *_images(paths, profile),
    ]
    for name in recipes(paths, profile):
        found += [_origin(name, file) for file in _origin_files(paths, profile, name)]
    return tuple(sorted(found, key=lambda item: (item.kind, item.name, item.sha256, item.used_by)))


def _debs(paths: Paths, profile: Profile) -> list[Input]:
    users: dict[str, list[str]] = {}
    lock = inputs.used_lock(paths)
    kernel = [source.locked_in(lock) for source in profile.kernel.sources]
    for name in recipes(paths, profile):
        for origin in plan.recipe_of(profile, name).origin:
            for package in origin.apt_packages():
                users.setdefault(package, []).append(name)
        for package in inputs.needed_packages(lock, name):
            users.setdefault(package, []).append(name)
    found = []
    of_core = {*profile.core.packages, *inputs.needed_packages(lock, CORE)}
    for locked in lock.package:
        core = locked.name in of_core
        used_by = ["kernel"] if locked in kernel else []
        used_by += [*(["core"] if core else []), *users.get(locked.name, [])]
        found.append(_deb(locked, locked.cached_in(paths.cache), used_by))
    return found


def _deb(package: LockedPackage, path: Path, used_by: list[str]) -> Input:
    """Return a package with the fields of its control file (deb-control(5)).

    If the results came from the shared cache, the .deb was not fetched, and only its lock entry is
    known.
    """
    fields = control(path, CONTROL) if path.is_file() else {}
    section = fields.get("Section", "")
    return Input(
        kind="deb",
        name=package.name,
        sha256=package.sha256,
        size=path.stat().st_size if fields else 0,
        origin=f"{package.archive}: {package.path}",
        version=package.version,
        architecture=fields.get("Architecture", ""),
        component=(section.split("/")[0] if "/" in section else "main") if fields else "",
        source=fields.get("Source", package.name) if fields else "",
        used_by=tuple(dict.fromkeys(used_by)),
    )


@functools.cache
def control(deb: Path, fields: tuple[str, ...]) -> Mapping[str, str]:
    """Return the fields `fields` of a .deb's control file, without missing ones.

    The results are kept, because each manifest of a run asks for the same fields.
    """
    known = debian_control.of_package(deb)
    return {field: known[field] for field in fields if field in known}


def _sources(paths: Paths, profile: Profile) -> list[Input]:
    """Return the sources of kernel, core and container images that are not packages."""
    lock = inputs.used_lock(paths)
    users = dict.fromkeys(inputs.sources(profile), "kernel")
    users |= dict.fromkeys(profile.core.archives, "core")
    users |= {image.source: "iso" for image in profile.images if image.source in users}
    found = []
    for source, user in users.items():
        entry = source.locked_in(lock)
        if isinstance(entry, LockedCommit):
            found.append(_commit(entry, user))
            continue
        tree = source.tree()
        if tree is None:
            material = source.material(lock, paths.cache)
        elif profile.kernel.image:
            material = installed.material(paths, tree)
        else:
            material = edited_tree.material(paths, tree)
        if material:
            found.append(Input(*material, used_by=(user,)))
    return found


def _commit(entry: LockedCommit, user: str) -> Input:
    return Input(
        kind="git",
        name=shown(entry.url),
        sha256="",
        size=0,
        origin=entry.ref,
        version=entry.commit,
        source=entry.signed_by,
        used_by=(user,),
        tree=entry.tree,
    )


def _upstream_extensions(paths: Paths, profile: Profile) -> list[Input]:
    found = []
    tcz = profile.tcz.strip("/")
    for item in inputs.used_lock(paths).extension:
        imported = profile.is_imported(item.name)
        where = "imported from a medium" if imported else f"mirrors: {tcz}/{item.name}.tcz"
        more = {"md5": item.md5, "deps": item.deps, "used_by": (item.name,)}
        found.append(Input("tcz", item.name, item.sha256, item.size, where, **more))  # type: ignore[arg-type]
    return found


def _images(paths: Paths, profile: Profile) -> list[Input]:
    lock = inputs.used_lock(paths)
    found = []
    for image in profile.images:
        if isinstance(image.source, RecipeSource):
            continue  # what it is made of are inputs
        material = image.source.material(lock, paths.cache)
        if material is None:
            raise UserError(f"{image.source.label()} was not fetched yet", "./doit fetch")
        found.append(
            Input(
                "image",
                image.name,
                material.sha256,
                material.size,
                material.origin,
                version=image.digest,
                used_by=("iso",),
            )
        )
    return found


def _origin_files(paths: Paths, profile: Profile, name: str) -> tuple[OriginFile, ...]:
    """Return the locked files of a recipe: those last fetched, else those of the committed lock."""
    used = recipe_lock.used_lock(paths, name)
    committed = recipe_lock.committed_lock(name)
    origins = recipe_lock.lockable_origins(plan.recipe_of(profile, name))
    return tuple(
        file for origin in origins for file in used.of(origin.identity()) or committed.of(origin.identity())
    )


def _origin(name: str, file: OriginFile) -> Input:
    where = redaction.text(file.origin)
    return Input("origin", file.name, file.sha256, file.size, where, used_by=(name,))


def checkout(paths: Paths, profile: Profile) -> Tcbuild:
    """Return the commit of tcbuild, and the files of the checkout that the image depends on."""
    wanted = {CHECKOUT.root / name for name in ALWAYS}
    for folder in FOLDERS:
        wanted |= {path for path in (CHECKOUT.root / folder).rglob("*") if "__pycache__" not in path.parts}
    wanted |= {path for path in _read(paths, profile) if not CHECKOUT.is_in_tree(path)}
    files = [checkout_file(path) for path in sorted(wanted) if path.is_symlink() or path.is_file()]
    code = "".join(f"{file.path} {file.sha256}\n" for file in files if file.path.endswith(".py"))
    commit, dirty, _ = git_state()
    return Tcbuild(commit, dirty, hashlib.sha256(code.encode()).hexdigest(), tuple(files))


def trees(paths: Paths, profile: Profile) -> tuple[TreeUsed, ...]:
    """Return the trees with their commits, and the files of each that the image depends on."""
    read = sorted(_read(paths, profile)) if CHECKOUT.trees else []
    found = []
    for number, tree in enumerate(CHECKOUT.trees, 1):
        files = tuple(checkout_file(path) for path in read if CHECKOUT.root_of(path) == f"TREE{number}")
        found.append(TreeUsed(*tree_state(tree)[:2], files))
    return tuple(found)


def _read(paths: Paths, profile: Profile) -> set[Path]:
    """Return the files of the checkout and of trees that a profile reads, and that a tree may have.

    No locks: the inputs list the locked files that were used.
    """
    every = {CHECKOUT.find("kconfig", name) for name in KCONFIG}
    every |= {*paths.profile_files, *checkout_files.of_profile(profile, recipes(paths, profile), links=True)}
    return {path for path in every if path.is_symlink() or path.is_file()}


def checkout_file(path: Path) -> CheckoutFile:
    """Return a file of the checkout or of a tree as a manifest has it."""
    # A profile may name a folder elsewhere; a manifest must not show its path.
    name = CHECKOUT.label_of(path) if CHECKOUT.root_of(path) else path.name
    if path.is_symlink():
        return CheckoutFile(name, target=os.readlink(path))
    return CheckoutFile(name, sha256_file(path), recipe.executable(path))


def git_state() -> tuple[str, bool, str]:
    """Return the checkout's commit, whether files differ from it, and why there is no commit.

    The last is "" if there is one.  Without a commit, the first two are "" and True.  A wheel has a record of
    the commit that it was made from.
    """
    if CHECKOUT.is_installed:
        record = tomllib.loads(CHECKOUT.wheel.read_text(encoding="utf-8"))
        return record["commit"], record["changes"] or not _is_as_installed(CHECKOUT.root), ""
    head, dirty, reason, top = _state_of(CHECKOUT.root, "checkout", ())
    if head and Path(top) != CHECKOUT.root:
        return "", True, "the checkout is no git repository of its own"
    return head, dirty, reason


def _is_as_installed(root: Path) -> bool:
    """Tell whether all files that a wheel installed in `root` have the sha256 that its RECORD names.

    RECORD lies in NAME-VERSION.dist-info/ beside the package, and has a line `path,sha256=DIGEST,size` a file
    (https://packaging.python.org/specifications/recording-installed-packages).
    """
    site = root.parent
    for record in site.glob("tcbuild-*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as lines:
            named = {
                path: digest for path, digest, _ in csv.reader(lines) if path.startswith(f"{root.name}/")
            }
        known = {path: digest for path, digest in named.items() if digest}  # none for compiled modules
        return all((site / path).is_file() and _digest(site / path) == known[path] for path in known)
    return False


def _digest(path: Path) -> str:
    """Return the sha256 of a file as RECORD has it: in URL-safe base64 without padding."""
    raw = bytes.fromhex(sha256_file(path))
    return f"sha256={base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def tree_state(tree: Path) -> tuple[str, bool, str]:
    """Return the commit of a tree, which may be a part of a repository, as `git_state` does."""
    return _state_of(tree, "tree", (*KINDS, CHECKOUT.own_secrets.name))[:3]


def _state_of(folder: Path, what: str, parts: Sequence[str]) -> tuple[str, bool, str, str]:
    """Return what `git_state` does for a folder, and the top folder of its repository.

    parts: what in the folder counts; all if empty.
    """
    git = ["git", "-C", str(folder)]
    try:
        head = run([*git, "rev-parse", "--verify", "HEAD"]).stdout.strip()
        state = run([*git, "status", "--porcelain", "--", *parts]).stdout.strip()
        top = run([*git, "rev-parse", "--show-toplevel"]).stdout.strip()
    except ToolMissing as error:
        return "", True, error.message, ""
    except UserError as error:
        if "dubious ownership" in error.detail:
            command = f"git config --global --add safe.directory {shlex.quote(str(folder))}"
            return "", True, f"git refuses a {what} of another user ({command})", ""
        return "", True, f"the {what} is no git repository, or one without a commit", ""
    return head, bool(state), "", top


def tools(paths: Paths, profile: Profile) -> Tools:
    """Return the versions of the tools: those that the toolchains' locks name, or the machine's."""
    python = {pin.name: _python_package(pin.name) for pin in python_packages.pins(CHECKOUT.root)}
    record = paths.toolchain_record
    served = " ".join(record.read_text().splitlines()) if record.is_file() else ""
    chosen, of_kernel = profile.toolchain, profile.kernel_toolchain
    debian = _machine_tools() if chosen == build_root.HOST else _locked_tools(chosen)
    pinned = tuple(map(build_root.fingerprint, _pinned_toolchains(paths, profile)))
    if of_kernel == build_root.HOST:
        return Tools(debian, python, ready(paths.cache, of_kernel).fingerprint, served, pinned)
    return Tools(debian, python, build_root.fingerprint(of_kernel), served, pinned)


def _pinned_toolchains(paths: Paths, profile: Profile) -> list[str]:
    """Return the names of the toolchains with a lock that make bytes of the image, each once."""
    of_recipes = (recipe.toolchains(plan.recipe_of(profile, name)) for name in recipes(paths, profile))
    found = [*profile.toolchains, *itertools.chain(*of_recipes)]
    return [name for name in dict.fromkeys(found) if build_root.load(name).root]


def _locked_tools(toolchain: str) -> dict[str, str]:
    return {package.name: package.version for package in build_root.lock(toolchain).package}


def _machine_tools() -> dict[str, str]:
    groups = host.groups()
    wanted = sorted({package for name in ("host", "build", "compile") for package in groups[name].values()})
    try:
        argv = ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n", *wanted]
        said = run(argv, check=False).stdout
    except UserError:  # no Debian
        said = ""
    rows = [line.split(" ") for line in said.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def _python_package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"

# SPDX-License-Identifier: MIT
"""`./doit update NAME`: take the newest of one thing, and show what that changes.

A thing is what `./doit outdated` calls by one name.  Its entries leave the lock, and what `./doit lock`
does for entries that are not there makes new ones; all other entries stay as they were.  The version of
an origin, or of kernel.org's source, stands in a TOML file: it is written there, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tasks.config import inputs, plan, recipe, recipe_lock
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.fetch import outdated, packages, pin, recipe_inputs, toolchain
from tasks.fetch.inputs import NO_PACKAGES, Packages, download_packages, named_by_user, refuse_older
from tasks.origins import kinds
from tasks.origins.git_clone import shown
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import LockedOrigin
from tasks.origins.lock import CORE, Lock, LockedCommit, LockedFile, LockedPackage
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.origins.sources.base import Source
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.toolchain import build_root
from tasks.util import toml_edit
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import write_atomic, write_if_changed
from tasks.util.log import logger
from tasks.util.toml_schema import read_toml

SHOWN = 12
"""Digits of a sha256 that are shown."""


def update(settings: Settings, extra: Packages = NO_PACKAGES, names: Sequence[str] = ()) -> None:
    """Lock the newest of each of `names`, and print what changes.

    extra: the packages that recipes name, by extension.  Raises `UserError` for an unknown name, with
    `offline`, and as `inputs.lock` does; then the lock of that name does not change.
    """
    if settings.network.offline:
        raise UserError("update asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    if not names:
        raise UserError("no name is given", "./doit outdated shows the names of what is outdated")
    outdated.questions(settings, extra, names)  # refuses unknown names before anything is written
    network = dataclasses.replace(settings.network, frozen=False)
    settings = dataclasses.replace(settings, network=network)
    for name in names:
        changes = _update_one(settings, extra, name)
        logger.info(f"update: {name}: {'check the difference, then commit it' if changes else 'no change'}")


def _update_one(settings: Settings, extra: Packages, name: str) -> bool:
    """Update one thing, and log each change; tell whether there was one."""
    if name.startswith(outdated.TOOLCHAIN):
        return _toolchain(settings, name.removeprefix(outdated.TOOLCHAIN))
    sources = inputs.by_user(settings.profile).get(name)
    if sources is not None:
        return _sources(settings, sources)
    changed = False
    if name != outdated.ROOTFS and recipe.exists(name) and _locks_origins(name):
        changed = _recipe(settings, name)
    return _profile(settings, extra, name) or changed


def _locks_origins(name: str) -> bool:
    return bool(recipe_lock.lockable_origins(recipe.load(name)))


# --- what the profile's lock holds ----------------------------------------------------------


def _sources(settings: Settings, wanted: Sequence[Source]) -> bool:
    """Take the newest of sources: of a pattern of packages, of a series of kernels, of files of mirrors."""
    old = inputs.pinned_lock(settings.paths)
    edits: dict[Path, str] = {}
    for source in wanted:
        if isinstance(source, KernelOrgSource) and source is settings.profile.kernel.source:
            newest = source.newest(inputs.access(settings))
            if newest != source.version:
                edits |= _with_kernel_version(settings, newest)
                settings = _with_source(settings, dataclasses.replace(source, version=newest))
    now = [*settings.profile.kernel.sources] if edits else wanted
    gone = [source.locked_in(old) for source in wanted]
    kept = _without(old, gone)
    made = pin.pin_inputs(settings, kept)
    found_entries = [source.locked_in(made) for source in now if not source.is_package]
    files = dict.fromkeys((*kept.file, *(one for one in found_entries if isinstance(one, LockedFile))))
    commits = (*kept.commit, *(one for one in found_entries if isinstance(one, LockedCommit)))
    new = dataclasses.replace(kept, file=tuple(files), commit=commits)
    if any(source.is_package for source in now):
        found = packages.choose(settings, new, {})
        entries = [entry for source in now if isinstance(entry := source.locked_in(found), LockedPackage)]
        download_packages(settings, dataclasses.replace(found, package=tuple(entries)))
        new = _with_packages(old, new, dict.fromkeys((*new.package, *entries)), found)
    return _write(settings, old, new, edits)


def _with_kernel_version(settings: Settings, newest: str) -> dict[Path, str]:
    """Return the profile's file that says the kernel's version, with another one in it."""
    for path in settings.paths.profile_files:
        source = read_toml(path).get("kernel", {}).get("source", {})
        if "version" in source:
            inputs.refuse_foreign(path, f"profile {path.stem}")
            keys, what = ("kernel", "source", "version"), CHECKOUT.name_of(path)
            return {path: toml_edit.with_string(path.read_text(), keys, newest, what)}
    hint = 'name it in the profile: kernel.source = { kind = "kernel.org", version = ... }'
    raise UserError("the kernel's version is that of the release", hint)


def _with_source(settings: Settings, source: KernelOrgSource) -> Settings:
    kernel = dataclasses.replace(settings.profile.kernel, source=source)
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def _profile(settings: Settings, extra: Packages, name: str) -> bool:
    """Take the newest of the packages of `rootfs` or a recipe, or of an upstream extension."""
    old, named = inputs.pinned_lock(settings.paths), named_by_user(settings, extra)
    user = CORE if name == outdated.ROOTFS else name
    new = old
    if any(item.name == name for item in old.extension):
        kept = dataclasses.replace(old, extension=tuple(one for one in old.extension if one.name != name))
        made = pin.pin_inputs(settings, kept)
        extensions = {item.name: item for item in (*kept.extension, *made.extension)}
        new = dataclasses.replace(kept, extension=tuple(extensions.values()))
    if user in named:
        new = _packages(settings, new, named, user)
    return _write(settings, old, new)


def _packages(settings: Settings, old: Lock, named: Packages, user: str) -> Lock:
    """Return `old` with the newest of the packages that `user` names, and of those that these need."""
    before = {*named[user], *inputs.needed_packages(old, user)}
    kept = _without(old, [package for package in old.package if package.name in before])
    kept = dataclasses.replace(kept, needs=tuple(entry for entry in kept.needs if entry.of != user))
    found = packages.choose(settings, kept, named)
    needs = found.needs_of(user)
    assert needs is not None
    after = {*named[user], *needs.packages}
    others = {name for other, names in named.items() if other != user for name in names}
    others |= {name for entry in kept.needs for name in entry.packages}
    taken = {package.name: package for package in kept.package}
    taken |= {package.name: package for package in old.package if package.name in others}
    taken |= {package.name: package for package in found.package if package.name in after}
    chosen = dataclasses.replace(found, package=tuple(taken[name] for name in sorted(after)))
    download_packages(settings, chosen)
    entries = tuple(needs if entry.of == user else entry for entry in old.needs)
    if user not in {entry.of for entry in old.needs}:
        entries = (*entries, needs)
    return _with_packages(old, dataclasses.replace(old, needs=entries), taken.values(), found)


def _with_packages(old: Lock, new: Lock, taken: Iterable[LockedPackage], found: Lock) -> Lock:
    """Return `new` with the packages `taken`, and with the dates of `found` if one is not in `old`."""
    taken = tuple(taken)
    dates = old.archive if set(taken) <= set(old.package) else found.archive
    return dataclasses.replace(new, package=taken, archive=dates)


def _without(lock: Lock, entries: Iterable[object]) -> Lock:
    """Return a lock without some entries of packages, files and commits."""
    gone = list(entries)
    return dataclasses.replace(
        lock,
        package=tuple(entry for entry in lock.package if entry not in gone),
        file=tuple(entry for entry in lock.file if entry not in gone),
        commit=tuple(entry for entry in lock.commit if entry not in gone),
    )


def _write(settings: Settings, old: Lock, new: Lock, edits: Mapping[Path, str] | None = None) -> bool:
    """Write the profile's lock and edited files, and log the difference; tell whether there is one.

    Raises `UserError` for a package that would get older, unless `relock` is set.
    """
    if not settings.network.relock:
        refuse_older(settings.profile, old, new)
    lines = list(differences(of_lock(old), of_lock(new)))
    if not lines and not edits:
        return False
    inputs.refuse_foreign(settings.paths.own_lock, f"profile {settings.paths.name}")
    _show(lines, edits or {})
    write_if_changed(settings.paths.own_lock, new.to_toml())
    return True


# --- recipes and toolchains ---------------------------------------------------------------


def _recipe(settings: Settings, name: str) -> bool:
    """Take the newest versions of the origins that the profile takes of a recipe; write both its files."""
    path, lock_path = recipe.folder(name) / "recipe.toml", recipe_lock.path(name)
    for one in (path, lock_path):
        inputs.refuse_foreign(one, f"the recipe of {recipe.label(name)}")
    whole, old = recipe.load(name), recipe_lock.committed_lock(name)
    taken = [
        origin.identity() for origin in recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name))
    ]
    text, origins = path.read_text(), list(whole.origin)
    for number, origin in enumerate(whole.origin):
        if isinstance(origin, LockedOrigin) and origin.identity() in taken:
            with recipe_inputs.name_recipe_in_errors(name):
                version = _newest(settings, name, origin, old)
            if version != origin.version:
                keys = ("origin", number, "version")
                text = toml_edit.with_string(text, keys, version, CHECKOUT.name_of(path))
                origins[number] = dataclasses.replace(origin, version=version)
    changed = dataclasses.replace(whole, origin=tuple(origins))
    new = recipe_inputs.pinned(settings, name, changed, [_alternative(settings, name, changed)])
    lines = list(differences(of_origins(old), of_origins(new)))
    edits = {path: text} if text != path.read_text() else {}
    _show(lines, edits)
    write_if_changed(lock_path, new.to_toml())
    return bool(lines or edits)


def _alternative(settings: Settings, name: str, whole: Recipe) -> Recipe:
    wanted = next((item.alternative for item in settings.profile.extensions if item.name == name), "")
    return recipe.with_alternative(name, whole, wanted)


def _newest(settings: Settings, name: str, origin: LockedOrigin, old: OriginLock) -> str:
    """Return the newest version of an origin, its own if nothing lists versions.

    Raises `UserError` if the recipe itself has the sha256 of a version.
    """
    found = origin.newest(recipe_inputs.resources(settings, name), old.of(origin.identity()))
    if not found:
        logger.info(f"update: {origin.identity()}: nothing lists its versions")
    newer = bool(found) and found != origin.version
    if newer and isinstance(origin, ArchiveOrigin) and origin.sha256:
        by = ", ".join(origin.published_by)
        message = f"{origin.label()}: {found} is newer, and the recipe has the sha256 that {by} publishes"
        raise UserError(
            message, "write the new version and its sha256 into the recipe, then ./doit lock:NAME"
        )
    return found or origin.version


def _toolchain(settings: Settings, name: str) -> bool:
    """Lock the newest packages of a build root."""
    old = build_root.lock(name)
    toolchain.lock(settings, [name])
    lines = list(differences(of_lock(old), of_lock(build_root.lock(name))))
    _show(lines, {})
    return bool(lines)


def _show(lines: Sequence[str], edits: Mapping[Path, str]) -> None:
    """Log the lines of a difference, and write the edited files."""
    for line in lines:
        logger.info(f"update: {line}")
    for path, text in edits.items():
        write_atomic(path, text)
        logger.info(f"update: written: {CHECKOUT.name_of(path)}")


# --- the difference ---------------------------------------------------------------------------

Entries = Mapping[tuple[str, str], str]
"""What a lock says of each thing: (kind, name) -> version and hash."""


def of_lock(lock: Lock) -> dict[tuple[str, str], str]:
    """Return what a profile's lock says."""
    found = {("package", one.name): f"{one.version} {_short(one.sha256)}" for one in lock.package}
    found |= {("file", one.path): _short(one.sha256) for one in lock.file}
    found |= {("commit", f"{shown(one.url)} {one.ref}"): one.commit[:SHOWN] for one in lock.commit}
    found |= {("extension", f"{one.name}.tcz"): _short(one.sha256) for one in lock.extension}
    return found | {("needs of", one.of): ", ".join(one.packages) or "none" for one in lock.needs}


def of_origins(lock: OriginLock) -> dict[tuple[str, str], str]:
    """Return what a recipe's lock says."""
    found: dict[tuple[str, str], str] = {}
    for file in lock.file:
        name, version = _name_of(file)
        found["origin", name] = " ".join(filter(None, (version, _short(file.sha256))))
    return found


def _name_of(file: OriginFile) -> tuple[str, str]:
    """Return the name of a locked file and its version; of a kind without versions the file's, and ""."""
    kind = kinds.kind_of(file.origin)
    known = kind.package_name(file.origin, file.name) if kind else None
    if known is None:
        return file.name, ""
    return "/".join(filter(None, (known.namespace, known.name))), known.version or ""


def differences(old: Entries, new: Entries) -> Iterator[str]:
    """Yield a line for each thing that was added, is gone, or has changed."""
    for key in sorted({**old, **new}):
        name = " ".join(key)
        if key not in old:
            yield f"+ {name} {new[key]}"
        elif key not in new:
            yield f"- {name} {old[key]}"
        elif old[key] != new[key]:
            yield f"{name}: {old[key]} -> {new[key]}"


def _short(sha256: str) -> str:
    return f"sha256 {sha256[:SHOWN]}"

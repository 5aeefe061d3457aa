# SPDX-License-Identifier: MIT
"""Pin a profile's sources and upstream extensions that are not locked yet.

Only `./doit lock` uses this module.  tasks/origins/mirrors.py checks a file of a mirror when
it is pinned; from then on its sha256 decides.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from tasks.config import inputs, plan, recipe, release
from tasks.config.settings import Settings
from tasks.formats import tcz
from tasks.origins import published
from tasks.origins.git_clone import shown
from tasks.origins.http import NotFound, fetch_text
from tasks.origins.lock import Lock, LockedCommit, LockedExtension, LockedFile
from tasks.origins.mirrors import md5_file
from tasks.origins.sources.base import Access, Source
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, sha256_file
from tasks.util.log import logger

SQUASHFS = b"hsqs"  # the superblock's magic, little endian (kernel Documentation, filesystems/squashfs.rst)


def pin_inputs(settings: Settings, old: Lock) -> Lock:
    """Return the lock of the profile's sources and upstream extensions: entries of `old` and new ones.

    With `relock` all entries are new, and changes are logged.  The files of new entries lie in
    the cache.  Raises `UserError` for a file that no mirror has or that is damaged.
    """
    # A local file is never pinned: the lock takes it as it is.
    wanted = dict.fromkeys(one for one in inputs.sources(settings.profile) if not one.is_local)
    known = {one: None if settings.network.relock else one.locked_in(old) for one in wanted}
    unknown = [one for one in wanted if known[one] is None]
    access = inputs.access(settings)
    # Threads that Ctrl-C leaves behind may still write there.
    with scratch_folder(settings.paths.cache / "downloads", "lock", ignore_errors=True) as scratch:
        found = parallel.each(lambda one: _pin(one, access, scratch), unknown)
        known |= dict(zip(unknown, found, strict=True))
        extensions = _pin_extensions(settings, old, scratch)
    files = tuple(_checked(entry, access) for entry in known.values() if isinstance(entry, LockedFile))
    commits = tuple(entry for entry in known.values() if isinstance(entry, LockedCommit))
    _log_changes(old, files, extensions)
    for entry in commits:
        if entry not in old.commit:
            logger.info(f"lock: {shown(entry.url)} {entry.ref} is {entry.commit}, {_signed(entry)}")
    return Lock(file=files, extension=extensions, commit=commits)


def _signed(entry: LockedCommit) -> str:
    return f"signed by {entry.signed_by}" if entry.signed_by else "and no signature was looked at"


def _checked(entry: LockedFile, access: Access) -> LockedFile:
    """Return an entry with those who vouch for it now.  Raises `UserError` as `published.checked`."""
    known, path = access.published.get(entry.path), entry.cached_in(access.cache)
    # The lock has no md5 of a file.
    asked = known is not None and not known.sha256
    whole = asked and path.is_file() and sha256_file(path) == entry.sha256
    return published.checked(entry, known, md5_file(path) if whole else "")


def _pin(source: Source, access: Access, scratch: Path) -> LockedFile | LockedCommit | None:
    """Pin one source.  A path that nobody has seen on a mirror is said to be one."""
    try:
        return source.pin(access, scratch)
    except NotFound as error:
        guessed = release.assumed_in(source.mirror_path())
        if not guessed:
            raise
        message = f"not found on the mirror: {source.mirror_path()}"
        hint = f"tasks/config/releases/{guessed}.toml assumes this path after those of other releases; "
        hint += "look it up on a mirror, and correct it there"
        raise error.reworded(message, hint, error.message) from None


def _pin_extensions(settings: Settings, old: Lock, scratch: Path) -> tuple[LockedExtension, ...]:
    """Pin extensions until the dependencies of all of them are pinned."""
    # An imported extension stays what it is: no mirror has it.
    kept = (item for item in old.extension if settings.profile.is_imported(item.name))
    known = {item.name: item for item in (kept if settings.network.relock else old.extension)}
    absent: set[str] = set()
    while True:
        found = plan.plan(settings.profile, Lock(extension=tuple(known.values())), absent)
        if not found.missing:
            break
        ask = functools.partial(_pin_extension, settings, found.missing, scratch)
        for item in parallel.each(ask, list(found.missing)):
            if isinstance(item, str):
                absent.add(item)
            else:
                known[item.name] = item
    used = tuple(known[name] for name in sorted(found.of_kind("upstream")))
    hashes = inputs.access(settings).published
    for item in used:
        one = hashes.get(_path(settings, item.name))
        problem = one.contradiction(f"the locked {item.name}.tcz", item.sha256, item.md5) if one else ""
        if problem and not settings.profile.is_imported(item.name):
            raise UserError(problem, "./doit lock relock=1 takes the published one")
    return used


def _path(settings: Settings, name: str) -> str:
    """Return the path below a mirror of an upstream extension."""
    return f"{settings.profile.tcz.strip('/')}/{name}.tcz"


def _pin_extension(
    settings: Settings, missing: Mapping[str, str], scratch: Path, name: str
) -> LockedExtension | str:
    """Pin one extension; return only its name if no mirror but a recipe has it."""
    if settings.profile.is_imported(name):
        medium = settings.profile.imported
        message = f"{missing[name]} needs {name}.tcz, which was imported, and the lock does not have it"
        hint = f"import it again: ./doit import {medium or 'PATH'} {settings.paths.imported_name} --force"
        raise UserError(message, hint)
    path = _path(settings, name)
    access = inputs.access(settings)
    mirrors, hashes = access.mirrors, access.published.get(path)
    try:
        found = mirrors.download_unpinned(path, scratch, hashes)
    except NotFound as error:
        if name in recipe.names():
            return name
        message = f"{missing[name]} needs {name}.tcz, which no mirror has"
        raise UserError(
            message, "check the extension's name and the profile's `tcz`", error.message
        ) from None
    with found.path.open("rb") as stream:
        if stream.read(len(SQUASHFS)) != SQUASHFS:
            raise UserError(f"{found.url} is not a squashfs file", "the mirror is broken; try another one")
    text = fetch_text(f"{found.url}.dep", label=f"{name}.tcz.dep", redirects=settings.profile.redirects) or ""
    deps = tcz.parse_dep(text, f"{found.url}.dep")
    entry = LockedExtension(name, found.sha256, found.md5, found.size, deps)
    found.store(entry.cached_in(settings.paths.cache), path)
    if hashes:
        logger.info(f"lock: {path}: its {hashes.algorithm} is published by {', '.join(hashes.by)}")
    release = settings.profile.kernel.release
    if release and name.endswith(f"-{release}"):
        logger.warning(
            f"{name}.tcz holds modules of Tiny Core's own kernel; the one built here has the same "
            "release but another configuration, and may crash with them"
        )
    return entry


def _log_changes(old: Lock, files: tuple[LockedFile, ...], extensions: tuple[LockedExtension, ...]) -> None:
    before = {file.path: file.sha256 for file in old.file}
    before |= {f"{item.name}.tcz": item.sha256 for item in old.extension}
    now = {file.path: file.sha256 for file in files} | {f"{e.name}.tcz": e.sha256 for e in extensions}
    for name, sha256 in now.items():
        if before.get(name, sha256) != sha256:
            logger.info(f"lock: {name} changed: sha256 {before[name]} -> {sha256}")

"""Learn what nobody has verified yet: files and extensions below plain http mirrors.

Only `./doit lock` comes here.  What a mirror serves is checked against the md5 it
publishes (Tiny Core has FILE.md5.txt beside its extensions and distribution files),
shown to the person who asked for it, and pinned by its sha256: from then on that hash
decides, and a mirror that serves something else is refused.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.config import plan, recipe
from tasks.config.settings import Settings
from tasks.formats import tcz
from tasks.origins.http import NotFound, download_unverified, fetch_text
from tasks.origins.lock import MD5, Lock, LockedExtension, LockedFile
from tasks.util import parallel
from tasks.util.errors import UserError
from tasks.util.files import CHUNK, scratch_folder, sha256_file
from tasks.util.log import logger

SQUASHFS = b"hsqs"  # the superblock's magic, little endian (kernel Documentation, filesystems/squashfs.rst)


@dataclass(frozen=True)
class _Found:
    """A file as a mirror served it; it lies at `path` for a while."""

    path: Path
    url: str
    size: int
    md5: str
    sha256: str
    published: bool


def learn(settings: Settings, paths: list[str], old: Lock) -> Lock:
    """Return `paths` and all upstream extensions of the profile, as `old` has them or newly learned.

    With `relock` all are learned, and what changed is said.  Everything learned lies in
    the cache.  Raises `UserError` for what no mirror has, or what is damaged.
    """
    known = {} if settings.relock else {file.path: file for file in old.file}
    unknown = [path for path in dict.fromkeys(paths) if path not in known]
    # Threads that Ctrl-C leaves behind may still write there.
    with scratch_folder(settings.cache / "downloads", "lock", ignore_errors=True) as scratch:
        learned = parallel.each(lambda path: _file(settings, path, scratch), unknown)
        known |= {file.path: file for file in learned}
        extensions = _extensions(settings, old, scratch)
    files = tuple(known[path] for path in dict.fromkeys(paths))
    _tell_changes(old, files, extensions)
    return Lock(file=files, extension=extensions)


def _file(settings: Settings, path: str, scratch: Path) -> LockedFile:
    found = _bring(settings, path, scratch)
    entry = LockedFile(path, found.sha256)
    _keep(found, entry.cached_in(settings.cache))
    _show(path, found)
    return entry


def _extensions(settings: Settings, old: Lock, scratch: Path) -> tuple[LockedExtension, ...]:
    """Ask for extensions until all that any of them needs are known."""
    known = {} if settings.relock else {item.name: item for item in old.extension}
    absent: set[str] = set()
    while True:
        found = plan.plan(settings.profile, Lock(extension=tuple(known.values())), absent)
        if not found.missing:
            break
        ask = functools.partial(_extension, settings, found.missing, scratch)
        for item in parallel.each(ask, list(found.missing)):
            if isinstance(item, str):
                absent.add(item)
            else:
                known[item.name] = item
    return tuple(known[name] for name in sorted(found.of_kind("upstream")))


def _extension(
    settings: Settings, missing: Mapping[str, str], scratch: Path, name: str
) -> LockedExtension | str:
    """Learn one extension; return its name alone if only a recipe has it."""
    path = f"{settings.profile.tcz.strip('/')}/{name}.tcz"
    try:
        found = _bring(settings, path, scratch)
    except NotFound as error:
        if name in recipe.names():
            return name
        message = f"{missing[name]} wants {name}.tcz, which no mirror has"
        raise UserError(
            message, "check the extension's name and the profile's `tcz`", error.message
        ) from None
    with found.path.open("rb") as stream:
        if stream.read(len(SQUASHFS)) != SQUASHFS:
            raise UserError(f"{found.url} is no squashfs file", "the mirror is broken; try another one")
    text = fetch_text(f"{found.url}.dep", label=f"{name}.tcz.dep", redirects=settings.profile.redirects) or ""
    deps = tcz.parse_dep(text, f"{found.url}.dep")
    entry = LockedExtension(name, found.sha256, found.md5, found.size, deps)
    _keep(found, entry.cached_in(settings.cache))
    _show(path, found)
    release = settings.profile.kernel.release
    if release and name.endswith(f"-{release}"):
        logger.warning(
            f"{name}.tcz holds modules of Tiny Core's own kernel; the one built here has the same "
            "release but another configuration, and may crash with them"
        )
    return entry


def _bring(settings: Settings, path: str, scratch: Path) -> _Found:
    """Bring a file from the first mirror that has it and whose .md5.txt, if any, agrees."""
    label = Path(path).name
    urls = [f"{mirror.rstrip('/')}/{path}" for mirror in settings.profile.mirrors]
    target = scratch / hashlib.sha256(path.encode()).hexdigest()[:16] / label
    wrong: list[str] = []
    while urls or not wrong:
        url = download_unverified(urls, target, label=label, redirects=settings.profile.redirects)
        md5 = _md5_file(target)
        try:
            expected = _published_md5(settings, url, label)
        except UserError as error:
            wrong.append(error.message)
        else:
            if expected in (None, md5):
                size, sha256 = target.stat().st_size, sha256_file(target)
                return _Found(target, url, size, md5, sha256, expected is not None)
            wrong.append(f"{url} has md5 {md5}, its .md5.txt says {expected}")
        logger.info(f"{label}: {wrong[-1]}")
        urls.remove(url)
    hint = "the file or its .md5.txt is damaged there; try again later, or name another mirror"
    raise UserError(f"{label} could not be checked: {'; '.join(wrong)}", hint)


def _published_md5(settings: Settings, url: str, label: str) -> str | None:
    text = fetch_text(f"{url}.md5.txt", label=f"{label}.md5.txt", redirects=settings.profile.redirects)
    return None if text is None else parse_md5(text, label, f"{url}.md5.txt")


def parse_md5(text: str, name: str, what: str) -> str:
    """Return the md5 (32 hex digits) of `name` in md5sum's output `text`.

    A single line counts whatever file it names: Tiny Core's are made under other
    names now and then.  Raises `UserError`, with `what` in it, for anything else.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    sums = {line[1].lstrip("*").strip() if len(line) > 1 else "": line[0].lower() for line in lines}
    found = sums.get(name) or next(iter(sums.values()), "") if name in sums or len(sums) == 1 else ""
    if not MD5.fullmatch(found):
        raise UserError(f"{what} is no md5sum output: {text.strip()[:60]!r}", "try again, or another mirror")
    return found


def _md5_file(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _keep(found: _Found, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(found.path, final)


def _show(path: str, found: _Found) -> None:
    md5 = "md5 ok" if found.published else "no md5 published"
    logger.info(f"lock: {path}  {found.size:,} bytes  {md5}  sha256 {found.sha256}")


def _tell_changes(old: Lock, files: tuple[LockedFile, ...], extensions: tuple[LockedExtension, ...]) -> None:
    before = {file.path: file.sha256 for file in old.file}
    before |= {f"{item.name}.tcz": item.sha256 for item in old.extension}
    now = {file.path: file.sha256 for file in files} | {f"{e.name}.tcz": e.sha256 for e in extensions}
    for name, sha256 in now.items():
        if before.get(name, sha256) != sha256:
            logger.info(f"lock: {name} changed: sha256 {before[name]} -> {sha256}")

"""Origins of kind `archive`: a tar archive, or a single file, that upstream releases.

Where upstream publishes a checksum file (sha256sum's output), what was served is checked
against it when the hash is learnt; from then on the locked hash decides.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.config.recipe import Origin
from tasks.config.recipe_lock import FILE_NAME, LockedFile, entry_of, keep
from tasks.config.settings import Settings
from tasks.formats.archive import unpack_tar
from tasks.origins.http import download, download_unverified, fetch_text
from tasks.origins.lock import SHA256
from tasks.util.errors import UserError
from tasks.util.log import logger


def file_name(origin: Origin) -> str:
    """Return the name the file has in its first url.  Raises `UserError` for one no file should have."""
    name = PurePosixPath(origin.url_list()[0]).name
    if not FILE_NAME.fullmatch(name):
        raise UserError(f"{name!r} is no good name for a file", "use a url that ends in the file's name")
    return name


def learn(settings: Settings, origin: Origin, scratch: Path) -> tuple[LockedFile, ...]:
    """Bring the file, checked as far as upstream lets us, into the cache, and say what it is.

    Raises `UserError` if no url serves a file that the published checksum fits.
    """
    name = file_name(origin)
    urls, target = origin.url_list(), scratch / name
    expected = _published(origin, name)
    wrong: list[str] = []
    while urls:
        url = download_unverified(urls, target, label=name, redirects=origin.redirects)
        entry = entry_of(origin, name, target)
        if expected in (None, entry.sha256):
            keep(settings, entry, target)
            checked = "as published" if expected else "no checksum published"
            logger.info(f"lock: {url}  {entry.size:,} bytes  {checked}  sha256 {entry.sha256}")
            return (entry,)
        wrong.append(f"{url} has sha256 {entry.sha256}, {origin.checksums} says {expected}")
        urls.remove(url)
    hint = "the file or the checksum file is damaged there; do not lock it before you know which"
    raise UserError(f"{name} could not be checked: {'; '.join(wrong)}", hint)


def _published(origin: Origin, name: str) -> str | None:
    if not origin.checksums:
        return None
    url = origin.checksums.replace("{version}", origin.version)
    text = fetch_text(url, label=PurePosixPath(url).name, redirects=origin.redirects)
    if text is None:
        raise UserError(f"{url} does not exist", "correct `checksums` in the recipe, or leave it out")
    return parse_sha256(text, name, url)


def parse_sha256(text: str, name: str, what: str) -> str:
    """Return the sha256 (64 hex digits) of `name` in sha256sum's output `text`.

    Folders before a name do not count, and a single line counts whatever file it names.
    Raises `UserError`, with `what` in it, for anything else.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    sums = [(PurePosixPath(line[1].lstrip("*")).name if line[1:] else "", line[0].lower()) for line in lines]
    fitting = [digest for file, digest in sums if file == name] or [digest for _, digest in sums]
    if len(set(fitting)) != 1 or not SHA256.fullmatch(fitting[0]):
        raise UserError(f"{what} has no sha256 of {name}: {text.strip()[:60]!r}", "check `checksums`")
    return fitting[0]


def fetch(settings: Settings, origin: Origin, files: tuple[LockedFile, ...]) -> None:
    """Bring the locked file into the cache.  Raises `UserError` as `download` does."""
    for file in files:
        download(
            origin.url_list(),
            file.cached_in(settings.cache),
            sha256=file.sha256,
            offline=settings.offline,
            label=file.name,
            redirects=origin.redirects,
        )


def unpack(
    settings: Settings, origin: Origin, files: tuple[LockedFile, ...], scratch: Path
) -> Iterator[tuple[str, Path]]:
    """Yield the file's name and a folder of what is in it, which is the file alone if it has a mode."""
    for file in files:
        cached, folder = file.cached_in(settings.cache), scratch / origin.into
        if origin.mode:
            folder.mkdir(parents=True)
            shutil.copyfile(cached, folder / file_name(origin))
            (folder / file_name(origin)).chmod(origin.mode)
        else:
            unpack_tar(cached, folder, strip=origin.strip, label=file.name)
        yield file.name, scratch

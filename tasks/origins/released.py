# SPDX-License-Identifier: MIT
"""Files that upstream releases at addresses of its own.

If upstream publishes a checksum file (output of sha256sum), a file is checked against it
when it is pinned.  From then on the locked sha256 decides.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tasks.origins import versions
from tasks.origins.lock import SHA256
from tasks.origins.mirrors import Mirrors
from tasks.origins.origin_lock import FILE_NAME, OriginFile, entry_of, store
from tasks.origins.redirects import check_hosts
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.toml_schema import PATTERN

URL = re.compile(r"https?://[^/\s]+/[^\s?#]*[^\s?#/]")


@dataclass(frozen=True)
class Listing:
    """Where the versions of releases are listed that have such addresses: entries of released.toml.

    address: a regular expression; its group `tag` is the tag, with `{version}` in it.
    repository: the address of the git repository with the tags; `\\1` stands for the first group.
    """

    address: str
    repository: str


@dataclass(frozen=True)
class Listings:
    """The content of released.toml."""

    listing: tuple[Listing, ...]


@functools.cache
def _listings() -> tuple[Listing, ...]:
    return toml_schema.load(Path(__file__).with_name("released.toml"), Listings).listing


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """A file that upstream releases.

    urls: the addresses of the file, asked in this order; `{version}` stands for the version.
    checksums: the address of upstream's checksum file (output of sha256sum).  `./doit lock:NAME`
    checks the file against it.
    redirects: hosts that these addresses may redirect to, each `HOST`, or `http://HOST` if the
    redirect may leave https.
    sha256: the file's, if others than its authors publish it.  `./doit lock:NAME` locks the file by
    it and downloads nothing.
    published_by: who publishes that sha256.
    """

    urls: tuple[str, ...]
    checksums: str = ""
    redirects: tuple[str, ...] = ()
    sha256: str = field(default="", metadata={PATTERN: SHA256})
    published_by: tuple[str, ...] = ()

    def check_release(self) -> None:
        """Raise `ValueError` for a value that is none of its key."""
        for url in filter(None, (*self.urls, self.checksums)):
            if not URL.fullmatch(url):
                raise ValueError(f"urls, checksums: expected http(s)://HOST/PATH/FILE, got {url!r}")
        check_hosts(self.redirects)
        if bool(self.sha256) != bool(self.published_by):
            raise ValueError("sha256, published_by: one needs the other")

    def urls_of(self, version: str) -> list[str]:
        """Return `urls` with the version filled in."""
        return [url.replace(versions.VERSION, version) for url in self.urls]

    def name_of(self, version: str) -> str:
        """Return the file's name in its first url.  Raises `UserError` for an unsafe name."""
        name = PurePosixPath(self.urls_of(version)[0]).name
        if not FILE_NAME.fullmatch(name):
            raise UserError(f"{name!r} is not a safe file name", "use a url that ends in the file's name")
        return name

    def pin_version(self, version: str, cache: Path, scratch: Path) -> OriginFile:
        """Download the file into the cache, check it by upstream's checksum file, return its lock entry.

        A file with a `sha256` is locked by that, and is not downloaded yet.
        scratch: a folder on the cache's file system.
        Raises `UserError` if no url serves a file with the published checksum.
        """
        from tasks.origins.http import download_unverified  # imports requests, which most runs do not need

        name, urls = self.name_of(version), self.urls_of(version)
        identity = urls[0]
        if self.sha256:
            by = ", ".join(self.published_by)
            logger.info(f"lock: {name}  not fetched yet  sha256 {self.sha256}, published by {by}")
            return OriginFile(identity, name, self.sha256, 0, published_by=self.published_by)
        target = scratch / name
        expected = self._published(version, name)
        wrong: list[str] = []
        while urls:
            url = download_unverified(urls, target, label=name, redirects=self.redirects)
            entry = entry_of(identity, name, target)
            if expected in (None, entry.sha256):
                store(cache, entry, target)
                checked = "as published" if expected else "no checksum published"
                logger.info(f"lock: {url}  {entry.size:,} bytes  {checked}  sha256 {entry.sha256}")
                return entry
            wrong.append(f"{url} has sha256 {entry.sha256}, {self.checksums} says {expected}")
            urls.remove(url)
        hint = "the file or the checksum file is damaged there; find out which before you lock it"
        raise UserError(f"{name} could not be checked: {'; '.join(wrong)}", hint)

    def _published(self, version: str, name: str) -> str | None:
        if not self.checksums:
            return None
        from tasks.origins.http import fetch_text

        url = self.checksums.replace(versions.VERSION, version)
        text = fetch_text(url, label=PurePosixPath(url).name, redirects=self.redirects)
        if text is None:
            raise UserError(f"{url} does not exist", "correct `checksums` in the recipe, or leave it out")
        return parse_sha256(text, name, url)

    def newest_version(self, version: str) -> str:
        """Return the newest version by the tags of its repository, or by the page of the folder above.

        "" if nothing lists them.  Raises `UserError` if upstream cannot be asked.
        """
        url = self.urls[0]
        for listing in _listings():
            found = re.fullmatch(listing.address, url)
            if found and versions.VERSION in found["tag"]:
                offered = versions.of_tags(found.expand(listing.repository), found["tag"])
                return versions.newest(offered, version)
        folder = url.partition(versions.VERSION)[0].rpartition("/")[0]
        template = url.removeprefix(f"{folder}/").partition("/")[0]
        if versions.VERSION not in template or folder.endswith(":/"):
            return ""
        text = Mirrors((folder,), self.redirects).listing("")
        if text is None:
            raise UserError(f"{folder}/ lists no files")
        return versions.newest(versions.named_in(text, template), version)

    def fetch_version(self, version: str, file: OriginFile, cache: Path, *, offline: bool) -> None:
        """Fetch the locked file into the cache.  Raises `UserError` as `download` does."""
        from tasks.origins.http import download

        download(
            self.urls_of(version),
            file.cached_in(cache),
            sha256=file.sha256,
            offline=offline,
            label=file.name,
            redirects=self.redirects,
        )


def parse_sha256(text: str, name: str, what: str) -> str:
    """Return the sha256 (64 hex digits) of `name` in sha256sum's output `text`.

    Folders before a name are ignored, and a single line may name any file.
    Raises `UserError`, which names `what`, for any other text.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    sums = [(PurePosixPath(line[1].lstrip("*")).name if line[1:] else "", line[0].lower()) for line in lines]
    fitting = [digest for file, digest in sums if file == name] or [digest for _, digest in sums]
    if len(set(fitting)) != 1 or not SHA256.fullmatch(fitting[0]):
        raise UserError(f"{what} has no sha256 of {name}: {text.strip()[:60]!r}", "check `checksums`")
    return fitting[0]

# SPDX-License-Identifier: MIT
"""Origins of kind `archive`: a tar archive or a single file that upstream releases.

If upstream publishes a checksum file (output of sha256sum), the file is checked against it
when it is pinned.  From then on the locked sha256 decides.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from tasks.formats.archive import unpack_tar
from tasks.origins.kinds.base import LockedOrigin, Resources, Unpacked
from tasks.origins.lock import SHA256
from tasks.origins.origin_lock import FILE_NAME, OriginFile, entry_of, store
from tasks.origins.redirects import check_hosts
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.toml_schema import PATTERN

URL = re.compile(r"https?://[^/\s]+/[^\s?#]*[^\s?#/]")


@dataclass(frozen=True, kw_only=True)
class ArchiveOrigin(LockedOrigin):
    """A tar archive (plain, gz, xz, zst or bz2), or a single file.

    urls: the addresses of the file, asked in this order; `{version}` stands for the version.
    checksums: the address of upstream's checksum file (output of sha256sum).  `./doit lock:NAME`
    checks the file against it.
    redirects: hosts that these addresses may redirect to, each `HOST`, or `http://HOST` if the
    redirect may leave https.
    strip: the number of leading path components to remove.
    sha256: the file's, if others than its authors publish it.  `./doit lock:NAME` locks the file by
    it and downloads nothing.
    published_by: who publishes that sha256.
    mode: the mode of a single file, as 0o755.  With it, the file is not unpacked; it keeps its
    name in the first of `urls`.
    """

    urls: tuple[str, ...]
    checksums: str = ""
    redirects: tuple[str, ...] = ()
    sha256: str = field(default="", metadata={PATTERN: SHA256})
    published_by: tuple[str, ...] = ()
    strip: int = 0
    mode: int = 0
    kind: Literal["archive"] = "archive"

    list_command: ClassVar[str] = "tar -tf"

    def __post_init__(self) -> None:
        super().__post_init__()
        for url in filter(None, (*self.urls, self.checksums)):
            if not URL.fullmatch(url):
                raise ValueError(f"urls, checksums: expected http(s)://HOST/PATH/FILE, got {url!r}")
        check_hosts(self.redirects)
        if bool(self.sha256) != bool(self.published_by):
            raise ValueError("sha256, published_by: one needs the other")
        if self.mode and self.strip:
            raise ValueError("mode: a file that is not unpacked has no path components to strip")
        if not 0 <= self.mode <= 0o755 or self.strip < 0:
            raise ValueError("mode, strip: expected a mode from 0 to 0o755, and a number from 0")

    def url_list(self) -> list[str]:
        """Return `urls` with the version filled in."""
        return [url.replace("{version}", self.version) for url in self.urls]

    def identity(self) -> str:
        return self.url_list()[0]

    @classmethod
    def owns(cls, identity: str) -> bool:
        return identity.startswith(("http://", "https://"))

    def file_name(self) -> str:
        """Return the file's name in its first url.  Raises `UserError` for an unsafe name."""
        name = PurePosixPath(self.url_list()[0]).name
        if not FILE_NAME.fullmatch(name):
            raise UserError(f"{name!r} is not a safe file name", "use a url that ends in the file's name")
        return name

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Download the file into the cache, check it by upstream's checksum file, return its lock entry.

        A file with a `sha256` is locked by that, and is not downloaded yet.
        Raises `UserError` if no url serves a file with the published checksum.
        """
        from tasks.origins.http import download_unverified  # imports requests, which most runs do not need

        name = self.file_name()
        if self.sha256:
            by = ", ".join(self.published_by)
            logger.info(f"lock: {name}  not fetched yet  sha256 {self.sha256}, published by {by}")
            return (OriginFile(self.identity(), name, self.sha256, 0, published_by=self.published_by),)
        urls, target = self.url_list(), scratch / name
        expected = self._published(name)
        wrong: list[str] = []
        while urls:
            url = download_unverified(urls, target, label=name, redirects=self.redirects)
            entry = entry_of(self.identity(), name, target)
            if expected in (None, entry.sha256):
                store(resources.cache, entry, target)
                checked = "as published" if expected else "no checksum published"
                logger.info(f"lock: {url}  {entry.size:,} bytes  {checked}  sha256 {entry.sha256}")
                return (entry,)
            wrong.append(f"{url} has sha256 {entry.sha256}, {self.checksums} says {expected}")
            urls.remove(url)
        hint = "the file or the checksum file is damaged there; find out which before you lock it"
        raise UserError(f"{name} could not be checked: {'; '.join(wrong)}", hint)

    def _published(self, name: str) -> str | None:
        if not self.checksums:
            return None
        from tasks.origins.http import fetch_text

        url = self.checksums.replace("{version}", self.version)
        text = fetch_text(url, label=PurePosixPath(url).name, redirects=self.redirects)
        if text is None:
            raise UserError(f"{url} does not exist", "correct `checksums` in the recipe, or leave it out")
        return parse_sha256(text, name, url)

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked file into the cache.  Raises `UserError` as `download` does."""
        from tasks.origins.http import download

        for file in files:
            download(
                self.url_list(),
                file.cached_in(resources.cache),
                sha256=file.sha256,
                offline=resources.offline,
                label=file.name,
                redirects=self.redirects,
            )

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the file's name and a folder with its content, or with the file itself if `mode` is set."""
        for file in files:
            cached, folder = file.cached_in(resources.cache), scratch / self.into
            if self.mode:
                folder.mkdir(parents=True)
                shutil.copyfile(cached, folder / self.file_name())
                (folder / self.file_name()).chmod(self.mode)
            else:
                unpack_tar(cached, folder, strip=self.strip, label=file.name)
            yield file.name, scratch


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

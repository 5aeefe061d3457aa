# SPDX-License-Identifier: MIT
"""Files of plain http mirrors: download locked files, or files that are not locked yet.

Only `./doit lock` downloads files that are not locked.  It checks a file against the hash that
others publish, if they do, and against the md5 that the mirror publishes (Tiny Core has FILE.md5.txt
beside its extensions and distribution files), reports it to the user, and pins its sha256.  From then
on the sha256 decides, and a mirror that serves another file is refused.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tasks.origins.lock import MD5, LockedFile
from tasks.origins.published import OWN_MD5, Published
from tasks.util import toml_schema
from tasks.util.errors import UserError, WrongSha256
from tasks.util.files import CHUNK, sha256_file
from tasks.util.log import logger

LISTING_LIMIT = 16 << 20
"""Bytes of a list of files; that of kernel.org's v5.x/ has almost one million."""


@dataclass(frozen=True)
class KnownMirrors:
    """Addresses of public mirrors, asked in this order.

    tinycore: of Tiny Core's releases.
    kernel_org: of the kernel's releases, each the folder with v5.x/, v6.x/ ...
    """

    tinycore: tuple[str, ...]
    kernel_org: tuple[str, ...]


@functools.cache
def known() -> KnownMirrors:
    """Return the mirrors of mirrors.toml."""
    return toml_schema.load(Path(__file__).with_name("mirrors.toml"), KnownMirrors)


@dataclass(frozen=True)
class ServedFile:
    """A file that a mirror served; it lies at `path` until the scratch folder is removed.

    url: its address; size: bytes; md5, sha256: hex digits; published: the mirror has its md5.
    """

    path: Path
    url: str
    size: int
    md5: str
    sha256: str
    published: bool

    @property
    def site(self) -> str:
        """The server's address, without credentials."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}"

    def store(self, final: Path, path: str) -> None:
        """Move it to `final` in the cache, and log size and hashes of `path` below the mirror."""
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, final)
        md5 = "md5 ok" if self.published else "no md5 published"
        logger.info(f"lock: {path}  {self.size:,} bytes  {md5}  sha256 {self.sha256}")


@dataclass(frozen=True)
class Mirrors:
    """Servers with the same files.

    urls: their base addresses, asked in this order; redirects: hosts they may redirect to.
    """

    urls: tuple[str, ...]
    redirects: tuple[str, ...] = ()

    def urls_of(self, path: str) -> list[str]:
        """Return the address of the file at `path` on each mirror."""
        return [f"{mirror.rstrip('/')}/{path}" for mirror in self.urls]

    def download(self, path: str, final: Path, *, sha256: str, offline: bool) -> None:
        """Download the file at `path` with that sha256 to `final`.  Raises `UserError` as `http.download`."""
        from tasks.origins.http import download  # imports requests, which most runs do not need

        download(
            self.urls_of(path),
            final,
            sha256=sha256,
            offline=offline,
            label=Path(path).name,
            redirects=self.redirects,
        )

    def pin(self, path: str, cache: Path, scratch: Path, hashes: Published | None) -> LockedFile:
        """Download the file at `path`, which is not locked, into the cache; return its lock entry.

        scratch: a folder on the cache's file system; hashes: what others publish of the file.
        Raises `http.NotFound` if no mirror has it, and `UserError` if the download or the check fails.
        """
        if hashes is None or not hashes.sha256:
            found = self.download_unpinned(path, scratch, hashes)
            by = (*(hashes.by if hashes else ()), *([OWN_MD5] if found.published else ()))
            entry = LockedFile(path, found.sha256, "md5" if by else "nobody", by)
            found.store(entry.cached_in(cache), path)
            if entry.vouched == "nobody":
                logger.info(f"lock: {path}: {entry.trust}; learnt now from {found.site}")
            return entry
        entry = LockedFile(path, hashes.sha256, "sha256", hashes.by)
        final = entry.cached_in(cache)
        try:
            self.download(path, final, sha256=hashes.sha256, offline=False)
        except WrongSha256 as error:
            message = f"{path}: no mirror has the file whose sha256 is published by {', '.join(hashes.by)}"
            hint = "the mirrors serve another file; find out why before you trust it"
            raise error.reworded(message, hint) from None
        logger.info(f"lock: {path}  {final.stat().st_size:,} bytes  sha256 {entry.sha256}")
        return entry

    def download_unpinned(self, path: str, scratch: Path, hashes: Published | None = None) -> ServedFile:
        """Download a file from the first mirror that has it and whose .md5.txt, if any, matches.

        hashes: what others publish of it; a mirror that serves something else is left for the next.
        It lies below the folder `scratch`.  Raises `http.NotFound` if no mirror has it, and
        `UserError` if the download or the check fails.
        """
        from tasks.origins.http import download_unverified

        label = Path(path).name
        urls = self.urls_of(path)
        target = scratch / hashlib.sha256(path.encode()).hexdigest()[:16] / label
        wrong: list[str] = []
        while urls or not wrong:
            try:
                url = download_unverified(urls, target, label=label, redirects=self.redirects)
            except UserError as error:
                if not wrong:
                    raise
                wrong.append(error.message)  # a mirror has the file, so it is not one that nobody has
                break
            md5 = md5_file(target)
            try:
                expected = self._published_md5(url, label)
            except UserError as error:
                wrong.append(error.message)
            else:
                size, sha256 = target.stat().st_size, sha256_file(target)
                found = ServedFile(target, url, size, md5, sha256, expected is not None)
                problem = hashes.contradiction(url, sha256, md5) if hashes else ""
                if expected not in (None, md5):
                    problem = f"{url} has md5 {md5}, its .md5.txt says {expected}"
                if not problem:
                    return found
                wrong.append(problem)
            logger.info(f"{label}: {wrong[-1]}")
            urls.remove(url)
        hint = "the file or its .md5.txt is damaged there; try again later, or name another mirror"
        raise UserError(f"{label} could not be checked: {'; '.join(wrong)}", hint)

    def published_md5(self, path: str) -> str | None:
        """Return the md5 that the first mirror which answers publishes of a file; None if it has none.

        Raises `UserError` if no mirror answers, or if it is none.
        """
        text = self.listing(f"{path}.md5.txt")
        return None if text is None else parse_md5(text, Path(path).name, f"{path}.md5.txt")

    def listing(self, path: str) -> str | None:
        """Return a text of the first mirror that has it, a folder's page included; None if none has it.

        Each is asked once.  Raises `UserError` if one does not answer, and no other has it.
        """
        from tasks.origins.http import fetch_text

        problem: UserError | None = None
        for url in self.urls_of(path):
            try:
                text = fetch_text(
                    url,
                    label=Path(path).name,
                    redirects=self.redirects,
                    delays=(),
                    most=LISTING_LIMIT,
                    web_page=path == "" or path.endswith("/"),
                )
            except UserError as error:
                problem = problem or error
                continue
            if text is not None:
                return text
        if problem:
            raise problem
        return None

    def _published_md5(self, url: str, label: str) -> str | None:
        from tasks.origins.http import fetch_text

        text = fetch_text(f"{url}.md5.txt", label=f"{label}.md5.txt", redirects=self.redirects)
        return None if text is None else parse_md5(text, label, f"{url}.md5.txt")


def parse_md5(text: str, name: str, what: str) -> str:
    """Return the md5 (32 hex digits) of `name` in md5sum's output `text`.

    A single line may name any file: some of Tiny Core's name another one.  Raises `UserError`,
    which names `what`, for any other text.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    sums = {line[1].lstrip("*").strip() if len(line) > 1 else "": line[0].lower() for line in lines}
    found = sums.get(name) or next(iter(sums.values()), "") if name in sums or len(sums) == 1 else ""
    if not MD5.fullmatch(found):
        raise UserError(
            f"{what} is not output of md5sum: {text.strip()[:60]!r}", "try again, or name another mirror"
        )
    return found


def md5_file(path: Path) -> str:
    """Return the md5 of a file, 32 hex digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()

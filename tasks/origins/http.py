# SPDX-License-Identifier: MIT
"""Download one file over http(s) from a list of mirrors; verify it before it gets its final name.

The bytes received so far lie beside the final name as `NAME.part`, and the next try
requests only the rest (RFC 9110, section 14: Range, 206, 416).  What a server sends in place of
the file is refused: a web page (of a captive portal, say), or a compressed body nobody asked for.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import itertools
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from tasks.origins import http_limits
from tasks.origins.http_limits import Limits, MalformedBody, TooSlow
from tasks.origins.http_session import RedirectRefused, Session
from tasks.util.errors import UserError, WrongAddress, WrongSha256
from tasks.util.files import sha256_file, write_atomic
from tasks.util.log import logger
from tasks.util.process import CREDENTIALS
from tasks.util.progress import Progress, announce

# Seconds to wait between rounds over the mirrors, growing.
DELAYS = (1.0, 3.0, 9.0)
# Seconds to connect, and seconds without a byte.
TIMEOUT = (10.0, 60.0)
# Bytes.  Small, because a broken connection loses the block that is being read.
BLOCK = 1 << 16
# Statuses that a later try may change; every other 4xx is permanent.
TRANSIENT = (408, 429)
NOT_FOUND = (404, 410)
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# Bytes, more than any input has: a mirror that sends without end must not fill the disk.
MAX_BYTES = 8 << 30
# What an error of a library means in a user's words, the most specific first.
REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((requests.exceptions.InvalidSchema,), "neither http:// nor https://"),
    ((urllib3.exceptions.NameResolutionError,), "host name not found"),
    ((http.client.IncompleteRead,), "body cut short"),
    ((MalformedBody,), "malformed chunk"),
    ((ssl.SSLCertVerificationError,), "TLS certificate not trusted"),
    ((urllib3.exceptions.ProxyError, requests.exceptions.ProxyError), "proxy does not answer"),
    ((ConnectionRefusedError,), "connection refused"),
    ((http.client.RemoteDisconnected,), "connection closed without an answer"),
    ((ConnectionResetError,), "connection reset"),
    ((TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout), "timed out"),
)
# How a web page begins (HTML Living Standard, 13.1), after comments and an XML declaration.
WEB_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(!doctype\s+html|html|head|body|title|meta|script)\b",
    re.IGNORECASE | re.DOTALL,
)
WEB_PAGE_TYPES = ("text/html", "application/xhtml+xml")
WEB_PAGE_ENDINGS = (".html", ".htm", ".xhtml")
# Content coding (RFC 9110, 8.4.1) -> endings of files whose own bytes servers label with it.
CODING_ENDINGS = {
    "gzip": (".gz", ".tgz"),
    "x-gzip": (".gz", ".tgz"),
    "compress": (".Z",),
    "x-compress": (".Z",),
    "bzip2": (".bz2", ".tbz"),
    "x-bzip2": (".bz2", ".tbz"),
    "xz": (".xz", ".txz"),
    "x-xz": (".xz", ".txz"),
    "br": (".br",),
    "zstd": (".zst", ".tzst"),
}
# Bytes of a text file that is read as a whole; lists of dependencies are far smaller.
TEXT_LIMIT = 1 << 20


# The libraries raise a plain ValueError for some numbers and names that a server must not send.
LIBRARY_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ValueError,
)


class NotFound(WrongAddress):
    """All mirrors answered that they do not have the file (404 or 410)."""


class NotDelivered(UserError):
    """No mirror delivered the file; those of the urls `absent` answered that they do not have it."""

    def __init__(self, message: str, hint: str, absent: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.absent = tuple(absent)


class _MirrorError(Exception):
    """A mirror did not deliver the file; a later try may.  status: of its answer, 0 for another cause."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class _PermanentError(_MirrorError):
    """A failure that another try will not change."""


class _RedirectError(_PermanentError):
    """A mirror answered with a redirect that is not allowed."""


class _WrongFile(_PermanentError):
    """A mirror has another file than the locked one."""


class _NotTheFile(_PermanentError):
    """A mirror answered with something in place of the file: a web page, or a compressed body."""


def download(
    urls: Sequence[str],
    final: Path,
    *,
    sha256: str,
    offline: bool,
    label: str,
    redirects: Sequence[str] = (),
    delays: Sequence[float] = DELAYS,
    timeout: tuple[float, float] = TIMEOUT,
    limits: Limits = http_limits.FILE,
) -> None:
    """Download the file with that sha256 (64 hex digits) to `final`, from the first of `urls` that has it.

    If `final` is that file already, the network is not used.  redirects: the hosts that
    mirrors may redirect to (tasks/origins/http_session.py).  A mirror that exceeds `limits` is
    left for the next.  Raises `UserError` with every mirror's answer if none delivers the file,
    and if `offline` is set and the cache lacks it.
    """
    if _has_sha256(final, sha256):
        return
    part = final.with_name(final.name + ".part")
    if offline and not (_part_sha256(part) == sha256 and _has_sha256(part, sha256)):
        what = "in the cache is damaged" if final.exists() else "is not in the cache"
        message = f"{label}: {final.name} {what}, and offline=1 forbids to fetch it"
        raise UserError(message, "run once without offline=1")
    final.parent.mkdir(parents=True, exist_ok=True)
    with _folder_lock(final.parent, label):
        if _has_sha256(final, sha256):  # another tcbuild downloaded it while this one waited
            return
        if _part_sha256(part) != sha256:
            part.unlink(missing_ok=True)
            write_atomic(_part_sha256_file(part), sha256 + "\n")
        try:
            if not _has_sha256(part, sha256):
                _download_from_any(urls, part, sha256, label, redirects, delays, timeout, limits)
            os.replace(part, final)
        finally:
            if not part.exists():
                _part_sha256_file(part).unlink(missing_ok=True)


def download_unverified(
    urls: Sequence[str],
    final: Path,
    *,
    label: str,
    redirects: Sequence[str] = (),
    delays: Sequence[float] | None = None,
    timeout: tuple[float, float] | None = None,
) -> str:
    """Download a file whose sha256 is unknown; return the one of `urls` that delivered it.

    Only its length is checked, if the server states one.  No download is resumed: the rest could
    belong to another version.  Raises `NotFound`, or `UserError` as `download` does.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    try:
        waits = DELAYS if delays is None else delays
        url = _download_from_any(
            urls, part, "", label, redirects, waits, timeout or TIMEOUT, http_limits.FILE
        )
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
    return url


def fetch_text(
    url: str,
    *,
    label: str,
    redirects: Sequence[str] = (),
    delays: Sequence[float] | None = None,
    limits: Limits = http_limits.TEXT,
    most: int = TEXT_LIMIT,
    web_page: bool = False,
) -> str | None:
    """Return the text of a small file; None if the mirror does not have it (404 or 410).

    most: bytes that it may have; web_page: whether it may be a web page, as that of a folder.
    Raises `UserError` for any other failure, so that none is taken for a missing file.
    """
    problem = _MirrorError("")
    for delay in (*(DELAYS if delays is None else delays), None):
        try:
            return _text_from(url, redirects, limits, most, web_page)
        except LIBRARY_ERRORS as error:
            problem = _MirrorError(reason(error))
        except RedirectRefused as error:
            problem = _RedirectError(str(error))
        except _MirrorError as failure:
            problem = failure
        if isinstance(problem, _PermanentError):
            break
        if delay is not None:
            logger.info(f"{label}: {_shown(url)}: {problem}")
            time.sleep(delay)
    raise _download_error(label, {url: problem}, resumable=False)


def _text_from(url: str, redirects: Sequence[str], limits: Limits, most: int, web_page: bool) -> str | None:
    headers = {"Accept-Encoding": "identity"}
    with (
        Session(redirects, limits) as session,
        session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer,
    ):
        if answer.status_code in NOT_FOUND:
            return None
        if answer.status_code != 200:
            raise _status_error(answer)
        body = b""
        for block in answer.raw.stream(BLOCK, decode_content=False):
            body += block
            if len(body) > most:
                raise _PermanentError(f"more than {most} bytes for a small text")
        length = _content_length(answer)
        if len(body) < length:
            raise _MirrorError(f"body cut short at {len(body)} of {length} bytes")
        if coded := _coded(answer, url):
            raise _NotTheFile(coded)
        if not web_page:
            _refuse_web_page(answer, url, body)
        return body.decode(errors="replace")


def _download_from_any(
    urls: Sequence[str],
    part: Path,
    sha256: str,
    label: str,
    redirects: Sequence[str],
    delays: Sequence[float],
    timeout: tuple[float, float],
    limits: Limits,
) -> str:
    """Try all mirrors until `part` is complete; give up after `len(delays)` rounds without a new byte.

    Returns the url that delivered it.  Without a `sha256`, any complete file is accepted.  The
    bytes of mirrors that are too slow do not count, and after `limits.total` no round begins.
    """
    answers: dict[str, _MirrorError] = {}
    remaining = list(urls)
    idle, most, started = 0, _size(part), time.monotonic()
    with Session(redirects, limits) as session:
        # No compressed transfer: it has other lengths and offsets than the stored file.
        session.headers["Accept-Encoding"] = "identity"
        while remaining:
            too_slow = 0
            for url in list(remaining):
                try:
                    _download_from(session, url, part, sha256, label, timeout)
                    return url
                except _MirrorError as failure:
                    answers[url] = failure
                    too_slow += isinstance(failure.__cause__, Exception) and _is_too_slow(failure.__cause__)
                    if isinstance(failure, _PermanentError):
                        remaining.remove(url)
                logger.info(f"{label}: {_shown(url)}: {answers[url]}")
            idle = 0 if _size(part) > most and too_slow < len(remaining) else idle + 1
            most = max(most, _size(part))
            if idle > len(delays) or not remaining or time.monotonic() - started > limits.total:
                break
            time.sleep(delays[max(idle, 1) - 1] if delays else 0)
    raise _download_error(label, answers, resumable=bool(sha256))


def _download_error(label: str, answers: Mapping[str, _MirrorError], *, resumable: bool) -> UserError:
    if not answers:
        hint = "name one under `mirrors` in the profile"
        return WrongAddress(f"{label}: there is no mirror to download from", hint)
    kind = UserError
    listing = "; ".join(f"{_shown(url)}: {answer}" for url, answer in answers.items())
    if any(isinstance(answer, _WrongFile) for answer in answers.values()):
        kind = WrongSha256
        hint = "the mirrors serve another file than the locked one; "
        hint += "find out why before you lock it again (./doit lock relock=1)"
        return kind(f"{label}: no mirror has the locked file: {listing}", hint)
    if any(isinstance(answer, _NotTheFile) for answer in answers.values()):
        hint = "open the address in a browser: a login page or a proxy may stand in between"
    elif any(isinstance(answer, _RedirectError) for answer in answers.values()):
        hint = "name a mirror that has the file, or list the host it redirects to under `redirects`"
    elif all(400 <= answer.status < 500 for answer in answers.values()):
        kind = WrongAddress
        if all(answer.status in NOT_FOUND for answer in answers.values()):
            kind = NotFound
        hint = "check `mirrors` and the file's path in the profile"
    else:
        again = "continues where this one stopped" if resumable else "starts again"
        hint = f"check the network and the proxy settings; the same command {again}"
        absent = [url for url, answer in answers.items() if answer.status in NOT_FOUND]
        return NotDelivered(f"{label} could not be downloaded: {listing}", hint, absent)
    return kind(f"{label} could not be downloaded: {listing}", hint)


def _shown(url: str) -> str:
    """Return `url` for messages: without a user and password."""
    return CREDENTIALS.sub("://***@", url)


def _download_from(
    session: requests.Session,
    url: str,
    part: Path,
    sha256: str,
    label: str,
    timeout: tuple[float, float],
) -> None:
    """Complete `part` from one mirror and check it.  Raises `_MirrorError` or `_PermanentError`."""
    if not sha256:
        part.unlink(missing_ok=True)
    try:
        # The part may hold bytes of another file; then this mirror is asked for the whole one.
        for offset in (_size(part), 0):
            status, coded = _transfer(session, url, part, offset, sha256, label, timeout)
            found = sha256_file(part) if sha256 and status != 416 else ""
            if found == sha256 and status != 416:
                return
            part.unlink(missing_ok=True)
            if not offset or status == 200:
                break
    except LIBRARY_ERRORS as error:
        kind = _PermanentError if isinstance(error, ValueError | requests.TooManyRedirects) else _MirrorError
        raise kind(reason(error)) from error
    except RedirectRefused as error:
        raise _RedirectError(str(error)) from None
    if status == 416:
        raise _PermanentError("416 Range Not Satisfiable, though no range was requested", status)
    if coded:
        raise _NotTheFile(coded)
    raise _WrongFile(f"wrong sha256: expected {sha256}, got {found}")


def _transfer(
    session: requests.Session,
    url: str,
    part: Path,
    offset: int,
    sha256: str,
    label: str,
    timeout: tuple[float, float],
) -> tuple[int, str]:
    """Request the file from `offset` on and write the answer.

    Returns its status (200, 206 or 416), and what `_coded` says of it.
    """
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with session.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        status = answer.status_code
        if status == 416:
            return status, ""
        if status == 206 and offset:
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != offset:
                part.unlink()
                raise _MirrorError("answered with another range than the requested one")
        elif status == 200:
            offset = 0  # this server ignores Range and sends the whole file
        else:
            raise _status_error(answer)
        coded = _coded(answer, url)
        if coded and not sha256:
            raise _NotTheFile(coded)
        length = _content_length(answer)
        total = offset + length if length else 0
        # The raw stream, as requests would unpack a body sent as Content-Encoding: gzip.
        blocks = answer.raw.stream(BLOCK, decode_content=False)
        first = next(blocks, b"")
        if not offset:
            _refuse_web_page(answer, url, first)  # before `part` is truncated
        with part.open("ab" if offset else "wb") as sink, Progress(label, "B", total, scale=True) as progress:
            progress.advance(offset)
            for block in itertools.chain((first,), blocks):
                sink.write(block)
                progress.advance(len(block))
                if progress.done > MAX_BYTES:
                    part.unlink()
                    raise _PermanentError(f"sends more than {MAX_BYTES:,} bytes")
            sink.flush()
            os.fsync(sink.fileno())
            if total and progress.done != total:
                raise _MirrorError(f"body cut short at {progress.done} of {total} bytes")
    return status, coded


def _content_length(answer: requests.Response) -> int:
    """Return the length of the body that `answer` states, 0 if it states none that can be meant."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else 0


def _coded(answer: requests.Response, url: str) -> str:
    """Return how the body is compressed for the transfer, which no request asks for; "" if it is not.

    Many servers label a file by its own compression: `name.gz` as gzip.  Such a body is the file.
    """
    coding = re.sub(r"[^\w,+-]", "", answer.headers.get("Content-Encoding", "").lower())[:40]
    if coding in ("", "identity") or _path(url).endswith(CODING_ENDINGS.get(coding, ("/",))):
        return ""
    return f"sent compressed (Content-Encoding: {coding}), though the plain file was asked for"


def _refuse_web_page(answer: requests.Response, url: str, start: bytes) -> None:
    """Raise `_NotTheFile` if the body, which begins with `start`, is a web page and `url` names none."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    declared = kind in WEB_PAGE_TYPES and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    if (declared or WEB_PAGE.match(start)) and not _path(url).lower().endswith(WEB_PAGE_ENDINGS):
        raise _NotTheFile("answered with a web page in place of the file")


def _path(url: str) -> str:
    return urlsplit(url).path


def _status_error(answer: requests.Response) -> _MirrorError:
    status = answer.status_code
    kind = _MirrorError if status >= 500 or status in TRANSIENT else _PermanentError
    return kind(f"{status} {answer.reason or 'unexpected answer'}", status)


def reason(error: Exception) -> str:
    """Return the meaning of an error of requests or urllib3 in a few words."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, TooSlow):
            return str(cause)
    for kinds, words in REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    if any(isinstance(cause, OSError) and cause.errno == errno.ENETUNREACH for cause in causes):
        return "network unreachable"
    # urllib3 has no error type for a chunked body without its end: this one names no cause.
    if any(type(cause) is urllib3.exceptions.ProtocolError and len(cause.args) == 1 for cause in causes):
        return "body cut short"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _is_too_slow(error: Exception) -> bool:
    return any(isinstance(cause, TooSlow) for cause in _causes(error))


def _causes(error: BaseException) -> list[BaseException]:
    """Return `error` and all its causes: its arguments, its `reason`, and those of `raise ... from`."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [*one.args, getattr(one, "reason", None), one.__cause__]
    return found


@contextmanager
def _folder_lock(folder: Path, label: str) -> Iterator[None]:
    """Lock `folder` against other tcbuild processes: all checkouts of a user share the cache."""
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"{label}: waiting for another tcbuild to download it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _part_sha256_file(part: Path) -> Path:
    return part.with_name(part.name + ".sha256")


def _part_sha256(part: Path) -> str:
    """Return the sha256 of the complete file that `part` begins, "" if it is unknown."""
    try:
        return _part_sha256_file(part).read_text().strip()
    except FileNotFoundError:
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _has_sha256(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256

# SPDX-License-Identifier: MIT
"""Download one file over http(s) from a list of mirrors; verify it before it gets its final name.

The bytes received so far lie beside the final name as `NAME.part`, and the next try
requests only the rest (RFC 9110, section 14: Range, 206, 416).
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import urllib3

from tasks.origins.http_session import RedirectRefused, Session
from tasks.util.errors import UserError, WrongAddress, WrongSha256
from tasks.util.files import sha256_file, write_atomic
from tasks.util.log import logger
from tasks.util.progress import Progress

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
    ((urllib3.exceptions.NameResolutionError,), "host name not found"),
    ((http.client.IncompleteRead,), "body cut short"),
    ((ssl.SSLCertVerificationError,), "TLS certificate not trusted"),
    ((urllib3.exceptions.ProxyError, requests.exceptions.ProxyError), "proxy does not answer"),
    ((ConnectionRefusedError,), "connection refused"),
    ((http.client.RemoteDisconnected,), "connection closed without an answer"),
    ((ConnectionResetError,), "connection reset"),
    ((TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout), "timed out"),
)
# Bytes of a text file that is read as a whole; lists of dependencies are far smaller.
TEXT_LIMIT = 1 << 20


class NotFound(WrongAddress):
    """All mirrors answered that they do not have the file (404 or 410)."""


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


class _WrongPart(_MirrorError):
    """A file with parts of two mirrors is not the locked one."""


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
) -> None:
    """Download the file with that sha256 (64 hex digits) to `final`, from the first of `urls` that has it.

    If `final` is that file already, the network is not used.  redirects: the hosts that
    mirrors may redirect to (tasks/origins/http_session.py).  Raises `UserError` with every
    mirror's answer if none delivers the file, and if `offline` is set and the cache lacks it.
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
        if not _has_sha256(part, sha256):
            _download_from_any(urls, part, sha256, label, redirects, delays, timeout)
        os.replace(part, final)
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
        url = _download_from_any(urls, part, "", label, redirects, waits, timeout or TIMEOUT)
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
    return url


def fetch_text(
    url: str, *, label: str, redirects: Sequence[str] = (), delays: Sequence[float] | None = None
) -> str | None:
    """Return the text of a small file; None if the mirror does not have it (404 or 410).

    Raises `UserError` for any other failure, so that none is taken for a missing file.
    """
    problem = _MirrorError("")
    for delay in (*(DELAYS if delays is None else delays), None):
        try:
            headers = {"Accept-Encoding": "identity"}
            with (
                Session(redirects) as session,
                session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer,
            ):
                if answer.status_code in NOT_FOUND:
                    return None
                if answer.status_code != 200:
                    raise _status_error(answer)
                body = answer.raw.read(TEXT_LIMIT + 1, decode_content=False)
                length = answer.headers.get("Content-Length", "")
                if length.isdecimal() and len(body) < min(int(length), TEXT_LIMIT):
                    raise _MirrorError(f"body cut short at {len(body)} of {length} bytes")
                if len(body) > TEXT_LIMIT:
                    raise _PermanentError(f"more than {TEXT_LIMIT} bytes for a small text")
                return bytes(body).decode(errors="replace")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            problem = _MirrorError(reason(error))
        except RedirectRefused as error:
            problem = _RedirectError(str(error))
        except _MirrorError as failure:
            problem = failure
        if isinstance(problem, _PermanentError):
            break
        if delay is not None:
            logger.info(f"{label}: {url}: {problem}")
            time.sleep(delay)
    raise _download_error(label, {url: problem}, resumable=False)


def _download_from_any(
    urls: Sequence[str],
    part: Path,
    sha256: str,
    label: str,
    redirects: Sequence[str],
    delays: Sequence[float],
    timeout: tuple[float, float],
) -> str:
    """Try all mirrors until `part` is complete; give up after `len(delays)` rounds without a new byte.

    Returns the url that delivered it.  Without a `sha256`, any complete file is accepted.
    """
    answers: dict[str, _MirrorError] = {}
    remaining = list(urls)
    idle, most = 0, _size(part)
    with Session(redirects) as session:
        # No compressed transfer: it has other lengths and offsets than the stored file.
        session.headers["Accept-Encoding"] = "identity"
        while remaining:
            for url in list(remaining):
                try:
                    _download_from(session, url, part, sha256, label, timeout)
                    return url
                except _MirrorError as failure:
                    answers[url] = failure
                    if isinstance(failure, _PermanentError):
                        remaining.remove(url)
                logger.info(f"{label}: {url}: {answers[url]}")
            idle = 0 if _size(part) > most else idle + 1
            most = max(most, _size(part))
            if idle > len(delays) or not remaining:
                break
            time.sleep(delays[max(idle, 1) - 1] if delays else 0)
    raise _download_error(label, answers, resumable=bool(sha256))


def _download_error(label: str, answers: Mapping[str, _MirrorError], *, resumable: bool) -> UserError:
    if not answers:
        hint = "name one under `mirrors` in the profile"
        return WrongAddress(f"{label}: there is no mirror to download from", hint)
    kind = UserError
    listing = "; ".join(f"{url}: {answer}" for url, answer in answers.items())
    if any(isinstance(answer, _WrongFile | _WrongPart) for answer in answers.values()):
        kind = WrongSha256
        hint = "the mirrors serve another file than the locked one; "
        hint += "find out why before you lock it again (./doit lock relock=1)"
    elif any(isinstance(answer, _RedirectError) for answer in answers.values()):
        hint = "name a mirror that has the file, or list the host it redirects to under `redirects`"
    elif all(400 <= answer.status < 500 for answer in answers.values()):
        absent = all(answer.status in NOT_FOUND for answer in answers.values())
        kind = NotFound if absent else WrongAddress
        hint = "check `mirrors` and the file's path in the profile"
    else:
        again = "continues where this one stopped" if resumable else "starts again"
        hint = f"check the network and the proxy settings; the same command {again}"
    return kind(f"{label} could not be downloaded: {listing}", hint)


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
    offset = _size(part)
    try:
        status = _transfer(session, url, part, offset, label, timeout)
        if status == 416 and offset:
            # The part is at least as long as the mirror's file, and it is not that file.
            part.unlink()
            offset = 0
            status = _transfer(session, url, part, offset, label, timeout)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        kind = _PermanentError if isinstance(error, ValueError | requests.TooManyRedirects) else _MirrorError
        raise kind(reason(error)) from error
    except RedirectRefused as error:
        raise _RedirectError(str(error)) from None
    if status == 416:
        raise _PermanentError("416 Range Not Satisfiable, though no range was requested", status)
    found = sha256_file(part) if sha256 else ""
    if found != sha256:
        part.unlink()
        # Bytes of another mirror may be the cause; then this mirror gets another try.
        raise (_WrongPart if status == 206 else _WrongFile)(f"wrong sha256: expected {sha256}, got {found}")


def _transfer(
    session: requests.Session,
    url: str,
    part: Path,
    offset: int,
    label: str,
    timeout: tuple[float, float],
) -> int:
    """Request the file from `offset` on and write the answer; return its status (200, 206 or 416)."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with session.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        status = answer.status_code
        if status == 416:
            return status
        if status == 206 and offset:
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != offset:
                part.unlink()
                raise _MirrorError("answered with another range than the requested one")
        elif status == 200:
            offset = 0  # this server ignores Range and sends the whole file
        else:
            raise _status_error(answer)
        length = answer.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else 0
        with part.open("ab" if offset else "wb") as sink, Progress(label, "B", total, scale=True) as progress:
            progress.advance(offset)
            # The raw stream, as requests would unpack a body sent as Content-Encoding: gzip.
            for block in answer.raw.stream(BLOCK, decode_content=False):
                sink.write(block)
                progress.advance(len(block))
                if progress.done > MAX_BYTES:
                    raise _PermanentError(f"sends more than {MAX_BYTES:,} bytes")
            sink.flush()
            os.fsync(sink.fileno())
            if total and progress.done != total:
                raise _MirrorError(f"body cut short at {progress.done} of {total} bytes")
    return status


def _status_error(answer: requests.Response) -> _MirrorError:
    status = answer.status_code
    kind = _MirrorError if status >= 500 or status in TRANSIENT else _PermanentError
    return kind(f"{status} {answer.reason or 'unexpected answer'}", status)


def reason(error: Exception) -> str:
    """Return the meaning of an error of requests or urllib3 in a few words."""
    causes = _causes(error)
    for kinds, words in REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    if any(isinstance(cause, OSError) and cause.errno == errno.ENETUNREACH for cause in causes):
        return "network unreachable"
    # urllib3 has no error type for a chunked body without its end: this one names no cause.
    if any(type(cause) is urllib3.exceptions.ProtocolError and len(cause.args) == 1 for cause in causes):
        return "body cut short"
    return f"{type(error).__name__}: {error}".splitlines()[0]


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
            logger.info(f"{label}: waiting for another tcbuild to download it")
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

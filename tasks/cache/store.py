# SPDX-License-Identifier: MIT
"""Stores of the shared cache: a folder, a web server, or a storage that fsspec has a driver for.

A store keeps named files (`entries/KEY.json`, `archives/SHA256.tar.zst`) and does not look into
them.  tcbuild does not trust a store: tasks/cache/entry.py checks every file that is read from
it, so a truncated file does no harm.

http(s) uses requests: fsspec's own driver has no DELETE and needs aiohttp with seven further
packages.  The server must answer GET.  To store entries it must also answer PUT (RFC 9110,
9.3.4), as nginx does with `dav_methods PUT DELETE` and `create_full_put_path on`, or any WebDAV
server.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from tasks.util.errors import UserError
from tasks.util.files import CHUNK, atomic_path, is_temporary
from tasks.util.process import CREDENTIALS

# Seconds to connect, and seconds to wait for the next byte.
TIMEOUT = (10.0, 60.0)
ABSENT = (404, 410)
REFUSED = (401, 403, 405, 409, 413, 501, 507)
# URL scheme -> Python package of fsspec's driver.  fsspec's own message names the others.
DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
DAY = 86400


class Absent(Exception):
    """The store has no such file."""


class Refused(Exception):
    """The store refuses the request; a retry would not help."""


class Unreachable(Exception):
    """The store does not answer, or gives an unexpected answer."""


class TooLarge(Exception):
    """The file is larger than the limit of the reader."""


@dataclass(frozen=True)
class Item:
    """A file of a store; size: in bytes; used: when it was last written or used (Unix time)."""

    name: str
    size: int
    used: float

    @property
    def partial(self) -> bool:
        """Whether the file is unfinished: a writer is at work, or was killed."""
        return is_temporary(Path(self.name).name)


class Store(Protocol):
    """The interface of a store.  All methods but `items` raise the exceptions above."""

    display_name: str
    """The address without user and password, for messages."""

    def read(self, name: str, target: Path, limit: int) -> None:
        """Copy the file `name` of at most `limit` bytes to `target`."""

    def write(self, name: str, source: Path) -> None:
        """Store a copy of `source` as `name`."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def touch(self, name: str) -> None:
        """Record that a file was used, if the store can."""

    def items(self, folder: str) -> list[Item]:
        """Return all files in a folder.  Raises `UserError` if the store cannot list them."""


def is_folder(address: str) -> bool:
    """Return whether an address names a folder, not another machine."""
    return "://" not in address or address.lower().startswith("file://")


def open_store(address: str) -> Store:
    """Return the store at `address`: a path, or a URL of a scheme that fsspec has a driver for.

    Raises `UserError` if there is no such driver.
    """
    scheme = address.partition("://")[0].lower()
    if is_folder(address):
        path = unquote(urlsplit(address).path) if scheme == "file" else address
        return Folder(Path(path).absolute())
    if scheme in ("http", "https"):
        return Http(address)
    return Remote(address, scheme)


class Folder:
    """A local or mounted folder."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.display_name = str(top)

    def read(self, name: str, target: Path, limit: int) -> None:
        try:
            with (self.top / name).open("rb") as source, target.open("wb") as sink:
                _copy(iter(lambda: source.read(CHUNK), b""), sink, limit)
        except (FileNotFoundError, NotADirectoryError):
            raise Absent from None
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from None

    def write(self, name: str, source: Path) -> None:
        try:
            with atomic_path(self.top / name) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise Refused(error.strerror or str(error)) from None

    def remove(self, name: str) -> None:
        try:
            (self.top / name).unlink(missing_ok=True)
        except OSError as error:
            raise Refused(error.strerror or str(error)) from None

    def touch(self, name: str) -> None:
        try:
            os.utime(self.top / name)
        except OSError as error:
            raise Refused(error.strerror or str(error)) from None

    def items(self, folder: str) -> list[Item]:
        found = []
        if (self.top / folder).is_dir():
            for entry in os.scandir(self.top / folder):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # another writer has just renamed it to its final name
                    continue
                if entry.is_file(follow_symlinks=False):
                    found.append(Item(f"{folder}/{entry.name}", status.st_size, status.st_mtime))
        return found


class Http:
    """A web server that answers GET and, unless it is read-only, PUT and DELETE."""

    def __init__(self, address: str) -> None:
        import requests  # not needed by runs without such a cache

        from tasks.origins import http_limits

        self.address = address.rstrip("/")
        self.display_name = CREDENTIALS.sub("://***@", self.address)
        self._requests = requests
        self._session = requests.Session()
        http_limits.limit(self._session, http_limits.FILE)

    def _request(self, method: str, name: str, **more: Any) -> Any:
        url = f"{self.address}/{quote(name)}"
        try:
            answer = self._session.request(method, url, timeout=TIMEOUT, **more)
        except self._requests.RequestException as error:
            from tasks.origins.http import reason

            raise Unreachable(reason(error)) from None
        if answer.ok:
            return answer
        with answer:
            said = f"{method}: {answer.status_code} {answer.reason}"
            if answer.status_code in ABSENT:
                raise Absent(said)
            raise (Refused if answer.status_code in REFUSED else Unreachable)(said)

    def read(self, name: str, target: Path, limit: int) -> None:
        headers = {"Accept-Encoding": "identity"}
        with self._request("GET", name, headers=headers, stream=True) as answer, target.open("wb") as sink:
            try:
                _copy(answer.iter_content(CHUNK), sink, limit)
            except self._requests.RequestException as error:
                from tasks.origins.http import reason

                raise Unreachable(reason(error)) from None

    def write(self, name: str, source: Path) -> None:
        try:
            self._put(name, source)
        except (Absent, Refused):
            # A WebDAV server requires that the folder exists (RFC 4918, 9.7.1); others do not know MKCOL.
            try:
                self._request("MKCOL", name.rpartition("/")[0])
                self._put(name, source)
            except (Absent, Refused) as error:
                raise Refused(str(error)) from None

    def _put(self, name: str, source: Path) -> None:
        from tasks.origins import http_limits

        with source.open("rb") as stream:
            self._request("PUT", name, data=http_limits.Upload(stream, http_limits.FILE))

    def remove(self, name: str) -> None:
        try:
            self._request("DELETE", name)
        except Absent:
            return

    def touch(self, name: str) -> None:
        """Do nothing: HTTP has no request that records a use."""

    def items(self, folder: str) -> list[Item]:
        raise UserError(
            f"{self.display_name}: a web server does not list its files",
            "run this on the server itself, with cache=FOLDER",
        )


class Remote:
    """Any other storage that fsspec has a driver for, such as s3; fsspec's own configuration applies."""

    def __init__(self, address: str, scheme: str) -> None:
        import fsspec

        self.display_name = CREDENTIALS.sub("://***@", address.rstrip("/"))
        try:
            self._fs, top = fsspec.core.url_to_fs(address)
        except ImportError as error:
            package = DRIVERS.get(scheme, "")
            hint = f"artifacts/.venv/bin/pip install {package}" if package else str(error)
            if package == "s3fs":
                hint = f"start tcbuild by ./doit, which installs it, or {hint}"
            raise UserError(
                f"cache={self.display_name}: the driver for {scheme} is not installed", hint
            ) from None
        except ValueError as error:
            hint = "give a folder, http://, https://, s3:// or another address that fsspec knows"
            raise UserError(f"cache={self.display_name}: {error}", hint) from None
        self._top = top.rstrip("/")
        self._made: set[str] = set()

    def _path(self, name: str) -> str:
        return f"{self._top}/{name}"

    def read(self, name: str, target: Path, limit: int) -> None:
        try:
            with self._fs.open(self._path(name), "rb") as source, target.open("wb") as sink:
                _copy(iter(lambda: source.read(CHUNK), b""), sink, limit)
        except FileNotFoundError:
            raise Absent from None
        except TooLarge:
            raise
        except Exception as error:  # each driver raises exceptions of its own
            raise _driver_error(error) from None

    def write(self, name: str, source: Path) -> None:
        try:
            parent = self._path(name).rpartition("/")[0]
            if parent not in self._made:
                self._fs.makedirs(parent, exist_ok=True)
                self._made.add(parent)
            self._fs.put_file(str(source), self._path(name))
        except Exception as error:
            raise _driver_error(error) from None

    def remove(self, name: str) -> None:
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise _driver_error(error) from None

    def touch(self, name: str) -> None:
        # An object store changes a file's time only when the file is written; once a day is enough.
        try:
            path = self._path(name)
            if time.time() - self._fs.modified(path).timestamp() > DAY:
                self._fs.pipe_file(path, self._fs.cat_file(path))
        except Exception as error:
            raise _driver_error(error) from None

    def items(self, folder: str) -> list[Item]:
        found = []
        try:
            self._fs.invalidate_cache()
            for about in self._fs.find(self._path(folder), detail=True).values():
                used = self._fs.modified(about["name"]).timestamp()
                name = f"{folder}/{about['name'].rpartition('/')[2]}"
                found.append(Item(name, int(about["size"] or 0), used))
        except FileNotFoundError:
            return []
        except NotImplementedError:
            raise UserError(f"{self.display_name} does not report when its files were written") from None
        except Exception as error:
            raise _driver_error(error) from None
        return found


def _driver_error(error: Exception) -> Exception:
    text = CREDENTIALS.sub("://***@", " ".join(str(error).split())) or type(error).__name__
    return (Refused if isinstance(error, PermissionError) else Unreachable)(text)


def _copy(blocks: Iterator[bytes], sink: Any, limit: int) -> None:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit:
            raise TooLarge(f"more than {limit:,} bytes")
        sink.write(block)

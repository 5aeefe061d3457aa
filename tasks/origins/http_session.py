# SPDX-License-Identifier: MIT
"""The session of all http requests: it follows only allowed redirects and reads within limits.

A locked sha256 verifies a file wherever it comes from.  Redirects are restricted all the
same: nothing else verifies a file while it is pinned, and another host would see the request.
The session follows redirects to the same host by the same scheme or by https, and to hosts
that a profile or recipe lists under `redirects`: `HOST`, or `http://HOST` if the redirect
may leave https.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from tasks.origins import http_limits
from tasks.origins.http_limits import Limits

MAX_REDIRECTS = 10


class RedirectRefused(Exception):
    """A redirect of a mirror is not allowed; the text names its target."""


def refusal(here: str, target: str, listed: Sequence[str]) -> str:
    """Return why the redirect from `here` to `target` (absolute addresses) is refused, "" if not."""
    try:
        old, new = urlsplit(here), urlsplit(target)
        host = (new.hostname or "").lower()
    except ValueError:
        return "redirected to a malformed address"
    if new.scheme not in ("http", "https") or not host:
        return f"redirected to a {new.scheme or 'nameless'} address"
    # The message leaves out user information and query: both may hold a password.
    place = f"{new.scheme}://{host}"
    by_http = {item.removeprefix("http://").lower() for item in listed if item.startswith("http://")}
    if old.scheme == "https" and new.scheme == "http" and host not in by_http:
        return f"redirected from https to {place}, which anybody on the network path can change"
    known = {item.removeprefix("http://").lower() for item in listed}
    if host != (old.hostname or "").lower() and host not in known:
        return f"redirected to another host, {place}; list {host} under `redirects` to allow it"
    return ""


class Session(requests.Session):
    """A session that follows redirects only within a host and to the hosts `listed`.

    Its requests raise `RedirectRefused` for any other redirect, and `TooManyRedirects`.  Answers
    are read within `limits`.
    """

    def __init__(self, listed: Sequence[str] = (), limits: Limits = http_limits.FILE) -> None:
        super().__init__()
        http_limits.limit(self, limits)
        self.listed = tuple(listed)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, so that `request` follows redirects: the library would read a body without end."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Request `url`, follow redirects, and return the final answer."""
        follow = options.pop("allow_redirects", True)
        options["allow_redirects"] = False
        for _ in range(MAX_REDIRECTS + 1):
            answer = super().request(method, url, *args, **options)
            location = super().get_redirect_target(answer)
            if location is None or not follow:
                return answer
            answer.close()
            try:
                url = urljoin(answer.url, location)
            except ValueError:
                raise RedirectRefused("redirected to a malformed address") from None
            why = refusal(answer.url, url, self.listed)
            if why:
                raise RedirectRefused(why)
        raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")

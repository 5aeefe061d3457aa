"""Which way a mirror may send a download: the session that all requests go through.

A locked sha256 decides what a file is, wherever it comes from.  Redirects are held back
all the same: while a hash is learnt nothing else vouches for a file, and another host
learns who asks for what.  Followed are those to the same host by the same scheme or by
https, and to hosts that a profile or recipe lists under `redirects`: `HOST`, or
`http://HOST` where the way there may leave https.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

MAX_REDIRECTS = 10


class RedirectRefused(Exception):
    """A mirror sent the download where it must not go; the text says where."""


def refusal(here: str, target: str, listed: Sequence[str]) -> str:
    """Return why the redirect from `here` to `target` (absolute addresses) is not followed, "" if it is."""
    try:
        old, new = urlsplit(here), urlsplit(target)
        host = (new.hostname or "").lower()
    except ValueError:
        return "redirected to what is no address"
    if new.scheme not in ("http", "https") or not host:
        return f"redirected to a {new.scheme or 'nameless'} address"
    # Neither what stands before the host nor a query is told: both may hold a password.
    place = f"{new.scheme}://{host}"
    by_http = {item.removeprefix("http://").lower() for item in listed if item.startswith("http://")}
    if old.scheme == "https" and new.scheme == "http" and host not in by_http:
        return f"redirected from https to {place}, which anybody on the way can change"
    known = {item.removeprefix("http://").lower() for item in listed}
    if host != (old.hostname or "").lower() and host not in known:
        return f"redirected to another host, {place}; list {host} under `redirects` to allow it"
    return ""


class Session(requests.Session):
    """A session that follows only redirects within a host, and to those `listed`.

    Its requests raise `RedirectRefused` for any other, and `TooManyRedirects`.
    """

    def __init__(self, listed: Sequence[str] = ()) -> None:
        super().__init__()
        self.listed = tuple(listed)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Leave redirects to `request`: the library reads their bodies, which may never end."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Ask for `url` and return the answer that is no redirect."""
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
                raise RedirectRefused("redirected to what is no address") from None
            why = refusal(answer.url, url, self.listed)
            if why:
                raise RedirectRefused(why)
        raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")

# SPDX-License-Identifier: MIT
"""The keys `mirrors` of profiles, and `redirects` of profiles and recipes: where files may come from."""

from __future__ import annotations

import re
from collections.abc import Iterable

HOST = re.compile(
    r"(http://)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
ADDRESS = re.compile(r"https?://[^/\s]+\S*")


def check_mirrors(addresses: Iterable[str]) -> None:
    """Raise `ValueError` unless every item of a `mirrors` array is http://HOST… or https://HOST…."""
    for address in addresses:
        if not ADDRESS.fullmatch(address):
            raise ValueError(f"mirrors: expected http://HOST… or https://HOST…, got {address!r}")


def check_hosts(hosts: Iterable[str]) -> None:
    """Raise `ValueError` unless every item of a `redirects` array is HOST or http://HOST."""
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ValueError(f"redirects: expected HOST or http://HOST, got {host!r}")

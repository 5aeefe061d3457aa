# SPDX-License-Identifier: MIT
"""The key `redirects` of profiles and recipes: the hosts that a mirror may redirect to."""

from __future__ import annotations

import re
from collections.abc import Iterable

HOST = re.compile(
    r"(http://)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def check_hosts(hosts: Iterable[str]) -> None:
    """Raise `ValueError` unless every item of a `redirects` array is HOST or http://HOST."""
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ValueError(f"redirects: expected HOST or http://HOST, got {host!r}")

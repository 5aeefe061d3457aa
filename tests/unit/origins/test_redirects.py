# SPDX-License-Identifier: MIT
"""The hosts that a mirror may send a download to."""

from __future__ import annotations

import pytest

from tasks.origins.redirects import check_hosts


def test_hosts_are_taken_with_and_without_http() -> None:
    check_hosts(["example.org", "http://a-b.example.org", "localhost", "10.0.0.1"])


@pytest.mark.parametrize(
    "host", ["", "https://example.org", "example.org/path", "example.org:80", "-a.org", "a..org", "a.org\n"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="redirects: expected HOST or http://HOST, got"):
        check_hosts(["example.org", host])

# SPDX-License-Identifier: MIT
"""Archives as origins: what their published checksum files say."""

from __future__ import annotations

import hashlib

import pytest

from tasks.origins.kinds.archive import parse_sha256
from tasks.util.errors import UserError

CONTENT = b"what upstream released"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SHA256}  tool\n", SHA256),
        (f"{SHA256.upper()} *./bin/tool\n{OTHER}  tool.sig\n", SHA256),
        (f"\n{SHA256}  under-another-name\n\n", SHA256),
        (SHA256, SHA256),
        (f"{SHA256}  a\n{OTHER}  b\n", ""),
        (f"{SHA256}  a/tool\n{OTHER}  b/tool\n", ""),
        ("<html>not found</html>", ""),
        ("d41d8cd98f00b204e9800998ecf8427e  tool\n", ""),
        ("", ""),
    ],
)
def test_checksum_files(text: str, found: str) -> None:
    if found:
        assert parse_sha256(text, "tool", "URL") == found
    else:
        with pytest.raises(UserError, match="URL has no sha256 of tool"):
            parse_sha256(text, "tool", "URL")

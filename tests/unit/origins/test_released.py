# SPDX-License-Identifier: MIT
"""Files that upstream releases: what their published checksum files say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import Resources
from tasks.origins.origin_lock import OriginFile
from tasks.origins.released import parse_sha256
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


def test_a_hash_that_others_publish_locks_the_file_without_a_download(tmp_path: Path) -> None:
    origin = ArchiveOrigin(
        version="1.2",
        urls=("http://127.0.0.1:1/tool-{version}.tgz",),
        checksums="http://127.0.0.1:1/sums",
        sha256=SHA256,
        published_by=("one", "two"),
    )
    resources = Resources(
        cache=tmp_path, offline=False, logs=tmp_path, debs=lambda names: {}, recipe=lambda name: []
    )
    assert origin.pin(resources, tmp_path) == (
        OriginFile(origin.identity(), "tool-1.2.tgz", SHA256, 0, published_by=("one", "two")),
    )
    assert list(tmp_path.iterdir()) == []

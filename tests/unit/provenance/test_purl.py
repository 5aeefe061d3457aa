# SPDX-License-Identifier: MIT
"""The package URLs of inputs."""

from __future__ import annotations

import pytest

from tasks.provenance import purl
from tests.support.smallimage import manifest_of

URLS = {
    "libc6": "pkg:deb/debian/libc6@2.36-9?arch=amd64",
    "@a+b@1.2.tgz": "pkg:npm/%40a/b@1.2",
    "Node_js-1.2-py3-none-any.whl": "pkg:pypi/node-js@1.2?file_name=node_js-1.2-py3-none-any.whl",
    "linux": f"pkg:generic/linux?checksum=sha256:{'8' * 64}",
    "11.x/rootfs64.gz": f"pkg:generic/rootfs64.gz?checksum=sha256:{'2' * 64}",
}


@pytest.mark.parametrize("name", list(URLS))
def test_inputs_have_package_urls(name: str) -> None:
    one = next(one for one in manifest_of(None).inputs if one.name == name)
    assert purl.purl(one).lower() == URLS[name].lower()

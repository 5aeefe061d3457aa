# SPDX-License-Identifier: MIT
"""The CycloneDX document: valid by the official validator, complete, and the same each time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.formats.iso_layout import File
from tasks.provenance.sbom import cyclonedx
from tasks.provenance.sbom import spdx as sbom_spdx
from tasks.util.errors import UserError
from tests.support.imageparts import IMAGE, LIBC, PARTS, WHEN


def test_cyclonedx_lists_parts_with_what_they_hold_and_need() -> None:
    text = cyclonedx.cyclonedx(PARTS, IMAGE, WHEN)
    assert text == cyclonedx.cyclonedx(PARTS, IMAGE, WHEN)
    found: dict[str, Any] = json.loads(text)
    assert found["specVersion"] == "1.6"
    parts = {one["name"]: one for one in found["components"]}
    assert set(parts) == {"linux", "core", "tool", "more"}
    assert {one["purl"] for one in parts["tool"]["components"]} == {
        "pkg:deb/debian/libc6@2.36-9?arch=amd64",
        "pkg:npm/%40a/b@1.0",
    }
    assert parts["core"]["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert parts["core"]["components"][0]["licenses"] == [{"expression": LIBC.licence}]
    assert "--- a" in parts["linux"]["pedigree"]["patches"][0]["diff"]["text"]["content"]
    needs = {one["ref"]: one.get("dependsOn", []) for one in found["dependencies"]}
    assert needs["part:more"] == ["part:core", "part:tool"]
    assert found["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")


def test_documents_that_are_not_valid_are_refused() -> None:
    broken = cyclonedx.cyclonedx(PARTS, IMAGE, WHEN).replace("SHA-256", "SHA-0")
    with pytest.raises(UserError, match="CycloneDX document is not valid"):
        cyclonedx.check_cyclonedx(broken)
    with pytest.raises(UserError, match="SPDX document is not valid"):
        sbom_spdx.text(PARTS, File("x.iso", 1, "short"), WHEN)

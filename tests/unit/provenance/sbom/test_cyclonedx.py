"""Bills of materials: valid by the official validators, complete, and the same each time."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from packageurl import PackageURL
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tasks.formats.iso_layout import File
from tasks.provenance.sbom import cyclonedx
from tasks.provenance.sbom import spdx as sbom_spdx
from tasks.provenance.sbom.components import ImagePart, Material
from tasks.util.errors import UserError

WHEN = datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC)
IMAGE = File("x.iso", 1, "a" * 64)
LIBC = Material(
    PackageURL("deb", "debian", "libc6", "2.36-9", {"arch": "amd64"}),
    *("libc6", "2.36-9", "b" * 64, "LGPL-2.1-or-later AND LicenseRef-Debian-other"),
)
NPM = Material(PackageURL("npm", "@a", "b", "1.0"), "@a/b", "1.0", "c" * 64, "MIT OR Apache-2.0")
PARTS = [
    ImagePart("linux", "6.1", "d" * 64, "kernel", "", (), patches=(("0001-x.patch", "--- a\n+++ b\n"),)),
    ImagePart("core", "", "e" * 64, "initramfs", "", (LIBC,), ("linux",)),
    ImagePart("tool", "1", "f" * 64, "", "GPLv2", (LIBC, NPM), ("core",)),
    ImagePart("more", "1", "0" * 64, "", "", (NPM,), ("tool", "core")),
]


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


def test_spdx_says_what_contains_and_what_depends() -> None:
    text = sbom_spdx.text(PARTS, IMAGE, WHEN)
    assert text == sbom_spdx.text(PARTS, IMAGE, WHEN)
    parser: Any = JsonLikeDictParser
    assert validate_full_spdx_document(parser().parse(json.loads(text))) == []
    found: dict[str, Any] = json.loads(text)
    assert found["spdxVersion"] == "SPDX-2.3"
    ids = {one["SPDXID"]: one for one in found["packages"]}
    related = {
        (ids[one["spdxElementId"]]["name"], one["relationshipType"], ids[one["relatedSpdxElement"]]["name"])
        for one in found["relationships"]
        if one["spdxElementId"] in ids
    }
    assert {
        ("x.iso", "CONTAINS", "tool"),
        ("tool", "CONTAINS", "libc6"),
        ("core", "CONTAINS", "libc6"),
    } <= related
    assert ("more", "DEPENDS_ON", "tool") in related
    libc = [one for one in ids.values() if one["name"] == "libc6"]
    assert len(libc) == 1, "one package, though two parts contain it"
    assert libc[0]["externalRefs"][0]["referenceLocator"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64"
    assert found["hasExtractedLicensingInfos"][0]["licenseId"] == "LicenseRef-Debian-other"


def test_documents_that_are_not_valid_are_refused() -> None:
    broken = cyclonedx.cyclonedx(PARTS, IMAGE, WHEN).replace("SHA-256", "SHA-0")
    with pytest.raises(UserError, match="CycloneDX document is not valid"):
        cyclonedx.check_cyclonedx(broken)
    with pytest.raises(UserError, match="SPDX document is not valid"):
        sbom_spdx.text(PARTS, File("x.iso", 1, "short"), WHEN)

# SPDX-License-Identifier: MIT
"""The SPDX document: valid by the official validator, complete, and the same each time."""

from __future__ import annotations

import json
from typing import Any

from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tasks.provenance.sbom import spdx as sbom_spdx
from tests.support.imageparts import IMAGE, PARTS, WHEN


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

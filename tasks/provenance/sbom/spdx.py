# SPDX-License-Identifier: MIT
"""The SPDX 2.3 document of an image (spdx.github.io/spdx-spec/v2.3), by spdx-tools."""

from __future__ import annotations

import datetime
import hashlib
import io
import re
from collections.abc import Sequence

from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_tools.spdx.writer.json import json_writer

from tasks.formats.iso_layout import File
from tasks.provenance.sbom.components import ImagePart, Material
from tasks.util.errors import UserError

LICENCE_REF = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
SHOWN = 5


def text(parts: Sequence[ImagePart], image: File, when: datetime.datetime) -> str:
    """Return the document as JSON.  Raises `UserError` if spdx-tools' validator refuses it."""
    document = _document(parts, image, when)
    check(document)
    stream = io.StringIO()
    json_writer.write_document_to_stream(document, stream, validate=False)
    return stream.getvalue().rstrip("\n") + "\n"


def check(document: Document) -> None:
    """Raise `UserError` unless spdx-tools finds the document valid."""
    wrong = validate_full_spdx_document(document)
    if wrong:
        lines = "\n".join(f"  {message.validation_message[:200]}" for message in wrong[:SHOWN])
        raise UserError(f"the SPDX document is not valid in {len(wrong)} places", detail=lines)


def _document(parts: Sequence[ImagePart], image: File, when: datetime.datetime) -> Document:
    top = _package("SPDXRef-image", image.path, "", image.sha256, purpose=PackagePurpose.OPERATING_SYSTEM)
    packages = {top.spdx_id: top}
    relations = [("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, top.spdx_id)]
    for part in parts:
        mine = _id("part", part.name)
        packages[mine] = _package(mine, part.name, part.version, part.sha256, comment=_comment(part))
        relations.append((top.spdx_id, RelationshipType.CONTAINS, mine))
        known = {other.name for other in parts}
        needed = [_id("part", name) for name in part.needs if name in known]
        relations += [(mine, RelationshipType.DEPENDS_ON, other) for other in needed]
        for material in part.materials:
            its = _id(material.purl.type, f"{material.name}-{material.version}-{material.sha256[:12]}")
            packages[its] = _material(its, material)
            made = RelationshipType.GENERATED_FROM if part.name == "linux" else RelationshipType.CONTAINS
            relations.append((mine, made, its))
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=image.path,
        # Unique to the image; the address has no content.
        document_namespace=f"https://tcbuild.example/spdx/{image.sha256}",
        creators=[Actor(ActorType.TOOL, "tcbuild")],
        created=when.replace(tzinfo=None),
        data_license="CC0-1.0",
    )
    used = sorted(
        {name for part in parts for one in part.materials for name in LICENCE_REF.findall(one.licence)}
    )
    return Document(
        creation_info=info,
        packages=list(packages.values()),
        relationships=[Relationship(one, kind, other) for one, kind, other in dict.fromkeys(relations)],
        extracted_licensing_info=[
            ExtractedLicensingInfo(
                license_id=name,
                extracted_text="See the package's copyright file, which calls it "
                + name.removeprefix("LicenseRef-Debian-"),
            )
            for name in used
        ],
    )


def _comment(part: ImagePart) -> str | None:
    said = [f"Licence by its .info: {part.licence}"] if part.licence else []
    said += [f"Patched by {name}" for name, _ in part.patches]
    return "\n".join(said) or None


def _package(
    ref: str,
    name: str,
    version: str,
    sha256: str,
    *,
    purpose: PackagePurpose | None = None,
    comment: str | None = None,
) -> Package:
    return Package(
        spdx_id=ref,
        name=name,
        download_location=SpdxNoAssertion(),
        version=version or None,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, sha256)] if sha256 else [],
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        primary_package_purpose=purpose,
        comment=comment,
    )


def _material(ref: str, material: Material) -> Package:
    package = _package(ref, material.name, material.version, material.sha256)
    if material.licence:
        package.license_declared = spdx_licensing.parse(material.licence)
    url = material.purl.to_string()
    package.external_references = [
        ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", url)
    ]
    return package


def _id(kind: str, name: str) -> str:
    """Return a unique SPDX id of letters, digits, dots and dashes."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name)
    unique = "" if plain == name else "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"SPDXRef-{kind}-{plain}{unique}"

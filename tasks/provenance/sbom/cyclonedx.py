# SPDX-License-Identifier: MIT
"""Software bills of materials: CycloneDX 1.6 and SPDX 2.3 as JSON, validated before they are written.

The libraries come from the two projects: cyclonedx-python-lib, which includes the official JSON
schema, and spdx-tools, which includes a validator.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from typing import Any

from cyclonedx.model import AttachedText, HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tasks.checks import secrets
from tasks.config.settings import Settings
from tasks.formats import iso_layout
from tasks.provenance import manifest, manifest_schema
from tasks.provenance.sbom import spdx
from tasks.provenance.sbom.components import NAMED_WITH_GROUP, ImagePart, Material, collect
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.log import logger

NAMESPACE = uuid.UUID("54434f52-4520-4c49-4e55-580000000001")
ENDINGS = (".cdx.json", ".spdx.json")


def build(settings: Settings) -> None:
    """Write ISO.cdx.json and ISO.spdx.json from the ISO's manifest.

    Raises `UserError` if there is no manifest, or a document is not valid or holds a secret.
    """
    made = manifest_schema.load(manifest.path_of(settings.paths.iso))
    parts = collect(settings, made)
    assert made.outputs is not None
    image = made.outputs.images[0]
    epoch = settings.profile.source_date_epoch
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    texts = (cyclonedx(parts, image, when), spdx.text(parts, image, when))
    for ending, text in zip(ENDINGS, texts, strict=True):
        path = settings.paths.iso.with_name(settings.paths.iso.name + ending)
        secrets.refuse_in_table(path.name, json.loads(text))
        write_if_changed(path, text)
        count = sum(len(part.materials) for part in parts)
        logger.info(f"{path.name}: valid, {len(parts)} parts made from {count} packages")


def cyclonedx(parts: Iterable[ImagePart], image: iso_layout.File, when: datetime.datetime) -> str:
    """Return the CycloneDX document as JSON.  Raises `UserError` if it violates the official schema."""
    top = Component(
        name=image.path,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        hashes=_hashes(image.sha256),
    )
    components = [_part(part) for part in parts]
    refs = {component.name: component.bom_ref for component in components}
    needed = [
        Dependency(refs[part.name], [Dependency(refs[name]) for name in part.needs if name in refs])
        for part in parts
    ]
    bom = Bom(
        serial_number=uuid.uuid5(NAMESPACE, image.sha256),
        metadata=BomMetaData(component=top, timestamp=when),
        components=components,
        dependencies=[Dependency(top.bom_ref, [Dependency(ref) for ref in refs.values()]), *needed],
    )
    text = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    check_cyclonedx(text)
    return text


def check_cyclonedx(text: str) -> None:
    """Raise `UserError` unless `text` is valid against the official CycloneDX 1.6 JSON schema."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        error: Any = wrong.data
        raise UserError("the CycloneDX document is not valid", detail=f"  {str(error.message)[:400]}")


def _part(part: ImagePart) -> Component:
    diffs = [
        Patch(
            type=PatchClassification.UNOFFICIAL,
            diff=Diff(text=AttachedText(content=text, content_type="text/x-diff")),
        )
        for _, text in part.patches
    ]
    names = [
        Property(name=f"tcbuild:patch:{number}", value=name) for number, (name, _) in enumerate(part.patches)
    ]
    return Component(
        name=part.name,
        version=part.version or None,
        type=ComponentType.OPERATING_SYSTEM if part.name == "linux" else ComponentType.APPLICATION,
        bom_ref=f"part:{part.name}",
        description=part.description or None,
        hashes=_hashes(part.sha256),
        licenses=[DisjunctiveLicense(name=part.licence)] if part.licence else [],
        pedigree=Pedigree(patches=diffs) if diffs else None,
        properties=names,
        components=[_material(part, material) for material in part.materials],
    )


def _material(part: ImagePart, material: Material) -> Component:
    return Component(
        name=material.purl.name,
        group=material.purl.namespace if material.purl.type in NAMED_WITH_GROUP else None,
        version=material.version or None,
        type=ComponentType.LIBRARY,
        bom_ref=f"part:{part.name}/{material.purl.to_string()}#{material.sha256[:16]}",
        purl=material.purl,
        hashes=_hashes(material.sha256),
        licenses=[LicenseExpression(material.licence)] if material.licence else [],
    )


def _hashes(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []

# SPDX-License-Identifier: MIT
"""Provenance: an in-toto Statement v1 with a SLSA Provenance v1 predicate, made from a manifest.

Formats: in-toto attestation framework, spec/v1/statement.md; SLSA v1.0, provenance.md.  The
statement is a file of its own, with a detached signature beside it (tasks/provenance/signature.py).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tasks.checks import secrets
from tasks.config import architecture
from tasks.config.settings import Paths
from tasks.provenance import manifest, manifest_schema, signature
from tasks.provenance.manifest_schema import Input, Manifest, Outputs, TreeUsed
from tasks.provenance.purl import purl
from tasks.util.checkout import caller_folder
from tasks.util.files import write_if_changed
from tasks.util.log import logger

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
# Tag URIs (RFC 4151) with a reserved domain name (RFC 2606); they lead to no page.
BUILD_TYPE = "tag:tcbuild.example,2026:doit-iso/v1"
BUILDER = "tag:tcbuild.example,2026:own-machine"
ENDING = ".provenance.json"


def build(paths: Paths, key: str) -> None:
    """Write ISO.provenance.json; with a `key` (path of a secret key), sign it and the manifest.

    Raises `UserError` if the ISO has no manifest, if the key cannot be used, or for a secret.
    """
    where = manifest.path_of(paths.iso)
    made = manifest_schema.load(where)
    final = paths.iso.with_name(paths.iso.name + ENDING)
    digest = manifest.file_of(where).sha256
    stated = statement(made, where.name, digest)
    secrets.refuse_in_table(final.name, stated)
    write_if_changed(final, json.dumps(stated, indent=1, sort_keys=True) + "\n")
    logger.info(f"{final.name}: {len(made.inputs)} inputs")
    if not key:
        return
    for path in (where, final):
        signed = signature.sign(path, caller_folder() / Path(key).expanduser())
        logger.info(f"signed: {signed.name}")


def statement(made: Manifest, name: str, digest: str) -> dict[str, Any]:
    """Return the statement about a manifest's outputs; name, digest: file name and sha256 of the manifest."""
    assert made.outputs is not None
    variables = made.profile.variables | {"profile": made.profile.name}
    trees = (_tree(number, tree) for number, tree in enumerate(made.trees, 1))
    dependencies = [_tcbuild(made), *trees, *(_dependency(one) for one in made.inputs)]
    return {
        "_type": STATEMENT,
        "subject": subjects(made.outputs),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"task": "iso", "variables": variables},
                "internalParameters": {
                    "config": made.config,
                    "tools": manifest_schema.plain(made.tools),
                    "code": made.tcbuild.code,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"tcbuild": made.tcbuild.commit or made.tcbuild.code}},
                "byproducts": [{"name": name, "digest": {"sha256": digest}}],
            },
        },
    }


def subjects(outputs: Outputs) -> list[dict[str, Any]]:
    """Return the subjects of the statement: the image, its kernel, its core, its extensions."""
    found = {file.path: file.sha256 for file in outputs.images}
    found[outputs.kernel.vmlinuz.path] = outputs.kernel.vmlinuz.sha256
    cores = [one.files.core for one in architecture.every()]
    for file in outputs.files:
        name = file.path.rpartition("/")[2]
        if name in cores:
            found[name] = file.sha256
    found |= {f"{item.name}.tcz": item.sha256 for item in outputs.extensions}
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in found.items()]


def _tcbuild(made: Manifest) -> dict[str, Any]:
    about: dict[str, Any] = {"name": "tcbuild", "digest": {"sha256": made.tcbuild.code}}
    if made.tcbuild.commit:
        about["digest"]["gitCommit"] = made.tcbuild.commit
    return about | {"annotations": {"dirty": made.tcbuild.dirty}}


def _tree(number: int, tree: TreeUsed) -> dict[str, Any]:
    listed = "".join(f"{file.path} {file.sha256}{file.target}\n" for file in tree.files)
    digest = {"sha256": hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()}
    digest |= {"gitCommit": tree.commit} if tree.commit else {}
    return {"name": f"tree{number}", "digest": digest, "annotations": {"dirty": tree.dirty}}


def _dependency(one: Input) -> dict[str, Any]:
    digest = {"gitCommit": one.version} if one.kind == "git" else {"sha256": one.sha256}
    found = {"name": one.name, "uri": purl(one), "digest": digest}
    return found | {"annotations": {"kind": one.kind, "origin": one.origin, "usedBy": list(one.used_by)}}

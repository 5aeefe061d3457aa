# SPDX-License-Identifier: MIT
"""The in-toto statement, read by in-toto's own library."""

from __future__ import annotations

import json

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from tasks.provenance import slsa
from tests.support.smallimage import manifest_of
from tests.unit.provenance.test_manifest_schema import outputs


def test_in_totos_own_library_accepts_the_statement() -> None:
    said = slsa.statement(manifest_of(outputs()), "x.manifest.json", "0" * 64)
    parsed = json_format.Parse(json.dumps(said), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = json_format.Parse(json.dumps(said["predicate"]), provenance_pb2.Provenance())
    assert parsed.predicate_type == "https://slsa.dev/provenance/v1"
    assert {subject.name for subject in parsed.subject} == {"boot/x", "vmlinuz64", "a.tcz"}
    names = [one.name for one in predicate.build_definition.resolved_dependencies]
    assert names == ["tcbuild", *(one.name for one in manifest_of(None).inputs)]
    digests = [dict(one.digest)["sha256"] for one in predicate.build_definition.resolved_dependencies]
    assert digests[1:] == [one.sha256 for one in manifest_of(None).inputs]

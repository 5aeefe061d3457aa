# SPDX-License-Identifier: MIT
"""The in-toto statement, read by in-toto's own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from tasks.config.settings import Settings
from tasks.provenance import manifest, manifest_schema, slsa
from tasks.util.errors import UserError
from tests.support.secrets import token
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


def test_a_statement_with_a_secret_is_not_written(make_settings: Callable[..., Settings]) -> None:
    """The manifest that it is made from may be older than the pattern that finds the secret."""
    paths, secret = make_settings().paths, token()
    made = manifest_of(outputs())
    named = replace(made, profile=replace(made.profile, variables={"fragments": secret}))
    paths.iso.parent.mkdir(parents=True)
    manifest.path_of(paths.iso).write_text(manifest_schema.to_json(named))
    with pytest.raises(UserError, match=r"\.provenance\.json holds .*variables\.fragments: a GitHub token"):
        slsa.build(paths, "")
    assert not list(paths.iso.parent.glob("*.provenance.json"))


def test_trees_are_dependencies_with_their_commits() -> None:
    file = manifest_schema.CheckoutFile("kconfig/a.config", "a" * 64)
    trees = (manifest_schema.TreeUsed("c" * 40, False, (file,)), manifest_schema.TreeUsed("", True, ()))
    said = slsa.statement(replace(manifest_of(outputs()), trees=trees), "x.manifest.json", "0" * 64)
    one, two = said["predicate"]["buildDefinition"]["resolvedDependencies"][1:3]
    assert (one["name"], one["digest"]["gitCommit"], one["annotations"]) == (
        "tree1",
        "c" * 40,
        {"dirty": False},
    )
    assert (two["name"], [*two["digest"]], two["annotations"]) == ("tree2", ["sha256"], {"dirty": True})
    assert one["digest"]["sha256"] != two["digest"]["sha256"]

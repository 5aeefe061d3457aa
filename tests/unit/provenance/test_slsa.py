"""The in-toto statement, read by in-toto's own library; package URLs; two builds compared."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from tasks.provenance import purl, rebuild, slsa
from tasks.provenance.manifest_schema import ArchiveMember, CoreArchive, Outputs
from tests.support.smallimage import manifest_of
from tests.unit.provenance.test_manifest_schema import outputs

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


def changed(**more: object) -> Outputs:
    return replace(outputs(), **more)  # type: ignore[arg-type]


FILE = outputs().files[0]
OTHER = replace(FILE, sha256="0" * 64)


@pytest.mark.parametrize(
    ("made", "first"),
    [
        (changed(images=(OTHER,)), f"boot/x: sha256 {'0' * 64}, expected {FILE.sha256}"),
        (changed(outside=(OTHER,)), "boot/x: sha256"),
        (changed(files=(OTHER,)), "boot/x: differs"),
        (changed(files=()), "boot/x: only in one"),
        (changed(kernel=replace(outputs().kernel, modules=(OTHER,))), "module boot/x: differs"),
        (changed(kernel=replace(outputs().kernel, config=OTHER)), "the kernel's .config differs"),
        (
            changed(core=(CoreArchive("xz", outputs().core[0].members),)),
            "corepure64.gz: archive 1: is compressed",
        ),
        (
            changed(core=(CoreArchive("gzip", outputs().core[0].members[::-1]),)),
            "corepure64.gz: archive 1: the members are the same, but in another order",
        ),
        (
            changed(extensions=(replace(outputs().extensions[0], members=()),)),
            "a.tcz: 'na",
        ),
    ],
)
def test_the_first_difference_of_two_builds_is_named(made: Outputs, first: str) -> None:
    assert list(rebuild.differences(outputs(), outputs())) == []
    assert next(iter(rebuild.differences(made, outputs()))).startswith(first)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", "-rwsr-xr-x"), ("owner", "1:0"), ("mtime", 2), ("target", "x"), ("device", "1:1")],
)
def test_every_property_of_a_member_counts(field: str, value: object) -> None:
    part = ArchiveMember("p", "-rw-r--r--", "0:0", 1, 3, "c" * 64)
    other = replace(part, **{field: value})  # type: ignore[arg-type]
    made = changed(core=(CoreArchive("gzip", (other,)),))
    wanted = changed(core=(CoreArchive("gzip", (part,)),))
    assert list(rebuild.differences(made, wanted)) == [
        f"corepure64.gz: archive 1: 'p': {field} is {value!r}, expected {getattr(part, field)!r}"
    ]

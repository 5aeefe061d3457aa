# SPDX-License-Identifier: MIT
"""Manifests as files: what is written is read again, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.formats.iso_layout import File
from tasks.provenance import manifest_schema
from tasks.provenance.manifest_schema import ArchiveMember, CoreArchive, Extension, Kernel, Manifest, Outputs
from tasks.util.errors import UserError
from tests.support.secrets import token
from tests.support.smallimage import manifest_of

ODD = "na\udcffme'\" \n\u20ac"


def outputs() -> Outputs:
    part = ArchiveMember(ODD, "-rw-r--r--", "0:0", 1, 3, "c" * 64, xattrs={"security.capability": "d" * 64})
    link = ArchiveMember("l", "lrwxrwxrwx", "0:0", 1, target=ODD)
    file = File("boot/x", 3, "e" * 64)
    return Outputs(
        images=(file,),
        kernel=Kernel("6.1", file, File("vmlinuz64", 3, "e" * 64), (file,)),
        core=(CoreArchive("gzip", (part, link)),),
        extensions=(Extension("a", 1, "f" * 64, ("b-KERNEL",), (part,)),),
        files=(file,),
        outside=(file,),
    )


def test_half_a_character_is_no_path(tmp_path: Path) -> None:
    """A byte that is not UTF-8 stands as U+DC80 to U+DCFF; no file has any other half."""
    path = tmp_path / "x.manifest.json"
    manifest_schema.write(path, manifest_of(outputs()))
    path.write_text(path.read_text().replace("na\\udcff", "na\\ud800"))
    with pytest.raises(UserError, match="is not a manifest: it has a path that no file can have"):
        manifest_schema.load(path)


@pytest.mark.parametrize("made", [manifest_of(None), manifest_of(outputs())], ids=["inputs", "image"])
def test_what_is_written_is_read_again(tmp_path: Path, made: Manifest) -> None:
    path = tmp_path / "x.manifest.json"
    manifest_schema.write(path, made)
    assert manifest_schema.load(path) == made
    first = path.read_bytes()
    manifest_schema.write(path, manifest_schema.load(path))
    assert path.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("format", 2, "format: expected 1, got 2"),
        ("format", True, "format: expected"),
        ("inputs", None, "inputs: expected an array"),
        ("inputs", [{"kind": "rpm"}], "expected one of 'deb'"),
        ("more", 1, "unknown key 'more'"),
        ("tcbuild", {}, "missing key 'tcbuild.commit'"),
        ("commands", {"iso": "x"}, "commands.iso: expected an array"),
        ("outputs", {"images": []}, "missing key 'outputs.kernel'"),
    ],
)
def test_what_does_not_fit_is_named(key: str, value: Any, says: str) -> None:
    data = json.loads(manifest_schema.to_json(manifest_of(None)))
    with pytest.raises(UserError) as caught:
        manifest_schema.parse(json.dumps(data | {key: value}).encode(), "m.json")
    assert str(caught.value).startswith("m.json")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[]", b"1", b"[" * 100_000, b'{"a": ' * 100_000, b"NaN"]
)
def test_what_is_no_manifest_is_one_error(data: bytes) -> None:
    with pytest.raises(UserError, match=r"m\.json"):
        manifest_schema.parse(data, "m.json")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_one_error(data: bytes) -> None:
    with pytest.raises(UserError):
        manifest_schema.parse(data, "m.json")


def _slots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(slot for key, item in items for slot in _slots(item, (*path, key)))]


WHOLE = json.loads(manifest_schema.to_json(manifest_of(outputs())))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(_slots(WHOLE)[1:]), JSON)
def test_any_value_in_any_place_loads_or_is_one_error(slot: tuple[Any, ...], value: Any) -> None:
    data = json.loads(json.dumps(WHOLE))
    place = data
    for key in slot[:-1]:
        place = place[key]
    place[slot[-1]] = value
    try:
        loaded = manifest_schema.parse(json.dumps(data).encode(), "m.json")
    except UserError:
        return
    assert manifest_schema.parse(manifest_schema.to_json(loaded).encode(), "m.json") == loaded


def test_a_manifest_with_a_secret_is_not_written(tmp_path: Path) -> None:
    secret = token()
    made = replace(manifest_of(outputs()), commands={"iso": ("xorriso", f"x {secret}")})
    with pytest.raises(UserError) as caught:
        manifest_schema.write(tmp_path / "x.manifest.json", made)
    assert caught.value.message == (
        "x.manifest.json holds what looks like a secret: commands.iso.1: a GitHub token, at byte 2"
    )
    assert list(tmp_path.iterdir()) == []

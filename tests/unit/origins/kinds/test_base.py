# SPDX-License-Identifier: MIT
"""The kinds of origins: what a recipe may say of each, and what each is found by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.config import recipe, recipe_lock
from tasks.origins import kinds
from tasks.origins.kinds import AnyOrigin
from tasks.origins.kinds.apt import AptOrigin
from tasks.origins.kinds.archive import ArchiveOrigin
from tasks.origins.kinds.base import LockedOrigin, Origin
from tasks.origins.kinds.go import GoOrigin
from tasks.origins.kinds.module import ModuleOrigin
from tasks.origins.kinds.npm import NpmOrigin
from tasks.origins.kinds.source import SourceOrigin
from tasks.origins.kinds.wheel import WheelOrigin
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

APT = {"kind": "apt", "packages": ["p"]}
ARCHIVE = {"kind": "archive", "urls": ["http://h/a-{version}.tgz"], "version": "1.2"}
WHEEL = {"kind": "wheel", "package": "a.b-C", "version": "1", "tag": "py3-none-any"}
NPM = {"kind": "npm", "package": "tool", "version": "1.0", "node": "nodejs"}
SOURCE = {"kind": "source", "version": "1.2", "build": "make", "source": {"kind": "folder", "path": "src"}}
MODULE = {"kind": "module", "version": "1.2", "source": {"kind": "folder", "path": "src"}}
GIT = {"kind": "git", "url": "https://h/mine.git", "commit": "1" * 40}
GO = {"kind": "go", "module": "example.org/A/tool", "version": "1.2.3-rc1", "packages": ["./cmd/tool"]}


def build(table: dict[str, Any], **more: Any) -> Origin:
    """Return the origin as a recipe says it; a key given as None is left out."""
    table = {name: value for name, value in (table | more).items() if value is not None}
    origin: Origin = toml_schema.build(table, AnyOrigin, "recipe.toml", "origin[0]")
    return origin


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        *((APT, AptOrigin), (ARCHIVE, ArchiveOrigin), (WHEEL, WheelOrigin), (NPM, NpmOrigin), (GO, GoOrigin)),
        (MODULE, ModuleOrigin),
        (SOURCE, SourceOrigin),
    ],
)
def test_the_kind_decides_what_an_origin_is(table: dict[str, Any], kind: type[Origin]) -> None:
    assert type(build(table)) is kind


def test_every_module_of_a_kind_is_in_the_union() -> None:
    folder = CHECKOUT.root / "tasks/origins/kinds"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "compiled", "crates"}
    assert {kind.__module__.rpartition(".")[2] for kind in kinds.ALL} == modules
    assert set(toml_schema.kinds(kinds.ALL)) == modules


@pytest.mark.parametrize(
    ("table", "identity"),
    [
        (
            ARCHIVE | {"urls": ["http://h/v{version}/a-{version}.tgz", "http://i/a.tgz"]},
            "http://h/v1.2/a-1.2.tgz",
        ),
        (WHEEL, "a_b_C-1-py3-none-any.whl"),
        (NPM, "npm:tool@1.0"),
        (GO, "go:example.org/A/tool@v1.2.3-rc1"),
        (MODULE | {"source": GIT}, f"git:https://h/mine.git@{'1' * 40}"),
    ],
)
def test_what_an_origin_is_locked_by(table: dict[str, Any], identity: str) -> None:
    origin = build(table)
    assert isinstance(origin, LockedOrigin)
    assert origin.identity() == identity
    assert kinds.kind_of(identity) is type(origin)


@pytest.mark.parametrize("name", [*recipe.names(), *recipe.image_names()])
def test_every_identity_in_the_projects_locks_is_of_one_kind(name: str) -> None:
    identities = {file.origin for file in recipe_lock.committed_lock(name).file}
    identities |= {origin.identity() for origin in recipe_lock.lockable_origins(recipe.load(name))}
    for identity in identities:
        owners = [kind for kind in kinds.ALL if issubclass(kind, LockedOrigin) and kind.owns(identity)]
        assert len(owners) == 1, identity


def test_an_identity_of_no_kind_here() -> None:
    assert kinds.kind_of("svn:somewhere") is None


@pytest.mark.parametrize(
    ("table", "file", "expected"),
    [
        (ARCHIVE, "a-1.2.tgz", None),
        (ARCHIVE | {"urls": ["http://h/x-1-py3-none-any.whl"]}, "x-1-py3-none-any.whl", None),
        (WHEEL, "a_b_C-1-py3-none-any.whl", ("pypi", None, "a-b-c", "1")),
        (NPM, "@a+b@1.2.tgz", ("npm", "@a", "b", "1.2")),
        (NPM, "tool@1.0.tgz", ("npm", None, "tool", "1.0")),
        (GO, "h.org+A+b@v1.0.0+incompatible.zip", ("golang", "h.org/A", "b", "v1.0.0+incompatible")),
        (GO, "example.org+A+tool@v1.2.3-rc1.mods.tar", None),
        (MODULE | {"source": GIT}, f"mine-{'1' * 40}.tar", ("generic", None, "mine", "1" * 40)),
    ],
)
def test_names_in_registries(table: dict[str, Any], file: str, expected: tuple[str, ...] | None) -> None:
    origin = build(table)
    assert isinstance(origin, LockedOrigin)
    found = type(origin).package_name(origin.identity(), file)
    assert (found[:4] if found else None) == expected


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        (APT, {"packages": None}, "packages: needed by kind = 'apt'"),
        (APT, {"packages": []}, "packages: needed by kind = 'apt'"),
        (ARCHIVE, {"urls": None}, "urls: needed by kind = 'archive'"),
        (ARCHIVE, {"version": ""}, "version: needed by kind = 'archive'"),
        (WHEEL, {"tag": None}, "tag: needed by kind = 'wheel'"),
        (NPM, {"node": ""}, "node: needed by kind = 'npm'"),
        (APT, {"strip": 1}, "strip: not known to kind = 'apt'"),
        (APT, {"version": "1"}, "version: not known to kind = 'apt'"),
        (APT, {"into": "usr"}, "into: not known to kind = 'apt'"),
        (ARCHIVE, {"tag": "py3-none-any"}, "tag: not known to kind = 'archive'"),
        (ARCHIVE, {"urls": ["ftp://h/a"]}, "expected http"),
        (ARCHIVE, {"urls": ["http://h/a/"]}, "expected http"),
        (ARCHIVE, {"urls": ["http://h/a?b=1"]}, "expected http"),
        (ARCHIVE, {"checksums": "h/a"}, "expected http"),
        (ARCHIVE, {"redirects": ["https://h"]}, "redirects: expected HOST"),
        (ARCHIVE, {"version": "1/../2"}, "version: expected"),
        (ARCHIVE, {"version": "-1"}, "version: expected"),
        (ARCHIVE, {"alternative": "One Two"}, "alternative: expected"),
        (ARCHIVE, {"sha256": "a" * 63, "published_by": ["somebody"]}, "sha256: expected"),
        (ARCHIVE, {"sha256": "a" * 64}, "sha256, published_by: one needs the other"),
        (ARCHIVE, {"published_by": ["somebody"]}, "sha256, published_by: one needs the other"),
        (ARCHIVE, {"mode": 0o755, "strip": 1}, "not unpacked has no path components"),
        (ARCHIVE, {"mode": 0o4755}, "expected a mode from 0 to 0o755"),
        (ARCHIVE, {"strip": -1}, "and a number from 0"),
        (ARCHIVE, {"into": "/usr"}, "'/usr' must be a path below /"),
        (ARCHIVE, {"into": "usr/../../x"}, "must be a path below /"),
        (WHEEL, {"tag": "py3-none"}, "tag: expected"),
        (WHEEL, {"tag": "py3-none-any/../x"}, "tag: expected"),
        (WHEEL, {"package": "--index-url"}, "package: expected"),
        (NPM, {"package": "--registry"}, "package: expected"),
        (GO, {"packages": []}, "packages: needed by kind = 'go'"),
        (GO, {"module": "-x"}, "module: expected"),
        (GO, {"module": "h.org/a@v1"}, "module: expected"),
        (GO, {"module": "h.org/../a"}, "module: expected"),
        (GO, {"version": "v1.2.3"}, "version: expected one like 1.2.3, without the v"),
        (GO, {"version": "latest"}, "version: expected one like 1.2.3"),
        (GO, {"packages": ["cmd/tool"]}, "packages: expected"),
        (GO, {"packages": ["./../other"]}, "packages: expected"),
        (GO, {"packages": ["./cmd/..."]}, "packages: expected"),
        (GO, {"tags": ["a b"]}, "tags: expected"),
        (GO, {"go": "latest"}, "go: expected"),
        (APT, {"rename": {"a/": "b"}}, "'a/' and 'b' must both end in /"),
        (APT, {"rename": {"a": "/b"}}, "'/b' must be a path below /"),
        (APT, {"rename": {"a": "x/../../b"}}, "must be a path below /"),
        (APT, {"join": {"../b": "*"}}, "must be a path below /"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build(table, **more)
    assert caught.value.message.startswith("recipe.toml: origin[0].")


def test_a_key_of_another_kind_is_told_with_the_kinds_that_have_it() -> None:
    with pytest.raises(UserError) as caught:
        build(APT, into="usr")
    having = "kind = 'archive' or 'wheel' or 'npm' or 'go' or 'module' or 'source' has it"
    assert caught.value.hint.startswith(f"{having}; expected one of: ")


def test_a_misspelt_key_is_told_with_the_near_one() -> None:
    with pytest.raises(UserError, match=r"unknown key 'origin\[0\].pakages'") as caught:
        build(APT, pakages=["q"])
    assert caught.value.hint == "did you mean 'packages'?"


def test_a_label_is_short(tmp_path: Path) -> None:
    assert build(APT, packages=["p", "q"]).label() == "p q"
    assert build(ARCHIVE).label() == "a-1.2.tgz"

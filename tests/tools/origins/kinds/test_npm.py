# SPDX-License-Identifier: MIT
"""Extensions made of npm packages, by the real npm, Node.js and compiler, from a registry made here."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.config import recipe, recipe_lock
from tasks.config.settings import Settings
from tasks.extensions.collect import Placer
from tasks.origins.kinds.npm import NpmOrigin
from tasks.origins.kinds.wheel import WheelOrigin
from tasks.origins.origin_lock import OriginFile
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.mirror import Mirror, Page
from tests.support.settings import with_values

TOP = "top"
ORIGIN = NpmOrigin(
    package=TOP, version="1.0.0", node="nodejs", build=("@here/native",), into="opt/top", drop=("*.c",)
)
# A native module in the smallest form (Node-API), that would have its own path in it.
NATIVE = """
#include <node_api.h>
#include <stdio.h>
static napi_value call(napi_env env, napi_callback_info info) {
  napi_value result;
  char text[4096];
  snprintf(text, sizeof text, "%d from %s", 6 * 7, __FILE__);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
  return result;
}
NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "call", NAPI_AUTO_LENGTH, call, NULL, &function);
  return function;
}
"""
GYP = '{"targets": [{"target_name": "native", "sources": ["native.c"], "cflags": ["-g"]}]}'


def tarball(files: dict[str, str]) -> bytes:
    """Return an npm tarball; one file has a mode that nobody else could read."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode = len(content), 0o700 if content.startswith("#!") else 0o600
            archive.addfile(entry, io.BytesIO(content.encode()))
    return out.getvalue()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@dataclass
class Registry:
    """A registry on a mirror of ours."""

    mirror: Mirror

    def publish(self, name: str, content: bytes, version: str = "1.0.0") -> None:
        file = f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        about = {"tarball": f"{self.mirror.url}/{file}", "integrity": integrity(content)}
        entry = {"name": name, "version": version, "dist": about}
        document = {"name": name, "dist-tags": {"latest": version}, "versions": {version: entry}}
        self.mirror.pages[file] = Page(content)
        self.mirror.pages[f"{name.replace('/', '%2f')}"] = Page(json.dumps(document).encode())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """With `top`, that needs @here/native, that needs `deep` in a version of its own."""
    with Mirror() as mirror:
        registry = Registry(mirror)
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", mirror.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        native = tarball({"binding.gyp": GYP, "native.c": NATIVE, "package.json": '{"name": "@here/native"}'})
        deep = tarball({"index.js": "module.exports = 'deep';", "package.json": '{"name": "deep"}'})
        registry.publish("@here/native", native)
        registry.publish("deep", deep)
        packages: dict[str, Any] = {
            "": {"dependencies": {"@here/native": "1", "elsewhere": "1"}},
            "node_modules/@here/native": {
                "version": "1.0.0",
                "integrity": integrity(native),
                "hasInstallScript": True,
                "dependencies": {"deep": "1"},
            },
            "node_modules/@here/native/node_modules/deep": {"version": "1.0.0", "integrity": integrity(deep)},
            "node_modules/elsewhere": {"version": "1.0.0", "integrity": integrity(b""), "os": ["win32"]},
        }
        publish_top(registry, packages)
        yield registry


def publish_top(registry: Registry, packages: dict[str, Any]) -> None:
    main = "console.log(require('@here/native/build/Release/native.node')());"
    script = '{"name": "top", "version": "1.0.0", "scripts": {"install": "touch /tmp/tcbuild-ran"}}'
    files = {"index.js": f"#!/usr/bin/env node\n{main}", "package.json": script}
    lock = json.dumps({"lockfileVersion": 3, "packages": packages})
    registry.publish(TOP, tarball({**files, "npm-shrinkwrap.json": lock}))


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """With the wheel of Node.js in its cache; it is fetched once for all."""
    made = make_settings()
    origin = next(one for one in recipe.load("nodejs").origin if isinstance(one, WheelOrigin))
    (file,) = recipe_lock.committed_lock("nodejs").of(origin.identity())
    common = with_values(made, cache=cache_folder())
    origin.fetch(recipe_lock.resources(common, "node"), (file,))
    target = file.cached_in(made.paths.cache)
    target.parent.mkdir(parents=True)
    shutil.copyfile(file.cached_in(common.paths.cache), target)
    return made


def learn(settings: Settings, folder: Path, origin: NpmOrigin = ORIGIN) -> tuple[OriginFile, ...]:
    folder.mkdir(exist_ok=True)
    (settings.paths.cache / "downloads").mkdir(parents=True, exist_ok=True)
    return origin.pin(recipe_lock.resources(settings, "node"), folder)


def unpacked(settings: Settings, files: tuple[OriginFile, ...], folder: Path) -> Path:
    """Return a root with what the recipe takes of the package, made with `folder` as scratch."""
    root = folder / "root"
    root.mkdir(parents=True)
    placer = Placer(ORIGIN, root)
    for label, tree in ORIGIN.unpack(recipe_lock.resources(settings, "node"), files, folder / "scratch"):
        placer.place(label, tree)
    placer.finish()
    return root


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_mode & 0o777, path.read_bytes()) for path in files}


def test_the_newest_version_is_asked_of_the_registry(settings: Settings, registry: Registry) -> None:
    resources = recipe_lock.resources(settings, "node")
    registry.publish(TOP, b"", version="1.10.0")
    assert ORIGIN.newest(resources, ()) == "1.10.0"


@pytest.mark.usefixtures("registry")
def test_a_tree_is_learnt_then_built_offline_to_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    files = learn(settings, tmp_path / "learn")
    assert [file.name for file in files] == ["top@1.0.0.tgz", "@here+native@1.0.0.tgz", "deep@1.0.0.tgz"]
    offline = with_values(settings, offline=True)
    ORIGIN.fetch(recipe_lock.resources(offline, "node"), files)
    before = os.umask(0o077)
    try:
        first = content(unpacked(offline, files, tmp_path / "a"))
    finally:
        os.umask(before)
    second = content(unpacked(offline, files, tmp_path / "another/folder"))
    assert first == second
    module = "opt/top/node_modules/@here/native/build/Release/native.node"
    assert {name: mode for name, (mode, _) in first.items()} == {
        "opt/top/index.js": 0o755,
        "opt/top/npm-shrinkwrap.json": 0o644,
        "opt/top/package.json": 0o644,
        "opt/top/node_modules/@here/native/binding.gyp": 0o644,
        module: 0o755,
        "opt/top/node_modules/@here/native/node_modules/deep/index.js": 0o644,
        "opt/top/node_modules/@here/native/node_modules/deep/package.json": 0o644,
        "opt/top/node_modules/@here/native/package.json": 0o644,
    }
    assert str(tmp_path).encode() not in first[module][1]
    assert not Path("/tmp/tcbuild-ran").exists(), "an install script was run"
    with ORIGIN._tools(recipe_lock.resources(settings, "node"), fetch=False) as tools:
        assert tools.node(tmp_path / "a/root/opt/top/index.js") == "42 from ../native.c\n"
    assert b"debug_info" not in run(["readelf", "-S", tmp_path / "a/root" / module]).stdout.encode()


def test_another_tarball_than_the_locked_one_is_refused(
    settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    files = learn(settings, tmp_path / "learn")
    deep = next(file for file in files if file.name.startswith("deep"))
    deep.cached_in(settings.paths.cache).unlink()
    with pytest.raises(UserError, match=r"deep@1.0.0.tgz is not in the cache, and offline=1"):
        ORIGIN.fetch(recipe_lock.resources(with_values(settings, offline=True), "node"), files)
    registry.publish("deep", tarball({"index.js": "evil", "package.json": '{"name": "deep"}'}))
    with pytest.raises(UserError, match=rf"deep@1.0.0.tgz: wrong sha256: expected {deep.sha256}"):
        ORIGIN.fetch(recipe_lock.resources(settings, "node"), files)
    assert not deep.cached_in(settings.paths.cache).exists()


def test_a_tarball_the_package_was_not_made_with_is_not_learnt(
    settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    registry.publish("deep", tarball({"index.js": "evil", "package.json": '{"name": "deep"}'}))
    with pytest.raises(UserError, match=r"deep@1.0.0: sha512 is .*npm:top@1.0.0 says"):
        learn(settings, tmp_path / "learn")


def test_a_version_that_does_not_exist_is_told(
    settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"npm could not fetch top@9.9.9") as caught:
        learn(settings, tmp_path / "learn", replace(ORIGIN, version="9.9.9"))
    assert "ETARGET" in caught.value.detail
    assert registry.mirror.requests


@pytest.mark.usefixtures("registry")
def test_what_the_recipe_cannot_mean_is_told(settings: Settings, tmp_path: Path) -> None:
    files = learn(settings, tmp_path / "learn")
    for number, (origin, words) in enumerate(
        [
            (replace(ORIGIN, build=("gone",)), "has no package gone in its tree"),
            (replace(ORIGIN, build=("deep",)), "deep could not be compiled"),
            (replace(ORIGIN, node="attr"), "the recipe of attr has no origin of kind wheel"),
        ]
    ):
        with pytest.raises(UserError, match=words):
            list(
                origin.unpack(recipe_lock.resources(settings, "node"), files, tmp_path / f"scratch-{number}")
            )
    with pytest.raises(UserError, match=r"needs deep@1.0.0, which is not locked"):
        list(ORIGIN.unpack(recipe_lock.resources(settings, "node"), files[:2], tmp_path / "scratch"))

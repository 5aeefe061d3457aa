# SPDX-License-Identifier: MIT
"""Programs of Go modules, compiled by the real Go, from a module proxy made of files."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.settings import Settings
from tasks.fetch import toolchain
from tasks.formats.go_module import Module
from tasks.origins import go_command, kinds
from tasks.origins.kinds.base import Resources
from tasks.origins.kinds.go import GoOrigin
from tasks.origins.origin_lock import OriginFile, entry_of, store
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.goproxy import GoProxy
from tests.support.settings import with_values

MAIN = Module("example.org/Tool", "v1.2.3")
DEP = Module("example.org/dep", "v1.0.0")
ORIGIN = GoOrigin(
    module=MAIN.path, version="1.2.3", packages=("./cmd/tool",), ldflags=("-X main.version=v{version}",)
)
DEP_FILES = {
    "go.mod": f"module {DEP.path}\n",
    "dep.go": 'package dep\n\nfunc Text() string { return "dep" }\n',
    "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy ... "
    "The above copyright notice and this permission notice shall be included in all copies",
}
PROGRAM = """package main

import "example.org/dep"

var version = "unset"

func main() { println(version, dep.Text()) }
"""


def main_files(go_sum: str, go: str = "1.16", **more: str) -> dict[str, str]:
    """Return the main module: its go.mod is older than lazy loading, and replaces a module."""
    go_mod = f"module {MAIN.path}\n\ngo {go}\n\nrequire {DEP.path} v0.0.1\n\n"
    go_mod += f"replace {DEP.path} => {DEP.path} {DEP.version}\n"
    return {"go.mod": go_mod, "go.sum": go_sum, "cmd/tool/main.go": PROGRAM, **more}


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoProxy:
    """It serves the main module and the one that it needs; no checksum database knows them."""
    proxy = GoProxy(tmp_path / "proxy")
    proxy.publish(MAIN, main_files(proxy.publish(DEP, DEP_FILES)))
    monkeypatch.setenv("GOPROXY", proxy.address)
    monkeypatch.setenv("GONOSUMDB", "example.org/*")
    monkeypatch.delenv("GOPRIVATE", raising=False)
    return proxy


@pytest.fixture
def resources(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Resources:
    """With the Go toolchain in its cache.  It is fetched and unpacked once for all, in the user's cache."""
    settings = make_settings()
    common = with_values(settings, cache=cache_folder())
    shared = replace(
        recipe_lock.resources(common, "tool"),
        program=lambda name, program: toolchain.program(common, name, program),
    )
    (shared.cache / "downloads").mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "toolchain"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.delenv("GOPROXY", raising=False)
        try:
            found = ORIGIN._pin_toolchain(shared, folder)
        except UserError as error:
            pytest.skip(f"the Go module proxy is not reached: {error.message}")
    go_command.installed(shared.cache, found.cached_in(shared.cache))
    made = recipe_lock.resources(settings, "tool")
    target = found.cached_in(made.cache)
    target.parent.mkdir(parents=True)
    os.link(found.cached_in(shared.cache), target)
    (made.cache / "go").symlink_to(shared.cache / "go")
    made.logs.mkdir(parents=True, exist_ok=True)
    return made


def pinned(resources: Resources, folder: Path, origin: GoOrigin = ORIGIN) -> tuple[OriginFile, ...]:
    folder.mkdir(parents=True)
    return origin.pin(resources, folder)


def compiled(resources: Resources, files: tuple[OriginFile, ...], folder: Path) -> bytes:
    """Return the program, compiled with `folder` as scratch."""
    folder.mkdir(parents=True)
    ((label, root),) = ORIGIN.unpack(resources, files, folder / "content")
    assert label == str(MAIN)
    assert [str(path.relative_to(root)) for path in root.rglob("*")][-1] == "usr/local/bin/tool"
    assert os.listdir(folder) == ["content"], "the build left something beside its result"
    return (root / "usr/local/bin/tool").read_bytes()


def cached(resources: Resources) -> set[str]:
    """Return the files of the cache, without the Go toolchain's."""
    found = (path for path in (resources.cache / "downloads").rglob("*") if path.is_file())
    return {path.name for path in found if not path.name.startswith("golang.org+toolchain")}


def test_a_program_is_locked_then_compiled_offline_to_the_same_bytes(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    files = pinned(resources, tmp_path / "lock")
    names = ["golang.org+toolchain", "example.org+Tool@v1.2.3.mods.tar", "example.org+Tool@v1.2.3.zip"]
    assert [file.name for file in files][1:] == [*names[1:], "example.org+dep@v1.0.0.zip"]
    assert files[0].name.startswith(names[0])
    assert [bool(file.h1) for file in files] == [True, False, True, True]
    for module in (MAIN, DEP):
        proxy.withdraw(module)
    offline = replace(resources, offline=True)
    ORIGIN.fetch(offline, files)
    cold = compiled(offline, files, tmp_path / "a")
    kept = tmp_path / "kept"
    first = compiled(replace(offline, kept=kept), files, tmp_path / "another/folder")
    warm = compiled(replace(offline, kept=kept), files, tmp_path / "warm")
    assert cold == first == warm
    assert str(tmp_path).encode() not in cold
    program = tmp_path / "a/content/usr/local/bin/tool"
    assert run(["sh", "-c", f"{program} 2>&1"]).stdout == "v1.2.3 dep\n"
    assert "statically linked" in run(["file", program]).stdout
    kind = kinds.kind_of(ORIGIN.identity())
    assert kind is GoOrigin
    assert [kind.stated_licence(file.cached_in(resources.cache)) for file in files[1:]] == ["", "", "MIT"]


def test_the_newest_version_is_asked_of_the_proxy(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    files = pinned(resources, tmp_path / "lock")
    listing = proxy.folder / MAIN.at("zip").replace("v1.2.3.zip", "list")
    listing.write_text("v1.2.3\n")
    for version in ("v1.10.0", "v2.0.0-rc1"):
        proxy.publish(Module(MAIN.path, version), main_files(""))
        with listing.open("a") as lines:
            lines.write(f"{version}\n")
    assert ORIGIN.newest(resources, files) == "1.10.0"
    shutil.rmtree(proxy.folder)
    with pytest.raises(UserError, match=r"go cannot tell the newest version of example\.org/Tool: "):
        ORIGIN.newest(resources, files)


def test_lost_files_are_fetched_again_and_other_ones_are_refused(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    files = pinned(resources, tmp_path / "lock")
    mods, dep = files[1], files[3]
    for file in (mods, dep):
        file.cached_in(resources.cache).unlink()
    with pytest.raises(UserError, match=r"is not in the cache, and offline=1 forbids to fetch it") as caught:
        ORIGIN.fetch(replace(resources, offline=True), files)
    assert "\n" not in caught.value.message
    ORIGIN.fetch(resources, files)
    assert all(file.is_cached_in(resources.cache) for file in files)
    # The same content, packed otherwise, is the same module.
    dep.cached_in(resources.cache).unlink()
    proxy.publish(DEP, DEP_FILES, zipfile.ZIP_STORED)
    ORIGIN.fetch(resources, files)
    assert dep.is_cached_in(resources.cache)
    dep.cached_in(resources.cache).unlink()
    proxy.publish(DEP, DEP_FILES | {"dep.go": DEP_FILES["dep.go"].replace('"dep"', '"evil"')})
    with pytest.raises(UserError, match=rf"{DEP} is h1:\S+, go.sum says {re.escape(dep.h1)}"):
        ORIGIN.fetch(resources, files)
    assert not dep.cached_in(resources.cache).exists()
    # So is a main module whose go.sum was changed to fit.
    files[2].cached_in(resources.cache).unlink()
    proxy.publish(MAIN, main_files(proxy.publish(DEP, DEP_FILES | {"more.go": "package dep\n"})))
    with pytest.raises(UserError, match=r"example.org\+\S+: wrong sha256"):
        ORIGIN.fetch(resources, files)
    assert not dep.cached_in(resources.cache).exists()


def test_a_lock_that_was_made_to_fit_another_module_does_not_build(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    """go.sum of the main module decides, whatever the lock says."""
    files = pinned(resources, tmp_path / "lock")
    proxy.publish(DEP, DEP_FILES | {"dep.go": DEP_FILES["dep.go"].replace('"dep"', '"evil"')})
    forged = entry_of(files[3].origin, files[3].name, proxy.folder / DEP.at("zip"))
    store(resources.cache, forged, proxy.folder / DEP.at("zip"))
    with pytest.raises(UserError, match=rf"{DEP} is h1:\S+, go.sum says {re.escape(files[3].h1)}"):
        compiled(resources, (*files[:3], forged), tmp_path / "a")
    assert os.listdir(tmp_path / "a") == []


def test_programs_that_are_not_those_of_the_recipe_are_refused(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    """go itself leaves out what is no program, and of two with one name."""
    more = {"x/tool/main.go": "package main\n\nfunc main() {}\n", "lib/lib.go": "package lib\n"}
    proxy.publish(MAIN, main_files(proxy.publish(DEP, DEP_FILES), **more))
    kept = replace(resources, kept=tmp_path / "kept")
    files = pinned(resources, tmp_path / "lock")
    for other in ("./x/tool", "./lib"):
        origin = replace(ORIGIN, packages=(*ORIGIN.packages, other))
        with pytest.raises(UserError, match="of 2 packages only 1 gave a program: tool"):
            list(origin.unpack(kept, files, tmp_path / f"at-{Path(other).name}"))
    # A lock that was made for other packages says so.
    (tmp_path / "less").mkdir()
    origin = replace(ORIGIN, packages=("./x/tool",))
    less = pinned(resources, tmp_path / "lock2", origin)
    with pytest.raises(UserError, match=r"go cannot load .*example.org/dep") as caught:
        list(ORIGIN.unpack(kept, less, tmp_path / "less/content"))
    assert "packages, tags, cgo or go may have changed; lock it again" in caught.value.hint


def test_what_cannot_be_locked_is_refused_in_one_line(
    proxy: GoProxy, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = main_files(proxy.publish(DEP, DEP_FILES))

    def refused(words: str, origin: GoOrigin = ORIGIN, hint: str = "choose another version") -> None:
        with pytest.raises(UserError, match=words) as caught:
            pinned(resources, tmp_path / f"lock{len(list(tmp_path.iterdir()))}", origin)
        assert "\n" not in caught.value.message
        assert hint in caught.value.hint
        assert cached(resources) == set()

    network = "check the network"
    refused("go cannot fetch example.org/Tool@v9.9.9: ", replace(ORIGIN, version="9.9.9"))
    none = replace(ORIGIN, packages=("./cmd/none",))
    refused("no required module provides|directory not found", none, "correct `packages`")
    proxy.publish(MAIN, right | {"go.mod": right["go.mod"].replace("go 1.16", "go 1.99")})
    refused(r"requires go >= 1.99 \(running go 1.27.3", hint="or `go` in the recipe")
    for name, content in DEP_FILES.items():
        (tmp_path / "local").mkdir(exist_ok=True)
        (tmp_path / "local" / name).write_text(content)
    for folder in (f"{tmp_path}/local", "../dep", "./dep", "..", "/no such folder"):
        local = right["go.mod"].replace(f"=> {DEP.path} {DEP.version}", f'=> "{folder}"')
        proxy.publish(MAIN, right | {"go.mod": local})
        refused(f"its go.mod replaces a module by the folder {folder}, which no lock can hold")
    proxy.publish(MAIN, right | {"go.sum": ""})
    refused("its go.sum does not say all that its programs need")
    proxy.publish(MAIN, right | {"go.mod": f"module {MAIN.path}\n\ngo 1.16\n"})
    refused("its go.mod does not say all that its programs need")
    proxy.publish(MAIN, right | {"go.sum": right["go.sum"][:-10] + "AAAAAAAAA=\n"})
    refused("example.org/dep@v1.0.0/go.mod is h1:")
    proxy.publish(MAIN, right)
    with zipfile.ZipFile(proxy.folder / MAIN.at("zip"), "w") as packed:  # as of a time before modules
        packed.writestr(f"{MAIN}/cmd/tool/main.go", PROGRAM)
    refused("example.org/Tool@v1.2.3 has no go.mod", hint="choose a newer version")
    monkeypatch.setenv("GOPROXY", "off")
    refused("go cannot fetch example.org/Tool@v1.2.3: .*module lookup disabled by GOPROXY=off", hint=network)
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:1")
    refused("go cannot fetch example.org/Tool@v1.2.3: .*connection refused", hint=network)


def test_a_module_that_names_no_go_is_one_of_go_1_16(
    proxy: GoProxy, resources: Resources, tmp_path: Path
) -> None:
    """go.dev/ref/mod#go-mod-file-go; with -mod=mod, go would write its own version there."""
    files = main_files(proxy.publish(DEP, DEP_FILES))
    proxy.publish(MAIN, files | {"go.mod": files["go.mod"].replace("go 1.16\n", "")})
    locked = pinned(resources, tmp_path / "lock")
    assert [file.name for file in locked][2:] == ["example.org+Tool@v1.2.3.zip", "example.org+dep@v1.0.0.zip"]
    ORIGIN.fetch(replace(resources, offline=True), locked)


def test_a_checksum_database_that_is_not_reached_is_named(
    proxy: GoProxy,
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("GONOSUMDB")
    name, key = "sums.example.org", b"\x01" + bytes(32)
    digest = hashlib.sha256(f"{name}\n".encode() + key).hexdigest()[:8]
    known = f"{name}+{digest}+{base64.b64encode(key).decode()}"  # as `go help module-auth` has it
    monkeypatch.setenv("GOSUMDB", f"{known} http://127.0.0.1:1")
    assert pinned(resources, tmp_path / "lock")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{MAIN}: Go's checksum database cannot be reached; what the proxy serves is locked unchecked"
    ]

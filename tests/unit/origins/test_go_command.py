# SPDX-License-Identifier: MIT
"""What is told of the go command's output, and what it gets of the environment."""

from __future__ import annotations

import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.formats.archive import unpack_zip
from tasks.origins import go_command

MISMATCH = """  command: go list
  | go: downloading example.org/dep v1.0.0
  | verifying example.org/dep@v1.0.0: checksum mismatch
  | \tdownloaded: h1:AAA=
  | \tgo.sum:     h1:BBB=
  |
  | SECURITY ERROR
  | This download does NOT match an earlier download recorded in go.sum."""


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (MISMATCH, "example.org/dep@v1.0.0 is h1:AAA=, go.sum says h1:BBB="),
        (
            "  command: go x\n  | go: downloading a v1\n  | go: go.mod requires go >= 1.99",
            "go.mod requires go >= 1.99",
        ),
        ("  command: go build\n  | # a/b\n  | b.go:1: undefined: x", "b.go:1: undefined: x"),
        (
            "  command: go build\n  | # a/b\n  | b.go:1: undefined: x\n  | b.go:9: too many errors",
            "b.go:1: undefined: x",
        ),
        ("  command: go build", "it does not say why"),
    ],
)
def test_the_reason_is_one_line_of_what_go_said(detail: str, said: str) -> None:
    assert go_command.reason(detail) == said


@pytest.mark.parametrize(
    ("detail", "unreached"),
    [
        ('verifying m@v1: m@v1: Get "https://h/lookup/m@v1": dial tcp: connection refused', True),
        ("verifying m@v1: reading https://h/lookup/m@v1: 403 Forbidden", True),
        (MISMATCH, False),
        ("m@v1: module lookup disabled by GOPROXY=off", False),
    ],
)
def test_a_database_that_is_not_reached(detail: str, *, unreached: bool) -> None:
    assert bool(go_command.NO_DATABASE.search(detail)) is unreached


def test_only_the_settings_of_proxies_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOPROXY", "GOPRIVATE", "NETRC", "GOFLAGS", "GOOS", "GOCACHE", "GOTOOLCHAIN", "GOROOT"):
        monkeypatch.setenv(name, "x")
    assert {"GOPROXY", "GOPRIVATE", "NETRC"} <= set(go_command.user_settings())
    assert not {"GOFLAGS", "GOOS", "GOCACHE", "GOTOOLCHAIN", "GOROOT"} & set(go_command.user_settings())


def test_the_go_of_a_package_is_told_its_root(tmp_path: Path) -> None:
    """Debian's /usr/bin/go is a link; a dynamic loader that starts it hides its place from it."""
    (tmp_path / "lib/go-1.19/bin").mkdir(parents=True)
    (tmp_path / "lib/go-1.19/bin/go").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/go").symlink_to("../lib/go-1.19/bin/go")
    found = go_command.outside(["ld.so", "--library-path", "lib", str(tmp_path / "bin/go")])
    assert found.root == tmp_path / "lib/go-1.19"
    assert found.words[-1] == str(tmp_path / "bin/go")


def toolchain_zip(folder: Path) -> Path:
    """Write the zip of a Go toolchain with a program, a tool and a source."""
    module = go_command.toolchain("9.9.9")
    path = folder / module.file_name
    with zipfile.ZipFile(path, "w") as packed:
        for name in ("bin/go", "pkg/tool/linux_amd64/compile", "src/cmp.go"):
            packed.writestr(f"{module}/{name}", name)
    return path


def test_a_damaged_toolchain_is_unpacked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = toolchain_zip(tmp_path)
    root = go_command.installed(tmp_path / "cache", archive).root
    compiler = root / "pkg/tool/linux_amd64/compile"
    assert os.access(compiler, os.X_OK)
    state = compiler.stat().st_ino
    assert go_command.installed(tmp_path / "cache", archive).root == root
    assert compiler.stat().st_ino == state
    (root / "src/cmp.go").write_text("src/cmp.gO")
    (root / "src/more.go").touch()
    assert go_command.installed(tmp_path / "cache", archive).root == root
    assert (
        "src/cmp.go, src/more.go changed or are gone since they were unpacked; it is unpacked" in caplog.text
    )
    assert (root / "src/cmp.go").read_text() == "src/cmp.go"
    assert not (root / "src/more.go").exists()
    assert compiler.stat().st_ino == state, "what is right stays, for a build that runs"


def test_two_builds_unpack_a_toolchain_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, calls = toolchain_zip(tmp_path), []

    def slow(*args: Any, **options: Any) -> None:
        calls.append(args)
        time.sleep(0.2)  # the other build looks for the toolchain meanwhile
        unpack_zip(*args, **options)

    monkeypatch.setattr("tasks.origins.go_command.unpack_zip", slow)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: go_command.installed(tmp_path / "cache", archive), range(3)))
    assert len(calls) == 1
    assert len({one.root for one in found}) == 1

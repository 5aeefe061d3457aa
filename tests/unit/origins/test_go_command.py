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
from tasks.formats.go_module import Module
from tasks.origins import go_command
from tasks.util.errors import UserError

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


MODULE = "example.org/lookup/tile/latest@v1.0.0"  # a path with the words of the database's addresses
VERIFYING = f"  | go: {MODULE}: verifying go.mod: {MODULE}/go.mod: "
LOOKUP = f"/lookup/{MODULE}"


@pytest.mark.parametrize(
    "said",
    [
        f"reading https://h{LOOKUP}: 403 Forbidden\n\tserver response: blocked",
        f"reading https://h{LOOKUP}: 429 Too Many Requests",
        f"reading https://h{LOOKUP}: 500 Internal Server Error",
        f"reading https://proxy/sumdb/h{LOOKUP}: 503 Service Unavailable",
        "reading http://proxy:8080/sumdb/sums.example.org/supported: 502 Bad Gateway",
        "reading https://h/tile/8/0/000: 403 Forbidden",
        "initializing sumdb.Client: checking tree#9: reading https://h/tile/8/0/000: 500 Server Error",
        'Get "https://proxy/sumdb/sums.example.org/supported": net/http: TLS handshake timeout',
        f'Get "https://h{LOOKUP}": EOF',
        f'Get "https://h{LOOKUP}": context deadline exceeded (Client.Timeout exceeded)',
        f'Get "https://h{LOOKUP}": dial tcp 192.0.2.1:443: i/o timeout',
        f'Get "https://h{LOOKUP}": dial tcp: lookup h on 192.0.2.53:53: no such host',
        f'Get "https://h{LOOKUP}": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused',
        f'Get "https://h{LOOKUP}": tls: failed to verify certificate: x509: certificate has expired',
        f'Get "https://h{LOOKUP}": Forbidden',
    ],
)
def test_a_database_that_is_not_reached(said: str) -> None:
    assert go_command.NO_DATABASE.search(VERIFYING + said)
    assert go_command.NO_DATABASE.search((VERIFYING + said).replace("verifying go.mod", "verifying module"))


@pytest.mark.parametrize(
    "detail",
    [
        MISMATCH,
        MISMATCH.replace("example.org/dep@v1.0.0", MODULE),
        f"  | go: {MODULE}: module lookup disabled by GOPROXY=off",
        f"  | go: {MODULE}: reading https://proxy/example.org/lookup/tile/@v/v1.0.0.info: 403 Forbidden",
        f'  | go: {MODULE}: Get "https://proxy/example.org/lookup/x/@v/v1.0.0.info": dial tcp: i/o timeout',
        # It answers, and does not know the module, or is none.
        f"{VERIFYING}reading https://h{LOOKUP}: 404 Not Found\n\tserver response: not found: x",
        f"{VERIFYING}reading https://h{LOOKUP}: 410 Gone",
        f"{VERIFYING}malformed record data",
        f"  | go: {MODULE}: verifying go.mod: invalid GOSUMDB: malformed verifier id",
    ],
)
def test_what_the_database_says_or_what_is_not_of_it(detail: str) -> None:
    assert not go_command.NO_DATABASE.search(detail)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            "example.org/dep@v1.0.0 (replaced by ../my dep): reading ../my dep/go.mod: open /x: no such file",
            "m@v1: its go.mod replaces a module by the folder ../my dep, which no lock can hold",
            "choose another version",
        ),
        (
            "updates to go.mod needed, disabled by -mod=readonly; to update it:\n  | \tgo mod tidy",
            "m@v1: its go.mod does not say all that its programs need",
            "its authors did not run go mod tidy; choose another version",
        ),
        (
            "a@v1 requires\n  | \tb@v1: missing go.sum entry for go.mod file; to add it:",
            "m@v1: its go.sum does not say all that its programs need",
            "its authors did not run go mod tidy; choose another version",
        ),
        (
            "a@v1 (replaced by b.org/a@v1): stat /x: directory not found",
            "what go said",
            "correct `packages`",
        ),
        ('a@v1: Get "https://h/a/@v/v1.zip": dial tcp: i/o timeout', "what go said", go_command.HINT),
        ("a@v1: module lookup disabled by GOPROXY=off", "what go said", go_command.HINT),
    ],
)
def test_a_module_that_go_cannot_load_is_told_from_a_network_without_one(
    said: str, message: str, hint: str
) -> None:
    detail = f"  command: env GOPROXY=https://h go list\n  | go: {said}"
    error = UserError("what go said", "correct `packages`", detail)
    found = go_command.explained(Module("m", "v1"), error)
    assert (found.message, found.hint) == (message, hint)


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

# SPDX-License-Identifier: MIT
"""What is told of the go command's output, and what it gets of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

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

# SPDX-License-Identifier: MIT
"""sccache: how it sees paths."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT


@pytest.mark.parametrize(
    ("folder", "arguments", "expected"),
    [
        ("build", "-I{0}/linux/include -c {0}/linux/a.c", "-I../linux/include -c ../linux/a.c"),
        ("build/tools/x", "-I{0}/linux/a:{0}/b -o y", "-I../../../linux/a:../../../b -o y"),
        (".", "{0}/a.c -o b", "./a.c -o b"),
        ("build", "-fmacro-prefix-map={0}/linux/= -fdebug-prefix-map={0}=.", "-fmacro-prefix-map=../linux/="),
        ("build", '-DX="{0}/a" {0}x/b', '-DX="{0}/a" {0}x/b'),
        ("build", "-g -I{0}/linux", "-g -I{0}/linux"),
        ("build", "-Wa,-gdwarf-2 -I{0}/linux", "-Wa,-gdwarf-2 -I{0}/linux"),
        ("build", "-g0 -I{0}/linux", "-g0 -I../linux"),
        ("../other", "-I{0}/linux", "-I{0}/linux"),
    ],
)
def test_paths_below_the_output_become_relative_for_sccache(
    tmp_path: Path, folder: str, arguments: str, expected: str
) -> None:
    base, tools = tmp_path / "a b" / "out", tmp_path / "bin"
    where = base / folder
    where.mkdir(parents=True)
    base.mkdir(exist_ok=True)
    tools.mkdir()
    (tools / "sccache").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "sccache").chmod(0o755)
    words = [word.replace("{0}", str(base)) for word in arguments.split()]
    env = {"PATH": f"{tools}:/usr/bin:/bin", "TCBUILD_BASE": str(base), "SCCACHE_SERVER_PORT": "1"}
    argv = [str(CHECKOUT.root / "tasks/toolchain/sccache-relative"), "gcc", *words]
    got = subprocess.run(argv, cwd=where, env=env, capture_output=True, text=True, check=True).stdout
    assert got.splitlines() == ["gcc", *(word.replace("{0}", str(base)) for word in expected.split())]

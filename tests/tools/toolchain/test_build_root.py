# SPDX-License-Identifier: MIT
"""Build roots with the real bubblewrap and mmdebstrap; the kernel patches with the real patch."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tasks.toolchain import build_root
from tasks.toolchain.build_root import Bind
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import run

SERIES = sorted((CHECKOUT.root / "patches").glob("*/series"))
LINUX_54 = os.environ.get("TCBUILD_LINUX_54", "")


def listed(series: Path) -> list[Path]:
    """Return the patch files a series names, in order."""
    lines = (line.split("#")[0].strip() for line in series.read_text().splitlines())
    return [series.parent / line for line in lines if line]


PATCHES = [patch for series in SERIES for patch in listed(series)]


def header(patch: Path) -> str:
    return patch.read_text().split("\n--- ", 1)[0]


@pytest.fixture
def busybox_root(tmp_path: Path) -> Path:
    """A root that holds one static program, where namespaces can be made at all."""
    probe = run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], check=False)
    if probe.status != 0:
        pytest.skip("no namespaces can be made here (in a chroot the kernel refuses them)")
    made = tmp_path / "root"
    (made / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", made / "bin/busybox")
    return made


def shell(root: Path, script: str, *binds: Bind) -> str:
    argv = build_root.command(root, ["/bin/busybox", "sh", "-ec", script], binds)
    return run(argv).stdout


def test_a_command_in_a_root_sees_the_root_and_the_binds_and_nothing_else(
    busybox_root: Path, tmp_path: Path
) -> None:
    source, build = tmp_path / "a/source", tmp_path / "a/build"
    for folder in (source, build, tmp_path / "a/secret"):
        folder.mkdir(parents=True)
    (source / "Makefile").write_text("all:\n")
    script = f"""
        /bin/busybox ls /
        /bin/busybox ls {tmp_path}/a
        /bin/busybox cat {source}/Makefile
        echo made >{build}/object
        ! (echo x >{source}/Makefile) 2>/dev/null
        ! (echo x >/bin/new) 2>/dev/null
        /bin/busybox ls /sys 2>/dev/null || echo no /sys
        /bin/busybox ls /proc | /bin/busybox grep -c '^[0-9]'
        /bin/busybox grep -c : /proc/net/dev
    """
    out = shell(busybox_root, script, Bind(source), Bind(build, writable=True)).split("\n")
    top = out[: out.index("build")]
    assert {"bin", "dev", "proc", "tmp"} <= {*top}
    assert not {"usr", "root", "etc", "var", "sys"} & {*top}
    assert out[out.index("build") : out.index("build") + 3] == ["build", "source", "all:"]
    assert (build / "object").read_text() == "made\n"
    assert (source / "Makefile").read_text() == "all:\n"
    assert "no /sys" in out
    assert int(out[-3]) < 10, "other processes are visible"
    assert out[-2] == "1", "only the loopback device is there"


def test_files_made_in_a_root_belong_to_the_caller(busybox_root: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    shell(busybox_root, f"echo x >{build}/object", Bind(build, writable=True))
    assert (build / "object").stat().st_uid == os.getuid()


def test_nothing_stays_mounted(busybox_root: Path, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    shell(busybox_root, "true", Bind(tmp_path))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_hosts_fingerprint_names_its_compiler() -> None:
    version = run(["gcc", "-dumpfullversion"]).stdout.strip()
    assert f"gcc {version}," in build_root.fingerprint("host", build_root.HOST_ROOT)


def test_a_mirror_that_has_nothing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build_root.MIRROR_VARIABLE, f"file://{tmp_path}/empty")
    with pytest.raises(UserError) as caught:
        build_root.ensure_root(tmp_path / "cache", "debian11", offline=False)
    assert "mmdebstrap" in caught.value.message
    assert "mirror" in caught.value.hint
    left = [path.name for path in (tmp_path / "cache/toolchains").iterdir() if not path.name.startswith(".")]
    assert left == ["debian11.log"]
    assert not list((tmp_path / "cache/toolchains").glob(".*.part"))


@pytest.mark.slow
def test_the_debian11_root_compiles_and_is_used_again(tmp_path: Path) -> None:
    """Downloads about 80 MB and takes a minute: a real root, as pinned."""
    root = build_root.ensure_root(tmp_path / "cache", "debian11", offline=False)
    assert build_root.ensure_root(tmp_path / "cache", "debian11", offline=True) == root
    assert build_root.installed(root) == (build_root.FOLDER / "debian11.packages").read_text()
    line = build_root.fingerprint("debian11", root)
    assert re.match(r"debian11, gcc-9 9\.[0-9.]+, ld 2\.35\S*, glibc 2\.31, packages [0-9a-f]{16}$", line)
    build = tmp_path / "build"
    build.mkdir()
    program = '#include <gelf.h>\n#include <stdio.h>\nint main(void) { puts("hello"); }\n'
    (build / "hello.c").write_text(program)
    compile_it: list[str | Path] = ["gcc-9", "-o", build / "hello", build / "hello.c", "-lelf"]
    run(build_root.command(root, compile_it, [Bind(build, writable=True)]))
    assert run(build_root.command(root, [build / "hello"], [Bind(build)])).stdout == "hello\n"


def test_there_is_a_patch_series() -> None:
    assert SERIES
    assert PATCHES


@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_a_series_names_each_patch_beside_it_once(series: Path) -> None:
    named = [patch.name for patch in listed(series)]
    assert sorted(named) == sorted(path.name for path in series.parent.glob("*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_patch_says_what_fails_with_which_tool_and_what_upstream_did(patch: Path) -> None:
    text = header(patch)
    assert text.startswith("Subject: ")
    fields = dict(re.findall(r"^([A-Z][a-z-]+): *(\S.*)$", text, re.MULTILINE))
    assert re.search(r"\b(gcc|binutils|glibc) >= \d+", fields["Fails-with"]), "name a tool and its version"
    assert fields["Upstream"]
    body = text.split("\n\n", 1)[1]
    assert len(body.split()) >= 15, "the header must explain the fault"


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_patch_is_well_formed(patch: Path, tmp_path: Path) -> None:
    # Reads every hunk's line counts, without a tree.
    assert run(["git", "apply", "--numstat", patch], cwd=tmp_path).stdout.strip()


@pytest.mark.skipif(not LINUX_54, reason="TCBUILD_LINUX_54 names no unpacked, unpatched Linux 5.4 tree")
@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_the_series_applies_in_order_without_fuzz(series: Path, tmp_path: Path) -> None:
    for patch in listed(series):
        for file in re.findall(r"^--- a/(\S+)", patch.read_text(), re.MULTILINE):
            copy = tmp_path / file
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(LINUX_54) / file, copy)
        argv: list[str | Path] = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "-i", patch]
        assert "FAILED" not in run(argv, cwd=tmp_path).stdout

# SPDX-License-Identifier: MIT
"""`./doit` on machines that lack things, and with words that make no sense."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.built import copy_checkout, doit


@pytest.fixture
def checkout(open_folder: Path) -> Path:
    """A copy of this checkout that anybody may write to, on a machine that lacks two packages."""
    folder = copy_checkout(open_folder / "copy")
    host = folder / "tasks/util/host.toml"
    host.write_text(
        host.read_text().replace("[host]", '[host]\nno-such-tool = "zzz-tool"\n"/no/such.h" = "zzz-dev"')
    )
    return folder


def as_nobody(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `./doit` as a user without rights, or as ourselves if we have none either."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o777 if path.is_dir() else path.stat().st_mode | 0o444)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TCBUILD_CACHE": str(folder / "cache")}
    return subprocess.run(
        [*drop, "./doit", *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_without_root_one_message_lists_exactly_what_to_install(checkout: Path) -> None:
    done = as_nobody(checkout, "iso")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "error: missing: zzz-dev zzz-tool"
    assert lines[1].endswith("apt-get install --no-install-recommends zzz-dev zzz-tool")
    assert len(lines) == 2


def test_the_list_of_tasks_has_a_line_of_help_each(tmp_path: Path) -> None:
    done = doit(copy_checkout(tmp_path / "copy"), "list", "profile=apt")
    assert done.status == 0
    lines = [line.split(maxsplit=1) for line in done.output.splitlines() if line[:1].islower()]
    assert {line[0] for line in lines} >= {"fetch", "kconfig", "kconfig:diff", "kernel", "iso", "qemu:test"}
    assert all(len(line) == 2 for line in lines), lines


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["iso", "profil=apt"], ["unknown variable profil=", "did you mean profile=?"]),
        (
            ["iso", "profile=tc12"],
            ["unknown profile 'tc12'", "apt, apt32, functions, ide, quick, quick32, tc11"],
        ),
        (["iso", "profile=apt", "offline=yes"], ["offline=yes", "0 or 1"]),
        (["is", "profile=apt"], ["is"]),
        (["check"], ["FILE"]),
    ],
)
def test_words_that_make_no_sense_are_explained(tmp_path: Path, words: list[str], says: list[str]) -> None:
    done = doit(copy_checkout(tmp_path / "copy"), *words)
    assert done.status != 0
    assert "Traceback" not in done.output
    for word in says:
        assert word in done.output


def test_a_full_disk_is_said_and_nothing_half_made_is_left(tmp_path: Path) -> None:
    """8 MiB take no kernel source."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = copy_checkout(tmp_path / "copy")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=True)
    try:
        done = doit(folder, "linux", "profile=apt", f"out={small}/out")
    finally:
        found = [path.name for path in small.rglob("*") if path.is_file() and path.suffix != ".log"]
        left = [name for name in found if not name.startswith(".doit.") and not name.endswith(".jsonl")]
        subprocess.run(["umount", small], check=True)
    assert done.status != 0, done.output
    assert "Traceback" not in done.output
    assert "space" in done.output
    assert sorted(left) == ["attr.toml", "linux.toml", "lock.toml", "rootfs.toml"]

# SPDX-License-Identifier: MIT
"""`./doit bisect` on a history of the kernel with a planted fault: real builds, real boots."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config import inheritance, inputs
from tasks.formats import debian_package
from tasks.origins.lock import LockedPackage
from tasks.util.checkout import CHECKOUT
from tasks.util.process import run
from tests.support.gitrepo import GitRepository

FILE = "fs/proc/version.c"
COMMITS, FAULT, BROKEN = 16, 11, (8, 12)
GOOD = "first"
# Nothing of these is compiled: the repository has only what Kconfig and make read of them.
EMPTY: tuple[str, ...] = (
    "Documentation",
    "sound",
    "tools/testing",
    "arch/[!x]*",
    "arch/xtensa",
    "samples",
    "rust",
)
EMPTY += tuple(f"drivers/{name}" for name in ("gpu", "net", "media", "staging", "infiniband", "scsi", "iio"))
EMPTY += tuple(
    f"drivers/{name}" for name in ("usb", "power", "hwmon", "input", "clk", "pinctrl", "crypto", "mtd")
)
KINDS = ("c", "h", "S", "dts", "dtsi", "rst", "yaml", "txt", "rs", "json", "svg", "py")
FRAGMENT = """\
CONFIG_PCI=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_CONSOLE=y
"""
PROFILE = """\
inherit = "apt"

[kernel]
source = {{ kind = "git", url = "{url}", ref = "main" }}
base = "base-bench.config"
base_mode = "allnoconfig"
fragments = ["bisected"]
"""


def doit(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = [str(CHECKOUT.root / "doit"), *words]
    return subprocess.run(argv, check=check, capture_output=True, text=True)


def unpacked(folder: Path) -> Path:
    """Unpack the locked kernel source of profile apt, but for what is not compiled here."""
    settings = variables.resolve({"profile": "apt"}, folder / "none")
    source = settings.profile.kernel.own_source
    entry = source.locked_in(inputs.pinned_lock(settings.paths))
    assert isinstance(entry, LockedPackage)
    source.fetch(entry, inputs.access(settings))
    debian_package.unpack_deb(entry.cached_in(settings.paths.cache), folder / "deb")
    (archive,) = (folder / "deb/usr/src").glob("linux-source-*.tar.xz")
    (folder / "linux").mkdir()
    left_out = [f"--exclude=*/{top}/*.{kind}" for top in EMPTY for kind in KINDS]
    run(["tar", "-xf", archive, "-C", folder / "linux", "--strip-components=1", *left_out])
    return folder / "linux"


@pytest.fixture
def repository(tmp_path: Path) -> tuple[GitRepository, list[str]]:
    """One commit with the locked source of profile apt, and 16 of one C file; two of these do not compile."""
    tree = unpacked(tmp_path)
    made = GitRepository(tree)
    for key, value in {"core.compression": "1", "pack.window": "0", "gc.auto": "0"}.items():
        made.git("config", key, value)
    made.git("add", "--all", "--force")
    made.git("commit", "--quiet", "-m", "the source")
    made.git("tag", GOOD)
    original = (tree / FILE).read_text()
    versions = []
    for number in range(1, COMMITS + 1):
        text = f"{original}/* {number} */\n"
        if number >= FAULT:
            text = text.replace(
                "seq_printf(m, linux_proc_banner,",
                'seq_puts(m, "FAULT ");\n\tseq_printf(m, linux_proc_banner,',
            )
        text += "#error does not compile\n" if number in BROKEN else ""
        versions.append((f"change {number}", text))
    assert "FAULT" in versions[-1][1]
    return made, made.import_commits(versions, FILE)


@pytest.mark.slow
def test_a_planted_fault_is_found_though_two_commits_do_not_compile_and_the_run_is_killed(
    repository: tuple[GitRepository, list[str]], tmp_path: Path
) -> None:
    made, ids = repository
    tree, out = tmp_path / "tree", tmp_path / "out"
    for folder in ("profiles", "kconfig"):
        (tree / folder).mkdir(parents=True)
    (tree / "profiles/mine.toml").write_text(PROFILE.format(url=made.url))
    apt = inheritance.lock_of(CHECKOUT.profiles / "apt.toml")
    shutil.copy(apt, tree / "profiles/mine.lock.toml")
    shutil.copy(CHECKOUT.root / "tests/bench/data/base-bench.config", tree / "kconfig")
    (tree / "kconfig/bisected.config").write_text(FRAGMENT)
    given = ["profile=mine", f"tree={tree}", f"out={out}"]
    check = "! grep -q FAULT /proc/version"
    words = [*given, "bisect", "--good", GOOD, "--bad", "main", "--boot-timeout", "600", "--", check]
    record = out / "bisect/steps.json"
    with subprocess.Popen([str(CHECKOUT.root / "doit"), *words], start_new_session=True) as first:
        while first.poll() is None:
            if record.is_file() and json.loads(record.read_text())["steps"]:
                time.sleep(10)  # in the middle of the second step
                os.killpg(first.pid, signal.SIGKILL)
                break
            time.sleep(0.5)
    assert first.returncode == -signal.SIGKILL
    said = doit(*words, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "bisect: goes on after " in said.stdout
    assert f"first bad commit: {ids[FAULT - 1]}\n  change {FAULT}\n" in said.stdout
    report = json.loads((out / "bisect/report.json").read_text())
    steps = {step["subject"]: step for step in report["steps"]}
    assert len(steps) == len(report["steps"]) <= 6  # log2(16), and the two that do not compile
    for subject, step in steps.items():
        number = int(subject.split()[1])
        expected = "skip" if number in BROKEN else "bad" if number >= FAULT else "good"
        assert step["verdict"] == expected, step
        if number in BROKEN:
            assert "#error does not compile" in step["why"]
    # The first compiles up to the error, and the second the rest, some of it before it is killed.  All others
    # compile the changed file, and hardly anything else.
    assert report["steps"][0]["built"] > 100
    assert all(step["built"] < 20 for step in report["steps"][2:])
    assert (out / "bisect/report.txt").read_text() in said.stdout

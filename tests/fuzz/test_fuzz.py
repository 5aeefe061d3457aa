# SPDX-License-Identifier: MIT
"""Damaged input to every parser: `./doit fuzz` gives them as many as asked for, the tests a few."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tasks.util.checkout import CHECKOUT
from tests.fuzz.guard import Outside, check
from tests.fuzz.mutate import damaged
from tests.fuzz.targets import TARGETS, Target

NIGHTLY = "TCBUILD_FUZZ_INPUTS" in os.environ
INPUTS = int(os.environ.get("TCBUILD_FUZZ_INPUTS", "1500"))
"""For all parsers together, damaged blindly, and once more led by coverage."""
QUICK = ("cpio", "boot header", "npm-shrinkwrap.json")
SHARE = INPUTS / sum(target.weight for target in TARGETS)


def give(target: Target, data: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Give an input to a parser, with a folder of its own for all it writes; return whether it was taken."""
    below = Path(tempfile.mkdtemp(dir=folder))
    try:
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "tempdir", str(below))
            return check(target.parse, data, below)
    finally:
        shutil.rmtree(below)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_input_is_taken(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, seed in enumerate(target.seeds):
        taken = give(target, seed, tmp_path, monkeypatch)
        assert taken, f"seed {number} of {target.name} is refused"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_input_is_taken_or_refused_in_one_line(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {True: 0, False: 0}

    @settings(
        max_examples=max(3, round(SHARE * target.weight)),
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not NIGHTLY,
    )
    @given(damaged(target.seeds))
    def run(data: bytes) -> None:
        answers[give(target, data, tmp_path, monkeypatch)] += 1

    run()
    print(f"{target.name}: {sum(answers.values()):,} inputs, {answers[False]:,} refused")
    assert answers[False] or not target.refuses, "no input was damaged enough to be refused"


@pytest.mark.parametrize(
    "target", TARGETS if NIGHTLY else [t for t in TARGETS if t.name in QUICK], ids=lambda target: target.name
)
def test_input_led_by_coverage(target: Target, tmp_path: Path) -> None:
    runs = max(50, round(SHARE * target.weight))
    command = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(runs), str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT.root, capture_output=True, text=True, check=False)
    bad = [path.read_bytes() for path in tmp_path.glob("crash-*")]
    assert done.returncode == 0, f"input: {bad}\n{done.stdout}\n{done.stderr}"
    assert f"Done {runs} in" in done.stderr
    print(f"{target.name}: {runs:,} inputs led by coverage")


def _writes_beside(data: bytes, folder: Path) -> None:
    (folder.parent / "beside").write_bytes(data)


def _leaves_by_a_link(data: bytes, folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "beside")
    (folder / "link").write_bytes(data)


@pytest.mark.parametrize("bad", [_writes_beside, _leaves_by_a_link])
def test_the_guard_sees_a_write_outside(bad: object, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    with pytest.raises(Outside):
        check(bad, b"", below)  # type: ignore[arg-type]
    assert not (tmp_path / "beside").exists()

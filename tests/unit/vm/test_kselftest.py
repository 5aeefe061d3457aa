# SPDX-License-Identifier: MIT
"""What the kernel's self tests say; tests/vm/test_run.py runs some in a guest."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel.selftests import Target
from tasks.util.errors import UserError
from tasks.vm import boots, kselftest
from tasks.vm.kselftest import KEPT, Kept, Selection
from tasks.vm.ktap_results import OWN, WELL_FORMED
from tasks.vm.results import Result, whole

PASSES = "TAP version 13\n1..1\nok 1 one\n"
FAILS = "TAP version 13\n1..1\n# why\nnot ok 1 one\n"


def verdict(status: int, output: str, seconds: float = 1.0) -> Result:
    return kselftest.verdict("x", status, output, seconds, 45)


def said(made: Result) -> list[tuple[str, str, str]]:
    return [(part.name, part.outcome, part.message) for part in made.results]


@pytest.mark.parametrize(
    ("status", "outcome", "message"),
    [
        (0, "passed", ""),
        (1, "failed", "exited with status 1: the last words"),
        (2, "skipped", "it was expected to fail"),
        (4, "skipped", "the last words"),
        (127, "failed", "exited with status 127: the last words"),
        (139, "failed", "exited with status 139: the last words"),
    ],
)
def test_the_status_decides_without_ktap(status: int, outcome: str, message: str) -> None:
    made = verdict(status, "first\n# the last words\n#\n\n")
    assert (made.outcome, made.message, made.results) == (outcome, message, ())


def test_subtests_are_parts() -> None:
    assert said(verdict(0, PASSES)) == [("one", "passed", "")]
    assert said(verdict(1, FAILS)) == [("one", "failed", "why")]


def test_status_and_ktap_must_agree() -> None:
    """A program that crashes after its last test has failed, and so has one whose test has."""
    assert said(verdict(139, PASSES)) == [
        ("one", "passed", ""),
        (OWN, "failed", "exited with status 139: ok 1 one"),
    ]
    assert verdict(0, FAILS).outcome == "failed"
    assert verdict(4, FAILS).outcome == "failed"


def test_malformed_ktap_is_a_failure_though_the_status_is_0() -> None:
    made = verdict(0, PASSES.replace("1..1", "1..3"))
    assert made.outcome == "failed"
    assert said(made)[-1] == (WELL_FORMED, "failed", "3 tests were planned, and 1 came")


def test_a_test_that_takes_too_long_is_told_so() -> None:
    for status in (124, 137):
        made = verdict(status, PASSES, 45.2)
        assert said(made)[-1] == (OWN, "failed", "did not end within 45 s")
    assert "status 137" in verdict(137, "", 3.0).message


def test_a_test_that_makes_nothing_says_why() -> None:
    made = verdict(4, "TAP version 13\n1..0 # SKIP no sync framework\n")
    assert (made.outcome, made.message) == ("skipped", "no sync framework")


def target(folder: Path, name: str = "size", **missing: str) -> Target:
    (folder / name).mkdir()
    for file, mode in {"run": 0o644, "tool": 0o755, "settings": 0o644}.items():
        (folder / name / file).write_text(file)
        (folder / name / file).chmod(mode)
    files = {f"{name}/{file}": folder / name / file for file in ("run", "tool", "settings")}
    return Target(name, ("run", *missing), missing, 7, files)


def test_the_bundle_has_what_runs(tmp_path: Path) -> None:
    stream = io.BytesIO()
    assert kselftest.pack(stream, [target(tmp_path)]) == len(stream.getvalue())
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    # A script that the kernel's tree has without the x bit runs, too.
    assert modes == {"size/run": 0o755, "size/tool": 0o755, "size/settings": 0o644}


def test_a_test_runs_in_its_folder_within_its_limit(tmp_path: Path) -> None:
    one = target(tmp_path)
    assert (Selection([one]).limit(one), Selection([one], 3).limit(one)) == (7, 3)
    program = kselftest.program_of("x86", "fsgsbase_64", 7).decode()
    assert "timeout -s KILL 7" in program
    assert program.endswith("cd /usr/lib/kselftest/x86 && exec $with ./fsgsbase_64 2>&1\n")


def test_targets_hold_their_tests_and_what_was_not_built(tmp_path: Path) -> None:
    tests = Selection([target(tmp_path, "size"), target(tmp_path, "mqueue", perf="no popt.h")])
    made = [
        *(Result(name, "passed") for name in (boots.COMES_UP, kselftest.BROUGHT, "size: run")),
        Result("mqueue: run", "skipped", message="not made: the guest is lost"),
        Result("the kernel's log", "passed"),
    ]
    whole_boot = tests.grouped(whole("kselftest", made, 9.0))
    assert whole_boot.outcome == "failed"
    assert [part.name for part in whole_boot.results] == [
        *(boots.COMES_UP, kselftest.BROUGHT, "size", "mqueue", "the kernel's log"),
    ]
    assert said(whole_boot.results[3]) == [
        ("run", "skipped", "not made: the guest is lost"),
        ("perf", "failed", "was not built: no popt.h"),
    ]


def test_a_target_without_tests_is_no_success(tmp_path: Path) -> None:
    made = Selection([Target("prctl", (), {}, 45, {})]).grouped(whole("kselftest", [], 1.0))
    assert made.outcome == "failed"


def test_a_flood_is_cut() -> None:
    kept = Kept()
    for _ in range(3):
        kept.write(b"x" * (KEPT // 2))
    assert (len(kept.data), kept.lost) == (KEPT, True)


def test_a_kernel_that_cannot_take_the_tests_is_named_before_anything_is_built(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()
    (settings.paths.kernel / "modules").mkdir(parents=True)
    (settings.paths.kernel / "release").write_text("6.1.0\n")
    (settings.paths.kernel / "config").write_text("# CONFIG_VIRTIO_CONSOLE is not set\n")
    with pytest.raises(UserError, match="kselftest: the kernel has no CONFIG_VIRTIO_CONSOLE"):
        kselftest.asked(settings, [])
    with pytest.raises(UserError, match="--timeout -1"):
        kselftest.asked(settings, [], timeout=-1)

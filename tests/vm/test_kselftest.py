# SPDX-License-Identifier: MIT
"""The kernel's self tests by the command of a person, from the build to the reports."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tasks.util.checkout import CHECKOUT
from tasks.vm import results
from tests.support.built import built, doit


@pytest.mark.slow
def test_the_default_targets_pass_here(tmp_path: Path) -> None:
    junit, tap = tmp_path / "junit.xml", tmp_path / "tap"
    done = doit(CHECKOUT.root, "kselftest", "--junit", str(junit), "--tap", str(tap))
    assert done.status == 0, done.output
    paths = built().paths
    suites = {suite.get("name", "") for suite in ElementTree.parse(junit).iter("testsuite")}
    assert {f"{paths.name}.kselftest.{one}" for one in ("size.get_size", "core.close_range_test")} <= suites
    subprocess.run(["prove", "--exec", "cat", tap], check=True)
    records, _ = results.load(paths.output)
    assert records[-1].command == "kselftest"
    assert records[-1].counts()["passed"] > 30
    folder = paths.output / results.FOLDER / "kselftest"
    assert "### size: get_size" in (folder / "output.txt").read_text()
    assert "Linux version" in (folder / "dmesg.txt").read_text()


@pytest.mark.slow
def test_a_test_that_cannot_be_built_fails_the_command(tmp_path: Path) -> None:
    """And the others run."""
    done = doit(CHECKOUT.root, "kselftest", "size", "openat2")
    assert done.status == 1
    assert "kselftest: openat2: openat2_test: was not built: " in done.output
    assert "kselftest: size: get_size: 1 passed" in done.output

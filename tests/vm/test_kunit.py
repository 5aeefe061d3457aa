# SPDX-License-Identifier: MIT
"""The kernel's unit tests: a small kernel with them, built and booted by the command of a person."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tasks.vm import results
from tests.support.built import copy_checkout, doit

PROFILE = """\
description = "A small kernel"
inherit = "apt"
[kernel]
base = "base-small.config"
fragments = []
"""
# The fragment `kunit` adds the rest.
BASE = """\
CONFIG_64BIT=y
CONFIG_PRINTK=y
CONFIG_PRINTK_TIME=y
CONFIG_TTY=y
# Without these, some suites fail.
CONFIG_PROC_FS=y
CONFIG_PROC_SYSCTL=y
CONFIG_SYSFS=y
"""


@pytest.mark.slow
def test_suites_are_run_and_told(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "profiles/small.toml").write_text(PROFILE)
    (checkout / "kconfig/base-small.config").write_text(BASE)
    junit = tmp_path / "junit.xml"
    done = doit(checkout, "kunit", "profile=small", "--junit", str(junit))
    assert done.status == 0, done.output
    names = [suite.get("name") for suite in ElementTree.parse(junit).iter("testsuite")]
    assert "small.kunit.list-kunit-test" in names
    output = checkout / "artifacts/small"
    (record,), _ = results.load(output)
    assert record.command == "kunit"
    assert record.counts()["passed"] > 100
    assert not (output / "kernel").exists(), "the profile's own kernel is not needed"

    one = doit(checkout, "kunit", "profile=small", "list-kunit-test", "no_such_suite")
    assert one.status == 1, one.output
    assert "kernel:kunit" not in one.ran
    assert "no_such_suite: there are tests: the kernel printed no result" in one.output
    assert "list-kunit-test" not in one.output.partition("tests failed")[2]

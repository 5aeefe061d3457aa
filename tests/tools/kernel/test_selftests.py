# SPDX-License-Identifier: MIT
"""The kernel's self tests, built from the real tree with the real toolchain."""

from __future__ import annotations

import subprocess

import pytest

from tasks.formats import elf, ktap
from tasks.kernel import selftests
from tasks.util.errors import UserError
from tests.support.built import with_source


def test_a_program_needs_no_library_of_the_guest() -> None:
    (size,) = selftests.build(with_source(), ["size"])
    assert (size.name, size.tests, size.missing, size.timeout) == ("size", ("get_size",), {}, 45)
    program = size.files["size/get_size"]
    assert elf.needed(program) == []
    # Scripts of other targets read these.
    assert "kselftest/ktap_helpers.sh" in size.files
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert [test.outcome for test in ktap.parse(said.splitlines()).tests] == ["passed"]


def test_what_cannot_be_built_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """openat2's tests ask for a sanitizer, which no static program can have."""
    openat2, core = selftests.build(with_source(), ["openat2", "core"])
    assert (
        set(openat2.missing) == set(openat2.tests) == {"openat2_test", "resolve_test", "rename_attack_test"}
    )
    assert "sanitize" in openat2.missing["openat2_test"]
    assert "kselftest: openat2 was not built wholly: " in capsys.readouterr().out
    assert core.missing == {}
    assert "core/close_range_test" in core.files


def test_an_unknown_target_is_told_before_anything_is_built() -> None:
    with pytest.raises(UserError, match="the kernel's tree has no target 'timer'") as caught:
        selftests.build(with_source(), ["size", "timer"])
    assert caught.value.hint == "did you mean timers?"
    with pytest.raises(UserError, match="has no target"):
        selftests.build(with_source(), ["../selftests/size"])


def test_the_targets_that_run_by_default_are_there() -> None:
    tree = with_source().paths.linux / selftests.TREE
    for name in selftests.known().targets:
        selftests.check_target(tree, name)

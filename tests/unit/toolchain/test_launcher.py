# SPDX-License-Identifier: MIT
"""The word that stands before the compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tasks.toolchain import launcher
from tasks.util.checkout import CHECKOUT

pytestmark = pytest.mark.usefixtures("own_programs")


def test_the_launcher_is_the_first_word(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()

    def with_table(table: Compiler) -> Settings:
        return replace(settings, profile=replace(settings.profile, compiler=table))

    def words(table: Compiler) -> str:
        return launcher.of_profile(with_table(table)).compiler_command("gcc", has_ccache=False)

    assert words(Compiler("none")) == words(Compiler("ccache")) == "gcc"
    assert words(Compiler("distcc", hosts=("a",))) == "distcc gcc"
    icecc = with_table(Compiler("icecc", scheduler="a"))
    assert kbuild.of_profile(icecc).argv[-1] == "HOSTCC=icecc gcc"
    wrapper = words(Compiler("sccache")).split()[0]
    assert Path(wrapper).is_file() and wrapper.startswith(str(CHECKOUT.root))

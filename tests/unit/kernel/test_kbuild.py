# SPDX-License-Identifier: MIT
"""The arguments and the environment that make is always called with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tasks.util.errors import UserError
from tests.support.settings import with_values

pytestmark = pytest.mark.usefixtures("own_programs")


def test_make_gets_fixed_values(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    make = kbuild.of_profile(settings)
    arguments = make.argv
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    assert arguments[0] == "make"
    assert given["O"] == str(settings.paths.build)
    assert given["KBUILD_BUILD_TIMESTAMP"] == "Tue Nov 14 22:13:20 UTC 2023"
    assert given["LOCALVERSION"] == ""
    assert {"ARCH", "KBUILD_BUILD_USER", "KBUILD_BUILD_HOST", "KBUILD_BUILD_VERSION"} <= given.keys()
    assert make.env["SOURCE_DATE_EPOCH"] == "1700000000"
    assert make.env["CCACHE_DIR"].startswith(str(settings.paths.cache))
    assert kbuild.jobs() >= 1


@pytest.mark.parametrize("name", [*(f"a{one}b" for one in " :'\"$\t\n#\\%`;&|()<>{}*?[],="), "a\ud800b"])
def test_a_path_that_kbuild_cannot_live_with_is_refused(
    make_settings: Callable[..., Settings], tmp_path: Path, name: str
) -> None:
    with pytest.raises(UserError, match="cannot handle these in its path: ") as caught:
        kbuild.of_profile(with_values(make_settings(), output=tmp_path / name))
    assert caught.value.message.isprintable()


def test_a_path_that_kbuild_can_live_with(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    kbuild.of_profile(with_values(make_settings(), output=tmp_path / "a@c^d~é+g!-_.1"))

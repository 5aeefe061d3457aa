# SPDX-License-Identifier: MIT
"""Fragments that a command writes: their names, and how lines get into a file that exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import kconfig_draft
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import with_values

SPDX = "# SPDX-License-Identifier: MIT\n"


@pytest.fixture
def profile(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Return a function that makes settings with fragments NAME=TEXT, the only ones of the checkout."""
    monkeypatch.setattr(CHECKOUT, "kconfig", tmp_path)

    def make(**texts: str) -> Settings:
        for name, text in texts.items():
            (tmp_path / f"{name}.config").write_text(text)
        return with_values(make_settings(), fragments=tuple(texts))

    return make


@pytest.mark.parametrize(
    "names", [[], ["a", "b"], ["base-mine"], ["Mine"], ["../mine"], ["a/b"], [""], ["-x"], ["ä"]]
)
def test_a_command_writes_one_fragment_of_a_good_name(
    profile: Callable[..., Settings], names: list[str]
) -> None:
    with pytest.raises(UserError, match=r"needs the name of one fragment|cannot be the name"):
        kconfig_draft.of_name(profile(), names, "kconfig:menu")


def test_a_draft_knows_its_file_and_its_place(profile: Callable[..., Settings], tmp_path: Path) -> None:
    settings = profile(one="CONFIG_A=y\n", two="CONFIG_B=y\n")
    draft = kconfig_draft.of_name(settings, ["one.config"], "kconfig:menu")
    assert (draft.name, draft.path, draft.place) == ("one", tmp_path / "one.config", 0)
    assert [one.text for one in draft.own] == ["CONFIG_A=y"]
    new = kconfig_draft.of_name(settings, ["three"], "kconfig:menu")
    assert (new.text, new.own, new.place) == ("", [], 2)


def test_with_trees_a_new_fragment_is_of_the_last_one_and_tcbuild_stays_as_it_is(
    profile: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = profile(one="CONFIG_A=y\n")
    trees = (tmp_path / "layer", tmp_path / "product")
    (trees[0] / "kconfig").mkdir(parents=True)
    (trees[0] / "kconfig/shared.config").write_text("CONFIG_B=y\n")
    monkeypatch.setattr(CHECKOUT, "trees", trees)
    new = kconfig_draft.of_name(settings, ["mine"], "kconfig:menu")
    assert new.path == trees[1] / "kconfig/mine.config"
    assert kconfig_draft.of_name(settings, ["shared"], "kconfig:menu").own[0].text == "CONFIG_B=y"
    with pytest.raises(UserError, match=r"one\.config is of tcbuild") as caught:
        kconfig_draft.of_name(settings, ["one"], "kconfig:menu")
    assert f"a fragment in {trees[1]}/kconfig may override it" in caught.value.hint


def test_a_new_fragment_has_the_lines_alone(profile: Callable[..., Settings]) -> None:
    settings = profile(one="CONFIG_A=y\n")
    draft = kconfig_draft.of_name(settings, ["mine"], "kconfig:menu")
    lines = {"B": "m", "C": "n", "D": '"x y"'}
    assert kconfig_draft.composed(settings, draft, lines, lines) == (
        f'{SPDX}CONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D="x y"\n'
    )


def test_lines_of_a_file_are_kept_replaced_or_taken_out(profile: Callable[..., Settings]) -> None:
    """Its comments stay.  A line that contradicts an earlier fragment is marked, and a mark goes with it."""
    mine = (
        "# Mine.\nCONFIG_KEPT=y\nCONFIG_CHANGED=m\n\n# override: once\nCONFIG_GONE=y\nCONFIG_NUMBER=07\n"
        "CONFIG_CHANGED=m\n# override: twice\nCONFIG_AGAIN=m\n"
    )
    settings = profile(
        one="CONFIG_A=y\nCONFIG_GONE=m\nCONFIG_NEW=m\nCONFIG_AGAIN=y\n", mine=mine, later="CONFIG_L=y\n"
    )
    draft = kconfig_draft.of_name(settings, ["mine"], "kconfig:menu")
    goal = {"KEPT": "y", "CHANGED": "y", "NUMBER": "7", "NEW": "y", "AGAIN": "n", "L": "y"}
    lines = {"CHANGED": "y", "NEW": "y", "A": "n", "AGAIN": "n"}
    text = kconfig_draft.composed(settings, draft, lines, goal)
    assert text == (
        "# Mine.\nCONFIG_KEPT=y\nCONFIG_CHANGED=y\n\nCONFIG_NUMBER=07\n"
        "# override: twice\n# CONFIG_AGAIN is not set\n"
        "# override\nCONFIG_NEW=y\n# override\n# CONFIG_A is not set\n"
    )
    asked = {one.symbol: one.value for one in kconfig_draft.requests_with(settings, draft, text) if one.line}
    assert asked == {"GONE": "m", **goal, "NUMBER": "07", "A": "n"}
    assert {one.symbol for one in kconfig_draft.requests_with(settings, draft, None) if one.line} == {
        *("A", "GONE", "NEW", "AGAIN", "L")
    }


def test_a_later_fragment_must_not_contradict_the_draft(profile: Callable[..., Settings]) -> None:
    settings = profile(mine="CONFIG_A=y\n", later="CONFIG_L=y\n")
    draft = kconfig_draft.of_name(settings, ["mine"], "kconfig:menu")
    text = kconfig_draft.composed(settings, draft, {"L": "n"}, {"A": "y"})
    with pytest.raises(UserError, match="two different values"):
        kconfig_draft.requests_with(settings, draft, text)

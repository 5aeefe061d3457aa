# SPDX-License-Identifier: MIT
"""The printed tree of a profile's extensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan
from tasks.config.profile import Extension, Profile
from tasks.config.settings import Paths, Settings
from tasks.extensions import dependency_tree
from tasks.util.errors import UserError
from tests.support.profiles import RELEASE, locked, profile_maker, up


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Profile]:
    return profile_maker(tmp_path, monkeypatch)


class TestTree:
    def test_sizes_repeats_and_circles(self, make: Callable[..., Profile]) -> None:
        lock = locked(top="left right", left="base", right="base lost", base="leaf", leaf="base")
        found = plan.plan(make(up("top")), lock)
        deps = {name: node.deps for name, node in found.nodes.items()}
        sizes = {"top": 3 << 20, "left": 2048, "right": 999, "base": 1 << 20}
        assert dependency_tree.tree_lines(found, deps, ["top"], sizes) == [
            "top  3.0M  upstream",
            "|-- left  2K  upstream",
            "|   `-- base  1.0M  upstream",
            "|       `-- leaf  -  upstream",
            "|           `-- base  (circle)",
            "`-- right  999  upstream",
            "    |-- base  1.0M  upstream  (again)",
            "    `-- lost  -  not locked",
            "6 extensions, 4.0M, 2 not built or fetched yet",
        ]

    def test_the_command_shows_the_profile_or_what_was_asked_for(
        self, make: Callable[..., Profile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = make(up("a"), Extension("r"), recipes={"r": "kvm-KERNEL", "other": ""})
        settings = Settings(
            Paths("none", tmp_path / "out", tmp_path / "cache"),
            replace(made, kernel=replace(made.kernel, fragments=())),
        )
        settings.paths.tcz.mkdir(parents=True)
        (settings.paths.tcz / "r.tcz").write_bytes(bytes(5000))
        (settings.paths.tcz / f"kvm-{RELEASE}.tcz.dep").write_text("sctp-KERNEL.tcz\n")
        dependency_tree.print_tree(settings.paths, settings.profile, [])
        assert capsys.readouterr().out == (
            "a  -  not locked\n"
            "r  5K  recipe\n"
            f"`-- kvm-{RELEASE}  -  modules\n"
            f"    `-- sctp-{RELEASE}  -  modules\n"
            "4 extensions, 5K, 3 not built or fetched yet\n"
        )
        dependency_tree.print_tree(settings.paths, settings.profile, ["other.tcz"])
        assert capsys.readouterr().out.startswith("other  -  recipe\n1 extensions")
        with pytest.raises(UserError, match="no extension 'lost'") as caught:
            dependency_tree.print_tree(settings.paths, settings.profile, ["lost"])
        assert "other, r" in caught.value.hint

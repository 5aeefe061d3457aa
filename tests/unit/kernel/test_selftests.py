# SPDX-License-Identifier: MIT
"""What a Makefile of the kernel's self tests names; tests/tools/kernel/test_selftests.py builds some."""

from __future__ import annotations

from pathlib import Path

from tasks.kernel import selftests


def test_the_words_of_the_rule_are_read() -> None:
    printed = "make: Entering\ntest \ntest /out/timers/nanosleep\ntest run.sh\nfile settings\ntest run.sh\n"
    assert selftests.listed(printed, "test") == ["/out/timers/nanosleep", "run.sh"]
    assert selftests.listed(printed, "file") == ["settings"]


def test_programs_come_from_the_build_and_scripts_from_the_tree(tmp_path: Path) -> None:
    """A target may name files of its neighbours, and folders."""
    built, tree = tmp_path / "built", tmp_path / "tree"
    for file in ("built/net/tool", "tree/net/run.sh", "tree/net/lib/a/b.sh", "tree/lib.sh", "secret"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    places = (built, tree)

    def named(word: str) -> dict[str, Path]:
        return dict(selftests.named_files(word, "net", places))

    assert named(str(built / "net/tool")) == {"net/tool": built / "net/tool"}
    assert named("run.sh") == {"net/run.sh": tree / "net/run.sh"}
    assert list(named("lib")) == ["net/lib/a/b.sh"]
    assert list(named("../lib.sh")) == ["lib.sh"]
    assert named("absent") == {}
    assert named("../../secret") == {}, "nothing of this machine gets into the guest"


def test_the_limit_is_the_target_s_or_the_kernel_s(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.write_text("# a comment\ntimeout=120\n")
    assert selftests.limit({"mm/settings": settings}, "mm") == 120
    settings.write_text("nothing=1\n")
    assert selftests.limit({"mm/settings": settings}, "mm") == selftests.known().timeout
    assert selftests.limit({}, "mm") == selftests.known().timeout

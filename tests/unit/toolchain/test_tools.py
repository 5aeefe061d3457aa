# SPDX-License-Identifier: MIT
"""The programs of a toolchain as stages get them, and the fingerprint of this machine's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry, host_match, tools
from tasks.toolchain.entry import Bind, Entry
from tasks.toolchain.tools import ReadyToolchain, Tools
from tasks.util.errors import UserError

BASE = ("host", "gcc", "12.2.0\n", "GNU ld (GNU Binutils for Debian) 2.40\n", "glibc 2.36\n")


def test_a_fingerprint_is_one_readable_line() -> None:
    assert tools.describe(*BASE) == "host, gcc 12.2.0, ld 2.40, glibc 2.36"


@pytest.mark.parametrize(
    ("position", "other"),
    [(0, "debian11"), (1, "gcc-12"), (2, "12.3.0"), (3, "GNU ld 2.41"), (4, "glibc 2.37")],
)
def test_each_part_changes_the_fingerprint(position: int, other: str) -> None:
    changed = [*BASE]
    changed[position] = other
    assert tools.describe(*changed) != tools.describe(*BASE)


@pytest.mark.parametrize("position", [2, 3, 4])
def test_a_program_that_says_nothing_is_an_error_and_no_fingerprint(position: int) -> None:
    changed = [*BASE]
    changed[position] = "\n"
    with pytest.raises(UserError, match="print no version"):
        tools.describe(*changed)


def test_the_fingerprint_is_the_same_whatever_runs_the_toolchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(entry.VARIABLE, raising=False)
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    here = tools.ready(tmp_path, "debian12")
    monkeypatch.setattr(entry, "of_toolchain", lambda cache, name: Entry("proot", "", tmp_path, ("proot",)))
    inside = tools.ready(tmp_path, "debian12")
    assert (here.entry.way, inside.entry.way) == ("host", "proot")
    assert here.fingerprint == inside.fingerprint == build_root.fingerprint("debian12")


def test_a_root_has_the_programs_in_it(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/ccache").touch()
    inside = ReadyToolchain("gcc", Entry("bwrap", "", tmp_path), "")
    assert (inside.has("ccache"), inside.has("sh")) == (True, False)
    assert ReadyToolchain("gcc", Entry("host", ""), "").has("sh")


def test_stages_show_a_root_the_output_and_what_they_read(tmp_path: Path) -> None:
    found = Entry("bwrap", "", tmp_path, ("bwrap",))
    box = Tools(found, (Bind(Path("/o"), writable=True),)).box([Path("/srv/x")])
    assert " ".join(box).endswith("--bind /o /o --ro-bind /srv/x /srv/x --")
    inside = Tools(found, (Bind(Path("/o"), writable=True),)).box([Path("/o/tcz-root/x")])
    assert " ".join(inside).endswith("--bind /o /o --"), "what is read there may be written, too"
    assert Tools(found, ()).file("/usr/lib/a") == tmp_path / "usr/lib/a"


def test_this_machines_programs_run_without_a_box(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings()
    profile = replace(settings.profile, toolchain=build_root.HOST)
    ran = tools.of_profile(settings.paths, profile).run(["echo", "here"])
    assert ran.stdout == "here\n"

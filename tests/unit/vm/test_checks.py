# SPDX-License-Identifier: MIT
"""Which checks are about what a profile has, and what is a right answer; this machine's shell is asked."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.config import profile
from tasks.config.check import Check
from tasks.config.checks import PlacedCheck, built_in
from tasks.config.profile import Extension, Profile
from tasks.config.settings import Paths
from tasks.config.sources import Core
from tasks.vm import checks
from tasks.vm.checks import Built
from tasks.vm.guest import GuestError, TimedOut
from tasks.vm.machine import Firmware
from tasks.vm.results import Result

CONTAINERS = {"MEMCG": "y", "NET_NS": "y", "BRIDGE": "m", "OVERLAY_FS": "m"}
ATTR = "attr works"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An output folder with a kernel of release 1.2, and an extension `top` that needs attr."""
    made = Paths("apt", tmp_path, tmp_path / "cache", "x86_64")
    for folder in (made.kernel, made.tcz):
        folder.mkdir(parents=True)
    (made.kernel / "release").write_text("1.2\n")
    (made.tcz / "top.tcz.dep").write_text("attr.tcz\n")
    configure(made, CONTAINERS)
    return made


def configure(paths: Paths, config: Mapping[str, str]) -> None:
    (paths.kernel / "config").write_text("".join(f"CONFIG_{key}={value}\n" for key, value in config.items()))


def of_apt(**changes: Any) -> Profile:
    return dataclasses.replace(profile.load("apt"), **changes)


def names(paths: Paths, made: Profile, firmware: Firmware = "bios", medium: str = "cd") -> set[str]:
    return {placed.check.name for placed in Built.of(paths, made).fitting(firmware, medium)}


def test_the_profile_apt_has_all_of_ours_and_those_of_its_recipe(paths: Paths) -> None:
    assert names(paths, of_apt()) == {check.name for check in built_in()} | {ATTR}


def test_a_root_of_others_without_attr_and_containers_has_the_others(paths: Paths) -> None:
    every = names(paths, of_apt())
    configure(paths, {"BRIDGE": "n"})
    left = every - names(paths, of_apt(core=Core(), extensions=(Extension("parted", origin="imported"),)))
    assert left == {
        ATTR,
        "modules of this kernel load",
        "a container host's cgroups, namespaces and bridge are there",
    }


@pytest.mark.parametrize(
    ("place", "on_cd", "direct"),
    [("onboot", True, False), ("copy2fs", True, False), ("initrd", True, True), ("ondemand", False, False)],
)
@pytest.mark.parametrize("name", ["attr", "top"])
def test_the_checks_of_a_recipe_are_made_where_its_extension_is_loaded(
    paths: Paths, name: str, place: str, on_cd: bool, direct: bool
) -> None:
    """By its own name, or because another one needs it."""
    made = of_apt(extensions=(Extension(name, place),))  # type: ignore[arg-type]
    assert (ATTR in names(paths, made)) is on_cd
    assert (ATTR in names(paths, made, "direct", "")) is direct


def test_the_checks_of_a_recipe_are_not_those_of_an_upstream_extension(paths: Paths) -> None:
    made = of_apt(extensions=(Extension("attr", origin="upstream"),), tcz="tcz")
    assert ATTR not in names(paths, made)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, ["bios-cd", "uefi-stick", "direct-"]),
        ({"firmware": ("uefi", "direct")}, ["uefi-stick", "direct-"]),
        ({"media": ("cd", "stick")}, ["bios-cd", "uefi-stick"]),
        ({"firmware": ("bios",), "media": ("stick",)}, []),
        ({"extension": "attr"}, ["bios-cd", "uefi-stick"]),
        ({"extension": "nowhere"}, []),
        ({"kconfig": ("BRIDGE", "MEMCG")}, ["bios-cd", "uefi-stick", "direct-"]),
        ({"kconfig": ("BRIDGE", "KVM")}, []),
        ({"off": True}, []),
    ],
)
def test_a_check_of_the_profile_is_made_where_it_says(
    paths: Paths, changes: dict[str, Any], fits: list[str]
) -> None:
    mine = Check("mine", command="true", **changes)
    built = Built.of(paths, of_apt(check=(mine,)))
    there = [
        f"{firmware}-{medium}"
        for firmware, medium in (("bios", "cd"), ("uefi", "stick"), ("direct", ""))
        if any(one.check.name == "mine" for one in built.fitting(firmware, medium))  # type: ignore[arg-type]
    ]
    assert there == fits


class Shell:
    """In place of a guest: this machine's shell, by the program that a guest would run."""

    tail = "tc@box:~$"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, program: bytes, user: str, seconds: float) -> tuple[int, bytes, bytes]:
        path = self.folder / "program"
        path.write_bytes(program)
        path.chmod(0o755)
        done = subprocess.run([path], capture_output=True, timeout=seconds, check=False)
        status = done.returncode
        return (128 - status if status < 0 else status), done.stdout, done.stderr

    @property
    def guest(self) -> Shell:
        return self


def ask(paths: Paths, check: Check, file: Path | None = None) -> Result:
    built = Built.of(paths, of_apt())
    placed = PlacedCheck(check, file, "attr" if file else "")
    program = built.program(placed, "bios")
    return checks.make(Shell(paths.output), check, program)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (Check("c", command="true"), ""),
        (Check("c", command="echo a; echo b >&2; exit 3"), "exited with status 3, expected 0: a"),
        (Check("c", command="exit 3", status=3), ""),
        (Check("c", command="true", status=3), "exited with status 0, expected 3"),
        (Check("c", command="kill -SEGV $$", status=139), ""),
        (Check("c", command="echo one; echo two", output=r"^t\w+$"), ""),
        (Check("c", command="echo one; echo two >&2", output="two"), "its output does not match 'two'"),
        (Check("c", command="echo two; exit 1", output="two"), "exited with status 1, expected 0: two"),
        (Check("c", command="printf '\\377\\000\\033[2J'; exit 1"), "\ufffd\\x00\\x1b[2J"),
        (Check("c", command="[ @RELEASE@ = 1.2 ]\n[ '@EXTENSIONS@' = attr ]"), ""),
        (Check("c", command="sleep 30", timeout=1), "did not end within 1 s"),
        (Check("c", command="exit 137"), "exited with status 137, expected 0"),
        (
            Check("c", command="echo \"it's\" 'two' \\\\x; exit 1"),
            "exited with status 1, expected 0: it's two \\x",
        ),
    ],
)
def test_an_answer_is_right_or_it_is_said_what_is_wrong(paths: Paths, check: Check, message: str) -> None:
    started = time.monotonic()
    result = ask(paths, check)
    assert result.message.endswith(message) if message.startswith("\ufffd") else result.message == message
    assert result.outcome == ("failed" if message else "passed")
    assert time.monotonic() - started < 20
    if message:
        assert "console:\n  | tc@box:~$" in result.detail


def test_a_failure_shows_what_the_check_wrote(paths: Paths) -> None:
    detail = ask(paths, Check("c", command="echo out; echo err >&2; exit 1")).detail
    assert detail == "output:\n  | out\nerrors:\n  | err\nconsole:\n  | tc@box:~$"


def test_a_long_line_and_a_long_answer_show_their_ends(paths: Paths) -> None:
    detail = checks.detail({"output": "x" * 300 + "end\n", "errors": "y\n" * 5000 + "last"})
    first, second = detail.split("errors:\n")
    assert first == f"output:\n  | {'x' * 197}end\n"
    assert second.endswith("  | y\n  | last")
    assert len(second) < 3 * checks.SHOWN


def test_a_script_is_run_by_the_program_that_it_names(paths: Paths) -> None:
    (paths.output / "ask.awk").write_text("#!/usr/bin/awk -f\nBEGIN { print 1 + 1 }\n")
    check = Check("c", script="ask.awk", output="^2$")
    assert ask(paths, check, paths.output / "checks.toml").outcome == "passed"


def test_the_program_leaves_nothing_behind(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = paths.output / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    (paths.output / "ask").write_text('#!/bin/sh\ncase $0 in "$TMPDIR"/*) ;; *) exit 1 ;; esac\n')
    assert ask(paths, Check("c", script="ask"), paths.output / "checks.toml").outcome == "passed"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [TimedOut("the command did not end within 75 s"), GuestError("x")])
def test_a_guest_that_is_lost_is_told(error: GuestError) -> None:
    class Lost:
        def ask(self, program: bytes, user: str, seconds: float) -> tuple[int, bytes, bytes]:
            assert (program, user, seconds) == (b"p", "root", 10 + checks.GRACE)
            raise error

    check = Check("c", command="x", user="root", timeout=10)
    said = "did not end within 10 s, nor by SIGKILL" if isinstance(error, TimedOut) else "x"
    with pytest.raises(type(error), match=said):
        checks.make(Lost(), check, b"p")  # type: ignore[arg-type]

# SPDX-License-Identifier: MIT
"""The systems that `./doit test:hosts` tries, its table, and the page that shows it."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.hosts import trial
from tests.hosts.table import VISITORS, table
from tests.hosts.trial import COMMANDS, Ended, Trial
from tests.support import hosts, seccomp
from tests.support.built import Outcome

PAGE = CHECKOUT.root / "docs/hosts.md"


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table in Markdown, without its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_says_what_was_run_and_what_was_not() -> None:
    done = Trial("debian13", "root", "3.13.5", {"set-up": Ended(61.4), "iso": Ended(200.0)}, "")
    other = Trial("ubuntu24", "user", "3.12.3", {"set-up": Ended(9.0, "error: no | pipe")}, None)
    differs = Trial("testing", "root", "3.14.8", {name: Ended(1) for name in COMMANDS}, "byte 7")
    shown = {(row[0], row[2]): row[3:] for row in rows(table([done, other, differs]))}
    assert len(shown) == len(hosts.load()) * len(VISITORS)
    assert shown["Debian 13", VISITORS["root"]] == ["61 s", "not run", "200 s", "not run", "yes"]
    assert shown["Debian 13", VISITORS["user"]] == ["not run"] * 5
    assert shown["Ubuntu 24.04", VISITORS["user"]] == [
        "fails: error: no / pipe",
        *["not run"] * 4,
    ]
    assert shown["Debian's testing", VISITORS["root"]][-1] == "no: byte 7"
    assert [done.is_good, other.is_good, differs.is_good] == [True, False, False]


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (
            "a\n== 2 failed, 9 passed in 5s ==\nerror: test:unit: some tests failed\n",
            "2 failed, 9 passed in 5s",
        ),
        ("error: fetch: first\n  hint: none\n", "error: fetch: first"),
        ("sh: python3: not found\n", "sh: python3: not found"),
        ("", "no output"),
    ],
    ids=["pytest", "error", "other", "nothing"],
)
def test_the_reason_is_the_line_that_tells_most(output: str, wanted: str) -> None:
    assert trial.reason(output) == wanted


@pytest.mark.parametrize(("status", "wanted"), [(0, ""), (1, None)], ids=["well", "with an error"])
def test_an_iso_counts_only_if_its_command_ended_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, wanted: str | None
) -> None:
    reference = tmp_path / "tcbuild-apt.iso"
    reference.write_bytes(b"image")

    def run(system: hosts.System, *words: str) -> Outcome:
        if words[1] == "iso":
            made = system.checkout / "artifacts/apt" / reference.name
            made.parent.mkdir(parents=True)
            shutil.copyfile(reference, made)
            return Outcome(status, "error: xorriso is not installed\n" if status else "")
        return Outcome(0, "Python 3.13.5\n")

    monkeypatch.setattr(hosts.System, "run", run)
    monkeypatch.setattr(hosts, "archive", lambda name, cache: tmp_path)
    monkeypatch.setattr(hosts, "unpack", lambda tarball, folder: folder)
    monkeypatch.setattr(trial, "copy_checkout", lambda folder: folder)
    found = trial.run("debian13", "user", reference, tmp_path / "cache", tmp_path / "hosts")
    assert found.difference == wanted
    assert found.is_good == (status == 0)


def test_no_row_of_the_page_has_an_iso_whose_command_was_not_run() -> None:
    shown = rows(PAGE.read_text().split("## The table")[1])
    assert not [row for row in shown if row[-1] == "yes" and not row[-3].endswith(" s")]


def test_the_page_has_a_row_for_every_system_and_visitor() -> None:
    shown = [(row[0], row[2]) for row in rows(PAGE.read_text().split("## The table")[1])]
    wanted = [(host.title, who) for host in hosts.load().values() for who in VISITORS.values()]
    assert shown == wanted


def test_every_cell_of_the_page_is_seconds_or_says_why_there_are_none() -> None:
    for row in rows(PAGE.read_text().split("## The table")[1]):
        for cell in row[3:]:
            assert cell == "not run" or cell == "yes" or cell.endswith(" s") or ":" in cell, row


@pytest.mark.parametrize(
    ("number", "argument", "wanted"),
    [
        (165, 0, "EPERM"),
        (272, 0, "EPERM"),
        (56, 0x10000000, "EPERM"),
        (56, 0x11, "allowed"),
        (435, 0, "ENOSYS"),
        (1, 0, "allowed"),
    ],
    ids=["mount", "unshare", "clone a namespace", "fork", "clone3", "write"],
)
def test_the_filter_refuses_what_containers_refuse(number: int, argument: int, wanted: str) -> None:
    assert verdict(seccomp.container_filter(), number, argument) == wanted


def verdict(program: bytes, number: int, argument: int) -> str:
    """Run a filter as the kernel does (Linux, networking/filter.rst), for one system call."""
    steps, value, at = list(struct.iter_unpack("<HBBI", program)), 0, 0
    while True:
        code, on_true, on_false, constant = steps[at]
        at += 1
        if code == seccomp.LOAD:
            value = {seccomp.NUMBER: number, seccomp.FIRST_ARGUMENT: argument}[constant]
        elif code == seccomp.RETURN:
            known = {seccomp.ALLOW: "allowed", seccomp.REFUSE | 1: "EPERM", seccomp.REFUSE | 38: "ENOSYS"}
            return known[constant]
        else:
            met = value == constant if code == seccomp.JUMP_IF_EQUAL else bool(value & constant)
            at += on_true if met else on_false

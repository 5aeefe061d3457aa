# SPDX-License-Identifier: MIT
"""The report's parts: causes, configuration, graph, bars; nothing it shows can become code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tasks.config.settings import Settings
from tasks.engine.reason import Kind, Reason
from tasks.engine.run_history import Run, TaskRun
from tasks.kernel import kconfig_diff
from tasks.kernel.fragments import Request
from tasks.report import report
from tasks.report.sizes import CodeSize, Size
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.vm import results
from tasks.vm.results import Record, Result, whole
from tests.support.secrets import token
from tests.support.settings import with_values
from tests.support.tasknodes import node

EVIL = "<script>alert('x')</script>\"&"
NOT_DONE = Reason(Kind.NOT_DONE)
BASE = Reason(Kind.VALUE, text="kernel.base: 'a' -> 'b'")


def changed(path: str) -> Reason:
    return Reason(Kind.CHANGED, path)


def run_of(*tasks: TaskRun, up_to_date: tuple[str, ...] = (), seconds: float = 10.0) -> Run:
    return Run("20260101T000000.000Z", 1000.0, seconds, "ok", ("iso",), tasks, up_to_date)


def task(name: str, *reasons: Reason, made: str = "", start: float = 1000.0) -> TaskRun:
    return TaskRun(name, start, 1.0, 0.5, "ok", reasons, {made: 1} if made else {})


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return with_values(make_settings(), output=CHECKOUT.root / "artifacts" / "apt")


def test_causes_are_what_no_task_of_the_run_made(settings: Settings) -> None:
    one = run_of(
        task("kconfig", changed("kconfig/qemu.config"), BASE, made="kconfig/config"),
        task("kernel", changed("artifacts/apt/kconfig/config"), made="kernel/vmlinuz64"),
        task("iso", changed("artifacts/apt/kernel/vmlinuz64"), changed("kconfig/qemu.config")),
    )
    assert report.causes(settings.paths, one) == ["changed: kconfig/qemu.config", "kernel.base: 'a' -> 'b'"]


@pytest.mark.parametrize(
    ("tasks", "up_to_date", "says"),
    [
        ([task("kernel", NOT_DONE), task("iso", NOT_DONE)], (), ["built from scratch"]),
        ([task("iso", NOT_DONE)], ("kernel",), ["not built before: iso"]),
        (
            [task("a", NOT_DONE), task("b", changed("boot/x"))],
            (),
            ["changed: boot/x", "not built before: a"],
        ),
        ([task("a")], (), []),
    ],
)
def test_a_build_from_scratch_is_told_from_others(
    settings: Settings, tasks: list[TaskRun], up_to_date: tuple[str, ...], says: list[str]
) -> None:
    assert report.causes(settings.paths, run_of(*tasks, up_to_date=up_to_date)) == says


def test_the_difference_is_grouped_by_the_fragment_that_asked() -> None:
    """Read back from what the configuration stage writes."""
    requests = [
        Request("A", "y", "kconfig/one.config:3"),
        Request("B", '"x (y)"', "kconfig/two.config:4"),
        Request("LOCALVERSION", '"-t"', "kernel.localversion of the profile"),
    ]
    final = 'CONFIG_A=y\nCONFIG_B="x (y)"\nCONFIG_C=m\nCONFIG_LOCALVERSION="-t"\n'
    content = kconfig_diff.format_diff("", "CONFIG_B=1\nCONFIG_D=y\n", final, requests)
    found = report.read_diff(content)
    shown = {
        name: [(change.sign, change.symbol, change.value) for change in changes]
        for name, changes in found.items()
    }
    assert shown == {
        "kconfig/one.config": [("+", "A", "y")],
        "kconfig/two.config": [("~", "B", '1 -> "x (y)"')],
        "kernel.localversion of the profile": [("+", "LOCALVERSION", '"-t"')],
        "followed by itself (select or default)": [("+", "C", "m"), ("-", "D", "y")],
    }


def test_names_of_all_kinds_are_shown_as_text(make_settings: Callable[..., Settings]) -> None:
    """Whatever a record, a file name or a fragment holds adds no element and no attribute."""
    settings = make_settings()
    settings.paths.config.parent.mkdir(parents=True)

    def elements(word: str) -> list[tuple[str, tuple[str, ...]]]:
        settings.paths.config.with_name("diff.txt").write_text(
            f'# {word}\n+ CONFIG_A="{word.replace(chr(34), "")}"  (kconfig/{word}:1)\n'
        )
        page = report.page(
            settings.paths,
            settings.profile,
            [
                Run(
                    word,
                    1000.0,
                    10.0,
                    word,
                    (word,),
                    (
                        replace(
                            task(word, Reason(Kind.TEXT, text=word), changed(word), made=word), outcome=word
                        ),
                    ),
                    (word,),
                )
            ],
            [
                Size(word, word, "image", 2, (1, 2)),
                Size(f"module:{word}/{word}", f"{word}/{word}", "module", 2, (1, 2)),
            ],
            [CodeSize(f"{word}/{word}.o", 1, 2, 3)],
            [node(word, ("/o/f",)), node("two", ("/o/g",), ("/o/f",))],
            [Record(1000.0, 1.0, (whole(word, [Result(word, "failed", 1.0, word, word)], 1.0),))],
        ).decode()
        found: list[tuple[str, tuple[str, ...]]] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                # The picture's size depends on the words in it.
                found.append((tag, tuple(sorted(name for name, _ in attrs))))

        Reader().feed(page)
        return found

    assert elements(EVIL) == elements("x" * len(EVIL))


def test_a_secret_on_the_page_is_refused(make_settings: Callable[..., Settings]) -> None:
    settings, secret = make_settings(), token()
    told = replace(settings.profile, description=f"of {secret}")
    with pytest.raises(UserError, match="secret: description: a GitHub token, at byte 3"):
        report.build(settings.paths, told, [])
    settings.paths.iso.parent.mkdir(parents=True)
    settings.paths.iso.write_bytes(b"image")
    settings.paths.config.parent.mkdir(parents=True)
    diff = settings.paths.config.with_name("diff.txt")
    diff.write_text(f'+ CONFIG_A="{secret}"  (kconfig/a:1)\n')
    with pytest.raises(UserError, match=r"the report holds .*report\.html: a GitHub token"):
        report.build(settings.paths, settings.profile, [])
    assert not (settings.paths.output / "report.html").exists()
    diff.unlink()
    results.save(settings.paths.output, Record(1000.0, 1.0, (Result("one", "failed", 1.0, "", secret),)))
    with pytest.raises(UserError, match=r"the report holds .*report\.html: a GitHub token"):
        report.build(settings.paths, settings.profile, [])
    results.save(settings.paths.output, Record(1000.0, 1.0, (Result("one", "failed"),)))
    report.build(settings.paths, settings.profile, [])
    assert (settings.paths.output / "report.html").exists()

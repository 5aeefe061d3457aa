"""The report's parts: causes, configuration, graph, bars; nothing it shows can become code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from tasks.cli import completion, variables
from tasks.cli.main import Main
from tasks.config import compiler
from tasks.config.settings import Settings
from tasks.engine.reason import Kind, Reason
from tasks.engine.run_history import Run, TaskRun
from tasks.kernel import kconfig
from tasks.kernel.fragments import Request
from tasks.report import chart, graph, report
from tasks.report.sizes import CodeSize, Size
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError

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
    return replace(make_settings(), output=ROOT / "artifacts" / "apt")


def test_causes_are_what_no_task_of_the_run_made(settings: Settings) -> None:
    one = run_of(
        task("kconfig", changed("kconfig/qemu.config"), BASE, made="kconfig/config"),
        task("kernel", changed("artifacts/apt/kconfig/config"), made="kernel/vmlinuz64"),
        task("iso", changed("artifacts/apt/kernel/vmlinuz64"), changed("kconfig/qemu.config")),
    )
    assert report.causes(settings, one) == ["changed: kconfig/qemu.config", "kernel.base: 'a' -> 'b'"]


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
    assert report.causes(settings, run_of(*tasks, up_to_date=up_to_date)) == says


def test_the_difference_is_grouped_by_the_fragment_that_asked() -> None:
    """Read back from what the configuration stage writes."""
    requests = [
        Request("A", "y", "kconfig/one.config:3"),
        Request("B", '"x (y)"', "kconfig/two.config:4"),
        Request("LOCALVERSION", '"-t"', "profiles/apt.toml, kernel.localversion"),
    ]
    final = 'CONFIG_A=y\nCONFIG_B="x (y)"\nCONFIG_C=m\nCONFIG_LOCALVERSION="-t"\n'
    content = kconfig.format_diff("", "CONFIG_B=1\nCONFIG_D=y\n", final, requests)
    found = report.read_diff(content)
    shown = {
        name: [(change.sign, change.symbol, change.value) for change in changes]
        for name, changes in found.items()
    }
    assert shown == {
        "kconfig/one.config": [("+", "A", "y")],
        "kconfig/two.config": [("~", "B", '1 -> "x (y)"')],
        "profiles/apt.toml": [("+", "LOCALVERSION", '"-t"')],
        "followed by itself (select or default)": [("+", "C", "m"), ("-", "D", "y")],
    }


def test_bars_lie_where_and_as_long_as_the_tasks_ran() -> None:
    tasks = [
        TaskRun("one", 1000.0, 5.0, None, "ok"),
        TaskRun("two", 1002.5, 5.0, None, "failed"),
        TaskRun("three", 1007.5, None, None, "cut"),
    ]
    page = ElementTree.fromstring(chart.waterfall(tasks, 1000.0, 10.0))
    bars = page.findall(".//rect")
    assert [(bar.get("x"), bar.get("width"), bar.get("class")) for bar in bars] == [
        ("0.000%", "50.000%", "bar ok"),
        ("25.000%", "50.000%", "bar failed"),
        ("75.000%", "25.000%", "bar cut"),
    ]


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_times_for_people(seconds: float, says: str) -> None:
    assert chart.seconds_text(seconds) == says


def node(name: str, targets: tuple[str, ...] = (), deps: tuple[str, ...] = (), **more: Any) -> Any:
    """A task as doit has it, as far as the graph looks."""
    facts: dict[str, Any] = {
        "file_dep": set(deps),
        "task_dep": [],
        "subtask_of": None,
        "doc": "",
        "params": [],
    }
    return SimpleNamespace(name=name, targets=list(targets), **{**facts, **more})


TASKS = {
    item.name: item
    for item in (
        node("kernel", ("/o/vmlinuz64",), (str(ROOT / "kconfig/a.config"),)),
        node("tcz:x", ("/o/x.tcz",), (), subtask_of="tcz"),
        node("tcz:y", ("/o/y.tcz",), (), subtask_of="tcz"),
        node("iso", ("/o/i.iso",), ("/o/vmlinuz64", "/o/x.tcz")),
        node("qemu", (), ("/o/i.iso",)),
    )
}


def test_the_graph_of_a_task_has_what_it_needs_and_no_more() -> None:
    chosen = graph.selected(TASKS, ["iso"])
    assert [item.name for item in chosen] == ["kernel", "tcz:x", "iso"]
    assert graph.files_by_edge(chosen) == {
        ("kconfig/", "kernel"): [],
        ("kernel", "iso"): ["vmlinuz64"],
        ("tcz", "iso"): ["*.tcz"],
    }
    assert len(graph.selected(TASKS, [])) == len(TASKS)
    with pytest.raises(UserError, match="unknown task 'is0'"):
        graph.selected(TASKS, ["is0"])


def test_dot_quotes_every_name_and_marks_what_ran() -> None:
    evil = 'a"; b -> c; "\\'
    said = graph.dot([node("one", ("/o/f",)), node(evil, (), ("/o/f",))], {"one"})
    assert r'"one" -> "a\"; b -> c; \"\\" [label="f"];' in said
    assert '"one" [class="ran"];' in said
    assert said.count('" -> "') == 1


def test_of_an_svg_only_shapes_and_text_are_taken() -> None:
    source = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="12.5pt" onload="x()"><script>x()</script>'
        '<g class="node" style="color:red"><a href="http://h/"><text>no</text></a><text x="1">yes</text>'
        '<image href="http://h/"/><foreignObject/></g></svg>'
    )
    plain = graph._sanitized(ElementTree.fromstring(source))
    assert plain == (
        '<svg xmlns="http://www.w3.org/2000/svg" width="12pt">'
        '<g class="node"><text x="1">yes</text></g></svg>'
    )


def test_names_of_all_kinds_are_shown_as_text(make_settings: Callable[..., Settings]) -> None:
    """Whatever a record, a file name or a fragment holds adds no element and no attribute."""
    settings = make_settings()
    settings.config.parent.mkdir(parents=True)

    def elements(word: str) -> list[tuple[str, tuple[str, ...]]]:
        settings.config.with_name("diff.txt").write_text(
            f'# {word}\n+ CONFIG_A="{word.replace(chr(34), "")}"  (kconfig/{word}:1)\n'
        )
        page = report.page(
            settings,
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
        ).decode()
        found: list[tuple[str, tuple[str, ...]]] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                # The picture's size depends on the words in it.
                found.append((tag, tuple(sorted(name for name, _ in attrs))))

        Reader().feed(page)
        return found

    assert elements(EVIL) == elements("x" * len(EVIL))


def test_words_for_completion() -> None:
    option = {"name": "m", "long": "memory", "help": "MiB"}
    commands = {made.get_name(): made for made in Main.DOIT_CMDS}
    params = [option, variables.FIRMWARE]
    found = list(completion.lines({"qemu": node("qemu", doc="boot\tit\nmore", params=params)}, commands))
    assert ("task", "qemu", "boot it") in found
    assert ("option", "qemu", "--memory", "MiB") in found
    assert ("value", "profile", "tc11") in found
    assert ("values", "fragments", "ext3-xattr") in found
    assert ("value", "--format", "mermaid") in found
    assert ("value", "--firmware", "direct") in found
    assert not [line for line in found if any("\t" in part or "\n" in part for part in line)]
    assert not [line for line in found if line[0] == "values" and line[2].startswith("base-")]


def test_every_variable_has_a_description() -> None:
    assert set(compiler.VARIABLES) <= set(variables.VARIABLES)
    assert all(variables.VARIABLES.values())


def test_an_unknown_shell_is_an_error() -> None:
    with pytest.raises(UserError, match="bash and zsh, not fish"):
        completion.print_for(["fish"], {}, {})

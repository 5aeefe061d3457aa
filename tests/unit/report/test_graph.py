# SPDX-License-Identifier: MIT
"""The graph of tasks in its formats."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tasks.report import graph
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.tasknodes import node

TASKS = {
    item.name: item
    for item in (
        node("kernel", ("/o/vmlinuz64",), (str(CHECKOUT.root / "kconfig/a.config"),)),
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

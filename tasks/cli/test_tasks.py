# SPDX-License-Identifier: MIT
"""The tasks that run tests, for `dodo.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.cli import variables
from tasks.engine.task import Task, command, do

IMAGE = ("iso", "disk", "tcz:all", "mirror")
"""What tests of the tier vm, and all together, find in artifacts/."""
SINCE = {
    "name": "since",
    "long": "since",
    "default": "",
    "help": "the commit with which the files are compared, instead of where the branch left main",
}


def declared(iso: Path) -> Iterator[Task]:
    """Yield the tasks that run tests; iso: the profile's image, which other hosts build again."""
    tiers = {
        "test": ("run all tests: unit, tools and vm", ["tests"], [*IMAGE]),
        "test:unit": ("run the quick tests (seconds)", ["tests/unit"], []),
        "test:tools": ("run the tests with the real tools", ["tests/tools"], ["iso", "tcz:all", "mirror"]),
        "test:vm": (
            "run the tests that boot machines in QEMU",
            ["tests/vm"],
            [*IMAGE],
        ),
    }
    for name, (doc, paths, needs) in tiers.items():
        tests = do("cli.testing", "pytest", *paths)
        yield command(name, doc, tests, task_dep=needs, io={"capture": False})
    doc = "run the tests that the changes since this branch left main affect"
    affected = do("cli.affected_tests", "run_chosen")
    yield command("test:affected", doc, affected, params=[SINCE], io={"capture": False})
    doc = "build the ISO on fresh systems of other releases, as root and as a user, and compare it"
    hosts = do("cli.testing", "hosts", iso)
    yield command("test:hosts", doc, hosts, params=variables.HOSTS, task_dep=["iso"], io={"capture": False})
    doc = "feed damaged input to every parser (100,000 inputs in all)"
    yield command("fuzz", doc, do("cli.testing", "fuzz"), params=[variables.INPUTS], io={"capture": False})
    doc = "cause faults in the middle of runs (200 times), and check that one more run repairs each"
    faults = do("cli.testing", "faults")
    yield command("faults", doc, faults, params=variables.FAULTS, task_dep=["iso"], io={"capture": False})

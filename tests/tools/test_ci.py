# SPDX-License-Identifier: MIT
"""What the CI files of docs/ci/ run: in a fresh copy here, and on a fresh Debian 13 as root of a container.

GitHub and GitLab run the same commands (tests/unit/test_ci.py).  The quick tests have them all, but a quick
task takes the place of `iso` and `qemu:test`.  The slow tests build and boot.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from tasks.util.checkout import CHECKOUT, cache_folder
from tests.support import ci, hosts
from tests.support.built import copy_checkout, outcome
from tests.support.hosts import System

PROFILE = "quick"  # it compiles no kernel
SCHEMA = Draft7Validator(json.loads((CHECKOUT.root / "tasks/config/schemas/events.schema.json").read_text()))


@pytest.fixture
def debian13() -> Iterator[System]:
    """A fresh Debian 13, whose root is that of a container; it has this machine's downloads."""
    if os.geteuid() != 0:
        pytest.skip("apt in a fresh system needs root")
    with hosts.debian13("root") as system:
        yield system


def run(system: System, scripts: Sequence[str]) -> None:
    """Run scripts as a job does: each by a shell of its own that ends at the first failure."""
    for script in scripts:
        done = system.run("sh", "-e", "-c", script)
        assert done.status == 0, f"{script}\n{done.output}"
        assert "Traceback" not in done.output


def events(path: Path) -> list[str]:
    """Return the kinds of the events of a stream; each event fits the schema."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for event in found:
        assert [error.message for error in SCHEMA.iter_errors(event)] == [], event
    return [event["event"] for event in found]


def check_streams(checkout: Path) -> None:
    """Check that both commands with `--events` left a whole stream."""
    for name in ("build", "test"):
        kinds = events(checkout / f"artifacts/results/{name}.jsonl")
        assert (kinds[0], kinds[-1]) == ("run", "finish")


def quick(script: str) -> str:
    """Return a script with a quick task in place of a build and of the guests."""
    return re.sub(r"(\./doit )(iso|qemu:test)\b(.*?)( --junit \S+)?$", r"\1tcz:tree\3", script, flags=re.M)


def test_the_commands_of_a_job_run_in_a_fresh_copy(tmp_path: Path) -> None:
    """All but those of apt, which would change this machine."""
    checkout, home = copy_checkout(tmp_path / "copy"), tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "CI": "1", "HOME": str(home), "TCBUILD_CACHE": str(cache_folder())}
    scripts = [quick(script) for script in ci.gitlab(PROFILE) if "apt-get" not in script]
    assert sum("tcz:tree" in script for script in scripts) == 2
    for script in scripts:
        done = outcome(["sh", "-e", "-c", script], checkout, env)
        assert done.status == 0, f"{script}\n{done.output}"
    check_streams(checkout)
    assert str(checkout) in (home / ".gitconfig").read_text()


def test_the_commands_of_a_job_run_on_a_fresh_debian(debian13: System) -> None:
    run(debian13, list(map(quick, ci.gitlab(PROFILE))))
    check_streams(debian13.checkout)


@pytest.mark.slow
def test_a_job_builds_and_boots_on_a_fresh_debian(debian13: System) -> None:
    run(debian13, ci.github(PROFILE))
    there = debian13.checkout / "artifacts"
    for pattern in ci.load(ci.GITLAB)["iso"]["artifacts"]["paths"]:
        assert list(there.parent.glob(pattern.replace("$PROFILE", PROFILE).rstrip("/"))), pattern
    assert {"begin", "end"} <= set(events(there / "results/build.jsonl"))
    assert list(ElementTree.parse(there / "results/junit.xml").getroot().iter("testcase"))
    assert list((there / ".shared").rglob("*")), "the next job takes it from there"


@pytest.mark.slow
def test_the_container_has_all_that_a_build_and_a_guest_need(debian13: System) -> None:
    run(debian13, ci.container())
    assert (debian13.checkout / "artifacts/.setup-vm").exists()
    done = debian13.run("./doit", "tcz:tree", f"profile={PROFILE}")
    assert "installing" not in done.output
    assert done.status == 0, done.output

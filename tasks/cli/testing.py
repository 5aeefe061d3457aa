# SPDX-License-Identifier: MIT
"""Run the project's own tests and benchmarks, and show their output unchanged."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.util import jobserver
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import search_path, spawn

# A worker of pytest may have a guest of 2 GiB and a kernel build of its own.
MOST_WORKERS = 4
# The tests that take longest are told at the end, if they take half a minute.
SLOWEST = ("--durations=40", "--durations-min=30")


def pytest(*paths: str) -> None:
    """Run pytest on `paths` below the checkout, with a worker for each processor, up to four.

    The tests of one file run in one worker, because they share what the file builds.
    Raises `UserError` if a test fails.
    """
    workers = min(jobserver.slots(), MOST_WORKERS)
    if workers > 1:
        paths = (f"--numprocesses={workers}", "--dist=loadfile", "--no-loadscope-reorder", *paths)
    _run([*SLOWEST, *paths], {})


def fuzz(inputs: int) -> None:
    """Feed damaged input to every parser, `inputs` in all.  Raises `UserError` if a parser misbehaves."""
    if inputs < 1:
        raise UserError(f"--inputs={inputs}: expected at least 1")
    # The other half is chosen by coverage.
    _run(["tests/fuzz", "-rP", "--show-capture=stdout"], {"TCBUILD_FUZZ_INPUTS": str(max(1, inputs // 2))})


def faults(count: int, seed: str, kind: str) -> None:
    """Cause `count` faults in the middle of runs.  `seed` repeats the faults of an earlier run.

    kind: the only kind of fault; "" for all.
    """
    if count < 1:
        raise UserError(f"--count={count}: expected at least 1")
    given = {"TCBUILD_SEED": seed, "TCBUILD_FAULT_KIND": kind}
    more = {"TCBUILD_FAULTS": str(count), **{name: value for name, value in given.items() if value}}
    _run(["tests/faults", "-s"], more)


def hosts(iso: Path, names: str, visitors: str) -> None:
    """Build the ISO on the systems `names` as `visitors`, compare it with `iso`, and print a table.

    "" stands for all of them.  Raises `UserError` if a system does not give the same ISO.
    """
    words = [f"--iso={iso}", f"--hosts={names}", f"--visitors={visitors}"]
    _run_module("tests.hosts", words, "a system does not give the same ISO")


def _run(paths: Sequence[str], more: Mapping[str, str]) -> None:
    CHECKOUT.refuse_installed(CHECKOUT.root / "tests", "tcbuild's own code")
    if importlib.util.find_spec("pytest") is None:
        hint = "start the tests by ./doit, which installs what they need"
        raise UserError("the Python package pytest is not installed", hint)
    # The tests make fresh clones and set them up: they need the caller's pip settings.  They start tools
    # by name, and find those, too, that a user without root got into the cache folder.
    path = f"{os.environ.get('PATH', '')}:{search_path()}".lstrip(":")
    # A folder of this run's own: in its common one, pytest also removes what earlier runs left, and a file
    # system that a killed run left mounted there ends the run.  After a failure, the folder stays to be read.
    scratch = tempfile.mkdtemp(prefix="tcbuild-test-")
    command = [sys.executable, "-m", "pytest", f"--basetemp={scratch}/run", *paths]
    status = spawn(command, pipes=False, env={**os.environ, "PATH": path, **more}).wait()
    if status != 0:
        raise UserError("some tests failed" if status == 1 else f"pytest ended with exit status {status}")
    shutil.rmtree(scratch, ignore_errors=True)


def bench(
    caller: Path, rows: Sequence[str], runs: int, config: str, counts: str, json: str, folder: str
) -> None:
    """Measure tcbuild and similar tools, and print the table: all rows, or those with `rows` in their names.

    `json` and `folder` are relative to `caller`, where the command was typed.  Raises `UserError` if
    tcbuild itself fails.  The table says which other tools are missing or fail.
    """
    given = {"runs": str(runs), "config": config, "counts": counts}
    given |= {name: str(caller / path) for name, path in (("json", json), ("folder", folder)) if path}
    options = [f"--{name}={value}" for name, value in given.items()]
    _run_module("tests.bench", [*options, "--", *rows], "the measurement failed")


def _run_module(module: str, words: Sequence[str], failure: str) -> None:
    CHECKOUT.refuse_installed(CHECKOUT.root / "tests", "tcbuild's own code")
    command = [sys.executable, "-m", module, *words]
    status = spawn(command, pipes=False, env=os.environ | {"PYTHONPATH": str(CHECKOUT.root)}).wait()
    if status != 0:
        raise UserError(failure)

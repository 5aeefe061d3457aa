# SPDX-License-Identifier: MIT
"""Fuzzing led by coverage: libFuzzer by atheris looks for inputs that reach new lines of a parser.

    python -m tests.fuzz.guided NAME RUNS FOLDER

NAME: a target of tests/fuzz/targets.py; RUNS: how many inputs; FOLDER: for inputs that
found something new, and for the one that failed.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]


def main(name: str, runs: int, folder: Path) -> None:
    """Fuzz one target; ends the process, with a traceback and status 77 on a failure."""
    with atheris.instrument_imports(include=["tasks"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS

    from tests.fuzz.guard import check

    target = next(target for target in TARGETS if target.name == name)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        below = Path(tempfile.mkdtemp(dir=folder))
        tempfile.tempdir = str(below)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                check(target.parse, data, below)
        finally:
            tempfile.tempdir = None
            shutil.rmtree(below)

    options = ["-max_len=65536", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-atheris_runs={runs}", f"-artifact_prefix={folder}/", *options], one
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

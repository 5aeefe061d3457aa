# SPDX-License-Identifier: MIT
"""The completions for bash that extensions bring, with a real bash and a real ctr."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.support import debian11

SHARE = "usr/local/share"
CONTAINERD = CHECKOUT.root / "extensions/containerd/files"
# As bash calls it: the words of the line, and which of them the cursor is at.
ASK = """
COMP_WORDS=({words}) COMP_CWORD=$(({count} - 1)) COMPREPLY=()
{function} {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(folder: Path, extension: str, program: str, *words: str) -> list[str]:
    """Return what bash offers for the last of `words`, those after the name of the program."""
    files = CHECKOUT.root / "extensions" / extension / "files"
    source = files / SHARE / "bash-completion/completions" / program
    text = source.read_text().replace(f"/{SHARE}/containerd", str(CONTAINERD / SHARE / "containerd"))
    function = text.split(" -F ")[1].split()[0]
    quoted = " ".join(f"'{word}'" for word in (program, *words))
    ask = ASK.format(words=quoted, count=len(words) + 1, function=function, program=program)
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{text}\n{ask}"],
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs") / "bin"
    debian11.runtime(folder)
    cli = folder / "faas-cli"
    # Cobra's answer, as faas-cli 0.16.25 gives it; the program itself is in no registry.
    cli.write_text(
        '#!/bin/sh\n[ "$1" = __complete ] && printf "deploy\\tDeploy functions\\n--image\\tName\\n:4\\n"\n'
    )
    cli.chmod(0o755)
    return folder


def test_ctr_completes_commands_and_options(programs: Path) -> None:
    assert {"images", "run", "snapshots"} <= {*completed(programs, "containerd", "ctr", "")}
    assert completed(programs, "containerd", "ctr", "--namesp") == ["--namespace"]
    # The value of an option is no command.
    assert completed(programs, "containerd", "ctr", "-n", "buildkit", "images", "imp") == ["import"]
    assert "--base-name" in completed(programs, "containerd", "ctr", "images", "import", "--b")
    assert completed(programs, "containerd", "ctr", "images", "import", "x") == []


def test_faas_cli_answers_itself(programs: Path) -> None:
    assert completed(programs, "faasd", "faas-cli", "de") == ["deploy"]
    assert completed(programs, "faasd", "faas-cli", "deploy", "--i") == ["--image"]

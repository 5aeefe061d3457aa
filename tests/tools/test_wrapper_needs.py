# SPDX-License-Identifier: MIT
"""`./doit` asks tasks/bootstrap.py for what the words of a command need, and only when it must."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import bootstrap
from tasks.report import docs
from tasks.util.checkout import CHECKOUT

# Stands where tasks/bootstrap.py does: it tells what it was asked for, and remembers it as that one does.
SETUP = """
import sys
from pathlib import Path
print("setup", *sys.argv[1:])
program = Path("artifacts/.venv/bin/doit")
program.parent.mkdir(parents=True, exist_ok=True)
program.write_text("#!/bin/sh\\necho doit $*\\n")
program.chmod(0o755)
for need in sys.argv[1:]:
    Path(f"artifacts/.setup-{need}").touch()
"""
PATH = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
INPUTS = ("tasks/util/host.toml", "pyproject.toml", "requirements.lock", "tasks/bootstrap.py")


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """A checkout with nothing in it but the wrapper and what it looks at, all from an hour ago."""
    shutil.copy(CHECKOUT.root / "doit", tmp_path / "doit")
    (tmp_path / "tasks/util").mkdir(parents=True)
    (tmp_path / "tasks/bootstrap.py").write_text(SETUP)
    for name in INPUTS[:-1]:
        (tmp_path / name).write_text("")
    age(tmp_path)
    return tmp_path


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        then = path.stat().st_mtime - 3600
        os.utime(path, (then, then))


def lines(folder: Path, *words: str, **env: str) -> list[str]:
    """Return what `./doit WORDS` says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TCBUILD_")}
    done = subprocess.run(
        [folder / "doit", *words], env=clean | PATH | env, capture_output=True, text=True, check=True, cwd="/"
    )
    setup = done.stderr.splitlines()  # stdout may be read by a program
    assert all(line.startswith("setup ") for line in setup)
    return [*setup, *done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        ([], "python"),
        (["list", "profile=apt"], "python"),
        (["iso", "offline=1"], "build"),
        (["profile=apt"], "build"),
        (["-n", "1"], "build"),
        (["qemu:test"], "vm"),
        (["iso", "qemu"], "build vm"),
        (["sbom"], "sbom"),
        (["sbom", "iso", "disk"], "sbom build build"),
        (["test:unit"], "unit"),
        (["test"], "test"),
        (["test:vm", "sbom"], "test sbom"),
        (["fuzz", "--inputs=5"], "fuzz"),
        (["faults"], "faults"),
        (["bench", "boot"], "bench build"),
        (["iso", "cache=s3://bucket/x"], "build s3"),
        (["cache=s3a://bucket/x"], "build s3"),
        (["cache:list", "cache=s3://bucket/x"], "python s3"),
        (["iso", "cache=/mnt/cache"], "build"),
    ],
)
def test_words_tell_what_is_needed(wrapper: Path, words: list[str], needs: str) -> None:
    said = lines(wrapper, *words)
    assert said == [f"setup {needs}", f"doit {' '.join(words or ['list'])}"]
    assert set(needs.split()) <= bootstrap.NEEDS.keys()


def test_an_address_in_the_environment_counts_too(wrapper: Path) -> None:
    assert lines(wrapper, "iso", TCBUILD_SHARED_CACHE="s3://bucket/x")[0] == "setup build s3"


def test_what_was_set_up_is_not_set_up_again(wrapper: Path) -> None:
    assert lines(wrapper, "test", "sbom") == ["setup test sbom", "doit test sbom"]
    for words in (["test"], ["sbom"], ["test", "sbom"], ["sbom", "test"]):
        assert lines(wrapper, *words) == [f"doit {' '.join(words)}"]
    assert lines(wrapper, "iso", "sbom") == ["setup build sbom", "doit iso sbom"]


@pytest.mark.parametrize("name", INPUTS)
def test_a_change_sets_up_again(wrapper: Path, name: str) -> None:
    lines(wrapper, "iso")
    age(wrapper)
    assert lines(wrapper, "iso") == ["doit iso"]
    (wrapper / name).touch()
    assert lines(wrapper, "iso") == ["setup build", "doit iso"]


def test_a_venv_that_is_gone_is_set_up_again(wrapper: Path) -> None:
    lines(wrapper, "iso")
    shutil.rmtree(wrapper / "artifacts/.venv")
    assert lines(wrapper, "iso") == ["setup build", "doit iso"]


def test_every_task_that_needs_more_than_building_is_known_by_name(wrapper: Path) -> None:
    """The wrapper knows no tasks: a new one of these stages must be named in it."""
    more = {
        "cli.testing": {"unit", "test", "fuzz", "faults"},
        "provenance.sbom.cyclonedx": {"sbom"},
        "vm.qemu": {"vm"},
    }
    asked = []
    for task in docs.declared():
        stages = {action.py_callable.__name__.rpartition(".")[0] for action in task.actions}
        for stage in stages & more.keys():
            shutil.rmtree(wrapper / "artifacts", ignore_errors=True)
            _, need = lines(wrapper, task.name)[0].split()
            assert need in more[stage], task.name
            asked.append(task.name)
    # `bench` is a command, and no task: its need is asked for above.
    assert {"test", "test:unit", "faults", "sbom", "qemu", "qemu:test"} <= set(asked)

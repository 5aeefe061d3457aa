# SPDX-License-Identifier: MIT
"""The CI files of docs/ci/ and of `./doit init`: each by its linter or schema; their commands exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.cli.commands import documented
from tasks.report import docs, docs_check
from tests.support import ci

SCHEMAS = {
    ci.ACTION: "vendor.github-actions",
    ci.GITHUB: "vendor.github-workflows",
    ci.GITLAB: "vendor.gitlab-ci",
    ci.OF_TREE / "github/.github/workflows/@NAME@.yml": "vendor.github-workflows",
    ci.OF_TREE / "gitlab/.gitlab-ci.yml": "vendor.gitlab-ci",
}
"""File -> the schema that check-jsonschema ships for files of its kind."""
SCRIPTS = {
    "github": ci.github("apt"),
    "gitlab": ci.gitlab("apt"),
    "container": ci.container(),
}


def faults(schema: str, *paths: Path) -> list[str]:
    """Return the files that do not fit a schema.  The program takes seconds to start."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--output-format",
        "json",
        "--builtin-schema",
        schema,
    ]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert not said.get("parse_errors") and done.returncode == bool(said["errors"]), done.stdout + done.stderr
    return sorted({error["filename"] for error in said["errors"]})


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    hadolint = Path(sys.executable).with_name("hadolint")
    return subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_each_file_fits_the_schema_of_its_kind(path: Path, tmp_path: Path) -> None:
    wrong = tmp_path / path.name
    wrong.write_text(path.read_text().replace("  steps:", "  stesp:").replace("  script:", "  scirpt:"))
    found = faults(SCHEMAS[path], path, wrong)
    assert str(path) not in found, found
    assert str(wrong) in found, "a mistake is found"


@pytest.mark.parametrize("path", [ci.CONTAINER, ci.OF_WHEEL], ids=lambda path: path.name)
def test_the_containerfiles_are_clean(path: Path, tmp_path: Path) -> None:
    done = lint(path)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "Containerfile"
    wrong.write_text(path.read_text().replace("WORKDIR /", "WORKDIR "))
    assert "DL3000" in lint(wrong).stdout, "a mistake is found"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_names_tasks_options_and_variables_that_exist(name: str) -> None:
    known = docs_check.KnownNames([*docs.declared(), *documented()], variables.VARIABLES, set())
    commands = [words for script in SCRIPTS[name] for words in docs_check.DOIT.findall(script)]
    assert len(commands) == (0 if name == "container" else 3)
    assert [known.command_mistake(words.split()) for words in commands] == [""] * len(commands)


def test_github_and_gitlab_run_the_same() -> None:
    """What is true of one of them is true of the other, and the tests need to run only one."""

    def commands(name: str) -> list[str]:
        text = "\n".join(SCRIPTS[name]).replace('"$SIZE"', "2GiB")
        lines = [line.strip() for line in text.splitlines()]
        return sorted({line for line in lines if line and not line.startswith(("PROFILE=", "SIZE="))})

    assert commands("github") == commands("gitlab")


def test_a_job_keeps_what_its_commands_write() -> None:
    job = ci.load(ci.GITLAB)["iso"]
    steps = [step for step in ci.load(ci.ACTION)["runs"]["steps"] if "uses" in step]
    cache, upload = (step["with"]["path"].splitlines() for step in steps)
    assert [path.rstrip("/") for path in cache] == [path.rstrip("/") for path in job["cache"]["paths"]]
    kept = [path.replace("${{ inputs.profile }}", "$PROFILE") for path in upload]
    assert kept == job["artifacts"]["paths"]
    # GitHub's upload leaves out files and folders whose names begin with a dot.
    assert not [path for path in kept if "/." in path]
    written = job["artifacts"]["reports"]["junit"]
    assert f"--junit {written}" in "".join(SCRIPTS["gitlab"])
    assert f"{Path(written).parent}/" in kept


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_of_any_posix_shell(name: str) -> None:
    for script in SCRIPTS[name]:
        done = subprocess.run(["dash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stderr}"

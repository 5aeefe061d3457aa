# SPDX-License-Identifier: MIT
"""The CI files of docs/ci/: what each of them runs, as scripts for sh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tasks.util.checkout import CHECKOUT

FOLDER = CHECKOUT.root / "docs/ci"
ACTION, GITHUB, GITLAB = (FOLDER / name for name in ("action/action.yml", "github.yml", "gitlab.yml"))
OF_TREE = CHECKOUT.root / "tasks/cli/tree-ci"
CONTAINER = FOLDER / "Containerfile"
OF_WHEEL = FOLDER / "tcbuild.Containerfile"
INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return YAML(typ="safe", pure=True).load(path)


def github(profile: str) -> list[str]:
    """Return what a job of GitHub runs for a profile: the workflow's steps, and those of the action."""
    job = load(GITHUB)["jobs"]["image"]
    given = {step["uses"]: step.get("with", {}) for step in job["steps"] if "uses" in step}
    uses = f"./{ACTION.parent.relative_to(CHECKOUT.root)}"
    assert given[uses].keys() <= load(ACTION)["inputs"].keys()
    return [step["run"] for step in job["steps"] if "run" in step] + action(profile)


def action(profile: str) -> list[str]:
    """Return the scripts of the composite action's steps, each with its variables."""
    whole = load(ACTION)
    inputs = {name: about["default"] for name, about in whole["inputs"].items()} | {"profile": profile}
    found = []
    for step in whole["runs"]["steps"]:
        if "run" in step:
            env = {name: INPUT.sub(lambda one: inputs[one[1]], text) for name, text in step["env"].items()}
            found.append("".join(f"{name}='{value}'\n" for name, value in env.items()) + step["run"])
    return found


def gitlab(profile: str) -> list[str]:
    """Return what the job of GitLab runs for a profile: before it, itself, and after it."""
    job = load(GITLAB)["iso"]
    head = f"PROFILE='{profile}'\n"
    return [f"{head}{line}\n" for key in ("before_script", "script", "after_script") for line in job[key]]


def container(file: Path = CONTAINER) -> list[str]:
    """Return the RUN instructions of a Containerfile (each may have several lines)."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n", " ", text)
    return re.findall(r"^RUN (.*)$", joined, re.MULTILINE)

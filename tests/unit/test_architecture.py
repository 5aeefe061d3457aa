# SPDX-License-Identifier: MIT
"""The order of the packages, as pyproject.toml declares it, held by import-linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.util.checkout import CHECKOUT

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the checkout in `folder`; imports inside functions count."""
    command = [sys.executable, "-c", LINT, "--no-cache", "--config", str(folder / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_run_in_one_direction() -> None:
    done = lint(CHECKOUT.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    """The contract would see the late import that once closed the circle."""
    (tmp_path / "pyproject.toml").write_text((CHECKOUT.root / "pyproject.toml").read_text())
    for path in (CHECKOUT.root / "tasks").rglob("*.py"):
        copy = tmp_path / path.relative_to(CHECKOUT.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    assert lint(tmp_path).returncode == 0
    profile = tmp_path / "tasks/config/profile.py"
    profile.write_text(
        profile.read_text() + "\n\ndef late() -> None:\n    from tasks.fetch import mirror_probe\n"
    )
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "tasks.config.profile -> tasks.fetch.mirror_probe" in done.stdout

# SPDX-License-Identifier: MIT
"""The schemas in Taplo, which editors ask: it finds them by the files' first lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.report.schemas import FOLDER, SCHEMAS
from tasks.util.checkout import CHECKOUT

FILES = [path for described in SCHEMAS for path in described.toml_files()]


def lint(*paths: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    taplo = Path(sys.executable).with_name("taplo")
    return subprocess.run(
        [taplo, "lint", "--colors", "never", *paths], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_file_of_the_project_is_well() -> None:
    done = lint(*FILES, folder=CHECKOUT.root)
    assert done.returncode == 0, done.stderr
    assert f"total={len(FILES)}" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("profiles/tc11.toml", "[kernel]", "[kernle]", "'kernle' was unexpected"),
        ("profiles/tc11.toml", "source_date_epoch = ", "source_date_epoch = 1 #", ""),
        ("profiles/tc11.toml", "source_date_epoch =", "# ", '"source_date_epoch" is a required property'),
        ("profiles/ide.toml", "[boot]\n", "[boot]\ntimeout = '3'\n", 'not of type "integer"'),
        ("profiles/ide.toml", 'inherit = "apt"', "", '"source_date_epoch" is a required property'),
        ("extensions/attr/recipe.toml", 'kind = "apt"', 'kind = "atp"', '"atp"'),
        ("extensions/attr/recipe.toml", "title = ", "titel = ", '"title" is a required property'),
    ],
)
def test_a_mistake_is_shown(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    """Or a change that is none, where nothing is `said`."""
    shutil.copytree(FOLDER, tmp_path / FOLDER.relative_to(CHECKOUT.root))
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    text = (CHECKOUT.root / file).read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = lint(path, folder=tmp_path)
    assert (done.returncode == 0) == (not said), done.stderr
    assert said in done.stderr

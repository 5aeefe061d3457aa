# SPDX-License-Identifier: MIT
"""Every source file names its licence, and every licence that is named has its text in LICENSES/.

The form of the names is SPDX's (https://spdx.dev/learn/handling-license-info), as REUSE asks
for (https://reuse.software/spec).
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT

NAME = re.compile(r"SPDX-License-Identifier: (\S+)")
PROGRAMS = ("doit", "installkernel", "sccache-relative")  # without an ending
SOURCES = ("*.py", "*.sh", "*.toml", "*.config", "*.c", "*.h", "*.bash", "*.zsh", *PROGRAMS)
# Locks are written by commands.  What lies in files/, and boot menus (.cfg), go into images byte for byte.
OTHERS = ("*lock.toml", "rootfs/files/*", "extensions/*/files/*")
FIRST_LINES = 5
KERNEL = ("kconfig/explain.c", "kconfig/menus.h", "kconfig/minimise.c")
DETECT_SECRETS = ("tasks/util/secrets/detect-secrets.toml",)
# The kernel's files use the older name of the same licence.
TEXTS = {
    **{name: name for name in ("MIT", "GPL-2.0-only", "Apache-2.0")},
    "GPL-2.0": "GPL-2.0-only",
}


def files() -> list[str]:
    """Return the paths of git's files, those that are new included; without git, of all but results."""
    if shutil.which("git") and (CHECKOUT.root / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=CHECKOUT.root, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()
    found = (path.relative_to(CHECKOUT.root) for path in CHECKOUT.root.rglob("*"))
    return [path.as_posix() for path in found if path.parts[0] != "artifacts" and path.parts[0][0] != "."]


def sources() -> list[str]:
    """Return the paths of the source files."""
    return sorted(
        path
        for path in files()
        if any(fnmatch.fnmatchcase(Path(path).name, pattern) for pattern in SOURCES)
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in OTHERS)
        and (CHECKOUT.root / path).is_file()
    )


@pytest.mark.parametrize("path", sources())
def test_every_source_file_names_its_licence(path: str) -> None:
    """In one of its first lines, behind `#!` or what an editor reads."""
    head = "\n".join((CHECKOUT.root / path).read_text().splitlines()[:FIRST_LINES])
    wanted = "GPL-2.0-only" if path in KERNEL else "Apache-2.0" if path in DETECT_SECRETS else "MIT"
    found = [TEXTS[name] for name in NAME.findall(head)]
    assert found == [wanted], f"put a comment with SPDX-License-Identifier: {wanted} at the top"


def test_licences_and_their_texts_belong_together() -> None:
    """Each licence that LICENSE speaks of has its text, and no text is there for nothing."""
    assert {path.stem for path in (CHECKOUT.root / "LICENSES").iterdir()} == set(TEXTS.values())
    licence = (CHECKOUT.root / "LICENSE").read_text()
    mit = (CHECKOUT.root / "LICENSES/MIT.txt").read_text()
    assert licence.startswith(mit)
    assert "GPL-2.0-only" in licence.removeprefix(mit)
    assert "Copyright (c) 2026 the tcbuild authors" in mit
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2, June 1991" in (
        (CHECKOUT.root / "LICENSES/GPL-2.0-only.txt").read_text()
    )
    assert "Apache-2.0" in licence
    apache = (CHECKOUT.root / "LICENSES/Apache-2.0.txt").read_text()
    assert "Apache License\n                        Version 2.0, January 2004" in apache
    assert all(path in licence for path in (*KERNEL, *DETECT_SECRETS, "patches/"))

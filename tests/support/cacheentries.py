# SPDX-License-Identifier: MIT
"""Entries of a shared cache, made and spoilt for tests."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import pytest

from tasks.cache import entry, task
from tasks.cache.entry import Manifest
from tasks.cache.store import Folder
from tasks.config.settings import Settings
from tasks.engine import code
from tasks.util.checkout import CHECKOUT
from tests.support.settings import with_values

KEY = "ab" * 32
OTHER = "cd" * 32
SECRET = b"between us"
PYPROJECT = '[project.optional-dependencies]\nbuild = ["doit"]\ntest = ["pytest"]\n'
TOOLS = {"gcc": "4:12.2.0-3:amd64"}


def make(output: Path, text: str = "one") -> list[Path]:
    """Make what a task makes: a folder with folders in it, and a file beside it."""
    (output / "kernel/modules/deep").mkdir(parents=True, exist_ok=True)
    (output / "kernel/vmlinuz64").write_bytes(b"MZ" + text.encode() * 500)
    (output / "kernel/modules/deep/a.ko").write_bytes(bytes(range(256)) * 9)
    (output / "kernel/modules/empty").write_bytes(b"")
    (output / "kernel/tool").write_text("#!/bin/sh\n")
    (output / "kernel/tool").chmod(0o700)
    (output / "list").write_text(text)
    return [output / "kernel", output / "list"]


def content(folder: Path) -> dict[str, tuple[bytes, bool]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK)) for path in files}


def stored(store: Folder, folder: Path, key: str = KEY, text: str = "one", secret: bytes = b"") -> Manifest:
    """Put an entry made in `folder`; return its manifest."""
    entry.put(store, key, "kernel", folder, make(folder, text), secret)
    return entry.read_manifest((store.top / entry.entry_name(key)).read_bytes(), key, secret)


def taken(store: Folder, folder: Path, key: str = KEY, secret: bytes = b"") -> Manifest | None:
    return entry.get(store, key, folder, [folder / "kernel", folder / "list"], secret)


def locked(name: str, version: str) -> str:
    """Return the entry of a package in requirements.lock."""
    return f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n    # via tcbuild (pyproject.toml)\n"


def damage(path: Path, how: str, at: float) -> None:
    """Cut a file, or flip a bit of it, at a fraction of its length."""
    data = bytearray(path.read_bytes())
    where = min(int(at * len(data)), len(data) - 1)
    if how == "cut":
        data = data[:where]
    else:
        data[where] ^= 1 << (where % 8)
    path.write_bytes(data)


def make_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout in `folder`, on a machine with one tool; nothing is remembered of other tests."""
    top = folder / "checkout"
    telling = [f"{module.replace('.', '/')}.py" for module in task.TELLING]
    for name in ("tasks/one.py", "tasks/two.py", "kconfig/a.config", "tool", *telling):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"# {name}\n")
    (top / "tasks/one.py").write_text("import doit\nimport tasks.two\n")
    (top / "pyproject.toml").write_text(PYPROJECT)
    (top / "requirements.lock").write_text(locked("doit", "1") + locked("pytest", "1"))
    monkeypatch.setattr(CHECKOUT, "root", top)
    monkeypatch.setattr(code, "ROOT", top)
    monkeypatch.setattr(task, "tools", functools.cache(lambda: TOOLS))
    monkeypatch.setattr(code, "STARTED", sys.maxsize)  # edits in this process are no edits during a run
    code._code_of.cache_clear()
    task.machine.cache_clear()
    return top


def settings_of(checkout: Path, settings: Settings) -> Settings:
    """Return `settings` with the output in the checkout, a config in it, and a cache beside the checkout."""
    output = checkout / "artifacts/apt"
    (output / "kconfig").mkdir(parents=True)
    (output / "kconfig/config").write_text("CONFIG_X=y\n")
    store = str(checkout.parent / "store")
    return with_values(settings, shared_cache=store, output=output)

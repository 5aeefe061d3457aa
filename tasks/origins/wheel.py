"""Origins of kind `wheel`: a Python wheel, taken for the files in it.

pip brings it, as this machine is set up for pip (its configuration and PIP_ variables):
which index that is, is the machine's affair.  No code of it is run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tasks.config.recipe import Origin
from tasks.config.recipe_lock import LockedFile, entry_of, keep, keep_locked, to_fetch
from tasks.config.settings import Settings
from tasks.formats.archive import unpack_zip
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.util.process import run


def learn(settings: Settings, origin: Origin, scratch: Path) -> tuple[LockedFile, ...]:
    """Bring the wheel into the cache, and say what it is.  Raises `UserError` if pip finds none."""
    found = _download(origin, scratch)
    entry = entry_of(origin, found.name, found)
    keep(settings, entry, found)
    # pip compares a file with the hash in its index's page, where that has one.
    logger.info(f"lock: {found.name}  {entry.size:,} bytes  checked by pip  sha256 {entry.sha256}")
    return (entry,)


def fetch(settings: Settings, origin: Origin, files: tuple[LockedFile, ...]) -> None:
    """Bring the locked wheel into the cache.

    Raises `UserError` if pip finds none or another one, and with `offline` if it is not there.
    """
    for file in to_fetch(settings, files):
        parent = file.cached_in(settings.cache).parent
        with scratch_folder(parent, "wheel") as folder:
            keep_locked(settings, file, _download(origin, folder), "pip's index")


def _download(origin: Origin, folder: Path) -> Path:
    python, abi, platforms = origin.tag.split("-")
    # Of "py2.py3" any will do: what pip must find is this one file.
    interpreter = re.fullmatch(r"([a-z]+)([0-9_]*)", python.split(".")[-1])
    if interpreter is None:
        raise UserError(f"{origin.tag}: {python} is no Python tag", "expected one as py3-none-any")
    argv: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    argv += ["--dest", folder]
    argv += ["--only-binary=:all:", "--ignore-requires-python", "--implementation", interpreter[1]]
    argv += ["--python-version", interpreter[2] or "3", "--abi", abi.split(".")[0]]
    for platform in platforms.split("."):
        argv += ["--platform", platform]
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    hint = f"pip finds no {origin.identity()}: check version and tag, and pip's settings on this machine"
    run([*argv, f"{origin.package}=={origin.version}"], env=env, hint=hint)
    found = folder / origin.identity()
    if not found.is_file():
        names = ", ".join(sorted(path.name for path in folder.glob("*.whl"))) or "nothing"
        raise UserError(f"pip brought {names} instead of {found.name}", "correct `tag` in the recipe")
    return found


def unpack(
    settings: Settings, origin: Origin, files: tuple[LockedFile, ...], scratch: Path
) -> Iterator[tuple[str, Path]]:
    """Yield the wheel's name and a folder of what is in it."""
    for file in files:
        unpack_zip(file.cached_in(settings.cache), scratch / origin.into, label=file.name)
        yield file.name, scratch

# SPDX-License-Identifier: MIT
"""Origins of kind `wheel`: the files of a Python wheel.

pip downloads the wheel from the index that this machine's settings name (pip's configuration
and PIP_ variables).  No code of the wheel is run.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats.archive import unpack_zip
from tasks.origins import versions
from tasks.origins.kinds.base import PACKAGE, LockedOrigin, PackageName, Resources, Unpacked
from tasks.origins.origin_lock import OriginFile, entry_of, missing_files, store, store_locked
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.toml_schema import PATTERN

TAG = re.compile(r"[a-z0-9_.]+-[a-z0-9_.]+-[a-z0-9_.]+")
FILE = re.compile(r"([^-/:]+)-([^-/]+)-[^-/]+-[^-/]+-[^-/]+\.whl")  # PEP 427
MAX_TEXT = 1 << 20  # bytes of METADATA that are read


@dataclass(frozen=True, kw_only=True)
class WheelOrigin(LockedOrigin):
    """The files of the Python wheel PACKAGE-VERSION-TAG.whl, which pip downloads.

    package: the name of the wheel's project.
    tag: the wheel's tags of Python, ABI and platform, as py3-none-any.
    """

    package: str = field(metadata={PATTERN: PACKAGE})
    tag: str = field(metadata={PATTERN: TAG})
    kind: Literal["wheel"] = "wheel"

    list_command: ClassVar[str] = "unzip -l"

    def identity(self) -> str:
        # As the binary distribution format writes a name in a file name (PEP 427).
        return f"{re.sub('[-_.]+', '_', self.package)}-{self.version}-{self.tag}.whl"

    @classmethod
    def owns(cls, identity: str) -> bool:
        return FILE.fullmatch(identity) is not None

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        found = FILE.fullmatch(file_name)
        if found is None:
            return None
        name = re.sub(r"[-_.]+", "-", found[1]).lower()  # PEP 503
        return PackageName("pypi", None, name, found[2], {"file_name": file_name})

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return `License-Expression`, or `License`, in METADATA (core metadata 2.4)."""
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
            text = wheel.read(names[0])[:MAX_TEXT].decode(errors="replace") if names else ""
        found = re.search(r"^License-Expression: *(.+)$", text, re.MULTILINE)
        found = found or re.search(r"^License: *(.+)$", text, re.MULTILINE)
        return found[1].strip() if found else ""

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Download the wheel and return its lock entry.  Raises `UserError` if pip finds none."""
        found = self._download(scratch)
        entry = entry_of(self.identity(), found.name, found)
        store(resources.cache, entry, found)
        # pip compares the file with the hash in its index's page, if there is one.
        logger.info(f"lock: {found.name}  {entry.size:,} bytes  checked by pip  sha256 {entry.sha256}")
        return (entry,)

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked wheel into the cache.

        Raises `UserError` if pip finds none or another one, and if it is missing while `offline`
        is set.
        """
        for file in missing_files(files, resources.cache, offline=resources.offline):
            parent = file.cached_in(resources.cache).parent
            with scratch_folder(parent, "wheel") as folder:
                store_locked(resources.cache, file, self._download(folder), "pip's index")

    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        """Return the newest version with a wheel of these tags in pip's index."""
        said = self._pip("index", "versions", self.package, *self._target())
        offered = re.search(r"^Available versions: (.+)$", said, re.MULTILINE)
        return versions.newest(re.split(r",\s*", offered[1]) if offered else (), self.version)

    def _target(self) -> list[str]:
        """Return the words that tell pip which wheels it may take."""
        python, abi, platforms = self.tag.split("-")
        # Any tag of "py2.py3" will do, as pip must find this one file.
        interpreter = re.fullmatch(r"([a-z]+)([0-9_]*)", python.split(".")[-1])
        if interpreter is None:
            raise UserError(f"{self.tag}: {python} is not a Python tag", "expected a tag as py3-none-any")
        words = ["--only-binary=:all:", "--ignore-requires-python", "--implementation", interpreter[1]]
        words += ["--python-version", interpreter[2] or "3", "--abi", abi.split(".")[0]]
        for platform in platforms.split("."):
            words += ["--platform", platform]
        return words

    def _pip(self, *words: str | Path) -> str:
        """Run pip by this machine's settings of it, and return its standard output."""
        env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        hint = f"pip finds no {self.identity()}: check version and tag, and pip's settings on this machine"
        return run([sys.executable, "-m", "pip", *words, "--no-input"], env=env, hint=hint).stdout

    def _download(self, folder: Path) -> Path:
        what = f"{self.package}=={self.version}"
        self._pip("download", "--quiet", "--no-deps", "--dest", folder, *self._target(), what)
        found = folder / self.identity()
        if not found.is_file():
            names = ", ".join(sorted(path.name for path in folder.glob("*.whl"))) or "nothing"
            raise UserError(f"pip downloaded {names} instead of {found.name}", "correct `tag` in the recipe")
        return found

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the wheel's name and a folder with its content."""
        for file in files:
            unpack_zip(file.cached_in(resources.cache), scratch / self.into, label=file.name)
            yield file.name, scratch

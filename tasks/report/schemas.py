"""The JSON Schemas of the TOML files a person edits: which there are, and which files name them.

`./doit docs` writes them to tasks/config/schemas/.  A TOML file names its schema in its first
line, by Taplo's directive `#:schema PATH`; the path is relative to the file.  Locks have none:
`./doit lock` writes them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.checks import secrets
from tasks.config import inheritance, plan
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.image.bootcodes import Bootcodes
from tasks.image.grub import Loaders
from tasks.initramfs import rootfs
from tasks.toolchain.build_root import Toolchain
from tasks.util import json_schema
from tasks.util.checkout import ROOT
from tasks.util.files import write_if_changed
from tasks.util.log import logger
from tasks.vm.qemu import Checks

FOLDER = ROOT / "tasks" / "config" / "schemas"


@dataclass(frozen=True)
class Described:
    """The TOML files that one dataclass describes.

    name: of the schema; files: a shell pattern of paths below the checkout; inherits: the key
    that names the file to merge this one into, if the files know such a key.
    """

    name: str
    dataclass: type[Any]
    files: str
    inherits: str = ""

    @property
    def path(self) -> Path:
        """Where the schema stands."""
        return FOLDER / f"{self.name}.schema.json"

    def toml_files(self) -> list[Path]:
        """Return the TOML files of this kind, sorted; no locks."""
        found = sorted(ROOT.glob(self.files))
        return [path for path in found if not path.name.endswith(".lock.toml")]

    def schema(self) -> json_schema.Schema:
        """Return the JSON Schema, made from the dataclass."""
        return json_schema.document(self.dataclass, self.files, self.inherits)

    def text(self) -> str:
        """Return the content of the schema's file."""
        return json.dumps(self.schema(), indent=2, ensure_ascii=False) + "\n"


SCHEMAS = (
    Described("profile", Profile, "profiles/*.toml", inherits=inheritance.KEY),
    Described("recipe", Recipe, "extensions/*/recipe.toml"),
    Described("rootfs", rootfs.Rules, "rootfs/rootfs.toml"),
    Described("modules", plan.Sorting, "kconfig/modules.toml"),
    Described("allowed-secrets", secrets.Allowed, "secrets.toml"),
    Described("secrets", secrets.Rules, "tasks/checks/secrets.toml"),
    Described("toolchain", Toolchain, "tasks/toolchain/toolchains/*.toml"),
    Described("bootcodes", Bootcodes, "tasks/image/bootcodes.toml"),
    Described("boot-loaders", Loaders, "tasks/image/boot/boot.toml"),
    Described("guest-checks", Checks, "tasks/vm/checks.toml"),
)


def directive(described: Described, path: Path) -> str:
    """Return the line by which the TOML file at `path` names its schema."""
    return f"#:schema {Path(os.path.relpath(described.path, path.parent)).as_posix()}"


def write_schemas() -> None:
    """Bring the schemas in tasks/config/schemas/ up to date."""
    FOLDER.mkdir(exist_ok=True)
    changed = [one.name for one in SCHEMAS if write_if_changed(one.path, one.text())]
    folder = FOLDER.relative_to(ROOT)
    text = f"{folder}: {', '.join(changed)} brought up to date" if changed else f"{folder} is up to date"
    logger.info(text)

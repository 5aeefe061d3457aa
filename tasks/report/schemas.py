# SPDX-License-Identifier: MIT
"""The JSON Schemas of the TOML files that people edit, and of what programs read.

`./doit docs` writes them to tasks/config/schemas/.  A TOML file names its schema in its first
line, by Taplo's directive `#:schema PATH`; the path is relative to the file.  Locks have no
schema: `./doit lock` writes them.  What programs read is the events of a run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.checks import secrets
from tasks.config import architecture, check, inheritance, plan, release, rootfs_rules
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.config.release import Release
from tasks.engine import events
from tasks.formats import libraries
from tasks.image.bootcodes import Bootcodes
from tasks.image.grub import Loaders
from tasks.initramfs import root_needs
from tasks.kernel import selftests
from tasks.origins.distribution import Distribution
from tasks.origins.kinds.source import BuildSystems
from tasks.origins.mirrors import KnownMirrors
from tasks.origins.released import Listings
from tasks.toolchain.build_root import Toolchain
from tasks.util import json_schema, secret_patterns
from tasks.util.checkout import CHECKOUT
from tasks.util.files import write_if_changed
from tasks.util.log import logger
from tasks.vm import boots, devices, kernel_log, matrix, share, ssh

FOLDER = CHECKOUT.root / "tasks" / "config" / "schemas"
EVENTS = FOLDER / "events.schema.json"


@dataclass(frozen=True)
class TomlKind:
    """A kind of TOML files; one dataclass describes it.

    name: of the schema; files: a shell pattern of paths below the checkout; inherits: the key
    that names the file to inherit from, "" if the files have no such key; giver, given: a key, and the
    keys that a file which has it may leave out.
    """

    name: str
    dataclass: type[Any]
    files: str
    inherits: str = ""
    giver: str = ""
    given: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The path of the schema."""
        return FOLDER / f"{self.name}.schema.json"

    def toml_files(self) -> list[Path]:
        """Return the TOML files of this kind, sorted, without locks."""
        found = sorted(CHECKOUT.root.glob(self.files))
        return [path for path in found if not path.name.endswith(".lock.toml")]

    def schema(self) -> json_schema.Schema:
        """Return the JSON Schema, made from the dataclass."""
        return json_schema.document(self.dataclass, self.files, self.inherits, self.giver, self.given)

    def text(self) -> str:
        """Return the content of the schema's file."""
        return _text(self.schema())


SCHEMAS = (
    TomlKind("profile", Profile, "profiles/*.toml", inheritance.KEY, release.KEY, release.GIVEN),
    TomlKind("recipe", Recipe, "extensions/*/recipe.toml"),
    TomlKind("root-needs", root_needs.RootNeeds, "tasks/initramfs/root_needs.toml"),
    TomlKind("rootfs", rootfs_rules.Rules, "rootfs/rootfs.toml"),
    TomlKind("modules", plan.Sorting, "kconfig/modules.toml"),
    TomlKind("allowed-secrets", secrets.Allowed, "secrets.toml"),
    TomlKind("secrets", secret_patterns.Rules, "tasks/util/secrets/*.toml"),
    TomlKind("architecture", architecture.Architecture, "tasks/config/architectures/*.toml"),
    TomlKind("distribution", Distribution, "tasks/origins/distributions/*.toml"),
    TomlKind("build-systems", BuildSystems, "tasks/origins/kinds/source.toml"),
    TomlKind("mirrors", KnownMirrors, "tasks/origins/mirrors.toml"),
    TomlKind("release-listings", Listings, "tasks/origins/released.toml"),
    TomlKind("release", Release, "tasks/config/releases/*.toml"),
    TomlKind("libraries", libraries.Companions, "tasks/formats/libraries.toml"),
    TomlKind("toolchain", Toolchain, "tasks/toolchain/toolchains/*.toml"),
    TomlKind("bootcodes", Bootcodes, "tasks/image/bootcodes.toml"),
    TomlKind("boot-loaders", Loaders, "tasks/image/boot/boot.toml"),
    TomlKind("checks", check.CheckFile, "tasks/config/checks.toml"),
    TomlKind("recipe-checks", check.CheckFile, "extensions/*/checks/*.toml"),
    TomlKind("kernel-log", kernel_log.Rules, "tasks/vm/kernel_log.toml"),
    TomlKind("guest-media", boots.Media, "tasks/vm/media.toml"),
    TomlKind("guest-shares", share.Rules, "tasks/vm/shares.toml"),
    TomlKind("matrix", matrix.Matrices, "matrix.toml"),
    TomlKind("guest-devices", devices.Devices, "tasks/vm/devices.toml"),
    TomlKind("guest-ssh", ssh.Brought, "tasks/vm/ssh.toml"),
    TomlKind("selftests", selftests.Known, "tasks/kernel/selftests.toml"),
)


def directive(kind: TomlKind, path: Path) -> str:
    """Return the first line of the TOML file at `path`, which names its schema."""
    return f"#:schema {Path(os.path.relpath(kind.path, path.parent)).as_posix()}"


def events_text() -> str:
    """Return the schema of a line that `--events FILE` writes."""
    return _text(json_schema.document(events.Event, "a line of --events FILE"))


def _text(schema: json_schema.Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas() -> None:
    """Update the schemas in tasks/config/schemas/."""
    FOLDER.mkdir(exist_ok=True)
    texts = {**{one.path: one.text() for one in SCHEMAS}, EVENTS: events_text()}
    changed = [path.name.partition(".")[0] for path, text in texts.items() if write_if_changed(path, text)]
    folder = FOLDER.relative_to(CHECKOUT.root)
    text = f"{folder}: {', '.join(changed)} updated" if changed else f"{folder} is up to date"
    logger.info(text)

# SPDX-License-Identifier: MIT
"""The table `image` of a recipe in images/: what a container of the image is called and runs.

The keys are those of the OCI image specification (config.md), as Dockerfiles write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tasks.config.sources import check_reference
from tasks.util.links import is_below
from tasks.util.toml_schema import PATTERN

PORT = re.compile(r"[0-9]{1,5}(/(tcp|udp))?")
USER = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Of shells, and of programs that start others.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Folder:
    """A folder of the image, which may be empty.

    path: below /, without a leading slash; mode: its mode, as 0o1777; uid, gid: its owner.
    """

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def __post_init__(self) -> None:
        if not is_below(self.path):
            raise ValueError(f"path: expected a path below /, without a leading slash, got {self.path!r}")
        if not 0 <= self.mode <= 0o7777:
            raise ValueError(f"mode: expected at most 0o7777, got {self.mode:#o}")


@dataclass(frozen=True)
class Container:
    """What an image is called, and what its containers run.

    name: the full reference, as docker.io/library/busybox:1.
    entrypoint: the program that a container starts, and its first arguments.
    cmd: the arguments that a user may replace; without an entrypoint, the program first.
    env: the variables of its environment; `PATH` is set unless it is here.
    user: the user, or USER:GROUP, as numbers or as names of the image's etc/passwd.
    workdir: the folder that it starts in.
    ports: the ports that it listens at, as 8080 or 53/udp.
    labels: more labels.  The title, the licence and others come from `info`.
    applets: the path of a BusyBox in the image, all of whose commands get a link.
    folder: folders that are empty, or have another owner or mode than root and 0755.
    """

    name: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    user: str = field(default="", metadata={PATTERN: USER})
    workdir: str = ""
    ports: tuple[str, ...] = field(default=(), metadata={PATTERN: PORT})
    labels: dict[str, str] = field(default_factory=dict)
    applets: str = ""
    folder: tuple[Folder, ...] = ()

    def __post_init__(self) -> None:
        check_reference(self.name)
        if self.user and not USER.fullmatch(self.user):
            raise ValueError(f"user: expected USER or USER:GROUP, got {self.user!r}")
        for port in self.ports:
            if not PORT.fullmatch(port):
                raise ValueError(f"ports: expected a port like 8080 or 53/udp, got {port!r}")
        for variable in self.env:
            if not VARIABLE.fullmatch(variable):
                raise ValueError(f"env: {variable!r} is no name of a variable")
        if self.workdir and not self.workdir.startswith("/"):
            raise ValueError(f"workdir: expected a path that begins with /, got {self.workdir!r}")
        if self.applets and not is_below(self.applets):
            raise ValueError(f"applets: expected a path without a leading slash, got {self.applets!r}")

    def config(self, labels: dict[str, str]) -> dict[str, Any]:
        """Return the object `config` of config.md, without empty values.  labels: further ones."""
        env = {"PATH": DEFAULT_PATH, **self.env}
        whole = {
            "User": self.user,
            "ExposedPorts": {port if "/" in port else f"{port}/tcp": {} for port in self.ports},
            "Env": [f"{name}={value}" for name, value in sorted(env.items())],
            "Entrypoint": [*self.entrypoint],
            "Cmd": [*self.cmd],
            "WorkingDir": self.workdir,
            "Labels": {**labels, **self.labels},
        }
        return {key: value for key, value in whole.items() if value}

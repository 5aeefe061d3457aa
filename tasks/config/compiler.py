# SPDX-License-Identifier: MIT
"""The table `[compiler]` of a profile: the compiler launcher and the compile farm.

These settings do not change the build result.  A task stays up to date when the launcher or
a host changes.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tasks.util import toml_schema
from tasks.util.errors import UserError

DISTCC_PORT = 3632
SCHEDULER_PORT = 8765
STORAGE_PORTS = {"http": 80, "redis": 6379}
ADDRESS = r"(?P<address>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?"
HOST = re.compile(ADDRESS + r"(?:/(?P<slots>[0-9]{1,4}))?")
SCHEDULER = re.compile(ADDRESS)
SLOTS = 4  # distcc's default for a host without a limit (distcc(1), "HOST SPECIFICATIONS")
VARIABLES = ("launcher", "hosts", "scheduler", "remote_storage")
"""Keys that the command line (`launcher=distcc`) or the environment (`TCBUILD_LAUNCHER`) can set."""


@dataclass(frozen=True)
class Host:
    """A distcc host: address or name, TCP port, and number of jobs at a time."""

    address: str
    port: int
    slots: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.slots}"


@dataclass(frozen=True)
class Compiler:
    """The compiler launcher and its compile farm.

    launcher: the program that runs the compiler.
    hosts: the hosts of distcc, each `ADDRESS[:PORT][/SLOTS]`, for the launchers `distcc` and
    `ccache`.  `localhost/SLOTS` makes this machine compile too.
    scheduler: the scheduler of icecc, `ADDRESS[:PORT]`, for the launchers `icecc` and `ccache`.
    remote_storage: a cache that ccache shares with other machines, `http://…` or `redis://…`.
    """

    launcher: Literal["ccache", "sccache", "distcc", "icecc", "none"] = "ccache"
    hosts: tuple[str, ...] = ()
    scheduler: str = ""
    remote_storage: str = ""

    def __post_init__(self) -> None:
        for number, text in enumerate(self.hosts):
            if not HOST.fullmatch(text) or not 0 < _host(text).port < 65536 or not _host(text).slots:
                raise ValueError(
                    f"hosts[{number}]: expected ADDRESS[:PORT][/SLOTS], as 10.1.0.2/4, got {text!r}"
                )
        if self.scheduler and not SCHEDULER.fullmatch(self.scheduler):
            raise ValueError(f"scheduler: expected ADDRESS[:PORT], as 10.1.0.2, got {self.scheduler!r}")
        if self.remote_storage and not storage_address(self.remote_storage):
            # The address may hold a password.
            raise ValueError("remote_storage: expected http://HOST… or redis://HOST…")
        if self.hosts and self.scheduler:
            raise ValueError("scheduler: either a scheduler (icecc) or hosts (distcc), not both")

    @property
    def farm(self) -> Literal["distcc", "icecc", ""]:
        """The program that distributes jobs to hosts, "" if this machine compiles everything."""
        if self.launcher in ("distcc", "ccache") and self.hosts:
            return "distcc"
        return "icecc" if self.launcher in ("icecc", "ccache") and self.scheduler else ""

    @property
    def distcc_hosts(self) -> list[Host]:
        """The hosts in the listed order; distcc prefers the first ones."""
        return [_host(text) for text in self.hosts]

    @property
    def scheduler_address(self) -> tuple[str, int]:
        """Address and port of icecc's scheduler."""
        found = SCHEDULER.fullmatch(self.scheduler)
        assert found
        return found["address"], int(found["port"] or SCHEDULER_PORT)


def _host(text: str) -> Host:
    found = HOST.fullmatch(text)
    assert found
    return Host(found["address"], int(found["port"] or DISTCC_PORT), int(found["slots"] or SLOTS))


def storage_address(url: str) -> tuple[str, int] | None:
    """Return host and port of ccache's remote storage, None for any other address.

    ccache's attributes may follow the address after a `|` (ccache(1), "REMOTE STORAGE BACKENDS").
    """
    try:
        parts = urlsplit(url.split("|", 1)[0])
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in STORAGE_PORTS or not parts.hostname:
        return None
    return parts.hostname, port or STORAGE_PORTS[parts.scheme]


def with_overrides(declared: Compiler, variables: Mapping[str, str], file: Path) -> Compiler:
    """Return the table `declared` of the profile `file`, overridden by `variables` and the environment.

    variables: those of the command line; they go before the environment.  Raises `UserError`
    that names the place of a mistake.
    """
    values: dict[str, object] = dataclasses.asdict(declared) | {"hosts": list(declared.hosts)}
    places = []
    for name in VARIABLES:
        variable = f"TCBUILD_{name.upper()}"
        text = variables.get(name, os.environ.get(variable))
        if text is None:
            continue
        places.append(f"{name}= on the command line" if name in variables else variable)
        values[name] = [word for word in text.split(",") if word] if name == "hosts" else text
    result = declared
    if places:
        result = toml_schema.build(values, Compiler, ", ".join(places), "compiler")
    for launcher, key, example in (
        ("distcc", "hosts", 'an array of hosts, as ["10.1.0.2/4"]'),
        ("icecc", "scheduler", "the scheduler's ADDRESS[:PORT]"),
    ):
        if result.launcher == launcher and not values[key]:
            place = ", ".join([str(file), *places])
            raise UserError(
                f"{place}: missing key 'compiler.{key}', needed by launcher = {launcher!r}",
                f"expected {example}; or {key}=… on the command line",
            )
    if result.remote_storage and result.launcher == "sccache":
        raise UserError(
            f"{', '.join([str(file), *places])}: compiler.remote_storage: Debian's sccache has none",
            "use launcher = 'ccache', or switch it off: remote_storage= on the command line",
        )
    return result

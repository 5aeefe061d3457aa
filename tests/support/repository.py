# SPDX-License-Identifier: MIT
"""An apt repository of tiny packages on the loopback interface, and an apt that knows only it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.origins.lock import LockedPackage
from tasks.util.process import run
from tests.support.mirror import Mirror, Page

# Everything apt reads and writes, moved into one folder of ours.
APT_CONF = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::main "{folder}/none";
Dir::Etc::parts "{folder}/none.d";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none.d";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "{folder}/none.d";
Acquire::http::Proxy "DIRECT";
Acquire::Languages "none";
Acquire::Retries "0";
APT::Sandbox::User "{user}";
"""


class Repository:
    """An apt repository; `publish` makes apt see what was added and removed."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.folder = folder
        self.mirror = mirror
        self.records: dict[tuple[str, str], str] = {}
        for name in ("state/lists/partial", "cache/archives/partial", "none.d", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "status").write_text("")
        self.trust("trusted=yes")
        # "_apt", as on every Debian machine: what runs as root must cope with it.
        (folder / "apt.conf").write_text(APT_CONF.format(folder=folder, user="_apt"))

    def trust(self, option: str) -> None:
        (self.folder / "sources.list").write_text(f"deb [{option}] {self.mirror.url} ./\n")

    def add(
        self, name: str, version: str, files: dict[str, bytes] | None = None, depends: str = ""
    ) -> LockedPackage:
        """Build a package and offer it; return what a lock says about it."""
        tree = self.folder / "tree" / name / version
        for path, content in (files or {f"usr/share/{name}": version.encode()}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            (tree / path).chmod(0o755 if "bin" in Path(path).parts else 0o644)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <n@invalid>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: made up\n"
        (tree / "DEBIAN/control").write_text(control)
        # Names in a pool are without the epoch; what apt writes has it as %3a.
        deb = self.folder / "debs" / f"{name}_{version.split(':')[-1]}_all.deb"
        run(["dpkg-deb", "--root-owner-group", "--build", tree, deb])
        content = deb.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        self.mirror.pages[f"./{deb.name}"] = Page(content)
        self.records[name, version] = (
            f"{control}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {digest}\n"
        )
        return LockedPackage(name, version, digest)

    def publish(self) -> None:
        self.mirror.pages["./Packages"] = Page(
            "".join(f"{record}\n" for record in self.records.values()).encode()
        )
        run(["apt-get", "update"])


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Serve an empty repository and point every apt that is started at it."""
    monkeypatch.setenv("NO_PROXY", "*")
    with Mirror() as mirror:
        made = Repository(folder, mirror)
        monkeypatch.setenv("APT_CONFIG", str(folder / "apt.conf"))
        yield made

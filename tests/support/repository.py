# SPDX-License-Identifier: MIT
"""A distribution of tiny packages on the loopback interface: mirror, signatures and snapshots."""

from __future__ import annotations

import email.utils
import functools
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.origins import distribution, suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import LockedPackage
from tasks.util.process import run
from tests.support.mirror import Mirror, Page

SUITE = Suite("debian", "bookworm")
DATE = 1_700_000_000
"""Seconds since 1970: when all is published.  As a snapshot: 20231114T221320Z."""
STAMP = "20231114T221320Z"
PARTS = {"debian": ("bookworm", "bookworm-updates"), "debian-security": ("bookworm-security",)}
DATA = """\
description = "Made up"
origin = "Made up"
mirror_variable = "TCBUILD_DEBIAN_MIRROR"
keyring = "debian.asc"
keys = []
snapshots = ["{url}/no-snapshot/{{archive}}/{{date}}", "{url}/snapshot/{{archive}}/{{date}}"]

[[archive]]
name = "debian"
label = "Debian"
suites = ["{{name}}", "{{name}}-updates"]
mirror = "{url}/debian"

[[archive]]
name = "debian-security"
label = "Debian-Security"
suites = ["{{name}}-security"]
mirror = "{url}/debian-security"
"""


@functools.cache
def signing_key() -> str:
    """Return the folder of a key ring with one secret key; it lives as long as the tests."""
    folder = tempfile.mkdtemp(prefix="tcbuild-gpg-")
    options = ["--batch", "--passphrase", "", "--quick-generate-key", "Made up <n@invalid>", "ed25519"]
    run(["gpg", "--homedir", folder, *options, "sign", "never"])
    return folder


def machine_settings(folder: Path, mirror: Mirror) -> str:
    """Return settings of apt with which the machine's own sources are the distribution's archives."""
    etc = folder / "etc"
    (etc / "parts").mkdir(parents=True)
    lines = [
        f"deb [signed-by={folder}/distributions/debian.asc] {mirror.url}/{archive} {part} main\n"
        for archive, parts in PARTS.items()
        for part in parts
    ]
    (etc / "sources.list").write_text("".join(lines))
    return f'Dir::Etc::sourcelist "{etc}/sources.list";\nDir::Etc::sourceparts "{etc}/parts";\n'


class Repository:
    """A distribution's archives; `publish` makes apt see what was added and removed."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.folder = folder
        self.mirror = mirror
        self.records: dict[tuple[str, str, str], str] = {}
        """Archive, name and version -> the package's stanza."""
        data = folder / "distributions"
        data.mkdir(parents=True)
        (data / "debian.toml").write_text(DATA.format(url=mirror.url))
        exported = run(["gpg", "--homedir", signing_key(), "--armor", "--export"]).stdout
        (data / "debian.asc").write_text(exported)
        self.publish()

    def add(
        self,
        name: str,
        version: str,
        files: dict[str, bytes] | None = None,
        depends: str = "",
        archive: str = "debian",
        provides: str = "",
    ) -> LockedPackage:
        """Build a package and offer it; return what a lock says about it."""
        tree = self.folder / "tree" / archive / name / version
        for path, content in (files or {f"usr/share/{name}": version.encode()}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            (tree / path).chmod(0o755 if "bin" in Path(path).parts else 0o644)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <n@invalid>\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += f"Provides: {provides}\n" if provides else ""
        control += "Description: made up\n"
        (tree / "DEBIAN/control").write_text(control)
        # Names in a pool are without the epoch.
        path = f"pool/main/{name}_{version.split(':')[-1]}_all.deb"
        deb = self.deb(name, version)
        deb.parent.mkdir(exist_ok=True)
        run(["dpkg-deb", "--root-owner-group", "--build", tree, deb])
        content = deb.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        self.mirror.pages[f"{archive}/{quote(path)}"] = Page(content)
        self.records[archive, name, version] = (
            f"{control}Filename: {path}\nSize: {len(content)}\nSHA256: {digest}\n"
        )
        return LockedPackage(name, version, digest, archive, path)

    def deb(self, name: str, version: str = "1") -> Path:
        """Return the file of a package of the main archive."""
        return self.folder / "debs" / f"{name}_{version}.deb"

    def withdraw(self, package: LockedPackage, *, snapshot: bool = False) -> None:
        """Take a package off the mirror; with `snapshot`, the snapshot archive has it then."""
        del self.records[package.archive, package.name, package.version]
        path = quote(package.path)
        page = self.mirror.pages.pop(f"{package.archive}/{path}")
        if snapshot:
            self.mirror.pages[f"snapshot/{package.archive}/{STAMP}/{path}"] = page

    def publish(self) -> None:
        """Write and sign the lists, as they are now."""
        for archive, parts in PARTS.items():
            for part in parts:
                here = [text for key, text in self.records.items() if (key[0], part) == (archive, parts[0])]
                self._publish(f"{archive}/dists/{part}", part, "".join(f"{text}\n" for text in here).encode())
        suite.UPDATED.clear()  # as in the next run

    def _publish(self, folder: str, part: str, packages: bytes) -> None:
        listed = "main/binary-amd64/Packages"
        release = (
            f"Origin: Made up\nSuite: {part}\nCodename: {part}\nDate: {email.utils.formatdate(DATE)}\n"
            f"Architectures: all amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} {listed}\n"
        )
        options = ["--batch", "--clearsign", "--output", "-"]
        signed = run(["gpg", "--homedir", signing_key(), *options], stdin=release.encode()).stdout
        self.mirror.pages[f"{folder}/InRelease"] = Page(signed.encode())
        self.mirror.pages[f"{folder}/{listed}"] = Page(packages)


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Serve an empty distribution in place of Debian, to this process and to every apt it starts."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("TCBUILD_DEBIAN_MIRROR", raising=False)
    (folder / "apt").mkdir(parents=True)
    (folder / "apt/apt.conf").write_text('Acquire::http::Proxy "DIRECT";\nAcquire::Retries "0";\n')
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt/apt.conf"))
    suite._network_settings.cache_clear()
    distribution._machine_mirrors.cache_clear()
    with Mirror() as mirror:
        with (folder / "apt/apt.conf").open("a") as settings:
            settings.write(machine_settings(folder, mirror))
        monkeypatch.setattr(distribution, "FOLDER", folder / "distributions")
        yield Repository(folder, mirror)
    suite._network_settings.cache_clear()
    distribution._machine_mirrors.cache_clear()

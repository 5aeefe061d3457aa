# SPDX-License-Identifier: MIT
"""Other systems to run a checkout on: Debian and Ubuntu releases, made by mmdebstrap, entered by bwrap.

`hosts.toml` describes them.  A fresh system has Python and nothing else that a small container
image lacks.  It is kept as a tar archive in the cache, so it is made once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tasks.config.settings import NO_CACHE, SHARED_VARIABLE
from tasks.origins import http
from tasks.util import checkout
from tasks.util.errors import UserError
from tasks.util.files import atomic_path, scratch_folder
from tasks.util.log import logger
from tasks.util.process import run
from tests.support.built import Outcome, copy_checkout
from tests.support.seccomp import container_filter

HERE = Path(__file__).parent
MIRROR_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Retries")
# What a process of root may do in a container of Docker or Podman that has no further options.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
)
NAMELESS = "4321"
"""A uid and gid that no system has a name for."""
CERTIFICATES = Path("/tmp/certificates.crt")
CHECKOUT, CACHE = Path("/srv/tcbuild"), Path("/srv/cache")
"""Where a system shows a checkout, and a cache folder."""

Visitor = Literal["root", "user", "namespaces", "machine"]
"""Who runs the commands.

root: root of a container, who can install packages.  user: a user of a rootless container: no
name, no home, a read-only system, no mounts, no new namespaces.  namespaces: the same user where
new namespaces are allowed, as on a plain machine.  machine: root of a plain machine, who can make
containers.
"""


@dataclass(frozen=True)
class Host:
    """One system of hosts.toml; sources: apt's, one-line or deb822; distribution: of keyrings.toml."""

    title: str
    distribution: str
    suite: str
    sources: str
    packages: Sequence[str] = ("python3",)
    """Besides those of priority required, and apt."""


def load() -> dict[str, Host]:
    """Return the systems by name."""
    return {name: Host(**table) for name, table in tomllib.loads(_text("hosts.toml")).items()}


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def archive(name: str, cache: Path) -> Path:
    """Return a tar archive of the fresh system `name`; make it if the cache folder has none.

    Raises `UserError` if mmdebstrap is missing or the mirror cannot be reached.
    """
    host = load()[name]
    wanted = hashlib.sha256(repr((host, _mirror_settings())).encode()).hexdigest()[:16]
    final = cache / "tests" / "hosts" / f"{name}-{wanted}.tar"
    if not final.is_file():
        logger.info(f"making a fresh {host.title} (once)")
        final.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(final) as partial, scratch_folder(final.parent, name) as scratch:
            _make(host, partial, scratch)
    return final


def _make(host: Host, tarball: Path, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tcbuild-host-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # mmdebstrap lets apt read these files as another user
        keyring, settings, sources = (folder / file for file in ("keyring.gpg", "apt.conf", "sources"))
        shutil.copyfile(_keyring(host.distribution, scratch), keyring)
        settings.write_text(_mirror_settings())  # the system keeps them: its apt reaches the mirror, too
        sources.write_text(host.sources)
        for path in (keyring, settings, sources):
            path.chmod(0o644)
        words = ["mmdebstrap", "--mode=root" if os.geteuid() == 0 else "--mode=unshare"]
        words += ["--variant=minbase", f"--include={','.join(['apt', *host.packages])}", "--format=tar"]
        words += [f"--keyring={keyring}", f"--aptopt={settings}", '--aptopt=Acquire::Languages "none"']
        # Until the system has its keyring, its sources name ours.
        first = re.sub(r"(?m)^Signed-By: .*", f"Signed-By: {keyring}", host.sources)
        final = "sources.list" if "\ndeb " in host.sources else f"sources.list.d/{host.distribution}.sources"
        words += ['--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*']
        words += [f"--customize-hook=upload {sources} /etc/apt/{final}"]
        run([*words, host.suite, tarball, "-"], stdin=first.encode(), hint="is the mirror reachable?")


def _keyring(name: str, scratch: Path) -> Path:
    """Return the file with the keys of an archive: this machine's, or one from a package of known sha256."""
    known: dict[str, str] = tomllib.loads(_text("keyrings.toml"))[name]
    here = Path("/", known["path"])
    if here.is_file() or "package" not in known:
        return here
    package = scratch / "keyring.deb"
    http.download([known["package"]], package, sha256=known["sha256"], offline=False, label=f"keys of {name}")
    run(["dpkg-deb", "-x", package, scratch / "keyring"])
    return scratch / "keyring" / known["path"]


def _mirror_settings() -> str:
    """Return how this machine's apt reaches mirrors: proxies and the like, as lines of apt.conf(5)."""
    command = ["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', *MIRROR_SETTINGS]
    return run(command).stdout


@dataclass(frozen=True)
class System:
    """An unpacked system with a checkout and a cache folder of this machine in it.

    root: its root folder.  `binds` are further folders: path in the system -> folder of this machine.
    """

    root: Path
    checkout: Path
    cache: Path
    visitor: Visitor
    binds: Mapping[Path, Path] = field(default_factory=dict)

    def run(self, *argv: str) -> Outcome:
        """Run a command in the checkout, without input, and return how it ended."""
        with tempfile.TemporaryFile() as program:
            words = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
            if self.visitor == "machine":
                words += ["--bind", str(self.root), "/", "--cap-add", "ALL", "--ro-bind", "/sys", "/sys"]
            elif self.visitor == "root":
                words += ["--bind", str(self.root), "/"]
                words += [word for name in CAPABILITIES for word in ("--cap-add", f"CAP_{name}")]
            else:
                words += ["--unshare-user", "--uid", NAMELESS, "--gid", NAMELESS]
                words += ["--ro-bind", str(self.root), "/"]
            words += ["--dev", "/dev", "--proc", "/proc", "--perms", "1777", "--tmpfs", "/tmp"]
            words += ["--tmpfs", str(CHECKOUT.parent)]
            for inside, folder in {CHECKOUT: self.checkout, CACHE: self.cache, **self.binds}.items():
                words += ["--bind", str(folder), str(inside)]
            if self.visitor in ("root", "user"):
                program.write(container_filter())
                program.seek(0)
                words += ["--seccomp", str(program.fileno())]
            words += ["--chdir", str(CHECKOUT), "--clearenv", *_settings(_environment(self.visitor))]
            if certificates := given_certificates():
                words += ["--ro-bind", str(certificates), str(CERTIFICATES)]
            done = subprocess.run(
                [*words, *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(program.fileno(),),
                text=True,
                errors="replace",
                check=False,
            )
        return Outcome(done.returncode, done.stdout)


@contextmanager
def debian13(visitor: Visitor) -> Iterator[System]:
    """A fresh Debian 13 with a copy of this checkout; it has this machine's downloads, and nothing else.

    The test is skipped where this machine can make or run none.
    """
    if reason := probe():
        pytest.skip(reason)
    own_cache = checkout.cache_folder()
    try:
        tarball = archive("debian13", own_cache)
    except UserError as error:
        pytest.skip(f"no Debian 13 can be made here: {error}")
    with scratch_folder(checkout.CHECKOUT.artifacts / "hosts", "debian13") as scratch:
        folders = {CACHE / name: own_cache / name for name in ("downloads", "toolchains")}
        for path in (*folders.values(), *(scratch / "cache" / inside.name for inside in folders)):
            path.mkdir(parents=True, exist_ok=True)
        copy = copy_checkout(scratch / "checkout")
        yield System(unpack(tarball, scratch / "root"), copy, scratch / "cache", visitor, folders)


def unpack(tarball: Path, folder: Path) -> Path:
    """Unpack a system into the new folder `folder`, and return it."""
    folder.mkdir(parents=True)
    # The owners are kept for root, whose apt wants them; a user who unpacks gets all files.
    run(["tar", "-C", folder, "--exclude=./dev/*", "-xf", tarball])
    for name in ("resolv.conf", "hosts"):
        (folder / "etc" / name).unlink(missing_ok=True)
        if Path("/etc", name).exists():
            shutil.copyfile(Path("/etc", name), folder / "etc" / name)
    return folder


def _environment(visitor: Visitor) -> dict[str, str]:
    env = pip_environment()
    env |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    env |= {"TCBUILD_CACHE": str(CACHE), SHARED_VARIABLE: NO_CACHE}  # each build is to make it
    return env | ({"HOME": "/root"} if visitor in ("root", "machine") else {"TCBUILD_ROOTLESS": "1"})


def pip_environment() -> dict[str, str]:
    """Return how this machine's pip reaches its index, as variables for a system with `CERTIFICATES`."""
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    if given_certificates():
        env |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), str(CERTIFICATES))
    return env


def _settings(env: Mapping[str, str]) -> list[str]:
    return [word for name, value in sorted(env.items()) for word in ("--setenv", name, value)]


def given_certificates() -> Path | None:
    """Return the certificates that this machine's pip was given, as behind a proxy of a company."""
    given = os.environ.get("PIP_CERT", "")
    return Path(given) if given else None


def probe() -> str:
    """Return why no system can be made or entered here; "" if it can."""
    for tool in ("mmdebstrap", "bwrap", "tar", "apt-config"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    try:
        run(["bwrap", "--unshare-user", "--ro-bind", "/", "/", "true"])
    except UserError as error:
        return f"no namespaces can be made here: {error}"
    return ""

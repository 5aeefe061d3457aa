# SPDX-License-Identifier: MIT
"""The start scripts of BuildKit and faasd, run by BusyBox's ash with BusyBox's own tools.

Every absolute path in the scripts is moved below a folder of the test; the daemons are
stand-ins that really listen.  What needs root (mount, modprobe) is only written down.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.support.standins import BUILDCTL, BUILDKITD, FAASD, compiled

BUSYBOX = "/bin/busybox"
MOVED = re.compile(r"(?<![\w$}.])/(usr/local|run|var|proc/sys|sys/fs)/")
CONTAINERD = '#!/bin/sh\n[ -e "$0.runs" ] || { echo "containerd: no" >&2; exit 1; }\n'
# BusyBox's shell takes its own tools before anything in PATH, but functions before those.
INSTEAD = """
id() { cat "$ROOT/user"; }
mount() { echo "mount $*" >> "$ROOT/asked"; }
modprobe() { echo "modprobe $*" >> "$ROOT/asked"; }
"""
# Fails as often as the file `failures` says, then works.
CTR = """#!/bin/busybox ash
echo "ctr $*" >> "$0.log"
left=$(cat "$0.failures" 2>/dev/null || echo 0)
[ "$left" = 0 ] && exit
echo $((left - 1)) > "$0.failures"
echo "ctr: archive/tar: invalid tar header" >&2
exit 1
"""


@dataclass
class Machine:
    """A root for scripts: their tools, and what they wrote down."""

    root: Path

    def tool(self, name: str, text: str) -> Path:
        path = self.root / "usr/local/sbin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def script(self, path: str, **changed: str) -> None:
        """Take a script of the project; `changed`: variables with other values."""
        (source,) = (CHECKOUT.root / "extensions").glob(f"*/files/{path}")
        text = MOVED.sub(lambda found: f"{self.root}{found[0]}", source.read_text())
        if path.endswith("service.sh"):
            text = f"ROOT={self.root}\n{INSTEAD}\n{text}"
        # Nothing of this machine but BusyBox.
        text = text.replace(":/usr/sbin:/usr/bin:/sbin:/bin\n", "\n")
        for name, value in changed.items():
            text, count = re.subn(rf"\b{name}=\S*", f"{name}={value}", text)
            assert count, f"{path} has no {name}"
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)

    def run(self, path: str, *words: str) -> tuple[int, str]:
        """Run a script; return its exit status and all it said."""
        done = subprocess.run(
            [BUSYBOX, "ash", self.root / path, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env={"PATH": "/nonexistent", "http_proxy": "http://127.0.0.1:9"},
            check=False,
        )
        return done.returncode, done.stdout

    def log(self, path: str) -> list[str]:
        return (self.root / path).read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    root = tmp_path / "root"
    for folder in ("usr/local/sbin", "usr/local/bin", "proc/sys/net/ipv4/conf/all", "sys/fs/cgroup"):
        (root / folder).mkdir(parents=True)
    made = Machine(root)
    (root / "user").write_text("0\n")
    made.script("usr/local/share/containerd/service.sh")
    # The checks ask the kernel of a guest: tests/tools/extensions/test_container_checks.py.
    checks = 'require() { echo "require $*" >> "$ROOT/asked"; }\n'
    (root / "usr/local/share/containerd/checks.sh").write_text(checks)
    made.tool("ctr", CTR)
    service = root / "usr/local/etc/init.d/containerd"
    service.parent.mkdir(parents=True)
    service.write_text(CONTAINERD)
    service.chmod(0o755)
    service.with_name("containerd.runs").touch()
    yield made
    for pidfile in root.rglob("*.pid"):
        try:
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
        except (ValueError, ProcessLookupError):
            continue


BUILDKIT = "usr/local/etc/init.d/buildkit"


@pytest.fixture
def buildkit(machine: Machine) -> Machine:
    compiled(machine.root / "usr/local/sbin/buildkitd", BUILDKITD)
    compiled(machine.root / "usr/local/sbin/buildctl", BUILDCTL)
    machine.script(BUILDKIT)
    return machine


def settings(machine: Machine, text: str) -> None:
    path = machine.root / "usr/local/etc/buildkit/settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_buildkit_starts_answers_and_stops(buildkit: Machine) -> None:
    assert buildkit.run(BUILDKIT, "status") == (1, "buildkit: does not run\n")
    status, said = buildkit.run(BUILDKIT, "start")
    pid = int((buildkit.root / "run/buildkit/buildkitd.pid").read_text())
    assert (status, said.splitlines()[-1]) == (0, f"buildkit: started (process {pid})")
    assert buildkit.run(BUILDKIT, "status") == (0, f"buildkit: runs (process {pid})\n")
    assert buildkit.run(BUILDKIT, "start") == (0, f"buildkit: runs already (process {pid})\n")
    assert Path(f"/proc/{pid}/comm").read_text() == "buildkitd\n"
    assert buildkit.run(BUILDKIT, "stop") == (0, "buildkit: stopped\n")
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert buildkit.run(BUILDKIT, "stop") == (0, "buildkit: does not run\n")
    # A socket that was left behind is no answer.
    assert (buildkit.root / "run/buildkit/buildkitd.sock").exists()
    assert buildkit.run(BUILDKIT, "status") == (1, "buildkit: does not run\n")
    status, said = buildkit.run(BUILDKIT, "restart")
    assert status == 0
    assert str(pid) not in said.splitlines()[-1]


RUNC = ["--oci-worker=true", "--containerd-worker=false"]
OTHER = ["--oci-worker=false", "--containerd-worker=true", "--containerd-worker-addr"]


@pytest.mark.parametrize(
    ("words", "text", "worker"),
    [
        ((), "", "runc"),
        (("runc",), "WORKER=containerd", "runc"),
        (("containerd",), "", "containerd"),
        ((), "WORKER=containerd", "containerd"),
    ],
)
def test_workers_of_buildkit(buildkit: Machine, words: tuple[str, ...], text: str, worker: str) -> None:
    settings(buildkit, f"{text}\nOPTIONS='--debug --group staff'\n")
    (buildkit.root / "usr/local/etc/buildkit/buildkitd.toml").touch()
    status, said = buildkit.run(BUILDKIT, "start", *words)
    assert status == 0, said
    given = [line.split()[1] for line in buildkit.log("var/log/buildkit.log")]
    socket_ = f"{buildkit.root}/run/containerd/containerd.sock"
    expected = RUNC if worker == "runc" else [*OTHER, socket_]
    config = ["--config", f"{buildkit.root}/usr/local/etc/buildkit/buildkitd.toml"]
    assert given[2:] == [*expected, *config, "--debug", "--group", "staff"]
    # runc wants cgroups and overlayfs; containerd's own script sees to that.
    asked = (buildkit.root / "asked").read_text() if (buildkit.root / "asked").exists() else ""
    assert ("modprobe -a overlay" in asked, "/sys/fs/cgroup" in asked) == ((worker == "runc"),) * 2


def test_buildkit_without_containerd(buildkit: Machine) -> None:
    (buildkit.root / "usr/local/etc/init.d/containerd.runs").unlink()
    assert buildkit.run(BUILDKIT, "start", "containerd") == (1, "containerd: no\n")
    assert not (buildkit.root / "run/buildkit").exists()


def test_buildkit_that_ends_at_once_says_why(buildkit: Machine) -> None:
    settings(buildkit, "OPTIONS=--broken")
    status, said = buildkit.run(BUILDKIT, "start")
    assert status == 1
    assert "buildkit: it ended at once; the end of" in said
    assert said.splitlines()[-1] == "no such worker"
    assert buildkit.run(BUILDKIT, "status") == (1, "buildkit: does not run\n")


def test_buildkit_that_never_answers(buildkit: Machine) -> None:
    buildkit.script(BUILDKIT, SECONDS_TO_START="1")
    settings(buildkit, "OPTIONS=--mute")
    status, said = buildkit.run(BUILDKIT, "start")
    assert status == 1
    assert "buildkit: no answer within 1 seconds, see" in said
    assert buildkit.run(BUILDKIT, "stop") == (0, "buildkit: stopped\n")


@pytest.mark.parametrize(
    ("words", "user", "status", "said"),
    [
        ((), "0", 2, "start|restart [runc|containerd] | stop | status"),
        (("go",), "0", 2, "start|restart [runc|containerd] | stop | status"),
        (("start", "docker"), "0", 2, "buildkit: unknown worker docker: runc or containerd"),
        (("start",), "1001", 1, "buildkit: needs root: sudo "),
        (("stop",), "1001", 1, "buildkit: needs root: sudo "),
        (("status",), "1001", 1, "buildkit: does not run"),
    ],
)
def test_wrong_usage_of_buildkit(
    buildkit: Machine, words: tuple[str, ...], user: str, status: int, said: str
) -> None:
    (buildkit.root / "user").write_text(f"{user}\n")
    found = buildkit.run(BUILDKIT, *words)
    assert (found[0], said in found[1]) == (status, True), found
    assert not (buildkit.root / "run/buildkit").exists()


def test_a_number_that_another_process_has_is_not_buildkits(buildkit: Machine) -> None:
    (buildkit.root / "run/buildkit").mkdir(parents=True)
    (buildkit.root / "run/buildkit/buildkitd.pid").write_text(f"{os.getpid()}\n")
    assert buildkit.run(BUILDKIT, "stop") == (0, "buildkit: does not run\n")
    (buildkit.root / "run/buildkit/buildkitd.pid").unlink()


SERVICE = "usr/local/etc/init.d/faasd"
FOLDER = "var/lib/faasd"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def faasd(machine: Machine) -> Machine:
    compiled(machine.root / "usr/local/sbin/faasd", FAASD)
    urls = {}
    for name, folder in (("PROVIDER_URL", "var/lib/faasd-provider"), ("GATEWAY_URL", FOLDER)):
        (machine.root / folder).mkdir(parents=True)
        port = free_port()
        (machine.root / folder / "port").write_text(f"{port}\n")
        urls[name] = f"http://127.0.0.1:{port}/healthz"
    machine.script(SERVICE, SECONDS_BETWEEN="0", **urls)
    share = machine.root / "usr/local/share/faasd"
    share.mkdir()
    for name in ("docker-compose.yaml", "prometheus.yml", "resolv.conf"):
        (share / name).write_text(f"upstream's {name}\n")
    return machine


def image(machine: Machine, path: str) -> Path:
    made = machine.root / path
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(b"an image")
    return made


def imports(machine: Machine) -> list[str]:
    path = machine.root / "usr/local/sbin/ctr.log"
    return path.read_text().splitlines() if path.exists() else []


def test_faasd_starts_its_provider_then_its_services(faasd: Machine) -> None:
    own = image(faasd, f"{FOLDER}/images/gateway.tar")
    shipped = image(faasd, "usr/local/share/faasd/images/nats.tar")
    function = image(faasd, f"{FOLDER}/functions/my function.tar")
    (faasd.root / FOLDER / "prometheus.yml").write_text("my own\n")
    assert faasd.run(SERVICE, "status") == (1, "faasd provider: does not run\nfaasd: does not run\n")
    status, said = faasd.run(SERVICE, "start")
    assert status == 0, said
    pids = [int((faasd.root / f"run/faasd/{name}.pid").read_text()) for name in ("provider", "faasd")]
    assert said.splitlines()[-3:-1] == [
        f"faasd provider: started (process {pids[0]})",
        f"faasd: started (process {pids[1]})",
    ]
    assert said.splitlines()[-1].endswith("basic-auth-password | faas-cli login --password-stdin")
    assert imports(faasd) == [
        f"ctr --namespace openfaas images import {shipped}",
        f"ctr --namespace openfaas images import {own}",
        f"ctr --namespace openfaas-fn images import {function}",
    ]
    for name, text in (
        ("docker-compose.yaml", "upstream's docker-compose.yaml\n"),
        ("prometheus.yml", "my own\n"),
        ("resolv.conf", "upstream's resolv.conf\n"),
    ):
        assert (faasd.root / FOLDER / name).read_text() == text
    assert (faasd.root / FOLDER / "secrets").stat().st_mode & 0o777 == 0o700
    assert (faasd.root / "proc/sys/net/ipv4/conf/all/forwarding").read_text() == "1\n"
    assert faasd.log("var/log/faasd-provider.log") == [
        *("argument provider", "argument --pull-policy", "argument IfNotPresent"),
        f"secret_mount_path {faasd.root}/{FOLDER}/secrets",
    ]
    assert "argument up" in faasd.log("var/log/faasd.log")
    assert faasd.run(SERVICE, "status")[0] == 0
    assert faasd.run(SERVICE, "stop") == (0, "faasd: stopped\nfaasd provider: stopped\n")
    assert faasd.run(SERVICE, "status")[0] == 1


def test_an_import_that_fails_is_tried_again(faasd: Machine) -> None:
    path = image(faasd, f"{FOLDER}/images/gateway.tar")
    (faasd.root / "usr/local/sbin/ctr.failures").write_text("4\n")
    status, said = faasd.run(SERVICE, "import")
    assert (status, said.splitlines()[-1]) == (0, f"faasd: imported {path}")
    assert said.count("could not be imported, trying again in 0 seconds") == 4
    assert len(imports(faasd)) == 5


def test_an_import_that_keeps_failing_ends_in_an_error(faasd: Machine) -> None:
    """And nothing is started without the image."""
    path = image(faasd, f"{FOLDER}/images/gateway.tar")
    image(faasd, f"{FOLDER}/images/later.tar")
    (faasd.root / "usr/local/sbin/ctr.failures").write_text("99\n")
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert f"faasd: {path} could not be imported, 5 times; the end of" in said
    assert said.splitlines()[-1] == "ctr: archive/tar: invalid tar header"
    assert len(imports(faasd)) == 5
    assert faasd.run(SERVICE, "status")[0] == 1


def test_import_of_named_files(faasd: Machine) -> None:
    first, second = (image(faasd, f"var/{name}.tar") for name in ("a b", "c"))
    assert faasd.run(SERVICE, "import", str(first), str(second))[0] == 0
    assert imports(faasd) == [f"ctr --namespace openfaas-fn images import {path}" for path in (first, second)]


@pytest.mark.parametrize("folder", ["var/lib/faasd-provider", FOLDER])
def test_faasd_that_ends_at_once_leaves_nothing_running(faasd: Machine, folder: str) -> None:
    (faasd.root / folder / "broken").touch()
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert "it ended at once; the end of" in said
    assert "image not found" in said
    assert not list((faasd.root / "run/faasd").glob("*.pid"))


def test_faasd_without_containerd_or_its_files(faasd: Machine) -> None:
    (faasd.root / "usr/local/share/faasd/resolv.conf").unlink()
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert "resolv.conf" in said
    (faasd.root / "usr/local/etc/init.d/containerd.runs").unlink()
    assert faasd.run(SERVICE, "start") == (1, "containerd: no\n")
    assert faasd.run(SERVICE, "import") == (1, "containerd: no\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "start|stop|restart|status | import [FILE.tar...]"),
        (("start",), 1, "faasd: needs root: sudo "),
        (("import", "x.tar"), 1, "import x.tar"),
    ],
)
def test_wrong_usage_of_faasd(faasd: Machine, words: tuple[str, ...], status: int, said: str) -> None:
    (faasd.root / "user").write_text("1001\n")
    found = faasd.run(SERVICE, *words)
    assert (found[0], said in found[1]) == (status, True), found

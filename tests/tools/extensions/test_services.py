# SPDX-License-Identifier: MIT
"""faasd's start script, and what runs its containers (tests/support/services.py)."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.services import BUSYBOX, Machine, made_in
from tests.support.sidebyside import soon
from tests.support.standins import FAASD, compiled


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield from made_in(tmp_path / "root")


SERVICE = "usr/local/etc/init.d/faasd"
FOLDER = "var/lib/faasd"
IMAGES = ("docker.io/library/nats-streaming:1", "ghcr.io/openfaas/gateway:1")
COMPOSE = f"""\
version: "3.7"
services:
  nats:
    image: {IMAGES[0]}
  gateway:
    image: "{IMAGES[1]}"
    depends_on:
      - nats
"""
ROUTE = "Iface\tDestination\tGateway\neth0\t00000000\t0100A8C0\n"


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def faasd(machine: Machine) -> Machine:
    """With faasd's images in the store, and without a network."""
    compiled(machine.root / "usr/local/lib/faasd/faasd", FAASD)
    provider, proxy, gateway = free_ports(3)
    for folder, ports in (("var/lib/faasd-provider", [provider]), (FOLDER, [proxy, gateway])):
        (machine.root / folder).mkdir(parents=True)
        (machine.root / folder / "port").write_text("".join(f"{port}\n" for port in ports))
    machine.script("usr/local/bin/faasd")
    machine.script("usr/local/bin/import-images")
    (machine.root / "routes").touch()
    machine.script(
        SERVICE,
        PROVIDER_URL=f"http://127.0.0.1:{provider}/healthz",
        GATEWAY_URL=f"http://127.0.0.1:{proxy}/healthz",
        GATEWAY_PORT=str(gateway),
        ROUTES=str(machine.root / "routes"),
    )
    share = machine.root / "usr/local/share/faasd"
    share.mkdir()
    for name in ("prometheus.yml", "resolv.conf"):
        (share / name).write_text(f"upstream's {name}\n")
    (share / "docker-compose.yaml").write_text(COMPOSE)
    store = "".join(f"openfaas {name} sha256:0\n" for name in IMAGES)
    (machine.root / "usr/local/sbin/ctr.images").write_text(store)
    (machine.root / "usr/local/sbin/ctr.tasks").write_text("TASK PID STATUS\n")
    containerd = machine.root / "run/containerd"
    containerd.mkdir(parents=True)
    (machine.root / "var/lib/containerd").mkdir()
    # A path of the test's is too long for a socket's name.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/s")
        shutil.move(f"{folder}/s", containerd / "containerd.sock")
    return machine


def image(machine: Machine, path: str, text: str) -> Path:
    made = machine.root / path
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(f"{text}\n")
    return made


def imports(machine: Machine) -> list[str]:
    path = machine.root / "usr/local/sbin/ctr.log"
    return path.read_text().splitlines() if path.exists() else []


def images(machine: Machine) -> set[str]:
    lines = machine.log("usr/local/sbin/ctr.images")
    return {line.rpartition(" ")[0] for line in lines}


def test_faasd_starts_its_provider_then_its_services(faasd: Machine) -> None:
    own = image(faasd, f"{FOLDER}/images/gateway.tar", IMAGES[1])
    shipped = image(faasd, "usr/local/share/faasd/images/nats.tar", IMAGES[0])
    function = image(faasd, f"{FOLDER}/functions/my function.tar", "localhost/mine:1")
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
    assert imports(faasd) == [f"openfaas {shipped}", f"openfaas {own}", f"openfaas-fn {function}"]
    assert images(faasd) == {*(f"openfaas {name}" for name in IMAGES), "openfaas-fn localhost/mine:1"}
    for name, text in (
        ("docker-compose.yaml", COMPOSE),
        ("prometheus.yml", "my own\n"),
        ("resolv.conf", "upstream's resolv.conf\n"),
    ):
        assert (faasd.root / FOLDER / name).read_text() == text
    assert (faasd.root / "proc/sys/net/ipv4/conf/all/forwarding").read_text() == "1\n"
    assert faasd.log("var/log/faasd-provider.log") == [
        *("argument provider", "argument --pull-policy", "argument IfNotPresent"),
        f"secret_mount_path {faasd.root}/{FOLDER}/secrets",
    ]
    assert "argument up" in faasd.log("var/log/faasd.log")
    assert faasd.run(SERVICE, "status")[0] == 0
    assert faasd.run(SERVICE, "stop") == (0, "faasd: stopped\nfaasd provider: stopped\n")
    assert faasd.run(SERVICE, "status")[0] == 1
    # Each archive once; one that has changed again.
    function.write_text("localhost/other:1\n")
    os.utime(function, (1, 1))
    assert faasd.run(SERVICE, "start")[0] == 0
    assert imports(faasd)[3:] == [f"openfaas-fn {function}"]
    assert "openfaas-fn localhost/other:1" in images(faasd)


def test_the_secrets_are_there_before_the_provider(faasd: Machine) -> None:
    """Random, not for others; kept as they are, but for an empty one, which a power cut left."""
    secrets = faasd.root / FOLDER / "secrets"
    (faasd.root / "var/lib/faasd-provider/broken").touch()
    texts = []
    for _ in range(2):
        assert faasd.run(SERVICE, "start")[0] == 1
        assert secrets.stat().st_mode & 0o777 == 0o700
        assert (secrets / "basic-auth-user").read_text() == "admin"
        texts.append((secrets / "basic-auth-password").read_text())
        assert len(texts[-1]) == 40
        assert texts[-1].isalnum()
        assert sorted(path.name for path in secrets.iterdir()) == ["basic-auth-password", "basic-auth-user"]
    assert texts[0] == texts[1]
    (secrets / "basic-auth-password").write_text("")
    assert faasd.run(SERVICE, "start")[0] == 1
    assert (secrets / "basic-auth-password").read_text() not in ("", texts[0])


def test_an_image_that_cannot_be_imported_is_one_line(faasd: Machine) -> None:
    """The others are imported, and nothing is started without it."""
    path = image(faasd, f"{FOLDER}/images/gateway.tar", "error archive/tar: invalid tar header")
    image(faasd, f"{FOLDER}/images/later.tar", "localhost/later:1")
    assert faasd.run(SERVICE, "start") == (
        1,
        f"import-images: {path}: not imported: ctr: archive/tar: invalid tar header\n"
        f"import-images: {path.with_name('later.tar')}: imported (localhost/later:1)\n",
    )
    path.write_text("error write /x: no space left on device\n")
    said = faasd.run(SERVICE, "import")[1].splitlines()[0]
    assert said == f"import-images: {path}: not imported: the disk of {faasd.root}/var/lib/containerd is full"
    assert faasd.run(SERVICE, "status")[0] == 1


def test_an_image_whose_layers_were_collected_meanwhile_is_imported_again(faasd: Machine) -> None:
    """By containerd's collector, after ctr had moved the name and before it unpacked; only once."""
    path = image(faasd, f"{FOLDER}/images/gateway.tar", "localhost/gateway:1")
    said = "ctr: failed to prepare extraction snapshot: parent snapshot sha256:1 does not exist: not found"
    (faasd.root / "var/log").mkdir(parents=True, exist_ok=True)
    once = faasd.root / "usr/local/sbin/ctr.once"
    once.write_text(f"{said}\n")
    assert faasd.run(SERVICE, "import", str(path)) == (
        0,
        f"import-images: {path}: imported (localhost/gateway:1)\n",
    )
    assert imports(faasd) == [f"openfaas-fn {path}"] * 2
    path.write_text("localhost/other:1\n")
    once.write_text("ctr: no\n")
    assert faasd.run(SERVICE, "import", str(path)) == (1, f"import-images: {path}: not imported: ctr: no\n")


def test_import_without_its_programs_names_the_extension(machine: Machine) -> None:
    """The BusyBox of Tiny Core 11.0 has neither stat nor sha256sum."""
    (machine.root / "var/log").mkdir(parents=True)
    machine.script("usr/local/bin/import-images")
    script = machine.root / "usr/local/bin/import-images"
    lacks = 'command() { [ "$2" != stat ]; }\nPATH='
    script.write_text(script.read_text().replace("PATH=", lacks, 1))
    assert machine.run("usr/local/bin/import-images", "-n", "default", "a.tar") == (
        1,
        "import-images: no image imported: there is no stat: load the extension coreutils\n",
    )


def test_import_of_named_files(faasd: Machine) -> None:
    first, second = (image(faasd, f"var/{name}.tar", f"localhost/{name[0]}:1") for name in ("a b", "c"))
    assert faasd.run(SERVICE, "import", str(first), str(second))[0] == 0
    assert imports(faasd) == [f"openfaas-fn {path}" for path in (first, second)]


def test_a_missing_image_is_named_before_the_start(faasd: Machine) -> None:
    """With a network faasd pulls it."""
    (faasd.root / "usr/local/sbin/ctr.images").write_text(f"openfaas {IMAGES[0]} sha256:0\n")
    status, said = faasd.run(SERVICE, "start")
    assert (status, said) == (
        1,
        f"faasd: no image {IMAGES[1]}, and no network to pull from: "
        f"put archives (docker save) into {faasd.root}/{FOLDER}/images\n",
    )
    assert not (faasd.root / "run/faasd").exists()
    (faasd.root / "routes").write_text(ROUTE)
    status, said = faasd.run(SERVICE, "start")
    assert (status, said.splitlines()[0]) == (0, f"faasd: has to pull {IMAGES[1]}")


@pytest.mark.parametrize("folder", ["var/lib/faasd-provider", FOLDER])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Error: cannot pull: it is not there\nUsage:\n", "it ended at once: cannot pull: it is not there"),
        ("no such thing\n", "the end of"),
    ],
)
def test_faasd_that_ends_at_once_leaves_nothing_running(
    faasd: Machine, folder: str, text: str, expected: str
) -> None:
    (faasd.root / folder / "broken").write_text(text)
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert expected in said
    assert not list((faasd.root / "run/faasd").glob("*.pid"))


def test_faasd_on_a_full_disk(faasd: Machine) -> None:
    faasd.script(SERVICE, KIB_NEEDED="99999999999")
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert re.fullmatch(
        rf"faasd: the disk of {faasd.root}/{FOLDER} is full: \d+ KiB are free, 99999999999 are needed\n", said
    )


def test_the_service_that_does_not_answer_is_named(faasd: Machine) -> None:
    """And what it said last, after SECONDS_TO_START without a sign of life."""
    faasd.script(SERVICE, SECONDS_TO_START="2", **faasd_values(faasd))
    (faasd.root / FOLDER / "mute").touch()
    (faasd.root / "usr/local/sbin/ctr.tasks").write_text(
        "TASK PID STATUS\nnats 1 RUNNING\ngateway 2 STOPPED\n"
    )
    log = faasd.root / "var/log/faasd/openfaas.gateway.log"
    log.parent.mkdir(parents=True)
    log.write_text("first\nnats: no servers available for connection\n")
    status, said = faasd.run(SERVICE, "start")
    assert status == 1
    assert said.splitlines()[1:] == [
        f"faasd: gateway does not answer, after 2 seconds; the end of {log}:",
        *("first", "nats: no servers available for connection"),
        *("faasd: stopped", "faasd provider: stopped"),
    ]


def faasd_values(machine: Machine) -> dict[str, str]:
    """What the fixture has set in the start script."""
    text = (machine.root / SERVICE).read_text()
    names = ("PROVIDER_URL", "GATEWAY_URL", "GATEWAY_PORT", "ROUTES")
    return {name: re.findall(rf"^{name}=(\S*)", text, re.M)[0] for name in names}


def test_a_proxy_that_was_asked_too_early_is_started_again(faasd: Machine) -> None:
    """faasd's own ends for good if the gateway does not listen yet."""
    faasd.script(SERVICE, SECONDS_TO_START="2", **faasd_values(faasd))
    (faasd.root / FOLDER / "early").touch()
    status, said = faasd.run(SERVICE, "start")
    assert status == 0, said
    assert "was asked too early; starting it again" in said
    assert faasd.run(SERVICE, "status")[0] == 0


class Gateway(BaseHTTPRequestHandler):
    """What it answers to requests for functions, one status after the other and the last for good."""

    answers: dict[str, list[int]]
    asked: list[str]

    def do_GET(self) -> None:
        name = self.path.removesuffix("/_/health").removeprefix("/function/")
        self.asked.append(name)
        statuses = self.answers[name]
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway(faasd: Machine) -> Iterator[type[Gateway]]:
    """What answers for functions, in the store of which stand these."""
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/function"
    faasd.script(SERVICE, FUNCTION_URL=address, SECONDS_TO_ANSWER="3", **faasd_values(faasd))
    Gateway.asked = []
    yield Gateway
    server.shutdown()
    server.server_close()


def deployed(machine: Machine, functions: Mapping[str, str], namespaces: str = "") -> None:
    """Put functions into the store, with their images: NAMESPACE/NAME by the status of their tasks."""
    ctr = machine.root / "usr/local/sbin/ctr"
    names = [function.split("/") for function in functions]
    with Path(f"{ctr}.images").open("a") as store:
        store.writelines(f"{namespace} localhost/{name}:latest sha256:0\n" for namespace, name in names)
    lines = "".join(f"{namespace} {name} localhost/{name}:latest\n" for namespace, name in names)
    Path(f"{ctr}.containers").write_text(lines)
    tasks = "".join(f"{function.split('/')[1]} 7 {state}\n" for function, state in functions.items() if state)
    Path(f"{ctr}.tasks").write_text(f"TASK PID STATUS\n{tasks}")
    Path(f"{ctr}.namespaces").write_text(namespaces)


def test_functions_deployed_before_answer_after_a_start(faasd: Machine, gateway: type[Gateway]) -> None:
    """The gateway starts one that is asked for, and may say 500 then.  What is scaled to zero stays so."""
    functions = {
        "openfaas-fn/hello": "",
        "openfaas-fn/zero": "PAUSED",
        "team/api": "RUNNING",
        "default/other": "RUNNING",
    }
    deployed(faasd, functions, "default \nopenfaas-fn openfaas=true\nteam a=b,openfaas=1\n")
    with (faasd.root / "usr/local/sbin/ctr.containers").open("a") as store:
        store.write("openfaas-fn builders -\n")
    gateway.answers = {"hello.openfaas-fn": [500, 503, 200], "api.team": [404]}
    status, said = faasd.run(SERVICE, "start")
    assert status == 0, said
    assert said.splitlines()[-2] == "faasd: functions that answer: 2"
    assert sorted(gateway.asked) == ["api.team", *["hello.openfaas-fn"] * 3]


def test_a_function_that_does_not_come_up_is_one_line(faasd: Machine, gateway: type[Gateway]) -> None:
    """The start goes on, and says why."""
    functions = {"ended": "STOPPED", "gone": "RUNNING", "refused": "", "mute": "RUNNING"}
    deployed(faasd, {f"openfaas-fn/{name}": state for name, state in functions.items()})
    store = faasd.root / "usr/local/sbin/ctr.images"
    store.write_text(store.read_text().replace("openfaas-fn localhost/gone:latest sha256:0\n", ""))
    gateway.answers = {f"{name}.openfaas-fn": [500] for name in ("ended", "refused", "mute")}
    # The gateway's own answer that there is no such function.
    gateway.answers["gone.openfaas-fn"] = [404]
    logs = faasd.root / "var/log/faasd"
    logs.mkdir(parents=True)
    for name in ("ended", "mute"):
        (logs / f"openfaas-fn.{name}.log").write_text(f"first\n{name}: no handler\n")
    error = "2026/01/01 00:00:00 [Scale] error deploying refused, error: no snapshot"
    (faasd.root / "var/log/faasd-provider.log").write_text(f"{error}\n")
    status, said = faasd.run(SERVICE, "start")
    assert status == 0, said
    silent = "faasd: the function {} does not answer; "
    assert said.splitlines()[-5:-1] == [
        f"{silent.format('ended')}the end of {logs}/openfaas-fn.ended.log: ended: no handler",
        f"{silent.format('gone')}its image localhost/gone:latest is gone",
        f"{silent.format('refused')}no snapshot",
        f"{silent.format('mute')}the end of {logs}/openfaas-fn.mute.log: mute: no handler",
    ]


class Nats(BaseHTTPRequestHandler):
    """NATS Streaming's monitoring, which answers when `ready` is set."""

    ready = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200 if self.ready.is_set() and self.path == "/streaming/serverz" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


# Runs a command with three streams as 3, 4 and 5, and no other.
WITH_STREAMS = """
import fcntl, os, sys
for target, fd in zip((3, 4, 5), [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1:4]]):
    os.dup2(fd, target)
os.closerange(6, 200)
os.execv(sys.argv[4], sys.argv[4:])
"""


@pytest.mark.parametrize(
    ("namespace", "name", "waits"),
    [
        ("openfaas", "gateway", True),
        ("openfaas", "queue-worker", True),
        ("openfaas", "nats", False),
        ("openfaas-fn", "gateway", False),
    ],
)
def test_a_container_is_made_when_nats_answers_and_its_output_is_kept(
    faasd: Machine, namespace: str, name: str, waits: bool
) -> None:
    """The shim's logging protocol: streams 3 and 4 are read, and closing 5 says go on."""
    Nats.ready.clear()
    server = HTTPServer(("127.0.0.1", 0), Nats)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    faasd.script("usr/local/bin/faasd", NATS_PORT=str(server.server_port), BYTES="100")
    # awk asks /bin/sh, which looks for it in PATH.
    (faasd.root / "usr/local/sbin/mv").symlink_to(BUSYBOX)
    (faasd.root / FOLDER / "hosts").write_text("10.62.0.9\tnats\n127.0.0.1\tnats\n")
    kept = faasd.root / f"var/log/faasd/{namespace}.{name}.log"
    (out, out_end), (err, err_end), (go_on, ready) = (os.pipe() for _ in range(3))
    script = [BUSYBOX, "ash", str(faasd.root / "usr/local/bin/faasd")]
    command = [sys.executable, "-c", WITH_STREAMS, *map(str, (out, err, ready)), *script]
    environment = {"CONTAINER_ID": name, "CONTAINER_NAMESPACE": namespace, "PATH": "/nonexistent"}
    with subprocess.Popen(command, env=environment, pass_fds=(out, err, ready)) as log:
        for fd in (out, err, ready):
            os.close(fd)
        if waits:
            assert select.select([go_on], [], [], 1.5)[0] == []
            Nats.ready.set()
        assert os.read(go_on, 1) == b""
        os.write(out_end, b"one\n")
        os.write(err_end, b"two\n")
        os.close(out_end)
        # Both streams are read side by side: their lines come in any order.
        soon(lambda: kept.exists() and len(kept.read_text().splitlines()) == 2)
        os.write(err_end, b"x" * 200 + b"\nlast\n")
        os.close(err_end)
        assert log.wait(30) == 0
    os.close(go_on)
    server.shutdown()
    server.server_close()
    assert sorted(Path(f"{kept}.old").read_text().splitlines()) == ["one", "two", "x" * 200]
    assert kept.read_text() == "last\n"


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

# SPDX-License-Identifier: MIT
"""BuildKit's start script (tests/support/services.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import Machine, made_in
from tests.support.standins import BUILDCTL, BUILDKITD, compiled


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield from made_in(tmp_path / "root")


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
        (("containerd", "openfaas-fn"), "NAMESPACE=other", "containerd openfaas-fn"),
        (("containerd",), "NAMESPACE=openfaas-fn", "containerd openfaas-fn"),
        (("runc",), "NAMESPACE=openfaas-fn", "runc"),
    ],
)
def test_workers_of_buildkit(buildkit: Machine, words: tuple[str, ...], text: str, worker: str) -> None:
    settings(buildkit, f"{text}\nOPTIONS='--debug --group staff'\n")
    (buildkit.root / "usr/local/etc/buildkit/buildkitd.toml").touch()
    status, said = buildkit.run(BUILDKIT, "start", *words)
    assert status == 0, said
    given = [line.split()[1] for line in buildkit.log("var/log/buildkit.log")]
    socket_ = f"{buildkit.root}/run/containerd/containerd.sock"
    name, _, namespace = worker.partition(" ")
    expected = RUNC if name == "runc" else [*OTHER, socket_]
    if namespace:
        data = f"{buildkit.root}/var/lib/buildkit/{namespace}"
        expected = [*expected, "--containerd-worker-namespace", namespace, "--root", data]
    config = ["--config", f"{buildkit.root}/usr/local/etc/buildkit/buildkitd.toml"]
    assert given[2:] == [*expected, *config, "--debug", "--group", "staff"]
    # containerd's own script sees to what it needs.
    asked = (buildkit.root / "asked").read_text() if (buildkit.root / "asked").exists() else ""
    needs = f"require overlayfs {buildkit.root}/var/lib/buildkit memory seccomp\n"
    assert (needs in asked, "/sys/fs/cgroup" in asked) == ((worker == "runc"),) * 2


def test_buildkit_keeps_its_worker_until_told_otherwise(buildkit: Machine) -> None:
    def last() -> str:
        return " ".join(line.split()[1] for line in buildkit.log("var/log/buildkit.log")[-9:])

    assert buildkit.run(BUILDKIT, "start", "containerd", "openfaas-fn")[0] == 0
    assert buildkit.run(BUILDKIT, "start") == buildkit.run(BUILDKIT, "start", "containerd", "openfaas-fn")
    for words, wanted in ((("runc",), "runc"), (("containerd", "other"), "containerd other")):
        assert buildkit.run(BUILDKIT, "start", *words) == (
            1,
            "buildkit: runs already, with the worker containerd openfaas-fn; for the other:"
            f" sudo {buildkit.root}/{BUILDKIT} restart {wanted}\n",
        )
    assert buildkit.run(BUILDKIT, "restart", "docker")[0] == 2
    assert buildkit.run(BUILDKIT, "status")[0] == 0
    assert buildkit.run(BUILDKIT, "restart")[0] == 0
    assert "--containerd-worker-namespace openfaas-fn" in last()
    assert buildkit.run(BUILDKIT, "restart", "runc")[0] == 0
    assert last().endswith(" ".join(RUNC))
    settings(buildkit, "WORKER=containerd")
    assert buildkit.run(BUILDKIT, "restart")[0] == 0
    assert last().endswith(f"{buildkit.root}/run/containerd/containerd.sock")


@pytest.mark.parametrize("worker", ["runc", "containerd"])
def test_buildkit_does_not_start_where_runc_cannot_pivot(buildkit: Machine, worker: str) -> None:
    (buildkit.root / "proc/mounts").write_text("rootfs / rootfs rw 0 0\n")
    status, said = buildkit.run(BUILDKIT, "start", worker)
    assert (status, "boot with the bootcode noembed" in said) == (1, True)
    assert not (buildkit.root / "run/buildkit").exists()


def test_buildkit_does_not_start_where_layers_cannot_be_kept(buildkit: Machine) -> None:
    checks = buildkit.root / "usr/local/share/containerd/checks.sh"
    checks.write_text('require() { complain "$2 lies on ramfs"; return 1; }\n')
    said = f"buildkit: {buildkit.root}/var/lib/buildkit lies on ramfs\n"
    assert buildkit.run(BUILDKIT, "start", "runc") == (1, said)
    assert not (buildkit.root / "run/buildkit").exists()


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
        ((), "0", 2, "start|restart [runc | containerd [NAMESPACE]] | stop | status"),
        (("go",), "0", 2, "start|restart [runc | containerd [NAMESPACE]] | stop | status"),
        (("start", "docker"), "0", 2, "buildkit: unknown worker docker: runc or containerd"),
        (
            ("start", "runc", "here"),
            "0",
            2,
            "buildkit: the runc worker has no image store, so no namespace here",
        ),
        (("start", "containerd", "a/b"), "0", 2, "buildkit: a/b is no name of a namespace"),
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

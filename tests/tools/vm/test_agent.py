# SPDX-License-Identifier: MIT
"""How /sbin/guest-agent finds its ports, by BusyBox's shell; tests/vm/test_run.py lets it work."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from tasks.initramfs import consoles
from tasks.vm.machine import PORTS


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script up to where it has found its ports; sys/ and dev/ are in the test's own folder."""
    text = consoles.scripts()[consoles.AGENT].read_text()
    found, mark, _ = text.partition("folder=")
    assert mark
    for old, new in (("/sys/", f"{tmp_path}/sys/"), ("/dev/$", f"{tmp_path}/dev/$"), ("-c ", "-p ")):
        assert old in found
        found = found.replace(old, new)
    path = tmp_path / "agent"
    path.write_text(f"{found.replace('modprobe', ': modprobe')}echo $control $input $output $errors\n")
    return path


def add_port(folder: Path, number: int, name: str) -> None:
    port = f"vport0p{number}"
    (folder / "dev").mkdir(exist_ok=True)
    os.mkfifo(folder / "dev" / port)
    (folder / "sys/class/virtio-ports" / port).mkdir(parents=True)
    (folder / "sys/class/virtio-ports" / port / "name").write_text(f"{name}\n")


def run(script: Path) -> tuple[int, str, str]:
    done = subprocess.run(["/bin/busybox", "sh", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_machine_without_ports_hears_nothing_of_it(script: Path) -> None:
    """That is every PC; what it says at boot would stand on the console."""
    assert run(script) == (0, "", "")


def test_neither_does_one_with_a_port_of_others(script: Path, tmp_path: Path) -> None:
    add_port(tmp_path, 1, "org.qemu.guest_agent.0")
    assert run(script) == (0, "", "")


def test_ports_that_come_after_the_module_are_waited_for(script: Path, tmp_path: Path) -> None:
    (tmp_path / "sys/bus/virtio/drivers/virtio_console/virtio1").mkdir(parents=True)

    def come() -> None:
        for number, name in enumerate(PORTS):
            add_port(tmp_path, number, f"tcbuild.{name}")

    timer = threading.Timer(0.5, come)
    timer.start()
    said = " ".join(f"{tmp_path}/dev/vport0p{number}" for number in range(len(PORTS)))
    assert run(script) == (0, f"{said}\n", "")
    timer.join()

# SPDX-License-Identifier: MIT
"""What containerd's extension says of a system that lacks something: BusyBox's ash runs its scripts.

The files of /proc and /sys are the test's, and so are the answers of iptables and modprobe, which need
root.  tests/vm/test_containerd.py asks a real kernel.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT

BUSYBOX = "/bin/busybox"
FILES = CHECKOUT.root / "extensions/containerd/files"
CHECKS = FILES / "usr/local/share/containerd/checks.sh"
ALL = ("overlayfs", "memory", "bridge", "netfilter", "seccomp")
FRAGMENT = "build it with the fragment containers"
V1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t30\t{}\n"
CONTROLLERS, SYMBOLS = "proc/cgroups", "proc/kallsyms"
FUNCTIONS = """
NAME=test CGROUPS={root}/sys/fs/cgroup
complain() {{ echo "$NAME: $*" >&2; }}
modprobe() {{ :; }}
iptables() {{ echo "iptables $*" >> {root}/asked; [ -e {root}/nat ]; }}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system that has everything."""
    for folder in ("proc/self", "proc/sys/kernel/seccomp", "sys/module/bridge", "sys/fs/cgroup"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/filesystems").write_text("nodev\ttmpfs\nnodev\toverlay\n\text4\n")
    (tmp_path / CONTROLLERS).write_text(V1.format(1))
    (tmp_path / "proc/sys/kernel/seccomp/actions_avail").write_text("kill_process allow\n")
    (tmp_path / SYMBOLS).write_text("0000000000000000 t veth_newlink\n")
    (tmp_path / "nat").touch()
    return tmp_path


def require(root: Path, *needs: str, more: str = "") -> tuple[int, list[str]]:
    """Run `require`; return its status and what it said."""
    text = re.sub(r"/(proc|sys|usr/local/etc)/", rf"{root}/\1/", CHECKS.read_text())
    script = f"{FUNCTIONS.format(root=root)}\n{more}\n{text}\nrequire {' '.join(needs)}\n"
    done = subprocess.run(
        [BUSYBOX, "ash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stdout
    return done.returncode, done.stderr.splitlines()


def test_a_system_that_has_everything(root: Path) -> None:
    assert require(root, *ALL) == (0, [])
    # It left nothing in the firewall.
    assert (root / "asked").read_text().splitlines()[-1].endswith(" -X CONTAINERD-CHECK")


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("proc/filesystems", "\text4\n", f"this kernel has no overlayfs (CONFIG_OVERLAY_FS): {FRAGMENT}"),
        (CONTROLLERS, "cpu\t1\t1\t1\n", f"this kernel has no memory cgroup (CONFIG_MEMCG): {FRAGMENT}"),
        (
            CONTROLLERS,
            V1.format(0),
            "the memory cgroup is turned off: boot without the bootcode cgroup_disable=memory",
        ),
        (SYMBOLS, "", f"this kernel has no virtual ethernet (CONFIG_VETH): {FRAGMENT}"),
        (
            "proc/sys/kernel/seccomp/actions_avail",
            None,
            f"this kernel has no seccomp (CONFIG_SECCOMP_FILTER): {FRAGMENT}",
        ),
        (
            "nat",
            None,
            "this kernel has no netfilter with NAT (CONFIG_NETFILTER_XT_TARGET_MASQUERADE): " + FRAGMENT,
        ),
    ],
)
def test_what_is_missing_is_one_line(root: Path, path: str, text: str | None, said: str) -> None:
    if text is None:
        (root / path).unlink()
    else:
        (root / path).write_text(text)
    assert require(root, *ALL) == (1, [f"test: {said}"])


def test_all_that_is_missing_is_told_at_once_and_can_be_done_without(root: Path) -> None:
    (root / "nat").unlink()
    (root / "sys/module/bridge").rmdir()
    status, said = require(root, *ALL)
    assert (status, len(said)) == (1, 2)
    settings = root / "usr/local/etc/containerd/settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('WITHOUT="bridge netfilter"\n')
    assert require(root, *ALL) == (0, [])


def test_cgroup_v2_tells_itself_what_it_has(root: Path) -> None:
    """Newer kernels leave such controllers out of /proc/cgroups."""
    (root / CONTROLLERS).write_text("cpu\t1\t1\t1\n")
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu io memory pids\n")
    assert require(root, "memory") == (0, [])
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu io pids\n")
    assert require(root, "memory")[0] == 1


def test_a_module_that_was_left_out_is_not_the_kernels_fault(root: Path) -> None:
    packed = subprocess.run(["gzip"], input=b"CONFIG_BRIDGE=m\n", capture_output=True, check=True).stdout
    (root / "proc/config.gz").write_bytes(packed)
    (root / "sys/module/bridge").rmdir()
    status, (said,) = require(root, "bridge")
    assert status == 1
    release = os.uname().release
    assert said == (
        "test: network bridge is a module that cannot be loaded: "
        f"load the extension original-modules-{release}"
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("overlay", ""),
        ("vfat", ""),
        ("ramfs", ", or boot with the bootcode noembed"),
        ("rootfs", ", or boot with the bootcode noembed"),
    ],
)
def test_a_store_where_no_layers_can_be_kept(root: Path, kind: str, more: str) -> None:
    """The last of the mounts nearest above the store counts, and nothing is left there."""
    store = root / "var/lib/containerd"
    line = "{} 1 0:1 / {} rw shared:1 - {} none rw\n"
    mounts = [(20, "/", "squashfs"), (21, root, "tmpfs"), (22, root, kind), (23, root / "var/lib2", "ext4")]
    (root / "proc/self/mountinfo").write_text("".join(line.format(*mount) for mount in mounts))
    # Such a file system refuses the mount, or a folder made anew.
    status, said = require(root, "overlayfs", str(store), more="mount() { false; }; umount() { false; }")
    where = f"{store} lies on {kind}, where overlayfs cannot keep layers: mount an ext4 disk there{more}"
    assert (status, said) == (1, [f"test: {where}"])
    assert not list(store.iterdir())
    # A mount that shows the lower folder, as on a disk.
    shows = 'mount() { mkdir merged/a; }; umount() { rm -rf "$@"; }'
    assert require(root, "overlayfs", str(store), more=shows) == (0, [])
    assert not list(store.iterdir())


def test_a_store_that_cannot_be_written(root: Path) -> None:
    (root / "var").write_text("a file\n")
    status, said = require(root, f"{root}/var/lib/containerd")
    where = f"{root}/var/lib/containerd cannot be written (Not a directory)"
    assert (status, said) == (1, [f"test: {where}: mount a disk there that has room"])


# --- ctr -----------------------------------------------------------------------------------------


def run_ctr(root: Path, *words: str, **variables: str) -> tuple[int, str]:
    text = (FILES / "usr/local/bin/ctr").read_text().replace("/usr/local/lib/", f"{root}/lib/")
    text = text.replace("/run/containerd/", f"{root}/")
    done = subprocess.run(
        [BUSYBOX, "ash", "-c", text, "ctr", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/bin:/bin", **variables},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_ctr_says_what_to_start(root: Path) -> None:
    program = root / "lib/containerd/ctr"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "asked for $*"\n')
    program.chmod(0o755)
    refused = (1, "ctr: containerd does not run: sudo /usr/local/etc/init.d/containerd start\n")
    assert run_ctr(root, "images", "ls") == refused
    for words in ((), ("--help",), ("run", "--help"), ("-a", "/other.sock", "images", "ls"), ("--version",)):
        assert run_ctr(root, *words) == (0, f"asked for {' '.join(words)}\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{root}/containerd.sock")
        listening.listen()
        assert run_ctr(root, "-n", "a b", "images", "ls") == (0, "asked for -n a b images ls\n")
        assert run_ctr(root, "images", "ls", CONTAINERD_ADDRESS=f"{root}/none.sock") == refused
    # What a containerd that was killed leaves behind.
    assert run_ctr(root, "images", "ls") == refused

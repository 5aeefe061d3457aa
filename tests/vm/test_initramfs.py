# SPDX-License-Identifier: MIT
"""The model of the unpacker against the kernel itself: random archives, every name compared.

The guest lists what it found; tasks/formats/initramfs_unpacker.py must have said exactly that, the
lost members and the silent changes of owner and mode included.
"""

from __future__ import annotations

import hashlib
import random
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, device, directory, regular, symlink
from tasks.vm.guest import Guest
from tasks.vm.machine import Machine
from tests.support.built import built

CASES = 250
METHODS = ["gzip", "xz", "zstd", "plain", "gzip"]
INIT = b"""\
#!/bin/busybox sh
B=/bin/busybox
$B mkdir /proc
$B mount -t proc proc /proc
echo 0 >/proc/sys/kernel/printk
echo LISTING-BEGINS
$B find /t -exec $B stat -c '%n|%f|%u|%g|%h|%i|%t|%T' {} ';'
echo ==
$B find /t -type f -exec $B md5sum {} ';'
echo ==
$B find /t -type l -exec $B sh -c 'echo "$0|$(/bin/busybox readlink "$0")"' {} ';'
echo LISTING-ENDS
$B poweroff -f
"""
NAMES = ["a", "b", "c", "a/x", "b/y", "a/x/z", "b/\udcff q", "l/w", "l", "e"]
KINDS = [stat.S_IFREG] * 9 + [stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK]
DEVICES = [stat.S_IFCHR, stat.S_IFBLK]
TARGETS = ["a", "b", "c", "nowhere", "a/..", "/t/{}/a"]


def random_member(rnd: random.Random, case: int, name: str) -> Member:
    """Make something that meets what earlier archives left.

    A kernel hangs when it links a file to a name that has become a device, since
    opening that asks for a module and so waits for the initramfs.  Hence devices in
    cases of odd number, hard-linked files in the others.
    """
    kind = rnd.choice(KINDS + DEVICES * 3 if case % 2 else KINDS)
    uid, gid = rnd.choice([(0, 0), (5, 7), (1000, 50), (3000000, 4000000000)])
    mode = rnd.choice([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600, 0])
    member = Member(f"t/{case}/{name}", kind | mode, uid, gid)
    if kind == stat.S_IFLNK:
        return replace(member, data=rnd.choice(TARGETS).format(case).encode())
    if kind == stat.S_IFREG:
        member = replace(member, data=rnd.choice([b"", b"one", b"other" * 50, rnd.randbytes(8)]))
    if kind in DEVICES:
        member = replace(member, rdevmajor=rnd.choice([1, 300]), rdevminor=rnd.choice([3, 70000]))
    if kind != (stat.S_IFREG if case % 2 else stat.S_IFDIR) and rnd.random() < 0.8:
        member = replace(member, nlink=2, ino=case * 2 + rnd.randrange(2))
    return member


def random_archive(rnd: random.Random) -> bytes:
    """Return an archive in no order, with missing folders: what `cpio.write` would not make."""
    out = bytearray()
    for case in range(CASES):
        for name in rnd.sample(NAMES, rnd.randrange(1, 6)):
            cpio._append_member(out, random_member(rnd, case, name))
    cpio._append_member(out, Member(cpio.TRAILER, 0))
    return bytes(out)


def first_archive() -> bytes:
    cases = [f"t/{case}" for case in range(CASES)]
    members = [
        *(directory("bin"), directory("dev"), device("dev/console", "c", 5, 1), directory("t")),
        regular("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755),
        *(regular("init", INIT, 0o755), *map(directory, cases)),
        *(directory(f"{case}/a", 0o1777, 3) for case in cases),
        *(directory(f"{case}/b") for case in cases[::2]),
        *(symlink(f"{case}/l", "a") for case in cases),
    ]
    return cpio.write(members, mtime=0)


@dataclass(frozen=True)
class Seen:
    """What is compared of one name."""

    mode: int
    uid: int
    gid: int
    nlink: int
    device: tuple[int, int]
    content: str


def listed(log: bytes) -> tuple[dict[str, Seen], dict[str, int]]:
    """Read the guest's listing: what each name is, and its inode number."""
    text = log.replace(b"\r", b"").decode("utf-8", "surrogateescape")
    listing = text.split("LISTING-BEGINS\n")[1].split("LISTING-ENDS")[0]
    stats, sums, links = listing.split("==\n")
    content = {name: digest for digest, name in (line.split("  ", 1) for line in sums.splitlines())}
    content |= dict(line.split("|", 1) for line in links.splitlines())
    seen, inodes = {}, {}
    for line in stats.splitlines():
        name, mode, uid, gid, nlink, ino, major, minor = line.split("|")
        rdev = (int(major, 16), int(minor, 16))
        links_of = 2 if stat.S_ISDIR(int(mode, 16)) else int(nlink)
        seen[name[1:]] = Seen(int(mode, 16), int(uid), int(gid), links_of, rdev, content.get(name, ""))
        inodes[name[1:]] = int(ino)
    return seen, inodes


def modelled(members: dict[str, Member]) -> dict[str, Seen]:
    def content(member: Member) -> str:
        if member.kind == stat.S_IFREG:
            return hashlib.md5(member.data).hexdigest()
        return cpio.decode(member.data)

    return {
        name: Seen(m.mode, m.uid, m.gid, m.nlink, (m.rdevmajor, m.rdevminor), content(m))
        for name, m in members.items()
        if name == "t" or name.startswith("t/")
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_the_kernel_and_the_model_agree(tmp_path: Path, seed: int) -> None:
    rnd = random.Random(seed)
    archives = [first_archive(), *(random_archive(rnd) for _ in METHODS[1:])]
    pieces = []
    for data, method in zip(archives, METHODS, strict=True):
        piece = compression.compress(data, method)
        pieces.append(piece + bytes(-len(piece) % 4 + 4 * rnd.randrange(200)))
    initrd = tmp_path / "core.gz"
    initrd.write_bytes(b"".join(pieces))
    root = initramfs_file.unpacked(initramfs_file.read_core(initrd))
    expected = root.members()
    kernel = built().paths.kernel / "vmlinuz64"
    machine = Machine("direct", kernel=kernel, initrd=initrd, append="console=ttyS0 panic=-1 quiet")
    log = tmp_path / "console.log"
    with Guest(machine, log, limit=300) as guest:
        guest.expect("LISTING-ENDS", 300)
    seen, inodes = listed(log.read_bytes())
    assert seen == modelled(expected)
    groups: dict[int, set[int]] = {}
    for name, ino in inodes.items():
        groups.setdefault(expected[name].ino, set()).add(ino)
    assert all(len(group) == 1 for group in groups.values())
    # The comparison is worth something only if much was lost, changed and linked.
    assert len(seen) > 5 * CASES
    assert len(root.lost) > CASES
    assert sum(member.nlink > 2 for member in expected.values()) > 10

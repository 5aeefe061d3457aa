# SPDX-License-Identifier: MIT
"""Move data between this machine and a guest: `python -m tests.bench.share WAY KERNEL CORE BOOTCODES`.

WAY: virtiofs or 9p for a shared folder, or disk for the same data on a disk (virtio-blk, ext4), which a
guest alone can read.  It prints the seconds, by the guest's clock, of reading and writing 1 GB, and of
writing, reading and removing 10,000 small files; further words give other numbers (MiB, files).
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.util.errors import UserError, report_errors
from tasks.vm import share
from tasks.vm.agent import Agent
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine, Share

PLACE = "/mnt/bench"
LIMIT = 3600.0
MIB, FILES = 1024, 10_000
WAYS = ("virtiofs", "9p", "disk")
PROGRAM = """#!/bin/sh
cd {place} || exit 1
timed() {{
	name=$1; shift
	read -r start rest < /proc/uptime
	"$@" > /dev/null 2>&1 || exit 1
	read -r end rest < /proc/uptime
	echo "$name $start $end"
}}
reading() {{ dd if=big of=/dev/null bs=1M; }}
writing() {{ dd if=/dev/zero of=new bs=1M count={mib} && sync; }}
making() {{
	mkdir many; i=0
	while [ $i -lt {files} ]; do echo $i > many/$i || return 1; i=$((i + 1)); done
	sync
}}
asking() {{ [ $(find many -type f -exec cat {{}} + | wc -l) = {files} ]; }}
removing() {{ rm -r many; }}
timed "read {mib} MiB" reading
timed "write {mib} MiB" writing
timed "write {files} files" making
timed "read {files} files" asking
timed "remove {files} files" removing
"""


def main(way: str, kernel: str, core: str, bootcodes: str, mib: int = MIB, files: int = FILES) -> None:
    """Boot a guest with the data, and print the seconds.  Raises `UserError` if the guest fails."""
    with tempfile.TemporaryDirectory(prefix="tcbuild-share-") as name:
        folder = Path(name, "data")
        folder.mkdir()
        with (folder / "big").open("wb") as stream:
            for _ in range(mib):
                stream.write(bytes(1 << 20))
        shares: tuple[Share, ...] = ()
        disks: tuple[Disk, ...] = ()
        if way == "disk":
            disk = Path(name, "disk.img")
            size = f"{2 * mib + files // 100 + 256}M"
            subprocess.run(["mkfs.ext4", "-q", "-d", folder, disk, size], check=True)
            disks = (Disk(disk),)
        else:
            shares = (Share(folder, PLACE, transport="virtiofs" if way == "virtiofs" else "9p"),)
        machine = Machine(
            "direct",
            kernel=Path(kernel),
            initrd=Path(core),
            append=bootcodes,
            memory=1024,
            agent=True,
            disks=disks,
            shares=shares,
        )
        with Guest(machine, Path(name, "log"), limit=2 * LIMIT) as guest, Agent(guest) as agent:
            if not agent.wait(LIMIT):
                raise UserError("the guest's agent does not answer")
            if shares:
                share.mount(agent, shares)
            mount = "" if shares else f"mkdir -p {PLACE} && mount -t ext4 /dev/vda {PLACE} || exit 1"
            text = PROGRAM.format(place=PLACE, mib=mib, files=files).replace("\n", f"\n{mount}\n", 1)
            output, errors = io.BytesIO(), io.BytesIO()
            status = agent.run(text.encode(), "root", output.write, errors.write, seconds=LIMIT)
            if status:
                raise UserError(f"the guest failed: {errors.getvalue().decode(errors='replace')}")
        if shares and (folder / "new").stat().st_size != mib << 20:
            raise UserError("what the guest wrote is not here")
        for line in output.getvalue().decode().splitlines():
            name, start, end = line.rsplit(" ", 2)
            print(f"{way}: {name}: {float(end) - float(start):.2f} s")


if __name__ == "__main__":
    with report_errors():
        way, kernel, core, bootcodes, *numbers = sys.argv[1:]
        main(way, kernel, core, bootcodes, *map(int, numbers))

# SPDX-License-Identifier: MIT
"""Edit, build, run in a guest of profile ide: `python -m tests.bench.loop artifacts/ide [RUNS]`.

The application is that of docs/ide.md.  It prints the seconds of each step, by this machine's clock: with
BuildKit, whose daemon is up, and with buildah (ctr-build).  Stores lie in the guest's memory.
`./doit iso profile=ide` makes the image.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tasks.util.errors import report_errors
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine

LIMIT = 3600.0
CODES = "cde noembed nodhcp loglevel=3 console=ttyS0,115200"
APPLICATION = """\
mkdir -p app/bin app/lib64 app/lib/x86_64-linux-gnu
cp /bin/busybox app/bin/; ln -s busybox app/bin/sh; cp /lib64/ld-linux-x86-64.so.2 app/lib64/
cp /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libresolv.so.2 app/lib/x86_64-linux-gnu/
printf 'FROM scratch\\nCOPY bin /bin\\nCOPY lib /lib\\nCOPY lib64 /lib64\\n' > app/Dockerfile
printf 'COPY hello /hello\\nCMD ["/bin/sh", "/hello"]\\n' >> app/Dockerfile; echo 'echo 0' > app/hello
until sudo buildctl debug workers > /dev/null 2>&1; do sleep 1; done
"""
BUILDKIT = (
    "sudo buildctl build --frontend dockerfile.v0 --local context=app --local dockerfile=app"
    " --output type=image,name=localhost/app:1,compression=uncompressed,unpack=true"
)
WAYS = {
    "BuildKit": (BUILDKIT, "sudo ctr --namespace openfaas-fn run --rm localhost/app:1 try"),
    "buildah": ("sudo ctr-build -t localhost/app:1 app", "sudo ctr run --rm localhost/app:1 try"),
}


def main(folder: str, runs: int = 5) -> None:
    """Boot the image, go round `runs` times each way, and print the medians.  Raises `GuestError`."""
    there = Path(folder)
    machine = Machine(
        "direct",
        kernel=there / "kernel/vmlinuz64",
        initrd=there / "corepure64.gz",
        append=CODES,
        memory=3072,
        cpus=2,
        disks=(Disk(there / f"tcbuild-{there.name}.iso", "cdrom"),),
    )
    with (
        tempfile.TemporaryDirectory(prefix="tcbuild-loop-") as scratch,
        Guest(machine, Path(scratch, "console.log"), limit=LIMIT) as guest,
    ):
        guest.login(LIMIT)
        for line in APPLICATION.splitlines():
            guest.run(line, 600)
        for name, (build, run) in WAYS.items():
            built, ran = [], []
            for number in range(1, runs + 2):
                guest.run(f"echo 'echo run {number}' > app/hello")
                built.append(seconds(guest, build))
                ran.append(seconds(guest, run, f"run {number}"))
            # The first one reads the programs from the disc.
            say(name, "build", built)
            say(name, "run", ran)
            say(name, "both", [sum(pair) for pair in zip(built, ran, strict=True)])


def seconds(guest: Guest, command: str, said: str = "") -> float:
    """Return how long a command takes, whose output is to hold `said`."""
    before = time.monotonic()
    output = guest.run(f"{command} 2>&1", 900)
    assert said in output, output
    return time.monotonic() - before


def say(name: str, part: str, values: list[float]) -> None:
    """Print the first value, and the median and the range of the others."""
    first, *later = values
    spread = f"{min(later):.1f} to {max(later):.1f}"
    print(f"{name}: {part}: {statistics.median(later):.1f} s ({spread}), the first {first:.1f} s")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1], *map(int, sys.argv[2:]))

# SPDX-License-Identifier: MIT
"""The power goes while the guest writes to its ext3 disk: all it had committed is there afterwards."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

from tasks.vm.guest import Guest
from tests.vm.contract import LIMIT, booted, machine, make_disk, own_root

# Every file is on the disk, by `sync`, before the console hears of it.
WRITER = (
    "n=0; while n=$((n + 1)); do head -c 65536 /dev/urandom > /mnt/vda/f$n; "
    "(cd /mnt/vda && sha256sum f$n > f$n.sum); sync; echo committed $n > /dev/ttyS0; done"
)
# `one` and `two` are of one backup if they are equal; `big` makes it last.
BACKUPS = (
    "n=0; while n=$((n + 1)); do echo $n > /home/tc/one; head -c 3000000 /dev/urandom > /home/tc/big; "
    "echo $n > /home/tc/two; filetool.sh -b >/dev/null && echo backed up $n > /dev/ttyS0; done"
)


def last(words: str, console: str) -> int:
    return max((int(number) for number in re.findall(rf"{words} (\d+)\n", console)), default=0)


def test_a_power_cut_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    image = own_root()
    rng = random.Random()
    (tmp_path / "content/tce/optional").mkdir(parents=True)
    disk = make_disk(tmp_path / "disk.img", tmp_path / "content", "TCE")
    with Guest(machine(image, "nodhcp", disk), tmp_path / "first.log", limit=LIMIT) as guest:
        guest.login()
        guest.run("sudo chown tc /mnt/vda && readlink /etc/sysconfig/tcedir | grep -q ^/mnt/vda")
        guest.send(f"sh -c '{WRITER}' & sh -c '{BACKUPS}' &")
        guest.expect("committed 3")
        guest.expect("backed up 1")
        wait = rng.uniform(0, 4)
        print(f"the power goes after {wait:.2f} s")
        time.sleep(wait)
        guest.cut_power()
        written, backed_up = last("committed", guest.console), last("backed up", guest.console)
    with booted(image, tmp_path / "second.log", "nodhcp", disk) as guest:
        checks = " ".join(f"f{number}.sum" for number in range(1, written + 1))
        guest.run(f"cd /mnt/vda && cat {checks} | sha256sum -c -s")
        restored = guest.run("cat /home/tc/one /home/tc/two").split()
        assert restored[0] == restored[1], "a backup is of one time, whole"
        assert int(restored[0]) >= backed_up
        guest.run("[ $(wc -c < /home/tc/big) = 3000000 ]")
        guest.run("touch /mnt/vda/after && ! dmesg | grep -i 'EXT[34]-fs error'")

# SPDX-License-Identifier: MIT
"""The ISO as a file on a disk: GRUB's loopback starts it, and bootcode iso= finds its extensions."""

from __future__ import annotations

import time
from pathlib import Path

from tasks.vm.guest import Guest
from tasks.vm.machine import Machine
from tests.support import manyextensions
from tests.vm.contract import PLACE, make_grub, make_stick, own_root

LIMIT = 900.0
COUNT = 20  # `./doit bench` boots with more


def test_an_iso_boots_as_a_file(tmp_path: Path) -> None:
    """No bootcode is typed; all extensions are there, and a wrong word says what is wrong."""
    image = own_root()
    names = manyextensions.add(image.paths.iso, tmp_path / "many.iso", COUNT)
    stick, cd = make_stick(tmp_path, tmp_path / "many.iso"), make_grub(tmp_path)
    with Guest(Machine("bios", disks=(cd, stick)), tmp_path / "log", limit=LIMIT) as guest:
        guest.login(timeout=LIMIT)
        assert guest.run("cat /etc/sysconfig/cde") == "/mnt/cdrom/cde/optional\n"
        assert f"/{PLACE}" in guest.run("showbootcodes")
        assert guest.run("ls /usr/local/tce.installed | grep small").split() == names
        assert guest.run("cat /usr/local/share/small/*").split() == names
        assert guest.run("grep -c ' /tmp/tcloop/small' /proc/mounts") == f"{len(names)}\n"
        assert "Not all extensions" not in guest.console
        guest.run(f"sudo fromISOfile vda1/{PLACE}")
        assert guest.run("grep -c ' /mnt/cdrom ' /proc/mounts") == "1\n", "it is mounted once"
        guest.run(f"sudo cp /mnt/vda1/{PLACE} /mnt/vda1/isos/other.iso")
        seconds = {}
        for word, problem in {
            "vda1/isos/other.iso": f"/mnt/vda1/{PLACE} is on /mnt/cdrom already",
            f"vda1/{PLACE}x.iso": f"there is no {PLACE}x.iso on /dev/vda1",
            "nowhere": "there is no such device or file",
            "sr0": "there is no .iso on /dev/sr0",
        }.items():
            started = time.monotonic()
            said = guest.run(f"sudo fromISOfile {word} 2>&1", check=False)
            seconds[word] = time.monotonic() - started
            assert said.splitlines()[-2:] == [f"iso={word}: {problem}", "1"]
        assert seconds["sr0"] < seconds["nowhere"] / 2, "only a device may still appear"
        guest.power_off()

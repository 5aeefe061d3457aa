# SPDX-License-Identifier: MIT
"""The root of the `apt` profile keeps Tiny Core's contract: users, bootcodes, tools, persistence.

Every check is a command in a booted guest.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.vm.guest import Guest
from tests.vm.contract import LIMIT, base_and_top, booted, machine, make_disk, make_tcz, own_root

PIVOT = "unshare -m sh -c 'mkdir /p; mount -t tmpfs p /p; cd /p; mkdir o; pivot_root . o' 2>&1"


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


def test_users_tools_and_paths(image: Settings, tmp_path: Path) -> None:
    """Without disk: what every Tiny Core program finds in a fresh root."""
    with booted(image, tmp_path / "log", "nodhcp") as guest:
        assert guest.run("id").startswith("uid=1001(tc) gid=50(staff)")
        assert guest.run("sudo id -u") == "0\n"
        assert guest.run("sudo -u nobody id -un") == "nobody\n"
        assert guest.run("sudo su tc -c 'id -un'") == "tc\n"
        assert guest.run("pwd; hostname; echo $PATH").splitlines()[:2] == ["/home/tc", "box"]
        assert guest.run("readlink /etc/sysconfig/tcedir; cat /etc/sysconfig/tcuser") == "/tmp/tce\ntc\n"
        assert guest.run("stat -c '%a %U:%G' / /tmp /usr/local/tce.installed /etc/sysconfig /opt") == (
            "755 root:root\n1777 root:root\n775 tc:staff\n775 root:staff\n2775 root:staff\n"
        )
        # BusyBox's set-uid copy must give root up in all but the programs listed for it.
        assert guest.run("busybox.suid id -u; busybox.suid sh -c 'id -u'") == "1001\n1001\n"
        assert guest.run("cat /etc/shadow", check=False).endswith("1")
        assert guest.run("su -c id root </dev/null", check=False).splitlines()[-1] != "0"
        assert guest.run("version -m; getBuild=$(. /etc/init.d/tc-functions; getBuild); echo $getBuild") == (
            "11\nx86_64\n"
        )
        assert guest.run("showbootcodes").startswith("loglevel=3")
        assert guest.run(". /etc/init.d/tc-functions; getbootparam console") == "ttyS0,115200\n"
        assert guest.run("sudo adduser -D bob && id bob").startswith("uid=1000(bob)")
        assert guest.run("echo bob:12345678 | sudo chpasswd && sudo grep -c '^bob:[$]6' /etc/shadow") == "1\n"
        guest.run("ping -c 1 127.0.0.1")
        guest.run("sh -c 'sleep 77 & pgrep -x sleep && pkill sleep'")
        assert guest.run("tce-load", check=False).endswith("2")
        assert guest.run("tce-load -i nothing", check=False) == "nothing.tcz not found!\n1"
        assert guest.run("sudo tce-load -i nothing 2>&1", check=False) == "Don't run this as root.\n1"
        assert "No mirror is set" in guest.run("tce-load -w nothing 2>&1", check=False)
        assert guest.run("ls /lib64 /lib/modules/$(uname -r)/kernel.tclocal 2>&1").startswith("/lib")
        # The reason for bootcode noembed: runc does this, and fails on the initramfs.
        assert "Invalid argument" in guest.run(f"sudo {PIVOT}", check=False)


def test_tce_folder_on_a_disk(image: Settings, tmp_path: Path) -> None:
    """onboot.lst, start scripts, copy2fs.lst; then backup, and restore by the next boot."""
    content = tmp_path / "content"
    tce = content / "tce"
    base_and_top(tce / "optional")
    make_tcz(tce / "optional", "plain", {"usr/local/share/plain": "bytes\n"})
    make_tcz(tce / "optional", "later", {"usr/local/share/later": ""})
    (tce / "onboot.lst").write_text("top.tcz\nplain.tcz\nabsent.tcz\n")
    (tce / "copy2fs.lst").write_text("plain.tcz\n")
    (tce / "other.lst").write_text("later.tcz\n")
    disk = make_disk(tmp_path / "disk.img", content, "TCDISK")
    with booted(image, tmp_path / "log1", "nodhcp", disk) as guest:
        assert "absent.tcz not found!" in guest.console
        assert guest.run("readlink /etc/sysconfig/tcedir") == "/mnt/vda/tce\n"
        assert guest.run("cat /tmp/started") == "base root\ntop root\n"
        assert guest.run("ls -1 /usr/local/tce.installed") == "base\nplain\ntop\n"
        guest.run("[ ! -L /usr/local/share/plain ] && [ -L /usr/local/share/base ]")
        assert guest.run("tce-status -u") == "later.tcz\n"
        assert guest.run("stat -c %U:%G /mnt/vda/tce /mnt/vda/tce/onboot.lst") == "tc:staff\ntc:staff\n"
        guest.run("ls -d /mnt/vda/tce/ondemand && ondemand later.tcz && [ -x /mnt/vda/tce/ondemand/later ]")
        guest.run("echo mine > ~/note && echo 'echo local >> /tmp/local' >> /opt/bootlocal.sh")
        guest.run("mkdir -p ~/.cache && echo big > ~/.cache/big && chmod 600 ~/note")
        assert "Done." in guest.run("filetool.sh -b")
        assert guest.run("tar -tzf /mnt/vda/tce/mydata.tgz | grep -c cache/big", check=False).startswith("0")
        guest.run("echo nowhere >> /opt/.filetool.lst")
        assert "does not exist" in guest.run("filetool.sh -b 2>&1", check=False)
    with booted(image, tmp_path / "log2", "nodhcp tce=LABEL=TCDISK lst=other.lst", disk) as guest:
        assert guest.run("cat ~/note; stat -c '%a %U' ~/note; cat /tmp/local") == "mine\n600 tc\nlocal\n"
        assert guest.run("ls -1 /usr/local/tce.installed") == "later\n"
        assert guest.run("cat /etc/sysconfig/backup_device") == "vda/tce\n"
        assert guest.run("filetool.sh -r vdz1 2>&1", check=False).endswith("1")
    subprocess.run(["e2fsck", "-fn", disk.path], check=True, capture_output=True)


def test_base_norestore_and_recorded_choices(image: Settings, tmp_path: Path) -> None:
    content = tmp_path / "content"
    base_and_top(content / "tce/optional")
    (content / "tce/onboot.lst").write_text("top.tcz\n")
    disk = make_disk(tmp_path / "disk.img", content)
    codes = (
        "noembed base norestore text nodhcp superuser host=lab tz=UTC-3 lang=de desktop=flwm "
        "user=ann mydata=other blacklist=veth,dummy multivt tftplist=x"
    )
    with booted(image, tmp_path / "log", codes, disk) as guest:
        assert "Bootcode tftplist=x is not supported" in guest.console
        assert guest.run("id -u; hostname; cat /etc/sysconfig/tcuser") == "0\nlab\nann\n"
        assert guest.run("ls -1 /usr/local/tce.installed; readlink /etc/sysconfig/tcedir") == "/tmp/tce\n"
        assert guest.run("awk '$2 == \"/\" { print $3 }' /proc/mounts | tail -n 1") == "tmpfs\n"
        assert guest.run(PIVOT) == ""
        guest.run("[ -f /etc/sysconfig/text ] && [ -f /etc/sysconfig/superuser ]")
        assert guest.run("cd /etc/sysconfig; cat timezone language desktop mydata") == (
            "TZ=UTC-3\nLANG=de\nflwm\nother\n"
        )
        assert guest.run("stat -c %U /home/ann; sudo -u ann sudo -n id -u") == "ann\n0\n"
        guest.run("modprobe -b veth; ! grep -q '^veth' /proc/modules")
        assert guest.run("stat -c %a /usr/bin/sudo /tmp; pidof getty >/dev/null; ls /dev/tty6") == (
            "4755\n1777\n/dev/tty6\n"
        )
        assert guest.run("ps | grep -c '[l]ogin -f root'").strip() == "7"  # tty1 to tty6, ttyS0


def test_home_and_opt_on_a_disk(image: Settings, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", tmp_path / "content")
    codes = "nodhcp home=vda opt=vda"
    with booted(image, tmp_path / "log1", codes, disk) as guest:
        guest.run("echo here > ~/kept && echo 'touch /tmp/own-opt' >> /opt/bootlocal.sh")
    with booted(image, tmp_path / "log2", codes, disk) as guest:
        assert guest.run("cat ~/kept; stat -c %U:%G ~/kept; ls /tmp/own-opt") == (
            "here\ntc:staff\n/tmp/own-opt\n"
        )
        assert guest.run("stat -c '%a %U:%G' /opt /opt/bootlocal.sh") == "2775 root:staff\n775 root:staff\n"


def test_passwords_and_login_prompt(image: Settings, tmp_path: Path) -> None:
    """secure asks for two passwords on the console, noautologin for one of them."""
    asking = machine(image, "nodhcp secure noautologin")
    with Guest(asking, tmp_path / "log", limit=LIMIT) as guest:
        for who in ("root", "tc"):
            guest.expect(f"characters for {who}:", 180)
            guest.send(f"{who}-secret")
            guest.expect("same again", 30)
            guest.send(f"{who}-secret")
        guest.expect("login: ", 60)
        guest.send("tc")
        guest.expect("Password: ", 30)
        guest.send("wrong")
        guest.expect("Login incorrect", 60)
        guest.expect("login: ", 60)
        guest.send("tc")
        guest.expect("Password: ", 30)
        guest.send("tc-secret")
        guest.login()
        assert guest.run("id -un") == "tc\n"
        guest.power_off()

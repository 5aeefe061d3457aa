"""The root of the `apt` profile keeps Tiny Core's contract: bootcodes, tce folders, tools.

Every check is a command in a booted guest.  The extensions are made here with
mksquashfs, the disks with mkfs.ext3, the disc with xorriso.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.guest import Guest
from tasks.machine import Disk, Machine
from tasks.profile import Settings
from tests.built import built

CONSOLE = "loglevel=3 console=tty0 console=ttyS0,115200"
LIMIT = 300.0
SCRIPT = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def image() -> Settings:
    settings = built()
    if not settings.profile.core.rootfs:
        pytest.skip("this profile boots Tiny Core's own root")
    return settings


@contextmanager
def booted(
    image: Settings, log: Path, bootcodes: str = "", *disks: Disk, network: bool = False
) -> Iterator[Guest]:
    """A guest at its first prompt, powered off by `sudo poweroff` at the end."""
    machine = Machine(
        "direct",
        disks=disks,
        kernel=image.kernel / "vmlinuz64",
        initrd=image.core,
        append=f"{CONSOLE} {bootcodes}",
        network=network,
    )
    with Guest(machine, log, limit=LIMIT) as guest:
        guest.login()
        yield guest
        guest.power_off()


def make_tcz(folder: Path, name: str, files: Mapping[str, str], deps: str = "", **options: int) -> Path:
    """Make NAME.tcz (and .dep, .md5.txt) in `folder`; scripts (`#!`) become executable."""
    root = folder.parent / f".{name}"
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
        (root / path).chmod(0o755 if content.startswith("#!") else 0o644)
    folder.mkdir(parents=True, exist_ok=True)
    tcz = folder / f"{name}.tcz"
    command = ["mksquashfs", root, tcz, "-b", "4096", "-no-xattrs", "-all-root", "-noappend", "-quiet"]
    subprocess.run([*command, "-no-progress"], check=True, capture_output=True)
    if deps:
        Path(f"{tcz}.dep").write_text(deps)
    digest = hashlib.md5(tcz.read_bytes()).hexdigest()
    Path(f"{tcz}.md5.txt").write_text(f"{digest}  {name}.tcz\n")
    return tcz


def make_disk(image: Path, content: Path, label: str = "") -> Disk:
    """Make an ext3 disk of 64 MiB that holds `content`."""
    labelled = ["-L", label] if label else []
    command = ["mkfs.ext3", "-q", "-F", *labelled, "-d", content, image, "64M"]
    subprocess.run(command, check=True, capture_output=True)
    return Disk(image)


def base_and_top(optional: Path) -> None:
    """Two extensions: `top` depends on `base`, both start by a script that says so."""
    installed = "usr/local/tce.installed"
    say = SCRIPT + 'echo "%s $(id -un) $(cat /usr/local/share/base)" >> /tmp/started\n'
    make_tcz(
        optional,
        "base",
        {"usr/local/share/base": "from base\n", f"{installed}/base": say % "base"},
    )
    make_tcz(
        optional,
        "top",
        {
            "usr/local/bin/top-tool": SCRIPT + "cat /usr/local/share/base\n",
            "etc/motd": "not to be taken\n",
            f"{installed}/top": say % "top",
        },
        deps="base.tcz\n",
    )


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
        assert guest.run("echo bob:12345678 | sudo chpasswd && sudo grep -c '^bob:[$]y' /etc/shadow") == "1\n"
        guest.run("sh -c 'sleep 77 & pgrep -x sleep && pkill sleep'")
        assert guest.run("tce-load", check=False).endswith("2")
        assert guest.run("tce-load -i nothing", check=False) == "nothing.tcz not found!\n1"
        assert guest.run("sudo tce-load -i nothing 2>&1", check=False) == "Don't run this as root.\n1"
        assert "No mirror is set" in guest.run("tce-load -w nothing 2>&1", check=False)
        assert guest.run("ls /lib64 /lib/modules/$(uname -r)/kernel.tclocal 2>&1").startswith("/lib")


def test_tce_load_by_hand(image: Settings, tmp_path: Path) -> None:
    """Dependencies, cycles, -KERNEL, copying, replacing, empty extensions, modules."""
    release = (image.kernel / "release").read_text().strip()
    content = tmp_path / "content"
    extensions = content / "x"
    base_and_top(extensions)
    make_tcz(extensions, "circle-a", {"usr/local/share/a": ""}, deps="circle-b.tcz\n")
    make_tcz(extensions, "circle-b", {"usr/local/share/b": ""}, deps="circle-a.tcz\n")
    make_tcz(extensions, f"mods-{release}", {f"usr/local/lib/modules/{release}/kernel/note": "x"})
    make_tcz(extensions, "needs-mods", {"usr/local/share/m": ""}, deps="mods-KERNEL.tcz\r\n")
    make_tcz(extensions, "broken", {"usr/local/share/c": ""}, deps="top.tcz\nabsent.tcz\n")
    make_tcz(extensions, "only-name", {"empty": ""})
    make_tcz(extensions, "copied", {"usr/local/share/copied": "bytes\n"})
    make_tcz(extensions, "forced", {"etc/motd": "taken\n"})
    (extensions / "damaged.tcz").write_bytes(b"no squashfs")
    disk = make_disk(tmp_path / "disk.img", content)
    with booted(image, tmp_path / "log", "nodhcp", disk) as guest:
        guest.run("mount /mnt/vda && cd /mnt/vda/x")  # a user may: /etc/fstab says so
        assert guest.run("tce-load -i broken", check=False) == "absent.tcz not found!\n1"
        assert guest.run("ls -1 /usr/local/tce.installed") == ""
        assert guest.run("tce-load -i top.tcz") == "base.tcz: OK\ntop.tcz: OK\n"
        assert guest.run("top-tool; cat /tmp/started") == (
            "from base\nbase root from base\ntop root from base\n"
        )
        assert guest.run("cat /etc/motd") != "not to be taken\n"
        assert guest.run("readlink /usr/local/bin/top-tool") == "/tmp/tcloop/top/usr/local/bin/top-tool\n"
        assert guest.run("tce-load -i top") == "top is already installed!\n"
        answer = guest.run("tce-load -i circle-a")
        assert "Warning loop dependency: circle-a.tcz" in answer
        assert answer.endswith("circle-b.tcz: OK\ncircle-a.tcz: OK\n")
        assert guest.run("tce-load -i needs-mods") == f"mods-{release}.tcz: OK\nneeds-mods.tcz: OK\n"
        guest.run("[ -e /lib/modules/$(uname -r)/kernel.tclocal/note ]")
        assert guest.run("tce-load -is only-name; ls /tmp/tcloop/only-name 2>&1", check=False).endswith("1")
        guest.run("[ -e /usr/local/tce.installed/only-name ] && ! grep -q only-name /proc/mounts")
        assert guest.run("tce-load -ic copied && cat /usr/local/share/copied") == "copied.tcz: OK\nbytes\n"
        guest.run("[ ! -L /usr/local/share/copied ] && ! grep -q copied /proc/mounts")
        assert guest.run("tce-load -if forced && cat /etc/motd") == "forced.tcz: OK\ntaken\n"
        answer = guest.run("tce-load -i damaged 2>&1", check=False)
        assert "cannot be mounted" in answer
        assert answer.endswith("damaged.tcz: failed\n1")
        assert "copied" in guest.run("tce-status -i")
        guest.run("[ ! -s /etc/sysconfig/tcedir/onboot.lst ]")


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
        assert guest.run("cat /tmp/started") == "base root from base\ntop root from base\n"
        assert guest.run("ls -1 /usr/local/tce.installed") == "base\nplain\ntop\n"
        guest.run("[ ! -L /usr/local/share/plain ] && [ -L /usr/local/share/base ]")
        assert guest.run("tce-status -u") == "later.tcz\n"
        assert guest.run("stat -c %U:%G /mnt/vda/tce /mnt/vda/tce/onboot.lst") == "tc:staff\ntc:staff\n"
        guest.run("ls -d /mnt/vda/tce/ondemand && ondemand later.tcz && [ -x /mnt/vda/tce/ondemand/later ]")
        guest.run("echo mine > ~/note && echo 'echo local >> /tmp/local' >> /opt/bootlocal.sh")
        guest.run("mkdir -p ~/.cache && echo big > ~/.cache/big && chmod 600 ~/note")
        assert "Done." in guest.run("filetool.sh -b")
        assert guest.run("tar -tzf /mnt/vda/tce/mydata.tgz | grep -c cache/big", check=False).startswith("0")
        assert "does not exist" in guest.run("echo nowhere >> /opt/.filetool.lst; filetool.sh -b 2>&1", check=False)
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
        assert guest.run("unshare -m sh -c 'mkdir /p; mount -t tmpfs p /p; cd /p; mkdir o; pivot_root . o'") == ""
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


def test_without_noembed_pivot_root_fails(image: Settings, tmp_path: Path) -> None:
    """The reason for noembed; if this began to work, the bootcode would be needless."""
    with booted(image, tmp_path / "log", "nodhcp superuser") as guest:
        answer = guest.run(
            "unshare -m sh -c 'mkdir /p; mount -t tmpfs p /p; cd /p; mkdir o; pivot_root . o' 2>&1", check=False
        )
        assert "Invalid argument" in answer


def test_disc_and_builtin(image: Settings, tmp_path: Path) -> None:
    """cde from a CD, next to a tce folder on a disk; the disc on a stick is found too."""
    tree = tmp_path / "disc"
    base_and_top(tree / "cde/optional")
    (tree / "cde/onboot.lst").write_text("top.tcz\n")
    iso = tmp_path / "disc.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-o", iso, tree], check=True)
    content = tmp_path / "content"
    make_tcz(content / "tce/optional", "own", {"usr/local/share/own": ""})
    (content / "tce/onboot.lst").write_text("own.tcz\n")
    disk = make_disk(tmp_path / "disk.img", content)
    with booted(image, tmp_path / "log", "nodhcp cde", Disk(iso, "cdrom"), disk) as guest:
        assert guest.run("ls -1 /usr/local/tce.installed; cat /etc/sysconfig/cde") == (
            "base\nown\ntop\n/mnt/sr0/cde/optional\n"
        )
        assert guest.run("cat /etc/sysconfig/cdroms").split() == ["/dev/sr0"]
        assert guest.run("readlink /dev/cdrom; readlink /etc/sysconfig/tcedir") == "/dev/sr0\n/mnt/vda/tce\n"
        assert "Added by TC" in guest.run("grep /dev/sr0 /etc/fstab")
    with booted(image, tmp_path / "log2", "nodhcp cde", Disk(iso, "ahci", read_only=False)) as guest:
        assert guest.run("ls -1 /usr/local/tce.installed; cat /etc/sysconfig/cde") == (
            "base\ntop\n/mnt/sda/cde/optional\n"
        )


def test_home_and_opt_on_a_disk(image: Settings, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    disk = make_disk(tmp_path / "disk.img", content)
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
    machine = Machine(
        "direct",
        kernel=image.kernel / "vmlinuz64",
        initrd=image.core,
        append=f"{CONSOLE} nodhcp secure noautologin",
    )
    with Guest(machine, tmp_path / "log", limit=LIMIT) as guest:
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


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An http server on this machine; its address as the guest sees it, and its tcz folder."""
    folder = tmp_path / "mirror/11.x/x86_64/tcz"
    folder.mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://10.0.2.2:{server.server_port}/", folder
        server.shutdown()


def test_downloading_from_a_mirror(image: Settings, mirror: tuple[str, Path], tmp_path: Path) -> None:
    """DHCP, then tce-load -w: dependencies, md5, onboot.lst, and what may go wrong."""
    address, folder = mirror
    base_and_top(folder)
    make_tcz(folder, "wrong", {"usr/local/share/w": ""})
    (folder / "wrong.tcz.md5.txt").write_text("0" * 32 + "  wrong.tcz\n")
    content = tmp_path / "content"
    (content / "tce").mkdir(parents=True)
    disk = make_disk(tmp_path / "disk.img", content)
    with booted(image, tmp_path / "log", "", disk, network=True) as guest:
        guest.run("for n in $(seq 30); do ifconfig eth0 | grep -q 'inet addr:10.0.2.15' && break; sleep 1; done")
        assert "10.0.2.2" in guest.run("route -n; cat /etc/resolv.conf")
        guest.run(f"echo {address} > /opt/tcemirror")
        answer = guest.run("tce-load -wi top 2>&1")
        assert "Downloading: base.tcz" in answer
        assert answer.endswith("base.tcz: OK\ntop.tcz: OK\n")
        assert guest.run("ls -1 /mnt/vda/tce/optional; cat /mnt/vda/tce/onboot.lst") == (
            "base.tcz\nbase.tcz.md5.txt\ntop.tcz\ntop.tcz.dep\ntop.tcz.md5.txt\ntop.tcz\n"
        )
        assert "top is already downloaded." in guest.run("tce-load -w top 2>&1")
        answer = guest.run("tce-load -w wrong 2>&1", check=False)
        assert "Error on wrong.tcz" in answer
        assert "md5" in answer
        assert answer.endswith("1")
        assert "Error on nowhere.tcz" in guest.run("tce-load -w nowhere 2>&1", check=False)
        assert guest.run("ls /mnt/vda/tce/optional | grep -c -e wrong -e nowhere", check=False).endswith("1")
        guest.run("echo http://10.0.2.2:1/ > /opt/tcemirror; ! tce-load -wl wrong")

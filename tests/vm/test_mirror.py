# SPDX-License-Identifier: MIT
"""A guest that gets its extensions from what `./doit mirror` wrote, over a plain web server.

One boot with the network finds, downloads, loads and uses them, and meets all that can
go wrong; the next one, without network, loads what the first one put on its disk.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.config import mirror_layout
from tasks.config.settings import Settings
from tasks.vm.guest import Guest
from tests.vm.contract import booted, make_disk, make_tcz, own_root

CODES = "tce=LABEL=TCDISK"


class Server:
    """A web server with a mirror's tree that may be spoilt; `asked` are the paths it was asked for."""

    def __init__(self, settings: Settings, copy: Path) -> None:
        # Links, not copies; what a test changes is written anew.
        shutil.copytree(mirror_layout.mirror(settings.paths), copy, copy_function=os.link)
        self.folder = copy / mirror_layout.mirror_folder(settings.profile)
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                asked.append(Path(self.path).name)

        handler = functools.partial(Handler, directory=str(copy))
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """As the guest reaches it."""
        return f"http://10.0.2.2:{self.http.server_port}/"

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(content)

    def new_version(self, name: str, scratch: Path) -> None:
        """Replace an extension by one that has a file more and needs another extension, newly made."""
        scratch.mkdir()
        tree = scratch / "tree"
        subprocess.run(["unsquashfs", "-q", "-n", "-d", tree, self.folder / f"{name}.tcz"], check=True)
        (tree / "usr/local/share").mkdir(parents=True, exist_ok=True)
        (tree / "usr/local/share/new-version").touch()
        made = scratch / f"{name}.tcz"
        options = ("-b", "4096", "-no-xattrs", "-all-root", "-quiet", "-no-progress")
        subprocess.run(["mksquashfs", tree, made, *options], check=True)
        extra = make_tcz(scratch / "made", "extra", {"usr/local/share/extra": "needed\n"})
        md5s = (self.folder / "md5.db").read_text()
        for path in (made, extra):
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            self.write(path.name, path.read_bytes())
            self.write(f"{path.name}.md5.txt", f"{digest}  {path.name}\n".encode())
            md5s = "".join(line for line in md5s.splitlines(True) if not line.endswith(f"  {path.name}\n"))
            md5s += f"{digest}  {path.name}\n"
        self.write(f"{name}.tcz.dep", b"extra.tcz\n")
        deps = (self.folder / "dep.db").read_text() + f"{name}.tcz\nextra.tcz\n\n"
        for database, text in (("md5.db", md5s), ("dep.db", deps)):
            self.write(f"{database}.gz", gzip.compress(text.encode()))


@pytest.fixture(scope="module")
def image() -> Settings:
    settings = own_root()
    assert (mirror_layout.mirror(settings.paths) / "index.html").is_file(), "run these tests by ./doit test"
    return settings


@pytest.fixture
def server(image: Settings, tmp_path: Path) -> Iterator[Server]:
    started = Server(image, tmp_path / "mirror")
    yield started
    started.http.shutdown()
    started.http.server_close()


def test_a_guest_lives_on_the_mirror(image: Settings, server: Server, tmp_path: Path) -> None:
    (tmp_path / "content/tce/optional").mkdir(parents=True)
    disk = make_disk(tmp_path / "disk.img", tmp_path / "content", "TCDISK")
    with booted(image, tmp_path / "log1", CODES, disk, network=True) as guest:
        wait_for_dhcp(guest)
        guest.run(f"echo {server.address} > /opt/tcemirror")
        look_around(guest)
        install(guest, server)
        meet_what_goes_wrong(guest, server)
        server.new_version("attr", tmp_path / "new")
        update(guest)
    with booted(image, tmp_path / "log2", f"nodhcp {CODES}", disk) as guest:
        assert guest.run("ls -1 /usr/local/tce.installed") == "attr\ncoreutils\nextra\niptables\n"
        guest.run("ls /usr/local/share/new-version && [ ! -e /mnt/vda/tce/optional/upgrade ]")
        assert guest.run("cd /mnt/vda && getfattr --only-values -n user.colour copy") == "blue"
        guest.run("cd /mnt/vda/tce/optional && for f in *.md5.txt; do md5sum -c $f || exit 1; done")


def wait_for_dhcp(guest: Guest) -> None:
    guest.run("n=0; until ifconfig eth0 | grep -q addr:10.0.2.15 || [ $((n += 1)) = 30 ]; do sleep 1; done")
    assert "10.0.2.2" in guest.run("route -n; cat /etc/resolv.conf")


def look_around(guest: Guest) -> None:
    """The databases, by the tools that read them."""
    assert guest.run("search.sh XAT; search.sh ^attr; search.sh -t cli EXT", check=False) == "attr.tcz\n1"
    assert guest.run("search.sh -t xattr; search.sh -t gnu cli") == "attr.tcz\ncoreutils.tcz\n"
    assert guest.run("provides.sh bin/getfattr; provides.sh /usr/bin/getfattr$") == "attr.tcz\nattr.tcz\n"
    assert guest.run("provides.sh -f bin/get").split() == ["attr.tcz", ":", "usr/bin/getfattr"]
    assert guest.run("provides.sh /bin/getfattr; provides.sh bin/getf$", check=False) == "1"
    assert guest.run("depends-on.sh attr") == "buildkit.tcz\ncoreutils.tcz\n"
    lines = guest.run("tce-size coreutils").splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["+", "attr.tcz"], ["+", "coreutils.tcz"]]
    assert lines[-1].startswith("+ To be downloaded")
    assert lines[-1].split()[4:] == lines[-2].split()[1:]
    assert guest.run("tce-size nothing", check=False).splitlines()[0].split() == [
        *("nothing.tcz", "is", "not", "on", "the", "mirror")
    ]
    said = guest.run("printf 's\\ncor\\nd\\ns\\nt\\n1\\nf\\nq\\n' | tce-ab | cat")
    assert "Description:    " in said
    assert "coreutils.tcz" in said
    assert "usr/bin/getfattr" in said
    assert guest.run("version -c") == ""
    assert guest.run("tce-fetch.sh -O attr.tcz.info | head -n 1").split() == ["Title:", "attr.tcz"]


def install(guest: Guest, server: Server) -> None:
    """With what it needs, for now and for the next boot; and it works."""
    said = guest.run("tce-load -wi coreutils 2>&1", timeout=120)
    assert "Downloading: attr.tcz" in said
    assert said.endswith("attr.tcz: OK\ncoreutils.tcz: OK\n")
    assert guest.run("ls -1 /mnt/vda/tce/optional; cat /mnt/vda/tce/onboot.lst").split() == [
        *("attr.tcz", "attr.tcz.md5.txt"),
        *("coreutils.tcz", "coreutils.tcz.dep", "coreutils.tcz.md5.txt"),
        "coreutils.tcz",
    ]
    # BusyBox's cp knows no attributes, and its root has neither setfattr nor getfattr.
    guest.run("sudo touch /mnt/vda/file && sudo chown tc /mnt/vda/file /mnt/vda && cd /mnt/vda")
    guest.run("setfattr -n user.colour -v blue file && /usr/local/bin/cp --preserve=xattr file copy")
    assert guest.run("getfattr --only-values -n user.colour copy") == "blue"
    before = len(server.asked)
    assert guest.run("tce-load -wi coreutils 2>&1") == "coreutils is already installed!\n"
    assert guest.run("tce-load -w coreutils 2>&1") == "coreutils is already downloaded.\n"
    assert [name for name in server.asked[before:] if name.endswith((".tcz", ".md5.txt"))] == []
    assert guest.run("wc -l < /mnt/vda/tce/onboot.lst").strip() == "1"


def meet_what_goes_wrong(guest: Guest, server: Server) -> None:
    good = (server.folder / "iptables.tcz").read_bytes()
    server.write("iptables.tcz", good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    said = guest.run("tce-load -wi iptables 2>&1", check=False)
    assert "Error on iptables.tcz" in said
    assert "its md5 differs from iptables.tcz.md5.txt" in said
    assert said.endswith("1")
    (server.folder / "ca-certificates.tcz").unlink()
    for name in ("ca-certificates", "nowhere"):
        said = guest.run(f"tce-load -wi {name} 2>&1", check=False)
        assert f"Error on {name}.tcz" in said
        assert "404" in said
        assert said.endswith("1")
    assert guest.run("ls -a /mnt/vda/tce/optional | grep -c -e ipt -e ca- -e now", check=False) == "0\n1"
    assert guest.run("cat /mnt/vda/tce/onboot.lst") == "coreutils.tcz\n"
    assert guest.run("ls -1 /usr/local/tce.installed") == "attr\ncoreutils\n"
    server.write("iptables.tcz", good)
    assert guest.run("tce-load -wi iptables 2>&1", timeout=120).endswith("iptables.tcz: OK\n")
    guest.run("sudo iptables -A OUTPUT -p tcp --dport 1 -j REJECT")
    assert "dpt:1 " in guest.run("sudo iptables -n -L OUTPUT")
    assert "Connection refused" in guest.run(
        "echo http://10.0.2.2:1/ > /opt/tcemirror; tce-load -wl nowhere 2>&1", check=False
    )
    guest.run(f"echo {server.address} > /opt/tcemirror")


def update(guest: Guest) -> None:
    """A new version waits in tce/optional/upgrade for the next boot; what it newly needs is there too."""
    assert guest.run("tce-update list") == "attr.tcz\n"
    assert "Downloading: attr.tcz" in guest.run("tce-update 2>&1")
    assert guest.run("ls -1 /mnt/vda/tce/optional/upgrade") == "attr.tcz\nattr.tcz.dep\nattr.tcz.md5.txt\n"
    guest.run("ls /mnt/vda/tce/optional/extra.tcz && [ ! -e /usr/local/share/new-version ]")
    assert guest.run("tce-update 2>&1") == "attr.tcz is already downloaded.\n"

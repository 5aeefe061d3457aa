# SPDX-License-Identifier: MIT
"""code-server in a guest, used by a real browser through a forwarded port.

The folder that is edited is the source of a running container.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tasks.config.settings import Settings
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support import oci
from tests.vm import browser
from tests.vm.contract import carry, machine, make_disc, own_root
from tests.vm.test_containerd import BUSYBOX, IMAGE, SERVICE

IDE = "/usr/local/etc/init.d/vscodeonline"
CODE = "/usr/local/lib/code-server"
ONBOOT = ("code-server", "containerd")
CONFIG = "/home/tc/.config/code-server/config.yaml"
PASSWORD = "correct horse battery"
LIMIT = 1500.0
ENTRY = f"{CODE}/out/node/entry.js"
# Its first start ends as a slow machine's does; see `launch` of the start script.
SLOW_ENTRY = f"""
const fs = require("fs");
if (fs.existsSync("/tmp/tried")) require("/tmp/tcloop/code-server{ENTRY}");
else {{ fs.writeFileSync("/tmp/tried", ""); console.log("[now] error timed out"); process.exit(1); }}
"""
SOURCE = "/mnt/source"
ROOTFS = "/run/containerd/io.containerd.runtime.v2.task/default/app/rootfs"
PROGRAM = "mkdir /src && echo first line >/src/message.txt && chown -R 1001 /src && exec sleep 99999"
# Each of code-server's native modules, doing what it is for.
MODULES = f"""
const load = (name) => require("{CODE}/lib/vscode/node_modules/" + name);
async function all() {{
  load("@vscode/native-watchdog").start(process.ppid);
  const shell = load("node-pty").spawn("sh", ["-c", "echo pty $((6 * 7))"], {{}});
  shell.onData((text) => process.stdout.write(text));
  await new Promise((resolve) => shell.onExit(resolve));
  await load("@parcel/watcher").writeSnapshot("/usr/local/etc", "/tmp/snapshot");
  const log = await load("@vscode/spdlog").createRotatingLogger("x", "/tmp/spd.log", 1000, 1);
  log.info("from spdlog");
  log.flush();
}}
all().then(() => process.exit(0), (error) => {{ console.error(error); process.exit(1); }});
"""


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


@pytest.fixture(scope="module")
def disc(image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A CD with the extensions and an image to import."""
    folder = tmp_path_factory.mktemp("disc")
    carry(image, folder / "tree", ONBOOT)
    names = ("sh", "cat", "chown", "mkdir", "sleep")
    layer = oci.tar({"bin/busybox": BUSYBOX.read_bytes()}, {f"bin/{name}": "busybox" for name in names})
    (folder / "tree/busybox.tar").write_bytes(oci.tar(oci.oci_image([layer], IMAGE)))
    (folder / "tree/modules.js").write_text(MODULES)
    (folder / "tree/entry.js").write_text(SLOW_ENTRY)
    return make_disc(folder / "disc.iso", folder / "tree")


def test_a_browser_edits_a_file_of_a_container(image: Settings, disc: Disk, tmp_path: Path) -> None:
    port = browser.free_port()
    changes = {"memory": 2048, "cpus": 2, "forward": {port: 5000}}
    guest_machine = machine(image, "cde noembed", disc, **changes)
    with Guest(guest_machine, tmp_path / "log", limit=LIMIT) as guest:
        guest.login()
        node_works(guest)
        a_password_is_set(guest)
        start_container(guest)
        guest.run(f"sudo rm {ENTRY} && sudo cp /mnt/sr0/entry.js {ENTRY}")
        said = guest.run(f"sudo {IDE} start 2>&1", 240)
        assert "gave up waiting for its own server; starting it again" in said
        assert "vscodeonline: started (process" in said
        assert guest.run("stat -c %U /proc/$(cat /run/code-server.pid)") == "tc\n"
        assert "runs already" in guest.run(f"sudo {IDE} start")
        edit(guest, f"http://127.0.0.1:{port}", tmp_path / "user", image.paths.output / "code-server.png")
        assert guest.run(f"cat {SOURCE}/message.txt") == "first line\nsecond line"
        inside = guest.run("sudo ctr task exec --exec-id look app /bin/cat /src/message.txt")
        assert inside == "first line\nsecond line"
        assert guest.run("cat /tmp/from-terminal") == "tc\n"
        # Nothing that was left out of the extension was asked for.
        assert "ERR_MODULE_NOT_FOUND" not in guest.run("sudo cat /var/log/code-server.log")
        assert "vscodeonline: runs" in guest.run(f"{IDE} status")
        assert "stopped" in guest.run(f"sudo {IDE} stop")
        assert guest.run(f"{IDE} status", check=False) == "vscodeonline: does not run\n1"
        guest.run("while cat /proc/[0-9]*/cmdline 2>/dev/null | grep -q code-serve[r]; do sleep 1; done", 120)
        a_broken_configuration_is_told(guest)
        guest.power_off(120)


def node_works(guest: Guest) -> None:
    """Node.js and npm run, and the native modules made for them load and work."""
    assert guest.run("node -p '6 * 7'") == "42\n"
    assert guest.run("npm prefix --global", 120) == "/usr/local\n"
    said = guest.run("node /mnt/sr0/modules.js && test -s /tmp/snapshot && cat /tmp/spd.log", 120)
    assert "pty 42" in said
    assert "from spdlog" in said
    ripgrep = f"{CODE}/lib/vscode/node_modules/@vscode/ripgrep-universal/bin/linux-x64/rg"
    assert guest.run(f"{ripgrep} --files-with-matches SECONDS_TO_START {IDE}") == f"{IDE}\n"


def a_password_is_set(guest: Guest) -> None:
    """makevscodeconfig: from standard input, made up, and from the terminal, never shown."""
    assert "as tc, run: makevscodeconfig" in guest.run(f"sudo {IDE} start 2>&1", check=False)
    assert f"needs root: sudo {IDE} start" in guest.run(f"{IDE} start 2>&1", check=False)
    for words, problem in (
        ("echo short | makevscodeconfig", "at least 8 characters"),
        ("echo long enough | sudo makevscodeconfig", "without sudo"),
        ("echo long enough | makevscodeconfig --bind 5000", "expected ADDRESS:PORT"),
        ("echo long enough | makevscodeconfig --bind 1.2.3.4:70000", "expected ADDRESS:PORT"),
        ("makevscodeconfig --password secret", "usage: makevscodeconfig"),
    ):
        assert problem in guest.run(f"{words} 2>&1", check=False)
    guest.run(f"test ! -e {CONFIG}")

    made_up = guest.run("makevscodeconfig --generate", 120)
    assert "Password (it is shown this once): " in made_up
    config = guest.run(f"cat {CONFIG}")
    assert config.startswith('bind-addr: 127.0.0.1:5000\nauth: password\nhashed-password: "$argon2')
    assert made_up.split("once): ")[1].split("\n")[0] not in config

    # On the terminal; whatever is typed there from now on would be echoed.
    seen = len(guest.console)
    guest.send(
        "stty echo </dev/ttyS0; makevscodeconfig --bind 0.0.0.0:5000 </dev/ttyS0; stty -echo </dev/ttyS0"
    )
    for question in ("Password for code-server: ", "Once more: "):
        guest.expect(question)
        guest.send(PASSWORD)
    guest.expect("Written: [^@]*@@END 0\n", 120)
    assert PASSWORD not in guest.console[seen:]
    assert guest.run(f"stat -c '%a %U' {CONFIG} {CONFIG.rsplit('/', 1)[0]}") == "600 tc\n2700 tc\n"
    assert "bind-addr: 0.0.0.0:5000" in guest.run(f"cat {CONFIG}")
    for line in ("disable-telemetry: true", "disable-update-check: true"):
        guest.run(f"grep -qx '{line}' {CONFIG}")


def start_container(guest: Guest) -> None:
    """Run a container that has a source folder, and mount that folder where tc can reach it."""
    guest.run("sudo mkdir -p /var/lib/containerd && sudo mount -t tmpfs data /var/lib/containerd")
    guest.run(f"sudo {SERVICE} start", 120)
    guest.run("sudo ctr images import /mnt/sr0/busybox.tar", 120)
    guest.run(f"sudo ctr run -d {IMAGE} app /bin/sh -c '{PROGRAM}'", 120)
    guest.run(f"until sudo test -s {ROOTFS}/src/message.txt; do sleep 1; done")
    guest.run(f"sudo mkdir {SOURCE} && sudo mount --bind {ROOTFS}/src {SOURCE}")


def edit(guest: Guest, url: str, folder: Path, screenshot: Path) -> None:
    """Log in, open the folder, add a line to its file and save it."""
    with browser.browser(folder, screenshot) as page:
        page.open(f"{url}/?folder={SOURCE}")
        page.one("input[name=password]").send_keys("wrong horse battery", Keys.ENTER)
        page.one(".error", "Incorrect password")
        assert not page.all(".monaco-workbench")
        page.one("input[name=password]").send_keys(PASSWORD, Keys.ENTER)
        page.double_click(page.one(".explorer-folders-view .monaco-list-row", "message.txt"))
        page.one(".editor-instance .view-line", "first").click()
        page.control(Keys.END)
        page.type("second line")
        page.one(".editor-instance .view-line", "second")
        page.control("s")
        guest.run(f"until grep -q second {SOURCE}/message.txt; do sleep 1; done", 240)
        # A terminal, which only a folder that is trusted has.
        page.control("`")
        page.one(".monaco-dialog-box .monaco-button", "Trust").click()
        page.one(".terminal-wrapper.active .xterm").click()
        guest.run("until ls /dev/pts | grep -q '[0-9]'; do sleep 1; done", 240)
        page.type("id -un > /tmp/from-terminal", Keys.ENTER)
        guest.run("until test -s /tmp/from-terminal; do sleep 1; done", 240)


def a_broken_configuration_is_told(guest: Guest) -> None:
    """code-server ends at once, and the script says why instead of waiting for it."""
    guest.run(f"echo 'no-such-option: 1' >> {CONFIG}")
    answer = guest.run(f"sudo {IDE} start 2>&1", 120, check=False)
    assert "it ended at once; the end of /var/log/code-server.log:" in answer
    assert "no-such-option" in answer
    assert answer.splitlines()[-1] == "1"

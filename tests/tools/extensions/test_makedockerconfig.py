# SPDX-License-Identifier: MIT
"""makedockerconfig under BusyBox's ash and under a plain POSIX shell: what it writes, and what it shows."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT

SCRIPT = CHECKOUT.root / "extensions/buildkit/files/usr/local/bin/makedockerconfig"
ASH = ("/bin/busybox", "ash")
HUB = "https://index.docker.io/v1/"
TOKEN = 'dckr_pat_$(id) "x" \\n*'
# Ordinary programs, each noting what it was called with.
TOOLS = ("base64", "cat", "chmod", "id", "mkdir", "mktemp", "mv", "rm", "sed", "stty", "tr")


@dataclass
class Home:
    """A user's home, faasd's folder, and a PATH of tools that note their arguments."""

    root: Path
    shell: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.root / "home/.docker/config.json"

    @property
    def copy(self) -> Path:
        return self.root / "faasd/.docker/config.json"

    @property
    def script(self) -> Path:
        return self.root / "bin/makedockerconfig"

    def tool(self, name: str, does: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.root}/called\n{does}\n')
        path.chmod(0o755)

    def run(self, *words: str, said: str = f"me\n{TOKEN}\n") -> tuple[int, str]:
        """Run the script with `said` as its input; return its exit status and all it printed."""
        done = subprocess.run(
            [*self.shell, str(self.script), *words],
            input=said,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env,
            umask=0o022,
            check=False,
        )
        return done.returncode, done.stdout

    def leftovers(self) -> list[str]:
        return [path.name for path in self.root.rglob(".config.json*")]


def make(tmp_path: Path, shell: tuple[str, ...]) -> Home:
    home = Home(tmp_path, shell)
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    for name in TOOLS:
        home.tool(name, f'exec /bin/busybox {name} "$@"')
    text = SCRIPT.read_text()
    assert text.count("/var/lib/faasd") == 1
    home.script.write_text(text.replace("/var/lib/faasd", f"{tmp_path}/faasd"))
    home.script.chmod(0o755)
    home.env = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin"), "TERM": "dumb"}
    return home


@pytest.fixture(params=[ASH, ("/bin/sh",)], ids=["busybox", "sh"])
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    yield make(tmp_path, request.param)


def auth(path: Path, registry: str = HUB) -> str:
    """Return what a config.json has for a registry, decoded."""
    entry = json.loads(path.read_text())["auths"][registry]["auth"]
    return base64.b64decode(entry, validate=True).decode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written(home: Home) -> None:
    status, said = home.run()
    assert (status, said) == (0, f"makedockerconfig: wrote {home.config}\n")
    assert auth(home.config) == f"me:{TOKEN}"
    assert (mode(home.config), mode(home.config.parent)) == (0o600, 0o700)
    assert home.leftovers() == []
    assert not home.copy.exists()


def test_a_long_token_makes_one_line(home: Home) -> None:
    assert home.run(said=f"me\n{'t' * 300}\n")[0] == 0
    assert auth(home.config) == "me:" + "t" * 300


def test_the_last_line_may_lack_its_end(home: Home) -> None:
    assert home.run(said="me\ntoken")[0] == 0
    assert auth(home.config) == "me:token"


def test_another_registry(home: Home) -> None:
    assert home.run("registry.example:5000")[0] == 0
    assert auth(home.config, "registry.example:5000") == f"me:{TOKEN}"


def test_no_secret_among_arguments(home: Home) -> None:
    """Of no program that the script starts, faasd's copy included; BusyBox's shell starts fewer."""
    home.tool("faasd", "")
    home.tool("sudo", 'exec "$@"')
    home.tool("id", "echo 1001")
    assert home.run()[0] == 0
    if not home.shell[0].endswith("busybox"):
        called = (home.root / "called").read_text()
        names = {line.split(" ")[0] for line in called.splitlines()}
        assert {"base64", "mktemp", "mv", "sudo"} <= names
        encoded = base64.b64encode(f"me:{TOKEN}".encode()).decode()
        for secret in (TOKEN, "dckr_pat", encoded, encoded[:20]):
            assert secret not in called
        assert auth(home.copy) == f"me:{TOKEN}"


def test_faasd_has_a_copy(tmp_path: Path) -> None:
    home = make(tmp_path, ("/bin/sh",))
    home.tool("id", "echo 0")
    (home.root / "faasd").mkdir()
    assert home.run() == (
        0,
        "".join(f"makedockerconfig: wrote {path}\n" for path in (home.config, home.copy)),
    )
    assert home.copy.read_bytes() == home.config.read_bytes()
    assert (mode(home.copy), mode(home.copy.parent)) == (0o600, 0o700)


def test_no_copy_for_faasd_is_said(tmp_path: Path) -> None:
    """The user's own file stays."""
    home = make(tmp_path, ("/bin/sh",))
    home.tool("id", "echo 1001")
    home.tool("sudo", "exit 1")
    (home.root / "faasd").mkdir()
    status, said = home.run()
    assert status == 1
    assert said.splitlines()[-1] == "makedockerconfig: faasd has no copy: run this again when sudo works"
    assert auth(home.config) == f"me:{TOKEN}"
    assert not home.copy.exists()


def test_an_own_file_is_replaced_whatever_is_in_it(home: Home) -> None:
    assert home.run("old.example")[0] == 0
    assert home.run()[0] == 0
    assert list(json.loads(home.config.read_text())["auths"]) == [HUB]


def test_a_file_of_somebody_else_is_kept_unless_told(home: Home) -> None:
    home.config.parent.mkdir()
    other = '{"auths": {"a": {"auth": "eA=="}, "b": {"auth": "eQ=="}}, "credsStore": "x"}\n'
    home.config.write_text(other)
    status, said = home.run()
    assert (status, "-f replaces it" in said) == (1, True)
    assert home.config.read_text() == other
    assert home.run("-f")[0] == 0
    assert auth(home.config) == f"me:{TOKEN}"
    assert mode(home.config) == 0o600


@pytest.mark.parametrize(
    ("words", "said", "status", "error"),
    [
        ((), "", 1, "no user given"),
        ((), "\ntoken\n", 1, "no user given"),
        ((), "me\n", 1, "no access token given"),
        ((), "me\n\n", 1, "no access token given"),
        ((), "me:you\ntoken\n", 1, "a user's name has no colon"),
        (('x"y',), "me\ntoken\n", 1, "is no registry's name"),
        (("a", "b"), "me\ntoken\n", 2, "usage: "),
        (("-x",), "me\ntoken\n", 2, "usage: "),
        (("--install", "DIR"), "", 1, "nothing to install"),
    ],
)
def test_nothing_is_written_for_wrong_input(
    home: Home, words: tuple[str, ...], said: str, status: int, error: str
) -> None:
    folder = str(home.config.parent)
    found = home.run(*(word.replace("DIR", folder) for word in words), said=said)
    assert (found[0], error in found[1]) == (status, True), found
    assert not home.config.exists()
    assert "token" not in found[1].replace("access token", "").replace("token given", "")


@pytest.mark.parametrize("tool", ["mv", "mktemp", "chmod", "base64"])
def test_a_fault_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path, tool: str) -> None:
    home = make(tmp_path, ("/bin/sh",))
    assert home.run("old.example")[0] == 0
    before = home.config.read_bytes()
    home.tool(tool, "exit 1")
    status, said = home.run()
    assert (status, said.startswith("makedockerconfig: ")) == (1, True), said
    assert home.config.read_bytes() == before
    assert home.leftovers() == []


CTRL_C = b"\x03"


def on_a_terminal(home: Home, answers: list[bytes]) -> tuple[int, bytes]:
    """Run the script on a terminal; after each prompt (a colon) type the next answer."""
    pid, terminal = pty.fork()
    if pid == 0:
        # A shell cannot trap what its parent ignores, as CI's background jobs do.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execve(home.shell[0], [*home.shell, str(home.script)], home.env)
    shown, todo = b"", list(answers)
    deadline = time.monotonic() + 60
    while True:
        if not select.select([terminal], [], [], 1)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"no end: {shown!r}")
            # A signal that comes just before a shell's read() is seen after it: a person
            # would press the key once more.
            if not todo and answers[-1] == CTRL_C:
                os.write(terminal, CTRL_C)
            continue
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # EIO: nobody is left on the other side
            break
        if todo and shown.endswith(b": "):
            os.write(terminal, todo.pop(0))
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_a_terminal_does_not_show_the_token(home: Home) -> None:
    home.env["PATH"] = f"{home.env['PATH']}:/bin:/usr/bin"
    status, shown = on_a_terminal(home, [b"me\n", b"s3cret token\n"])
    assert status == 0
    assert b"user: me\r\n" in shown
    assert b"access token: \r\n" in shown
    assert b"s3cret" not in shown
    assert auth(home.config) == "me:s3cret token"


def test_the_terminal_echoes_again_after_ctrl_c(home: Home) -> None:
    """A shell that goes on with a blind terminal would be the user's to repair."""
    home.script.write_text(f"trap : INT; {' '.join(home.shell)} {home.script}.inner; stty -a; exit 7\n")
    inner = home.script.with_name("makedockerconfig.inner")
    inner.write_text(SCRIPT.read_text())
    home.env["PATH"] = f"{home.env['PATH']}:/bin:/usr/bin"
    status, shown = on_a_terminal(home, [b"me\n", CTRL_C])
    assert status == 7
    settings = shown.split(b"access token: ")[1].replace(b";", b" ").split()
    assert b"echo" in settings
    assert b"-echo" not in settings
    assert not home.config.exists()

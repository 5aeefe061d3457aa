# SPDX-License-Identifier: MIT
"""The process runner: environment, output, failures, and what Ctrl-C leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.util import checkout, host
from tasks.util.errors import DiskFull, UserError
from tasks.util.process import run


def test_environment_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    lines = run(["env"], env={"EXTRA": "1"}).stdout.splitlines()
    assert "EXTRA=1" in lines
    assert "LC_ALL=C" in lines
    assert "TZ=UTC" in lines
    assert "https_proxy=http://proxy:1" in lines
    assert not [line for line in lines if line.startswith("CFLAGS") or "de_DE" in line]


def test_umask_is_fixed(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        run(["touch", "file"], cwd=tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_failure_names_command_log_and_tail(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(UserError) as caught:
        run(["sh", "-c", "echo first; echo 'it broke' >&2; exit 3"], log=log, cwd=tmp_path, hint="try again")
    text = str(caught.value)
    assert "sh failed with exit status 3" in text
    assert "hint: try again" in text
    assert "| it broke" in text
    assert str(log) in text
    command = next(line for line in text.splitlines() if "command:" in line).split("command: ")[1]
    again = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (3, "it broke\n")
    assert "it broke" in log.read_text()


@pytest.mark.parametrize(
    "said", ["cc1: No space left on device", "tar: ./file: Wrote only 512 of 10240 bytes"]
)
def test_a_full_disk_is_said_as_such(said: str, tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="the disk is full") as caught:
        run(["sh", "-c", f"echo '{said}'; exit 1"], log=tmp_path / "log")
    assert "free some space" in caught.value.hint


def test_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "package_of", {"no-such-tool": "its-package"}.get)
    with pytest.raises(UserError) as caught:
        run(["no-such-tool"])
    assert caught.value.message == "no-such-tool is not installed"
    assert "its-package" in caught.value.hint


def test_stdin_stdout_and_lines(tmp_path: Path) -> None:
    assert run(["cat"], stdin=b"abc").stdout == "abc"
    out = tmp_path / "out"
    run(["cat"], stdin=b"\x00\xff", stdout=out)
    assert out.read_bytes() == b"\x00\xff"
    lines: list[str] = []
    run(["printf", "a\\nb\\n"], log=tmp_path / "log", on_line=lines.append)
    assert lines == ["a", "b"]


def read_or_nothing(path: Path) -> bytes:
    """Return a file's content, nothing if its process has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_interrupt_ends_children_and_grandchildren(tmp_path: Path) -> None:
    """A run cut by SIGINT leaves no process of its own behind and says so with status 130."""
    marker = f"{time.time_ns() % 1_000_000_000}"
    code = (
        "from tasks.util.errors import install_signal_handlers; from tasks.util.process import run\n"
        "install_signal_handlers()\n"
        f"run(['sh', '-c', 'sleep {marker} & echo started > {tmp_path}/started; wait'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=checkout.CHECKOUT.root, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err

    def left() -> list[Path]:
        found = Path("/proc").glob("[0-9]*/cmdline")
        return [path for path in found if marker.encode() in read_or_nothing(path)]

    # What was killed may take a moment to be gone.
    deadline = time.monotonic() + 20
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left()


def test_an_interrupt_while_a_program_starts_ends_it(tmp_path: Path) -> None:
    """The signal comes when the program runs and nobody knows its number yet."""
    code = (
        "import os, signal, subprocess\n"
        "from tasks.util.errors import install_signal_handlers; from tasks.util import process\n"
        "install_signal_handlers()\n"
        "class Slow(subprocess.Popen):\n"
        "    def __init__(self, *words, **options):\n"
        "        super().__init__(*words, **options)\n"
        f"        open({str(tmp_path / 'number')!r}, 'w').write(str(self.pid))\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "process.subprocess.Popen = Slow\n"
        "process.run(['sleep', '600'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout.CHECKOUT.root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130
    assert "interrupted" in ended.stderr
    assert not Path("/proc", (tmp_path / "number").read_text()).exists()


def test_passwords_in_addresses_are_not_told(tmp_path: Path) -> None:
    env = {"PIP_INDEX_URL": "https://me:secret@index.invalid/simple?x=a@b"}
    with pytest.raises(UserError) as caught:
        run(["sh", "-c", "exit 3", "http://token@h.invalid/"], env=env, log=tmp_path / "log")
    for text in (str(caught.value.detail), (tmp_path / "log").read_text()):
        assert "secret" not in text
        assert "token" not in text
    assert "https://***@index.invalid/simple?x=a@b" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("tool", ["sh", "python"])
def test_a_limit_of_the_shell_is_no_damage(tool: str, tmp_path: Path) -> None:
    """By `ulimit -f`, a program is killed (SIGXFSZ); one that ignores that reports EFBIG."""
    write = f"import pathlib; pathlib.Path({str(tmp_path / 'out')!r}).write_bytes(bytes(5000))"
    argv = {
        "sh": ["prlimit", "--fsize=1000", "head", "-c", "5000", "/dev/zero"],
        "python": ["prlimit", "--fsize=1000", sys.executable, "-c", write],
    }[tool]
    with pytest.raises(
        DiskFull, match=r"a file would be larger than this shell allows \(ulimit -f\)"
    ) as caught:
        run(argv, stdout=tmp_path / "stdout")
    assert caught.value.hint == "raise it: ulimit -f unlimited"

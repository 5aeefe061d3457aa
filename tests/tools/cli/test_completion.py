# SPDX-License-Identifier: MIT
"""Completion in real shells: what bash offers and puts on the line, what zsh shows."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.built import copy_checkout, doit


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that has chosen a profile and has nothing built."""
    folder = copy_checkout(tmp_path_factory.mktemp("completion") / "tcbuild")
    (folder / "artifacts").mkdir()
    (folder / "artifacts/.venv").symlink_to(sys.prefix)
    (folder / "artifacts/profile.json").write_text('{"profile": "apt", "reason": "chosen by a test"}')
    (folder / "out").mkdir()
    return folder


def bash(checkout: Path, line: str, cwd: Path | None = None) -> list[str]:
    """Return COMPREPLY for a line with the cursor at its end, words split as readline does it."""
    words = line.replace("=", " = ").replace(":", " : ").split()
    if line.endswith(" "):
        words.append("")
    script = f"""
        source {shlex.quote(str(checkout / "tasks/cli/completion.bash"))}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
        complete -p doit >/dev/null || exit 1
        _tcbuild
        [[ ${{#COMPREPLY[@]}} == 0 ]] || printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, cwd=cwd or checkout, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("./doit is", ["iso"]),
        ("./doit kconfig:d", ["diff"]),  # readline replaces what follows the colon
        ("./doit qemu", ["qemu", "qemu:test", "qemu:matrix", "qemu:run", "qemu:screenshot"]),
        ("./doit iso prof", ["profile="]),
        ("./doit iso profile=a", ["auto", "apt", "apt32"]),
        ("./doit iso profile=tc", ["tc11"]),
        ("./doit iso frozen=", ["1"]),
        ("./doit iso fragments=ext3-xattr,qe", ["ext3-xattr,qemu"]),
        ("./doit iso out=o", ["out/"]),
        ("./doit qemu --m", ["--memory"]),
        ("./doit --m", []),
        ("./doit graph --format=mer", ["mermaid"]),
        ("./doit check pyproject.t", ["pyproject.toml"]),
        ("./doit iso pyproject.t", []),
        ("./doit nothing-like-it", []),
    ],
)
def test_bash_offers_what_may_follow(checkout: Path, line: str, offers: list[str]) -> None:
    assert bash(checkout, line) == offers


def test_bash_offers_every_task_and_variable(checkout: Path) -> None:
    offered = bash(checkout, "./doit ")
    listed = doit(checkout, "list", "--all", "--quiet", "profile=apt").output.split()
    assert set(listed) <= set(offered)
    assert {"profile=", "offline=", "list", "clean"} <= set(offered)


def test_bash_finds_the_checkout_by_the_command(checkout: Path, tmp_path: Path) -> None:
    assert bash(checkout, f"{checkout}/doit is", cwd=tmp_path) == ["iso"]
    assert bash(checkout, "./doit is", cwd=tmp_path) == []


def test_the_list_follows_the_files_it_is_made_from(checkout: Path) -> None:
    bash(checkout, "./doit ")
    listing = checkout / "artifacts/.completion"
    made = listing.stat().st_mtime_ns
    bash(checkout, "./doit ")
    assert listing.stat().st_mtime_ns == made, "no run of doit for a key press"
    profile = checkout / "profiles/another.toml"
    profile.write_text((checkout / "profiles/apt.toml").read_text())
    future = time.time() + 2
    os.utime(profile, (future, future))
    assert bash(checkout, "./doit iso profile=an") == ["another"]
    # While the checkout is broken the last good list stays.
    good = listing.read_text()
    profile.unlink()
    dodo = checkout / "dodo.py"
    text = dodo.read_text()
    dodo.write_text("no python")
    os.utime(dodo, (future + 2, future + 2))
    assert bash(checkout, "./doit is") == ["iso"]
    assert listing.read_text() == good
    assert sorted(path.name for path in listing.parent.glob(".completion*")) == [".completion"]
    dodo.write_text(text)


ZSHRC = """
PS1= ; LISTMAX=1000; cd CHECKOUT
source <(artifacts/.venv/bin/doit completion zsh)
capture() { zle complete-word; print -r -- "$BUFFER" >$ZDOTDIR/part; mv $ZDOTDIR/{part,line}; BUFFER= }
zle -N capture
bindkey '^T' capture
zle-line-init() { : >$ZDOTDIR/ready }
zle -N zle-line-init
"""


@pytest.fixture(scope="module")
def zsh(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """An interactive zsh on a terminal: returns what its line holds after Tab."""
    folder = tmp_path_factory.mktemp("zsh")
    (folder / ".zshrc").write_text(ZSHRC.replace("CHECKOUT", shlex.quote(str(checkout))))
    env = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder), "ZDOTDIR": str(folder)}
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-d", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)
    said = b""

    def wait_for(name: str) -> str:
        """Wait for a file, reading meanwhile what the shell prints: else it would be held up."""
        nonlocal said
        end = time.monotonic() + 300
        while not (folder / name).exists():
            assert shell.poll() is None and time.monotonic() < end, said.decode(errors="replace")
            if select.select([ours], [], [], 0.05)[0]:
                said += os.read(ours, 1 << 16)
        content = (folder / name).read_text()
        (folder / name).unlink()
        return content

    def complete(line: str) -> str:
        os.write(ours, line.encode() + b"\x14")
        return wait_for("line").removesuffix("\n")

    wait_for("ready")
    try:
        yield complete
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("./doit is", "./doit iso "),
        ("./doit kconfig:d", "./doit kconfig:diff "),
        ("./doit iso prof", "./doit iso profile="),
        ("./doit iso profile=tc", "./doit iso profile=tc11 "),
        ("./doit iso fragments=ext3-xattr,qe", "./doit iso fragments=ext3-xattr,qemu"),
        ("./doit iso out=ou", "./doit iso out=out/"),
        ("./doit qemu --m", "./doit qemu --memory "),
        ("./doit check pyproject.t", "./doit check pyproject.toml "),
        ("./doit nothing-like-it", "./doit nothing-like-it"),
    ],
)
def test_zsh_completes_the_line(zsh: Callable[[str], str], line: str, becomes: str) -> None:
    assert zsh(line) == becomes


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_command_prints_the_script_and_nothing_else(checkout: Path, shell: str) -> None:
    done = doit(checkout, "completion", shell, "profile=apt")
    assert done.output == (checkout / f"tasks/cli/completion.{shell}").read_text()
    checked = subprocess.run([shell, "-n"], input=done.output, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")

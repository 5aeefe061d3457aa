# SPDX-License-Identifier: MIT
"""The words of the command line, as a person types them: options, help, unknown names, a broken stdout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.built import copy_checkout, doit

ENTRIES = {
    "wrapper": ("./doit",),
    "doit": ("artifacts/.venv/bin/doit",),
    "module": (sys.executable, "-B", "-m", "doit"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which nothing is chosen and nothing is built."""
    folder = copy_checkout(tmp_path_factory.mktemp("words") / "tcbuild")
    (folder / "artifacts").mkdir()
    (folder / "artifacts/.venv").symlink_to(sys.prefix)
    (folder / "artifacts/.setup-python").touch()
    (folder / "artifacts/.setup-build").touch()
    return folder


LOCKS = {
    "lock": "profiles/apt.lock.toml",
    "lock:containerd": "extensions/containerd/lock.toml",
    "lock:images/nats-streaming": "images/nats-streaming/lock.toml",
    "toolchain:lock": "tasks/toolchain/toolchains/debian12-go.lock.toml",
}


def test_a_broken_lock_takes_no_task_away(checkout: Path) -> None:
    """The profile uses the first two."""
    kept = {name: (checkout / name).read_bytes() for name in LOCKS.values()}
    for name in kept:
        (checkout / name).write_text("<<<<<<< HEAD\n")
    try:
        done = doit(checkout, "list", "--all", "profile=functions")
        fetched = doit(checkout, "fetch:images/nats-streaming", "offline=1", "profile=functions")
    finally:
        for name, content in kept.items():
            (checkout / name).write_bytes(content)
    assert done.status == 0
    assert LOCKS.keys() <= {line.partition(" ")[0] for line in done.output.splitlines()}
    assert fetched.status == 1
    assert "./doit lock:images/nats-streaming relock=1" in fetched.output


def shell(checkout: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [["graph", "--format", "mermaid", "kernel"], ["is", "profile=apt"], ["--help"], []]
)
def test_all_entries_do_the_same(checkout: Path, words: list[str]) -> None:
    said = [
        subprocess.run([*entry, *words], cwd=checkout, capture_output=True, text=True, check=False)
        for entry in ENTRIES.values()
    ]
    assert {(done.returncode, done.stdout, done.stderr) for done in said} == {
        (said[0].returncode, said[0].stdout, said[0].stderr)
    }
    assert said[0].stdout + said[0].stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["qemu", "--help"],
            ["usage: ./doit qemu [OPTIONS]", "--memory VALUE", "--firmware bios|uefi|direct"],
        ),
        (["help", "qemu"], ["usage: ./doit qemu [OPTIONS]", "--memory VALUE", "iso"]),
        (["graph", "--help"], ["usage: ./doit graph [OPTIONS] [NAME ...]", "--format dot|mermaid|svg"]),
        (["help", "graph"], ["usage: ./doit graph [OPTIONS] [NAME ...]"]),
        (["list", "-h"], ["usage: ./doit list", "--all"]),
        (["iso", "--help"], ["usage: ./doit iso", "hybrid ISO"]),
        (["-n", "2", "iso", "--help"], ["usage: ./doit iso", "hybrid ISO"]),
        (["-n", "2", "--help"], ["usage: ./doit run", "--process"]),
        (["run", "--help"], ["usage: ./doit run", "--process"]),
        (["help"], ["commands:", "doctor", "variables:", "profile="]),
        (["--help"], ["commands:", "doctor", "variables:", "profile="]),
    ],
)
def test_help_is_a_text(checkout: Path, words: list[str], says: list[str]) -> None:
    done = doit(checkout, *words)
    assert done.status == 0, done.output
    assert "CmdOption" not in done.output
    for text in says:
        assert text in done.output


def test_every_command_and_task_has_help(checkout: Path) -> None:
    """In one process: each start would cost half a second."""
    program = (
        "import contextlib, io\n"
        "from tasks.cli.main import Main\n"
        "out = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        "    Main().run(['list', '--all', '--quiet'])\n"
        "for name in [*out.getvalue().split(), *Main().get_cmds()]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        "        assert Main().run([name, '--help']) == 0, name\n"
        "    assert said.getvalue().startswith(f'usage: ./doit {name}'), name\n"
        "    assert len(said.getvalue().splitlines()[2].strip()) > 5, name\n"
        "    print(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"iso", "qemu", "graph", "cache:prune", "tcz:attr", "help"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["grahp"], "error: unknown task 'grahp'; did you mean graph?"),
        (["iso", "krnel"], "error: unknown task 'krnel'; did you mean kernel?"),
        (["iso", "report"], "error: report is a command, no task; run it by itself: ./doit report"),
        (["list", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["info", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["help", "grahp"], "error: unknown task 'grahp'; did you mean graph?"),
        (["explain", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["graph", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["forget", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["clean", "iso1"], "error: unknown task 'iso1'; did you mean iso?"),
        (["clean", "ignor"], "error: unknown task 'ignor'; ./doit list --all shows them"),
        (
            ["lock", "iso"],
            "error: lock changes what the other tasks are planned by; run ./doit lock && ./doit iso",
        ),
        (["zzzz"], "error: unknown task 'zzzz'; ./doit list --all shows them"),
        (["qemu", "--memry", "3"], "error: qemu: option --memry not recognized; did you mean --memory?"),
        (["qemu", "--memory", "much"], "error: --memory much: expected a number"),
        (["graph", "--format", "pdf"], "error: --format pdf: expected dot, mermaid or svg"),
        (["iso", ""], "error: an empty word is neither a task nor a command"),
        (["doctor", "iso"], "error: doctor takes no names, and got 'iso'; ./doit help doctor"),
        (["report", "iso"], "error: report takes no names, and got 'iso'; ./doit help report"),
        (["zzz*"], "error: unknown task 'zzz*'; ./doit list --all shows them"),
        (
            ["images", "-r", "nix"],
            "error: -r nix: expected console, quiet, executed-only, json, zero or error-only",
        ),
        (["ignore"], "error: ignore needs a task; ./doit list shows them"),
        (["verify", "--kee", "x"], "error: verify: option --kee not recognized; did you mean --key?"),
    ],
)
def test_words_that_are_not_known_are_one_line(checkout: Path, words: list[str], line: str) -> None:
    done = doit(checkout, *words, "profile=apt")
    assert (done.status, done.output) == (2, line + "\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["graph", "--format", "mermaid", "kernel"], ["graph", "kernel", "--format", "mermaid"]),
        (["list", "--quiet", "iso"], ["list", "iso", "--quiet"]),
        (["clean", "--dry-run", "iso"], ["clean", "iso", "--dry-run"]),
        (["doctor", "--json"], ["doctor", "--json", "profile=apt"]),
    ],
)
def test_options_go_before_names_and_after(checkout: Path, before: list[str], after: list[str]) -> None:
    one, other = (doit(checkout, *words, "profile=apt") for words in (before, after))
    assert one.status == other.status
    assert "error" not in one.output.partition("\n")[0]
    if before[0] != "doctor":  # which measures
        assert one == other


def test_recipes_of_any_folder_stop_nothing(checkout: Path) -> None:
    """One with a command's word gets another; one that has no name of an extension has no task."""
    text = (checkout / "extensions/attr/recipe.toml").read_text()
    folders = [checkout / "extensions" / name for name in ("tree", "tree.tcz", "a=b", "-x", "new\nline")]
    for folder in folders:
        folder.mkdir()
        (folder / "recipe.toml").write_text(text)
    done = doit(checkout, "list", "--all", "profile=apt")
    for folder in folders:
        shutil.rmtree(folder)
    assert done.status == 0, done.output
    words = [line.split()[0] for line in done.output.splitlines()]
    assert {"tcz:tree", "tcz:tree.tcz"} <= set(words)
    assert not [word for word in words if word in ("tcz:a=b", "tcz:-x", "tcz:new", "line")]


def test_options_of_run_go_after_a_task_too(checkout: Path) -> None:
    early = doit(checkout, "run", "--reporter", "json", "images", "profile=apt")
    late = doit(checkout, "images", "--reporter", "json", "profile=apt")
    assert (early.status, late.status) == (0, 0), early.output + late.output
    assert [json.loads(done.output)["tasks"][0]["name"] for done in (early, late)] == ["images"] * 2


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--all", "--status"],
        ["help", "iso"],
        ["info", "iso"],
        ["completion", "words"],
        ["graph"],
        ["explain"],
        ["forget", "iso"],
        ["clean", "iso"],
    ],
)
def test_looking_opens_no_connection_and_makes_nothing(checkout: Path, words: list[str]) -> None:
    before = sorted(checkout.rglob("*"))
    program = (
        "import socket, sys\n"
        "def refuse(*words): raise SystemExit('a connection')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from tasks.cli.main import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, *words],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) in [(0, ""), (1, "")], (
        done.stderr
    )  # info: 1 if it is not up to date
    assert "profile=auto" not in done.stdout
    assert sorted(checkout.rglob("*")) == before


def test_a_run_decides_and_records_the_profile_first(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "tcbuild")
    env = {"PYTHONPATH": str(folder), "TCBUILD_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tasks.cli.main", "test:nothing", "offline=1"],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    record = json.loads((folder / "artifacts/profile.json").read_text())
    assert record["profile"] == "apt"
    assert done.stderr.startswith("profile=auto chose apt: ")
    assert "profile=auto" not in done.stdout


@pytest.mark.parametrize("words", ["list", "graph", "help", "completion words"])
def test_a_stdout_that_breaks_is_no_traceback(checkout: Path, words: str) -> None:
    for buffered in ("", "PYTHONUNBUFFERED=1 "):
        done = shell(checkout, f"{buffered}./doit {words} | true; echo ${{PIPESTATUS[0]}}")
        assert done.stderr == ""
        assert done.stdout.strip() in ("141", "0"), "0: all was written before the reader left"
        full = shell(checkout, f"{buffered}./doit {words} >/dev/full")
        assert (full.returncode, full.stderr) == (
            1,
            "error: standard output: No space left on device\n",
        )
        closed = shell(checkout, f"{buffered}./doit {words} >&-")
        assert (closed.returncode, closed.stderr) == (1, "error: standard output: Bad file descriptor\n")


def test_head_reads_one_line(checkout: Path) -> None:
    """The reader has gone before the list is written: the exit status is that of SIGPIPE."""
    done = shell(checkout, "PYTHONUNBUFFERED=1 ./doit list | head -1; echo ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("core")
    gone = shell(checkout, "{ sleep 0.2; ./doit list; echo $? >status; } | true; cat status; rm status")
    assert (gone.stdout, gone.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kconfig:menu", "mine"], "error: kconfig:menu needs a terminal"),
        (["kconfig:import", "no-file"], "no-file does not exist"),
        (["kconfig:minimise", "no-fragment"], "no-fragment"),
    ],
)
def test_what_a_command_cannot_take_is_said_before_the_kernel_is_fetched(
    checkout: Path, words: list[str], says: str
) -> None:
    done = doit(checkout, *words, "profile=apt")
    assert done.status == 1 and done.ran == []
    assert says in done.output
    assert not (checkout / "artifacts/apt/linux").exists()

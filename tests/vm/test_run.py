# SPDX-License-Identifier: MIT
"""Commands in the guest by its agent: status, output, errors and input, byte for byte."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.check import Check
from tasks.config.checks import PlacedCheck
from tasks.fetch import guest_root
from tasks.kernel import selftests
from tasks.util.checkout import CHECKOUT
from tasks.vm import share, ssh, virtiofsd
from tasks.vm.agent import Agent
from tasks.vm.boots import Boot, steps
from tasks.vm.checks import Built
from tasks.vm.guest import Ended, Guest, GuestError, TimedOut
from tasks.vm.kselftest import Selection
from tasks.vm.machine import Share
from tasks.vm.results import Result
from tasks.vm.run import Asker
from tasks.vm.ssh import Remote
from tests.support.built import built, with_source
from tests.support.settings import both
from tests.vm.contract import LIMIT, machine

BYTES = bytes(range(256))


class Asked:
    """A guest with its agent."""

    def __init__(self, guest: Guest, agent: Agent) -> None:
        self.guest = guest
        self.agent = agent

    def __call__(
        self, line: str, given: bytes | None = None, user: str = "tc", seconds: float = 120.0
    ) -> tuple[int, bytes, bytes]:
        """Return the status, the output and the errors of a line for the guest's shell."""
        output, errors = io.BytesIO(), io.BytesIO()
        with tempfile.TemporaryFile() as stream:
            stream.write(given or b"")
            stream.seek(0)
            program = f"#!/bin/sh\n{line}\n".encode()
            status = self.agent.run(program, user, output.write, errors.write, stream, seconds)
        return status, output.getvalue(), errors.getvalue()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Asked]:
    """A guest of one test's own, which the test may break."""
    with (
        Guest(machine(built(), "", agent=True), tmp_path / "log", limit=LIMIT) as guest,
        Agent(guest) as agent,
    ):
        assert agent.wait(LIMIT)
        yield Asked(guest, agent)


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[Share]:
    """A folder for each transport that this machine has, and one that is read-only."""
    folder = tmp_path_factory.mktemp("shares")
    (folder / "a,b c").mkdir()
    (folder / "fixed").mkdir()
    (folder / "fixed/file").write_text("fixed\n")
    given = share.parse([f"{folder}/a,b c:/mnt/by/9p", f"{folder}/fixed:ro"], folder)
    if not virtiofsd.missing():
        given += share.parse([f"{folder}/a,b c:/home/tc/virtiofs"], folder)
        given = (*given[:2], replace(given[2], transport="virtiofs"))
    return list(given)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """The keys of a guest that is reached by SSH, and its port here."""
    image = built()
    guest_root.fetch(image, ssh=True)
    output = tmp_path_factory.mktemp("remote")
    for name in ("kernel", "tcz"):
        (output / name).symlink_to(image.paths.output / name)
    with ssh.opened(replace(image.paths, output=output), image.profile) as opened:
        yield opened
    assert not opened.folder.exists()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, shares: list[Share], remote: Remote) -> Iterator[Asked]:
    """One guest for many questions."""
    log = tmp_path_factory.mktemp("run") / "log"
    asked = machine(built(), "", agent=True, shares=tuple(shares), forward=remote.forward)
    with Guest(asked, log, limit=3 * LIMIT) as guest, Agent(guest) as agent:
        assert agent.wait(LIMIT)
        yield Asked(guest, agent)


def test_who_and_where(ask: Asked) -> None:
    assert ask("id -un; pwd; echo $HOME; id -gn >&2") == (0, b"tc\n/home/tc\n/home/tc\n", b"staff\n")
    assert ask("id -un", user="root") == (0, b"root\n", b"")
    told = "tc tc /bin/sh /home/tc/.local/bin vi\n22\n"
    assert ask("echo $LOGNAME $USER $SHELL ${PATH%%:*} $EDITOR; umask | tail -c 3") == (0, told.encode(), b"")


def test_a_command_without_input_and_one_that_ends_its_process_group(ask: Asked) -> None:
    """Scripts do that to take their background programs with them."""
    for user in ("tc", "root"):
        output = io.BytesIO()
        program = b"#!/bin/sh\ncat; readlink /proc/self/fd/0; trap 'kill 0' EXIT; sleep 100 &\n"
        assert ask.agent.run(program, user, output.write, bytes) == 128 + signal.SIGTERM
        assert output.getvalue() == b"/dev/null\n"


def test_exit_statuses_of_all_sizes(ask: Asked) -> None:
    numbers = [*range(0, 256, 17), 1, 2, 121, 122, 123, 124, 125, 126, 127, 128]
    assert [ask(f"exit {number}") for number in numbers] == [(number, b"", b"") for number in numbers]


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("KILL", 9), ("SEGV", 11)])
def test_a_signal_is_128_and_its_number(ask: Asked, name: str, number: int) -> None:
    assert ask(f"kill -{name} $$")[0] == 128 + number


def test_every_byte_both_ways(ask: Asked) -> None:
    """NUL, CR LF, escapes, and no newline at the end."""
    assert ask("tee /dev/stderr", given=BYTES) == (0, BYTES, BYTES)
    assert ask("cat", given=b"\r\n\0\x1b[2J>") == (0, b"\r\n\0\x1b[2J>", b"")
    assert ask("cat; echo end") == (0, b"end\n", b"")


def test_much_output_and_input(ask: Asked) -> None:
    """10 MB that nothing compresses, and the digest of what came in."""
    much = os.urandom(10_000_000)
    status, output, errors = ask("tee /tmp/much; md5sum < /tmp/much >&2; rm /tmp/much", given=much)
    assert status == 0
    assert output == much
    assert errors.split()[0].decode() == hashlib.md5(much).hexdigest()


def test_input_that_nobody_reads_is_not_the_next_commands(ask: Asked) -> None:
    assert ask("head -c 2", given=b"x" * 300_000) == (0, b"xx", b"")
    assert ask("true", given=BYTES)[0] == 0
    assert ask("cat", given=b"mine") == (0, b"mine", b"")


@pytest.mark.parametrize("user", ["tc", "root"])
def test_the_streams_can_be_opened_by_name(ask: Asked, user: str) -> None:
    line = "sleep 1; cat /dev/stdin; echo o > /dev/stdout; echo e > /dev/stderr"
    assert ask(line, given=b"given\n", user=user) == (0, b"given\no\n", b"e\n")


def test_what_still_runs_writes_into_no_later_command(ask: Asked) -> None:
    """It goes on without harm: a server that is started so serves the next commands."""
    noise = "while :; do echo noise; echo noise >&2; echo on > /tmp/on; usleep 1000; done"
    assert ask(f"sh -c '{noise}' & echo $! > /tmp/pid")[0] == 0
    for _ in range(3):
        assert ask("echo own; sleep 1; echo own >&2") == (0, b"own\n", b"own\n")
    assert ask("rm /tmp/on; sleep 2; kill $(cat /tmp/pid); cat /tmp/on") == (0, b"on\n", b"")


def test_input_that_a_background_program_keeps_is_not_in_the_way(ask: Asked) -> None:
    assert ask("exec 9<&0; sleep 100 <&9 & exit 4", given=b"x" * 300_000)[0] == 4
    assert ask("cat", given=b"mine") == (0, b"mine", b"")


def test_a_guest_without_room_for_a_command_runs_no_half_of_it(ask: Asked) -> None:
    """Its /tmp/guest-agent.PID is where the agent keeps the command."""
    assert ask("mount -t tmpfs -o size=64k,mode=711 tmpfs /tmp/guest-agent.*", user="root")[0] == 0
    with pytest.raises(GuestError, match="no room for the command"):
        ask(f"echo half > /tmp/half\n# {'x' * 200_000}")
    assert ask("umount -l /tmp/guest-agent.*; ls /tmp/half", user="root")[0] == 1
    assert ask("rm -rf /tmp/guest-agent.*; echo on", user="root") == (0, b"on\n", b"")
    assert ask("echo on") == (0, b"on\n", b"")


def test_what_runs_on_in_the_background_is_not_waited_for(ask: Asked) -> None:
    started = time.monotonic()
    assert ask("sleep 100 & echo now") == (0, b"now\n", b"")
    assert time.monotonic() - started < 60


def test_many_commands_in_one_boot(ask: Asked) -> None:
    """As many as $TCBUILD_COMMANDS says: each takes about a second without KVM."""
    count = int(os.environ.get("TCBUILD_COMMANDS", "20"))
    assert [ask(f"echo {number}")[1] for number in range(count)] == [
        f"{number}\n".encode() for number in range(count)
    ]


def test_a_full_disk_is_the_commands_own_fault(ask: Asked) -> None:
    fill = "dd if=/dev/zero of=/mnt/x bs=128k count=1; s=$?; umount /mnt; exit $s"
    status, _, errors = ask(f"mount -t tmpfs -o size=64k tmpfs /mnt; {fill}", user="root")
    assert status == 1
    assert b"No space left on device" in errors


def test_a_flood_on_the_console_does_no_harm(ask: Asked) -> None:
    assert ask("yes flood | head -c 3000000 > /dev/ttyS0; echo done", user="root") == (0, b"done\n", b"")


def test_a_screenshot_shows_what_is_on_the_screen(ask: Asked, tmp_path: Path) -> None:
    """The image changes when the screen does, and not otherwise."""
    for name, line in (("one", "true"), ("two", "true"), ("three", "yes | head -n 99 > /dev/tty1")):
        assert ask(f"{line}; printf '\\033[?25l' > /dev/tty1", user="root")[0] == 0  # no cursor that blinks
        ask.guest.screenshot(tmp_path / f"{name}.png")
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one[:8] == b"\x89PNG\r\n\x1a\n"
    assert (one == two, two == three) == (True, False)


def test_a_folder_of_this_machine_is_in_the_guest(
    ask: Asked, shares: list[Share], capsys: pytest.CaptureFixture[str]
) -> None:
    """By each transport: bytes, modes, owners and links, both ways; and nothing into what is read-only."""
    share.mount(ask.agent, shares)
    said = capsys.readouterr().out
    for one in shares:
        assert f"the guest has mounted {one.path} by {one.transport}, read" in said
    root = os.geteuid() == 0
    for one in (each for each in shares if not each.read_only):
        folder = one.folder / one.transport
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        much = os.urandom(1_000_000)
        (folder / "in").write_bytes(much)
        (folder / "in").chmod(0o640)
        (folder / "run").write_text("#!/bin/sh\necho ran\n")
        (folder / "run").chmod(0o755)
        (folder / "caf\xe9 a").symlink_to("in")
        if root:
            os.chown(folder / "in", 1001, 50)
        owner = "1001:50" if root else f"{os.geteuid()}:{os.getegid()}"
        place = f"{one.path}/{one.transport}"
        asked = f"cd {place}; stat -c %u:%g:%a in; readlink caf*; ./run; md5sum < in"
        told = f"{owner}:640\nin\nran\n{hashlib.md5(much).hexdigest()}  -\n".encode()
        assert ask(asked, user="root") == (0, told, b"")
        made = (
            "cp in out; chmod 750 out; ln out hard; ln -s ../x soft; mkdir d; mv hard d/hard; printf x >> out"
        )
        assert ask(f"cd {place}; umask 022; {made}", user="root") == (0, b"", b"")
        assert ask(f"echo mine > {place}/of-tc") == (0, b"", b"")
        assert (folder / "out").read_bytes() == much + b"x"
        assert stat.filemode((folder / "out").stat().st_mode) == "-rwxr-x---"
        assert (folder / "d/hard").samefile(folder / "out")
        assert (folder / "soft").readlink() == Path("../x")
        for name, number in (("out", 0), ("of-tc", 1001)):
            assert (folder / name).stat().st_uid == (number if root else os.geteuid())
    fixed = next(one for one in shares if one.read_only)
    tried = f"cd {fixed.path}; cat file; mount -o remount,rw . ; echo x > file; echo x > new; rm file; ls"
    status, output, errors = ask(tried, user="root")
    assert (status, output) == (0, b"fixed\nfile\n")
    assert errors.count(b"Read-only file system") >= 3
    assert [(path.name, path.read_text()) for path in fixed.folder.iterdir()] == [("file", "fixed\n")]


class Outside:
    """A person on this machine, who has no other keys and knows no other hosts than those of the run."""

    def __init__(self, remote: Remote) -> None:
        self.config = str(remote.folder / "config")

    def run(self, *words: str, given: bytes = b"") -> tuple[int, bytes, str]:
        done = subprocess.run(words, input=given, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    def ssh(self, *words: str, given: bytes = b"") -> tuple[int, bytes, str]:
        return self.run("ssh", "-F", self.config, *words, given=given)


@pytest.fixture(scope="module")
def outside(ask: Asked, remote: Remote) -> Outside:
    """The guest answers from here on."""
    remote.start(ask.agent, ask.guest.check)
    return Outside(remote)


def test_ssh_gives_a_commands_status_and_bytes(outside: Outside) -> None:
    line = "id -un; pwd; cat; echo e >&2; exit 7"
    assert outside.ssh("guest", line, given=BYTES) == (7, b"tc\n/home/tc\n" + BYTES, "e\n")
    assert outside.ssh("root@guest", "id -un") == (0, b"root\n", "")
    typed = f"(echo 'tty; exit 9'; sleep 5) | ssh -tt -F {shlex.quote(outside.config)} guest"
    status, output, _ = outside.run("sh", "-c", typed)
    assert (status, b"/dev/pts/" in output) == (9, True)


def test_nobody_else_gets_in_and_no_other_host_is_taken_for_the_guest(
    outside: Outside, remote: Remote, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    config = tmp_path / "config"
    config.write_text(Path(outside.config).read_text().replace(f"{remote.folder}/key", str(other)))
    status, _, said = outside.run("ssh", "-F", str(config), "guest", "true")
    assert (status, "Permission denied (publickey)" in said) == (255, True)
    hosts = tmp_path / "hosts"
    hosts.write_text(f"guest {other.with_suffix('.pub').read_text()}")
    status, _, said = outside.ssh("-o", f"UserKnownHostsFile={hosts}", "guest", "true")
    assert (status, "Host key verification failed" in said) == (255, True)
    assert remote.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("protocol", [(), ("-O",)], ids=["sftp", "scp"])
def test_scp_copies_both_ways(outside: Outside, protocol: tuple[str, ...], tmp_path: Path) -> None:
    """By the protocol of today, and by that of older clients."""
    much = os.urandom(300_000)
    (tmp_path / "in").write_bytes(much)
    words = ("scp", *protocol, "-q", "-p", "-F", outside.config)
    assert outside.run(*words, f"{tmp_path}/in", "guest:in") == (0, b"", "")
    assert outside.run(*words, "guest:in", f"{tmp_path}/out") == (0, b"", "")
    assert (tmp_path / "out").read_bytes() == much
    assert outside.ssh("guest", "rm in") == (0, b"", "")


def test_rsync_keeps_two_folders_alike(outside: Outside, tmp_path: Path) -> None:
    for name in ("a", "deep/b"):
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text(name)
    (tmp_path / "here/link").symlink_to("deep/b")
    words = ("rsync", "-a", "--delete", "-e", f"ssh -F {outside.config}")
    assert outside.run(*words, f"{tmp_path}/here/", "guest:there/") == (0, b"", "")
    assert outside.ssh("guest", "cd there && readlink link && rm a && echo c > c")[:2] == (0, b"deep/b\n")
    assert outside.run(*words, "guest:there/", f"{tmp_path}/here/") == (0, b"", "")
    files = {path.name: path.read_text() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert files == {"b": "deep/b", "link": "deep/b", "c": "c\n"}


def test_the_guests_own_files_get_no_key(outside: Outside) -> None:
    """What a backup would keep."""
    assert outside.ssh("root@guest", "ls -A /root/.ssh /home/tc/.ssh /opt/.ssh 2>/dev/null")[1] == b""


def test_the_extension_dropbear_serves_the_keys_that_the_guest_has(outside: Outside, ask: Asked) -> None:
    """Beside the server of `--ssh`, which has a port of its own."""
    tcz = (built().paths.tcz / "dropbear.tcz").read_bytes()
    load = "cat > /tmp/dropbear.tcz && tce-load -il /tmp/dropbear.tcz >&2 && command -v dropbear"
    status, output, errors = ask(load, given=tcz)
    assert (status, output) == (0, b"/usr/sbin/dropbear\n"), errors
    service = "/usr/local/etc/init.d/dropbear"
    assert ask(f"{service} start")[::2] == (1, f"dropbear: needs root: sudo {service} start\n".encode())
    assert ask(f"{service} status") == (3, b"dropbear: does not run\n", b"")
    status, output, errors = ask(f"{service} start", user="root")
    assert (status, b"dropbear: listens at port 22 (process" in output) == (0, True), (output, errors)
    key = "stat -c %a /usr/local/etc/dropbear/dropbear_ed25519_host_key; md5sum /usr/local/etc/dropbear/*"
    _, made, _ = ask(key, user="root")
    assert made.startswith(b"600\n")
    pair = "mkdir -m 700 ~/.ssh; dropbearkey -t ed25519 -f ~/.ssh/id > ~/.ssh/said"
    allow = "grep ^ssh- ~/.ssh/said > ~/.ssh/authorized_keys"
    there = "dbclient -y -i ~/.ssh/id tc@127.0.0.1 'id -un; exit 5' < /dev/null 2> /dev/null"
    assert ask(f"{pair}; {allow}; {there}")[:2] == (5, b"tc\n")
    assert ask(f"rm ~/.ssh/authorized_keys; {there}")[:2] == (1, b"")
    status, output, _ = ask(f"{service} restart; PORT=22022 {service} restart", user="root")
    assert (status, output.count(b"listens at")) == (1, 1), "the other server has that port"
    assert ask(key, user="root")[1] == made
    assert ask(f"{service} stop; {service} status", user="root")[0] == 3
    assert outside.ssh("guest", "rm -r .ssh; echo on") == (0, b"on\n", "")


def test_the_kernels_self_tests_run(ask: Asked) -> None:
    """As by `./doit kselftest`: the agent brings them; one prints KTAP, one has its exit status alone."""
    chosen = Selection(selftests.build(with_source(), ["size", "tmpfs"]))
    asker = Asker(ask.guest, ask.agent)
    brought, size, tmpfs = (step.make(asker) for step in chosen.steps())
    assert brought.outcome == "passed"
    assert [(part.name, part.outcome) for part in size.results] == [("get runtime memory use", "passed")]
    assert (tmpfs.name, tmpfs.outcome, tmpfs.results) == ("tmpfs: bug-link-o-tmpfile", "passed", ())
    assert "# System runtime memory report" in chosen.said[0]


def test_a_command_that_hangs_is_given_up(ask: Asked) -> None:
    """The last question to this guest: its agent waits on."""
    started = time.monotonic()
    with pytest.raises(TimedOut, match="the command did not end within 3 s"):
        ask("sleep 1000", seconds=3.0)
    assert time.monotonic() - started < 30


def test_a_panic_is_told(start: Asked, tmp_path: Path) -> None:
    """In a check of `./doit qemu:test`: by the check, and by the kernel's own words; no other is made."""
    command = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 100"
    first, second = Check("first", command=command, user="root"), Check("second", command="true")
    asked = steps(Built.of(*both(built())), [PlacedCheck(first), PlacedCheck(second)], "direct")
    parts: list[Result] = []
    Boot("direct", tmp_path, asked).ask(start.guest, start.agent, parts)
    up, made, log = parts
    assert (up.outcome, made.outcome, log.outcome) == ("passed", "failed", "failed")
    panic = "Kernel panic - not syncing: sysrq triggered crash"
    assert made.message == f"the guest's kernel panicked: {panic}"
    assert panic in made.detail
    assert panic in log.results[-1].detail


def test_a_power_off_ends_it(start: Asked) -> None:
    with pytest.raises(Ended, match="the guest has ended"):
        start("poweroff -f", user="root")


def test_by_the_command_that_a_person_uses() -> None:
    """Commands and a script in one boot of the ISO, with a folder; the first that fails gives the status."""
    with tempfile.NamedTemporaryFile("w", suffix=".awk") as script:
        script.write('#!/usr/bin/awk -f\n{ print "awk", $1 }\n')
        script.flush()
        words = [
            "--script",
            script.name,
            "--share",
            f"{CHECKOUT.root / 'docs'}:ro",
            "--ssh",
            "--",
            "cmp /mnt/docs/qemu.md - < /mnt/docs/qemu.md && echo same",
            "--",
            "echo A=1 $USER",
            "--",
            "sh",
            "-c",
            "echo to >&2; exit 7",
            "--",
            "echo no",
        ]
        done = subprocess.run(
            ["./doit", "qemu:run", *words],
            cwd=CHECKOUT.root,
            input=b"given\n",
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (7, b"awk given\nsame\nA=1 tc\n"), done.stderr.decode()
    assert b"share: the guest has mounted /mnt/docs by " in done.stderr
    folder = built().paths.output / "ssh"
    assert f"ssh: the guest answers: ssh -F {folder}/config guest\n".encode() in done.stderr
    assert not folder.exists()
    assert done.stderr.endswith(b"to\n")

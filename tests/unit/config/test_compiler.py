"""The table [compiler]: what it may say, what the command line changes, and what farms tell."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler, Host, chosen, storage_address
from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tasks.toolchain import distcc, icecc, launcher
from tasks.toolchain.farm import Object, difference
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError

PROFILE = Path("profiles/mine.toml")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('launcher = "gomacc"', "compiler.launcher: expected one of 'ccache', 'sccache', 'distcc', 'icecc'"),
        ('hosts = "10.1.0.2"', "compiler.hosts: expected an array, got '10.1.0.2'"),
        (
            'hosts = ["10.1.0.2/4", "x y"]',
            "compiler.hosts[1]: expected ADDRESS[:PORT][/SLOTS], as 10.1",
        ),
        ('hosts = ["10.1.0.2/0"]', "compiler.hosts[0]: expected ADDRESS[:PORT][/SLOTS]"),
        ('hosts = ["10.1.0.2:70000"]', "compiler.hosts[0]: expected ADDRESS[:PORT][/SLOTS]"),
        ('hosts = ["--localslots=9"]', "compiler.hosts[0]: expected ADDRESS[:PORT][/SLOTS]"),
        ('scheduler = "10.1.0.2/4"', "compiler.scheduler: expected ADDRESS[:PORT], as 10.1.0.2"),
        ('remote_storage = "ftp://a:secret@b"', "compiler.remote_storage: expected http://HOST… or redis://"),
        ('remote_storage = "http://a:port"', "compiler.remote_storage: expected http://HOST… or redis://"),
        ('hosts = ["a"]\nscheduler = "b"', "compiler.scheduler: either a scheduler (icecc) or hosts"),
        ('luncher = "none"', "unknown key 'compiler.luncher'"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path: Path, table: str, expected: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[compiler]\n{table}\n")
    with pytest.raises(UserError) as caught:
        toml_schema.build(toml_schema.read_toml(path)["compiler"], Compiler, str(path), "compiler")
    assert caught.value.message.startswith(f"{path}: {expected}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.1.0.2", Host("10.1.0.2", 3632, 4)),
        ("10.1.0.2/8", Host("10.1.0.2", 3632, 8)),
        ("build-1.lan:4000/16", Host("build-1.lan", 4000, 16)),
    ],
)
def test_hosts_have_a_port_and_slots(text: str, host: Host) -> None:
    assert Compiler(hosts=(text,)).distcc_hosts == [host]


@pytest.mark.parametrize(
    ("table", "farm"),
    [
        (Compiler(), ""),
        (Compiler(hosts=("a",)), "distcc"),
        (Compiler("distcc", hosts=("a",)), "distcc"),
        (Compiler(scheduler="a"), "icecc"),
        (Compiler("icecc", scheduler="a"), "icecc"),
        (Compiler("none", hosts=("a",)), ""),
        (Compiler("sccache", scheduler="a"), ""),
    ],
)
def test_which_farm_is_used(table: Compiler, farm: str) -> None:
    assert table.farm == farm


def test_the_command_line_goes_before_the_environment_and_that_before_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Compiler("distcc", hosts=("a/1",))
    assert chosen(table, {}, PROFILE) is table
    monkeypatch.setenv("TCBUILD_HOSTS", "b/2,c")
    assert chosen(table, {}, PROFILE).hosts == ("b/2", "c")
    monkeypatch.setenv("TCBUILD_REMOTE_STORAGE", "redis://cache")
    given = {"hosts": "", "launcher": "ccache"}
    assert chosen(table, given, PROFILE) == Compiler("ccache", remote_storage="redis://cache")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"launcher": "distcc"}, "missing key 'compiler.hosts', needed by launcher = 'distcc'"),
        ({"launcher": "icecc"}, "missing key 'compiler.scheduler', needed by launcher = 'icecc'"),
        ({"launcher": "cache"}, "launcher= on the command line: compiler.launcher: expected one of"),
        ({"hosts": "a,b c"}, "hosts= on the command line: compiler.hosts[1]: expected ADDRESS"),
        ({"launcher": "sccache", "remote_storage": "redis://a"}, "compiler.remote_storage: Debian's sccache"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_as_one(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen(Compiler(), given, PROFILE)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://cache.lan/kernel|keep-alive=true", ("cache.lan", 80)),
        ("redis://user:pass@10.0.0.9:7000", ("10.0.0.9", 7000)),
        ("redis://10.0.0.9", ("10.0.0.9", 6379)),
        ("https://cache.lan", None),
        ("/a/folder", None),
    ],
)
def test_the_address_of_a_remote_storage(url: str, address: tuple[str, int] | None) -> None:
    assert storage_address(url) == address


def test_the_launcher_is_the_first_word(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()

    def with_table(table: Compiler) -> Settings:
        return replace(settings, profile=replace(settings.profile, compiler=table))

    def words(table: Compiler) -> str:
        return launcher.of_profile(with_table(table)).compiler_command("gcc", has_ccache=False)

    assert words(Compiler("none")) == words(Compiler("ccache")) == "gcc"
    assert words(Compiler("distcc", hosts=("a",))) == "distcc gcc"
    icecc = with_table(Compiler("icecc", scheduler="a"))
    assert kbuild.of_profile(icecc).argv[-1] == "HOSTCC=icecc gcc"
    wrapper = words(Compiler("sccache")).split()[0]
    assert Path(wrapper).is_file() and wrapper.startswith(str(ROOT))


HERE = Object(b"\0GCC: (Debian 12.2.0-14) 12.2.0\0", "GNU assembler version 2.40 (x86_64-linux-gnu)\n")


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (HERE, ""),
        (Object(b"", "ERROR: connect to a:1 failed: refused\nERROR: no\n"), "(ERROR: connect to a:1 failed"),
        (Object(b"", ""), "it did not compile a probe"),
        (
            Object(b"\0GCC: (Debian 10.2.1-6) 10.2.1 20210110\0", HERE.output),
            "its compiler is (Debian 10.2.1-6) 10.2.1, here it is (Debian 12.2.0-14) 12.2.0",
        ),
        (
            Object(HERE.content, "GNU assembler version 2.35.2 (x86_64-linux-gnu)\n"),
            "its assembler is 2.35.2 (x86_64-linux-gnu), here it is 2.40 (x86_64-linux-gnu)",
        ),
        (Object(b"x" + HERE.content, HERE.output), "it compiles the probe to other bytes"),
    ],
)
def test_a_host_that_makes_other_bytes_is_told_by_what_differs(there: Object, says: str) -> None:
    assert says in difference(HERE, there)
    assert bool(difference(HERE, there)) == bool(says)


def test_a_distcc_log_becomes_one_line() -> None:
    log = """\
distcc[11] compile a.c on 10.1.0.2:3632/4 completed ok
distcc[11] cpp a.c on localhost completed ok
distcc[12] compile b.c on 10.1.0.3:3632/4 completed ok
distcc[13] (dcc_build_somewhere) Warning: failed to distribute, running locally instead
distcc[13] compile c.c on localhost completed ok
distcc[14] Warning: failed to distribute d.c to 10.1.0.3:3632/4, running locally instead
distcc[14] compile d.c on localhost completed ok
distcc[15] compile e.c on 10.1.0.2:3632/4 completed ok
distcc[16] compile (null) on localhost completed ok
"""
    line = distcc.summary(log.splitlines(keepends=True))
    told = "2 jobs on 10.1.0.2, 1 jobs on 10.1.0.3, 2 jobs here (2 of them came back from a host)"
    assert line == f"distcc: {told}"
    assert distcc.summary([]) == "distcc: no jobs"


def test_this_machine_may_be_one_of_the_hosts() -> None:
    line = distcc.hosts_line(Compiler(hosts=("10.1.0.2:99/3", "localhost/2")).distcc_hosts)
    assert line.split()[2:] == ["10.1.0.2:99/3", "localhost/2"]


def test_the_scheduler_lists_the_hosts_that_take_jobs() -> None:
    answer = """\
200-ICECC 1.4.0: 13s uptime, 3 hosts, 0 jobs in queue (0 total).
200 Use 'help' for help and 'quit' to quit.
 left (10.1.0.2:10245) [x86_64] speed=0.00 jobs=0/4 load=795
 right (10.1.0.3:10245) [x86_64] speed=1.20 jobs=1/8 load=12
 client (127.0.0.1:0) [x86_64] speed=0.00 jobs=0/2 load=795
200 done
"""
    assert icecc.parse_hosts(answer) == [
        icecc.Host("left", "10.1.0.2", 4),
        icecc.Host("right", "10.1.0.3", 8),
    ]


@pytest.mark.parametrize(
    ("folder", "arguments", "expected"),
    [
        ("build", "-I{0}/linux/include -c {0}/linux/a.c", "-I../linux/include -c ../linux/a.c"),
        ("build/tools/x", "-I{0}/linux/a:{0}/b -o y", "-I../../../linux/a:../../../b -o y"),
        (".", "{0}/a.c -o b", "./a.c -o b"),
        ("build", "-fmacro-prefix-map={0}/linux/= -fdebug-prefix-map={0}=.", "-fmacro-prefix-map=../linux/="),
        ("build", '-DX="{0}/a" {0}x/b', '-DX="{0}/a" {0}x/b'),
        ("build", "-g -I{0}/linux", "-g -I{0}/linux"),
        ("build", "-Wa,-gdwarf-2 -I{0}/linux", "-Wa,-gdwarf-2 -I{0}/linux"),
        ("build", "-g0 -I{0}/linux", "-g0 -I../linux"),
        ("../other", "-I{0}/linux", "-I{0}/linux"),
    ],
)
def test_paths_below_the_output_become_relative_for_sccache(
    tmp_path: Path, folder: str, arguments: str, expected: str
) -> None:
    base, tools = tmp_path / "a b" / "out", tmp_path / "bin"
    where = base / folder
    where.mkdir(parents=True)
    base.mkdir(exist_ok=True)
    tools.mkdir()
    (tools / "sccache").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "sccache").chmod(0o755)
    words = [word.replace("{0}", str(base)) for word in arguments.split()]
    env = {"PATH": f"{tools}:/usr/bin:/bin", "TCBUILD_BASE": str(base), "SCCACHE_SERVER_PORT": "1"}
    argv = [str(ROOT / "tasks/toolchain/sccache-relative"), "gcc", *words]
    got = subprocess.run(argv, cwd=where, env=env, capture_output=True, text=True, check=True).stdout
    assert got.splitlines() == ["gcc", *(word.replace("{0}", str(base)) for word in expected.split())]

# SPDX-License-Identifier: MIT
"""The table [compiler]: what it may say, what the command line changes, and what farms tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config.compiler import Compiler, Host, storage_address, with_overrides
from tasks.util import toml_schema
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
    assert with_overrides(table, {}, PROFILE) is table
    monkeypatch.setenv("TCBUILD_HOSTS", "b/2,c")
    assert with_overrides(table, {}, PROFILE).hosts == ("b/2", "c")
    monkeypatch.setenv("TCBUILD_REMOTE_STORAGE", "redis://cache")
    given = {"hosts": "", "launcher": "ccache"}
    assert with_overrides(table, given, PROFILE) == Compiler("ccache", remote_storage="redis://cache")


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
        with_overrides(Compiler(), given, PROFILE)
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

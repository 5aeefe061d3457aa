# SPDX-License-Identifier: MIT
"""The variables of the command line and the settings they lead to."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.cli.variables import check_qemu, resolve
from tasks.config import architecture, compiler
from tasks.config.check import Check
from tasks.config.profile import Profile
from tasks.config.settings import SHARED_VARIABLE, Network
from tasks.fetch import mirror_probe
from tasks.util.errors import UserError
from tasks.vm import machine
from tests.support.profiles import minimal_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return minimal_checkout(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, {"frozen": False, "offline": False, "fragments": ("one", "two")}),
        ({"frozen": "1", "offline": "1"}, {"frozen": True, "offline": True}),
        ({"fragments": "two"}, {"fragments": ("two",)}),
        ({"fragments": ""}, {"fragments": ()}),
    ],
)
def test_command_line_chooses(checkout: Path, variables: dict[str, str], expected: dict[str, object]) -> None:
    chosen = resolve({"profile": "mine", **variables}, checkout / "artifacts")
    network = chosen.network
    found = {
        "frozen": network.frozen,
        "offline": network.offline,
        "fragments": chosen.profile.kernel.fragments,
    }
    assert {name: found[name] for name in expected} == expected
    assert chosen.paths.output == checkout / "artifacts/mine"
    assert chosen.paths.used_lock == checkout / "artifacts/mine/lock.toml"
    assert chosen.paths.pinned_lock == checkout / "profiles/mine.lock.toml"
    assert chosen.paths.cache == checkout / "cache"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([("--forward", "5000")], "--forward 5000: expected HOSTPORT:GUESTPORT"),
        ([("--forward", "5001:80"), ("--forward", "5001:81")], "host port 5001 is named twice"),
        ([("--memory", "-4")], "--memory -4: expected at least 64"),
        ([("--halted", "")], "--halted: nothing would start the guest"),
        ([("--dump-on-panic", "")], "--dump-on-panic '': expected the name of a file"),
        ([("--dump-on-panic", "nowhere/core")], "there is no folder .*nowhere"),
    ],
)
def test_a_machine_that_cannot_be_started_is_refused_before_the_build(
    options: list[tuple[str, str]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        check_qemu(options)


def test_a_machine_without_its_firmware_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = replace(architecture.load("x86_64").emulator, uefi_code=str(tmp_path / "none"))
    require = machine.require_uefi
    monkeypatch.setattr(machine, "require_uefi", lambda _: require(missing))
    check_qemu([("--firmware", "bios"), ("--memory", "512")])
    with pytest.raises(UserError, match="UEFI firmware for QEMU is not installed"):
        check_qemu([("--firmware", "uefi")])


@pytest.mark.parametrize("name", ["frozen", "offline"])
@pytest.mark.parametrize("value", ["yes", "true", "", "2"])
def test_flags_are_0_or_1(checkout: Path, name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}={value}: expected 0 or 1"):
        resolve({"profile": "mine", name: value}, checkout / "artifacts")


def test_auto_is_decided_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror's outage later on must not change what is built."""
    asked: list[bool] = []

    def choose(profiles: dict[str, Profile], offline: bool) -> tuple[str, str]:
        asked.append(offline)
        assert list(profiles) == ["mine"]
        return "mine", "because"

    monkeypatch.setattr(mirror_probe, "choose", choose)
    for _ in range(2):
        assert resolve({"offline": "1"}, checkout / "artifacts").paths.name == "mine"
    assert asked == [True]
    record = json.loads((checkout / "artifacts/profile.json").read_text())
    assert record == {"profile": "mine", "reason": "because"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json"])
def test_damaged_record_of_auto(checkout: Path, content: str) -> None:
    record = checkout / "artifacts/profile.json"
    record.parent.mkdir()
    record.write_text(content)
    with pytest.raises(UserError, match="is damaged") as caught:
        resolve({}, checkout / "artifacts")
    assert "profile=NAME" in caught.value.hint


def test_every_variable_has_a_description() -> None:
    assert set(compiler.VARIABLES) <= set(variables.VARIABLES)
    assert all(variables.VARIABLES.values())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--junit", "", "--junit '': expected the name of a file, and there is a folder"),
        ("--tap", "here", "--tap 'here': expected the name of a file, and there is a folder"),
        ("--junit", "nowhere/x.xml", "--junit 'nowhere/x.xml': there is no folder .*/nowhere"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, words: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("TCBUILD_CWD", str(tmp_path))
    variables.check_reports([("--media", "cd"), ("--junit", "here/x.xml"), ("--tap", "x.tap")])
    with pytest.raises(UserError, match=words):
        variables.check_reports([(option, value)])


def test_the_profile_but_what_changes_no_result_is_a_key_of_what_writes_manifests(checkout: Path) -> None:
    whole = resolve({"profile": "mine"}, checkout / "artifacts").profile
    every = {field.name for field in dataclasses.fields(Profile)}
    assert variables.published_keys(whole).keys() == every - {"compiler", "check", "tcbuild"}
    checked = (Check("c", command="true"),)
    farm = replace(whole, compiler=replace(whole.compiler, launcher="none"), check=checked)
    assert variables.published_keys(farm) == variables.published_keys(whole)


def test_the_shared_cache_is_this_users_own_unless_another_or_none_is_named(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(**given: str) -> tuple[str, bool]:
        network = resolve({"profile": "mine", **given}, checkout / "artifacts").network
        return network.shared_cache, network.own_cache

    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "user"))
    own = str(tmp_path / "user/results")
    monkeypatch.delenv(SHARED_VARIABLE)
    assert chosen() == chosen(cache="own") == chosen(cache="") == (own, True)
    assert chosen(cache="none") == ("", False)
    assert chosen(cache=own) == (own, False)
    assert chosen(cache="http://cache.lan/x") == ("http://cache.lan/x", False)
    monkeypatch.setenv(SHARED_VARIABLE, "/mnt/cache")
    assert chosen() == ("/mnt/cache", False)
    assert chosen(cache="own") == (own, True)
    assert chosen(cache="none") == ("", False)
    monkeypatch.setenv(SHARED_VARIABLE, "none")
    assert chosen() == ("", False)


def test_what_an_edited_kernel_tree_gives_is_kept_where_somebody_asks_for_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SHARED_VARIABLE)
    file = checkout / "profiles/mine.toml"
    source = f"""source = {{ kind = "file", path = "{tmp_path}" }}"""
    file.write_text(file.read_text().replace('source = { kind = "apt", package = "linux-source-*" }', source))
    assert resolve({"profile": "mine"}, checkout / "artifacts").network == Network()
    assert resolve({"profile": "mine", "cache": "own"}, checkout / "artifacts").network.own_cache

# SPDX-License-Identifier: MIT
"""The doctor on a machine that lacks this and that: it names what, says how to fix it, and goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.cli import doctor
from tasks.cli.verdict import Check, Verdict
from tasks.config.settings import Settings
from tasks.toolchain import build_root, entry
from tasks.util import file_record, host
from tasks.util.errors import UserError
from tasks.util.log import logger
from tests.support.mirror import Mirror, Page, forbid_sockets
from tests.support.settings import with_values


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


def only(*checks: Check) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(doctor, "CHECKS", checks)
    return patch


def well(settings: Settings) -> Iterator[Verdict]:
    yield Verdict("one", "ok", "fine")


def lacking(settings: Settings) -> Iterator[Verdict]:
    yield Verdict("two", "warn", "not there", "get it")


def broken(settings: Settings) -> Iterator[Verdict]:
    yield Verdict("three", "fail", "wrong", "repair it")


def blind(settings: Settings) -> Iterator[Verdict]:
    raise PermissionError(13, "Permission denied", "/there")
    yield


def helpless(settings: Settings) -> Iterator[Verdict]:
    raise UserError("a tool is not installed", "apt-get install tool")
    yield


def test_each_check_is_a_line_and_says_how_to_fix_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = only(well, lacking, blind, helpless)
    doctor.doctor(settings)
    patch.undo()
    assert capsys.readouterr().out.splitlines() == [
        "ok   one: fine",
        "warn two: not there",
        "     fix: get it",
        "warn blind: cannot be looked at: [Errno 13] Permission denied: '/there'",
        "     fix: check the permissions of that path",
        "warn helpless: a tool is not installed",
        "     fix: apt-get install tool",
    ]


def test_only_a_failure_is_an_error(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    patch = only(well, broken, lacking)
    with pytest.raises(UserError, match="not fit to build: three"):
        doctor.doctor(settings)
    with pytest.raises(SystemExit) as left:
        capsys.readouterr()
        doctor.doctor(settings, as_json=True)
    patch.undo()
    assert left.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert [(item["name"], item["state"], item["mend"]) for item in found] == [
        ("one", "ok", ""),
        ("three", "fail", "repair it"),
        ("two", "warn", "get it"),
    ]


def test_a_check_that_logs_spoils_no_json(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """As the check of KVM does when it boots a guest for the first time."""

    def wordy(settings: Settings) -> Iterator[Verdict]:
        logger.info("KVM works here")
        yield Verdict("one", "ok", "fine")

    patch = only(wordy)
    doctor.doctor(settings, as_json=True)
    patch.undo()
    said = capsys.readouterr()
    assert [item["name"] for item in json.loads(said.out)] == ["one"]
    assert said.err == "KVM works here\n"


def found_by(check: Check, settings: Settings) -> list[Verdict]:
    return list(doctor._run_check(check, settings))


def test_lacking_tools_are_named_with_their_packages(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host.toml").write_text(
        '[host]\nreader = "tool-r"\n'
        '[build]\nsh = "dash"\nnothere = "tool-a"\n"/not/there" = "tool-b"\n[vm]\nneither = "tool-c"\n'
        '[test]\nsh = "dash"\n'
    )
    monkeypatch.setattr(host, "FILE", tmp_path / "host.toml")
    reading, build, vm, test = found_by(doctor._tools, settings)
    assert (reading.state, reading.finding) == ("fail", "lacking: tool-r")
    assert (build.state, build.finding) == ("ok", "not needed: the profile's toolchains bring their own")
    own = replace(settings, profile=replace(settings.profile, toolchain="host"))
    _, build, _, _ = found_by(doctor._tools, own)
    assert (build.state, build.finding) == ("fail", "lacking: tool-a tool-b")
    assert build.fix.endswith("tool-a tool-b")
    assert (vm.state, test.state) == ("warn", "ok")


@pytest.mark.parametrize("oldest, state", [("0.1", "ok"), ("999.1", "warn")])
def test_versions(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest: str, state: str
) -> None:
    (tmp_path / "doctor.toml").write_text(
        f'[tar]\ncommand = ["tar", "--version"]\noldest = "{oldest}"\n'
        '[not-there]\ncommand = ["not-there"]\noldest = "1"\n'
    )
    monkeypatch.setattr(doctor, "VERSIONS", tmp_path / "doctor.toml")
    (verdict,) = found_by(doctor._versions, settings)
    assert (verdict.name, verdict.state) == ("tar", state)


@pytest.mark.parametrize("name", ["results", "cache"])
def test_full_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(doctor, "OUTPUT_GIB" if name == "results" else "CACHE_GIB", 1 << 40)
    verdicts = {verdict.name: verdict for verdict in found_by(doctor._disk_space, settings)}
    assert verdicts[f"space for {name}"].state in ("warn", "fail")
    assert doctor._OTHER_PLACE[name] in verdicts[f"space for {name}"].fix


def test_file_system_that_ignores_case_is_found(tmp_path: Path) -> None:
    class Ignorant(type(tmp_path)):  # type: ignore[misc]
        def exists(self) -> bool:
            return Path(self.parent, self.name.lower()).is_file()

    assert "upper from lower case" in doctor._file_system_fault(Ignorant(tmp_path))


def test_file_system_of_this_machine_is_fit(settings: Settings) -> None:
    assert [verdict.state for verdict in found_by(doctor._file_systems, settings)] == ["ok", "ok"]
    assert not settings.paths.output.exists()


def test_noexec_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.X_OK)  # what noexec makes of it
    assert "noexec" in doctor._file_system_fault(tmp_path)


def test_checkout_from_the_future(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [verdict.state for verdict in found_by(doctor._clock, settings)] == ["ok"]
    monkeypatch.setattr(time, "time", lambda: 1.0)
    (verdict,) = found_by(doctor._clock, settings)
    assert verdict.state == "fail"
    assert "future" in verdict.finding


def download(settings: Settings, name: str, content: bytes) -> Path:
    path = settings.paths.cache / "downloads" / hashlib.sha256(content).hexdigest()[:16] / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_damaged_download_is_named(settings: Settings) -> None:
    good, bad = download(settings, "good", b"good"), download(settings, "bad", b"bad")
    (good.parent / "good.part").write_bytes(b"half")
    (good.parent / ".lock").touch()
    (verdict,) = found_by(doctor.cache, settings)
    assert (verdict.state, verdict.finding.split(",")[0]) == ("ok", "2 downloads are whole")
    bad.write_bytes(b"baD")
    (verdict,) = found_by(doctor.cache, settings)
    assert verdict.state == "fail"
    assert verdict.fix.startswith(f"rm {bad}")


def test_a_scratch_folder_of_a_killed_run_is_no_damaged_download(settings: Settings) -> None:
    good = download(settings, "good", b"good")
    for folder in (good.parent.parent, good.parent):
        scratch = folder / ".apt.abcd_123.part"
        scratch.mkdir()
        (scratch / "half.deb").write_bytes(b"half")
        os.utime(scratch, (0, 0))
    (verdict,) = found_by(doctor.cache, settings)
    assert (verdict.state, verdict.finding.split(",")[0]) == ("ok", "1 downloads are whole")
    (verdict,) = found_by(doctor.leftovers, settings)
    assert verdict.finding == "2 temporary files of killed runs"


def test_leftovers_of_killed_runs(settings: Settings) -> None:
    folder = settings.paths.cache / "downloads"
    folder.mkdir(parents=True)
    old, young = folder / ".lock.abcd_123.part", folder / ".lock.abcd_124.part"
    for path in (old, young):
        path.mkdir()
    (verdict,) = found_by(doctor.leftovers, settings)
    assert (verdict.state, verdict.finding.split(":")[0]) == ("ok", "2 temporary files, younger than a day")
    os.utime(old, (0, 0))
    (verdict,) = found_by(doctor.leftovers, settings)
    assert (verdict.state, verdict.fix) == ("warn", f"rm -r {old}")
    for path in (old, young):
        path.rmdir()
    (verdict,) = found_by(doctor.leftovers, settings)
    assert (verdict.state, verdict.finding) == ("ok", "none of killed runs")


def test_mirrors_that_answer_and_that_do_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with Mirror() as good, Mirror() as bad:
        good.pages["config"] = Page(b"x")
        mirrors = (good.url, bad.url, "http://127.0.0.1:1")
        made = replace(settings, profile=replace(settings.profile, mirrors=mirrors, probe="config"))
        assert [verdict.state for verdict in found_by(doctor.mirrors, made)] == ["ok", "warn", "warn"]
    forbid_sockets(monkeypatch)
    assert [verdict.state for verdict in found_by(doctor.mirrors, with_values(made, offline=True))] == ["ok"]


@pytest.mark.parametrize(
    "told, expected",
    [
        ('APT::Get::AllowUnauthenticated "true";\n', "APT::Get::AllowUnauthenticated"),
        ('Acquire "";\nAcquire::Check-Valid-Until "0";\n', "Acquire::Check-Valid-Until"),
        ('Acquire::AllowInsecureRepositories "no";\nAcquire::Check-Valid-Until "true";\n', ""),
    ],
)
def test_apt_settings_that_give_up_checks(
    told: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apt.conf").write_text(told)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(doctor, "run", lambda argv, **options: type("Said", (), {"stdout": told}))
    assert doctor._insecure_setting() == expected


def test_a_machine_without_package_lists_is_fit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container: no list of its own is used, and a user without root could fetch none."""
    monkeypatch.setattr(doctor, "run", lambda argv, **options: type("Said", (), {"stdout": ""}))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert [verdict.state for verdict in doctor.apt(settings)] == ["ok"]


def test_every_real_check_of_this_machine_answers(settings: Settings) -> None:
    """Whatever this machine lacks; offline, so that nobody is asked."""
    for check in doctor.CHECKS:
        if check is doctor.pip:
            continue
        for verdict in found_by(check, with_values(settings, offline=True)):
            assert verdict.state in ("ok", "warn", "fail")
            assert bool(verdict.fix) == (verdict.state != "ok")


def test_build_roots_are_read_and_old_ones_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_root, "names", lambda: ["host", "debian12"])
    monkeypatch.setenv(entry.VARIABLE, "root")
    (verdict,) = found_by(doctor.build_roots, settings)
    assert (verdict.state, verdict.finding) == ("ok", "none is made")
    folder = build_root.root_folder(settings.paths.cache, "debian12")
    (folder / "root/usr/bin").mkdir(parents=True)
    program = folder / "root/usr/bin/gcc"
    program.write_text("gcc")
    (folder / build_root.PACKAGES).write_text("gcc=1\n")
    (verdict,) = found_by(doctor.build_roots, settings)
    assert (verdict.state, verdict.fix) == ("fail", "./doit toolchain toolchain=debian12")
    recorded = file_record.found(folder / "root")
    file_record.write(folder, recorded)
    old = folder.with_name("debian12-0123456789abcdef")
    old.mkdir()
    (old / build_root.PACKAGES).write_text("gcc=0\n")
    good, named = found_by(doctor.build_roots, settings)
    assert (good.state, good.finding) == ("ok", "whole: debian12")
    assert (named.state, named.fix) == ("ok", "./doit toolchain:prune removes them")
    assert old.name in named.finding
    # The disk has lost what the record tells, and no time has changed.
    file_record.write(folder, {**recorded, "usr/bin/gcc": recorded["usr/bin/gcc"]._replace(content="0" * 64)})
    bad, _ = found_by(doctor.build_roots, settings)
    assert (bad.name, bad.state) == ("build root debian12", "fail")
    assert "usr/bin/gcc changed or are gone" in bad.finding

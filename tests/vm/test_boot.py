# SPDX-License-Identifier: MIT
"""The ISO boots by every firmware, its menu works, and what goes wrong in a guest is said."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tasks.config import checks
from tasks.config.check import Check, CheckFile
from tasks.config.checks import PlacedCheck, built_in
from tasks.report import docs_check
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.vm import boots, qemu, results
from tasks.vm.boots import Reports
from tasks.vm.checks import Built, make
from tasks.vm.guest import Guest, GuestError
from tasks.vm.machine import Disk, Firmware, Machine, kvm_usable
from tasks.vm.run import Asker
from tests.support.built import built
from tests.support.settings import both, with_values


@pytest.mark.parametrize(
    ("firmware", "medium"),
    [
        *(("bios", "stick"), ("uefi", "cd"), ("uefi", "stick"), ("uefi", "fat")),
        ("direct", "direct"),
    ],
)
def test_boots_and_answers(firmware: Firmware, medium: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On sticks `cde` is found without a CD drive; a FAT copy has neither our label nor a boot sector."""
    iso = built().paths.iso
    before = iso.stat().st_mtime_ns
    boots.test(*both(built()), (firmware,), (medium,))
    name = "direct" if medium == "direct" else f"{firmware}-{medium}"
    assert f"{name}: " in capsys.readouterr().out
    assert iso.stat().st_mtime_ns == before


def test_kvm_that_hangs_is_tried_once_on_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not once for each output folder."""
    if not kvm_usable():
        pytest.skip("/dev/kvm cannot be opened here")
    if qemu.accelerator(*both(built())) == "kvm":
        pytest.skip("KVM works here")
    another = with_values(built(), output=tmp_path)
    for path in (built().paths.core, built().paths.kernel):
        (tmp_path / path.name).symlink_to(path)
    capsys.readouterr()
    assert qemu.accelerator(*both(another)) == "tcg"
    assert "no guest came up before on this machine: using TCG" in capsys.readouterr().out
    assert not (another.paths.logs / "kvm-probe.log").exists()


MINE = r"""
[[check]]
name = "as root, by a script"
script = "tests/data/check.awk"
user = "root"
output = '^root \d+$'

[[check]]
name = "fails"
command = "echo said; echo complained >&2; exit 3"

[[check]]
name = "says something else"
command = "echo one"
output = "two"

[[check]]
name = "hangs"
command = "trap '' TERM INT HUP; while :; do sleep 1; done"
timeout = 5

[[check]]
name = "warns"
command = "echo 'WARNING: made up' > /dev/kmsg; echo 'tcbuild: all is well' > /dev/kmsg"
user = "root"

[[check]]
name = "never made"
command = "false"
media = ["stick"]
"""


def test_a_users_own_checks_are_made_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of docs/qemu.md, as a reader would write them, and some that fail in each way."""
    blocks = docs_check.blocks((CHECKOUT.root / "docs/qemu.md").read_text())
    told = "".join(block.text for block in blocks if block.about == "profile")
    of_recipe = next(block.text for block in blocks if block.about == "checks")
    data = {"check": [*tomllib.loads(told)["check"], *tomllib.loads(MINE)["check"]]}
    own = toml_schema.build({"check": data["check"]}, CheckFile, "here", "").check
    own += toml_schema.build(tomllib.loads(of_recipe), CheckFile, "there", "").check
    settings = built()
    emulated = qemu.accelerator(*both(settings)) == "tcg"
    addresses = "cat /proc/sys/kernel/randomize_va_space"
    own += (Check("addresses", command=addresses, output="^0$" if emulated else "^2$"),)
    profile = replace(settings.profile, check=own)
    checks.require(profile, ["attr"], ["attr"])
    reports = Reports(tmp_path / "results.xml", tmp_path / "results.tap")
    with pytest.raises(UserError, match=r"^4 of \d+ tests failed\n") as caught:
        boots.test(settings.paths, profile, ("bios",), ("cd",), reports)
    records, _ = results.load(settings.paths.output)
    (boot,) = records[-1].results
    outcomes = {part.name: part.outcome for _, part in boot.leaves()}
    ours = {check.name for check in built_in()} - {"every serial console of the bootcodes has a login"}
    good = {
        *ours,
        *("attr works", "attr lists an attribute that was set", "as root, by a script", "warns"),
        *("the answer is 42", "sshd does not run", "addresses", boots.COMES_UP, boots.POWERS_OFF),
    }
    bad = {"fails", "says something else", "hangs", "WARNING: made up"}
    assert outcomes == dict.fromkeys(good, "passed") | dict.fromkeys(bad, "failed")
    for words in (
        "bios-cd: fails: exited with status 3, expected 0: said\noutput:\n  | said\nerrors:\n  | complained",
        "bios-cd: says something else: its output does not match 'two'",
        "bios-cd: hangs: did not end within 5 s",
        "console:\n  | ",
    ):
        assert words in caught.value.detail
    assert f"bios-cd: {len(good) - 2} of {len(good) + 1} checks passed, up after " in capsys.readouterr().out
    folder = settings.paths.output / "tests/bios-cd"
    assert "tcbuild: all is well" in (folder / "dmesg.txt").read_text()
    assert "reboot: Power down" in (folder / "console.log").read_text(errors="replace")
    root = ElementTree.parse(tmp_path / "results.xml").getroot()
    assert {case.get("name") for case in root.iter("testcase") if case.find("failure") is not None} == bad
    assert "not ok 1 - bios-cd" in (tmp_path / "results.tap").read_text()


def test_32_bit_firmware_of_a_64_bit_pc_starts_the_iso(tmp_path: Path) -> None:
    """By BOOTIA32.EFI, as on the first tablets with Intel's Atom."""
    disks = (Disk(built().paths.iso, "cdrom"),)
    with Guest(Machine("uefi", firmware_of="x86", disks=disks), tmp_path / "log", limit=240) as guest:
        guest.login()
        assert guest.run("uname -m") == "x86_64\n"
        assert guest.run("cat /sys/firmware/efi/fw_platform_size") == "32\n"
        guest.run("[ -e /usr/local/tce.installed/attr ]")
        guest.power_off()


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_menu_works_over_the_serial_line(firmware: Firmware, tmp_path: Path) -> None:
    """Choose the second entry (`base`) by the cursor keys: no extension may be loaded."""
    settings = built()
    with Guest(
        qemu.machine(settings.paths, settings.profile, firmware, "tcg"), tmp_path / "log", limit=240
    ) as guest:
        guest.expect("without extensions", 60)
        guest.send("\x1b[B")
        guest.login()
        assert " base" in guest.run("cat /proc/cmdline")
        assert "attr" not in guest.run("ls /usr/local/tce.installed")
        guest.power_off()


def test_a_kernel_panic_ends_the_wait_at_once(tmp_path: Path) -> None:
    """An initramfs without init panics; the error shows the console's tail and keeps the log."""
    settings = built()
    empty = tmp_path / "empty.gz"
    cpio = subprocess.run(["cpio", "-o", "-H", "newc"], input=b"", capture_output=True, check=True).stdout
    empty.write_bytes(cpio)
    machine = Machine(
        "direct", kernel=settings.paths.kernel / "vmlinuz64", initrd=empty, append="console=ttyS0"
    )
    log = tmp_path / "log"
    panics = pytest.raises(GuestError, match="panicked: Kernel panic - not syncing")
    with panics as caught, Guest(machine, log, limit=120) as guest:
        guest.expect("never printed", 120)
    assert "VFS" in caught.value.detail
    assert str(log) in caught.value.detail
    assert "Kernel panic" in log.read_text(errors="replace")


def test_a_silent_guest_meets_its_limit(tmp_path: Path) -> None:
    blank = tmp_path / "blank.img"
    blank.write_bytes(bytes(1 << 20))
    machine = Machine("bios", disks=(Disk(blank),))
    with pytest.raises(GuestError, match="within 5 s"), Guest(machine, tmp_path / "log", limit=5) as guest:
        guest.expect("never printed", 5)


def test_a_wrong_answer_is_told_with_the_question(tmp_path: Path) -> None:
    settings = built()
    with Guest(
        qemu.machine(settings.paths, settings.profile, "direct", "tcg"), tmp_path / "log", limit=240
    ) as guest:
        guest.login()
        assert guest.run("sh -c 'echo out; exit 3'", check=False) == "out\n3"
        with pytest.raises(GuestError, match="exited with status 3: out"):
            guest.run("sh -c 'echo out; exit 3'")
        # Checks without the agent, whose guest has none of its ports.
        asker, checked = Asker(guest, None), Built.of(settings.paths, settings.profile)
        for check, message in (
            (Check("a", command="id -un; printf '\\377\\n'", user="root", output="^root$"), ""),
            (Check("b", command="sleep 100", timeout=5), "did not end within 5 s"),
        ):
            program = checked.program(PlacedCheck(check), "direct")
            assert make(asker, check, program).message == message
        guest.power_off()

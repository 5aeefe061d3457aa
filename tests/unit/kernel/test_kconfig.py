# SPDX-License-Identifier: MIT
"""The kconfig stage without a kernel tree: refusals and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import kconfig
from tasks.kernel.fragments import Request
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.errors import UserError
from tests.support.settings import with_values


def request(symbol: str, value: str, line: int = 1, file: str = "f.config") -> Request:
    return Request(symbol, value, file, line)


def make_fragments(settings: Settings, folder: Path, *texts: str) -> Settings:
    """Return `settings` with fragments of these texts, and what passes for a kernel tree."""
    settings.paths.linux.mkdir(parents=True)
    (settings.paths.linux / "Kconfig").write_text("")
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number}.config")
        paths[-1].write_text(text)
    return with_values(settings, fragments=tuple(map(str, paths)))


def test_a_later_fragment_must_not_change_an_earlier_one(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_fragments(
        make_settings(), tmp_path, "CONFIG_A=y\nCONFIG_B=y\n", "CONFIG_B=y\n# CONFIG_A is not set\n"
    )
    with pytest.raises(UserError, match="1 requested kernel option") as caught:
        kconfig.merge(settings)
    assert caught.value.detail == (
        f"  {tmp_path}/0.config:1: CONFIG_A=y\n"
        f"    asked otherwise at {tmp_path}/1.config:2: # CONFIG_A is not set"
    )
    assert not settings.paths.config.exists()


def test_git_state_cannot_be_asked_into_the_release(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_fragments(make_settings(), tmp_path, "CONFIG_LOCALVERSION_AUTO=y\n")
    with pytest.raises(UserError) as caught:
        kconfig.merge(settings)
    assert "no git state in the release: # CONFIG_LOCALVERSION_AUTO is not set" in caught.value.detail


@pytest.mark.parametrize(("version", "told"), [("5.4.3", True), ("5.4.50", False)])
def test_what_the_releases_own_source_has_is_said_of_the_same_version_alone(
    version: str,
    told: bool,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, completed = tmp_path / "base", tmp_path / "completed"
    base.write_text("CONFIG_LOGO=y\nCONFIG_LOGO_TINYCORE_CLUT224=y\n")
    completed.write_text("CONFIG_LOGO=y\n")
    settings = make_settings()
    source = KernelOrgSource(version=version)
    kernel = replace(settings.profile.kernel, source=source, base=str(base), base_mode="olddefconfig")
    changed = replace(settings.profile, release="11.x", kernel=kernel)
    kconfig._tell_of_own_symbols(replace(settings, profile=changed), completed)
    text = "kernel.org's Linux 5.4.3 has no LOGO_TINYCORE_CLUT224, which the config of Tiny Core 11 sets"
    assert (text in capsys.readouterr().out) == told


def test_without_a_kernel_tree_the_stage_says_what_to_run(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match="is not a kernel tree") as caught:
        kconfig.merge(make_settings())
    assert caught.value.hint == "./doit linux"


def test_symbols_are_found_in_the_files_of_x86_alone(tmp_path: Path) -> None:
    texts = {
        "Kconfig": "config TOP\n\tbool\n",
        "drivers/Kconfig.debug": "\tmenuconfig DEEP\n# config NOT_THIS\n\thelp\n\t  the config file\n",
        "arch/x86/Kconfig": "config X86\n",
        "arch/arm/Kconfig": "config ARM\n",
        "scripts/kconfig/tests/Kconfig": "config TEST_DATA\n",
        "drivers/notes.txt": "config TEXT\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert {"TOP", "DEEP", "X86"} == kconfig.defined_symbols(tmp_path, "x86") - {"file"}


def test_the_report_says_how_each_line_came_to_hold() -> None:
    base_requests = [request("A", "y", 1, "b"), request("XZ", "y", 2, "b"), request("C", "y", 3, "b")]
    requests = [request("C", "m", 1), request("D", "y", 2), request("A", "y", 3), request("E", "n", 4)]
    report = kconfig.format_report(
        base_requests,
        requests,
        {found.symbol: found for found in requests} | {"XZ": request("GZIP", "y", 9)},
        {"A": "y", "C": "y"},
        {"A": "y", "C": "m", "D": "y"},
        {"C": "m", "E": "n"},
    )
    assert report == (
        "# where     asked                  got                     via\n"
        "b:1         CONFIG_A=y             CONFIG_A=y              default, base\n"
        "b:2         CONFIG_XZ=y            # CONFIG_XZ is not set  overridden at f.config:9\n"
        "b:3         CONFIG_C=y             CONFIG_C=m              overridden at f.config:1\n"
        "f.config:1  CONFIG_C=m             CONFIG_C=m              line\n"
        "f.config:2  CONFIG_D=y             CONFIG_D=y              default\n"
        "f.config:3  CONFIG_A=y             CONFIG_A=y              default, base\n"
        "f.config:4  # CONFIG_E is not set  # CONFIG_E is not set   line, base\n"
    )

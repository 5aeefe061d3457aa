# SPDX-License-Identifier: MIT
"""What a profile requests of the kernel's configuration, before there is a kernel tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.kernel import requests
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import both


def with_kernel(settings: Settings, **changes: object) -> Settings:
    kernel = dataclasses.replace(settings.profile.kernel, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def test_the_profile_asks_for_its_localversion(make_settings: Callable[..., Settings]) -> None:
    settings = with_kernel(make_settings(), localversion="-mine")
    asked = {
        found.symbol: found.value for found in requests.implied_requests(settings.paths, settings.profile)
    }
    assert asked == {"LOCALVERSION": '"-mine"', "LOCALVERSION_AUTO": "n"}
    renamed = dataclasses.replace(settings.paths, name="other")
    assert requests.implied_requests(renamed, settings.profile) == requests.implied_requests(*both(settings))
    silent = requests.implied_requests(*both(with_kernel(settings, localversion="")))
    assert [found.symbol for found in silent] == ["LOCALVERSION_AUTO"]


def test_nothing_is_asked_of_the_release_of_a_kernel_that_others_built(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "own.config").write_text('CONFIG_LOCALVERSION="-amd64"\n')
    image = Kernel(source=KernelImage(folder=str(tmp_path)), fragments=(str(tmp_path / "own.config"),))
    made = make_settings()
    made = dataclasses.replace(made, profile=dataclasses.replace(made.profile, kernel=image))
    assert [one.text for one in requests.profile_requests(*both(made))] == ['CONFIG_LOCALVERSION="-amd64"']


@pytest.mark.parametrize("text", ['-a"b', "-a b", "-ä", "-a/b", "-a\n"])
def test_a_localversion_that_is_no_part_of_a_release_is_refused(
    make_settings: Callable[..., Settings], text: str
) -> None:
    with pytest.raises(UserError, match=r"apt\.toml: kernel\.localversion"):
        requests.implied_requests(*both(with_kernel(make_settings(), localversion=text)))


def test_the_base_is_a_name_in_kconfig_or_a_file(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings()
    assert requests.base_file(settings.paths, settings.profile) == CHECKOUT.kconfig / "base-x86_64.config"
    own = tmp_path / "own"
    own.write_text("CONFIG_A=y\n")
    assert requests.base_file(*both(with_kernel(settings, base=FileSource(path=str(own))))) == own
    with pytest.raises(UserError, match="base config 'none' does not exist") as caught:
        requests.base_file(*both(with_kernel(settings, base="none")))
    assert "base-x86_64.config" in caught.value.hint


@pytest.mark.parametrize("name", ["apt", "ide", "tc11"])
def test_the_projects_profiles_pass(make_settings: Callable[..., Settings], name: str) -> None:
    requests.check(*both(make_settings(name)))


@pytest.mark.parametrize(
    ("fragments", "says"),
    [
        (("qemu", "contaners"), "unknown fragment 'contaners'"),
        (("qemu", "./no/such.config"), "fragment ./no/such.config does not exist"),
        (("{own}",), "own.config:2: not a config line: 'CONFIG_B=yes'"),
        (("qemu", "{other}"), "1 requested kernel option.* are asked two different values"),
    ],
    ids=["misspelt", "no-file", "bad-line", "conflict"],
)
def test_a_fragment_is_checked_without_a_kernel_tree(
    make_settings: Callable[..., Settings], tmp_path: Path, fragments: tuple[str, ...], says: str
) -> None:
    own, other = tmp_path / "own.config", tmp_path / "other.config"
    own.write_text("CONFIG_A=y\nCONFIG_B=yes\n")
    other.write_text("# CONFIG_SQUASHFS is not set\n")
    named = tuple(name.format(own=own, other=other) for name in fragments)
    with pytest.raises(UserError, match=says):
        requests.check(*both(with_kernel(make_settings(), fragments=named)))


def test_so_is_the_base_config(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match="base config 'none' does not exist"):
        requests.check(*both(with_kernel(make_settings(), base="none")))

# SPDX-License-Identifier: MIT
"""What recipes need of the kernel's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tasks.config import recipe
from tasks.config.settings import Settings
from tasks.kernel import needs
from tasks.util.errors import UserError
from tests.support.settings import both


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """A profile with the fragment qemu alone, and its checked config."""
    made = make_settings()
    kernel = dataclasses.replace(made.profile.kernel, fragments=("qemu",))
    made = dataclasses.replace(made, profile=dataclasses.replace(made.profile, kernel=kernel))
    made.paths.config.parent.mkdir(parents=True)
    made.paths.config.write_text("CONFIG_CGROUPS=y\nCONFIG_VETH=m\n# CONFIG_OVERLAY_FS is not set\n")
    return made


def test_the_fragment_that_sets_a_missing_symbol_is_named(settings: Settings) -> None:
    with pytest.raises(UserError) as caught:
        needs.check(*both(settings), {"containerd": ("CGROUPS", "OVERLAY_FS")})
    assert caught.value.message == "containerd needs CONFIG_OVERLAY_FS: add the fragment containers"
    assert caught.value.hint == "kernel.fragments in profiles/apt.toml"


def test_every_extension_that_lacks_something_has_a_line(settings: Settings) -> None:
    with pytest.raises(UserError) as caught:
        needs.check(*both(settings), {"a": ("BRIDGE", "NET_NS"), "b": ("VETH",), "c": ("NO_SUCH",)})
    assert str(caught.value).splitlines() == [
        "a needs CONFIG_BRIDGE, CONFIG_NET_NS: add the fragment containers",
        "  hint: kernel.fragments in profiles/apt.toml",
        "  c needs CONFIG_NO_SUCH: request it by =y or =m in a fragment",
    ]


def test_a_module_is_as_good_as_y(settings: Settings) -> None:
    needs.check(*both(settings), {"containerd": ("CGROUPS", "VETH")})


def test_what_the_projects_recipes_need_is_no_more_than_a_fragment_and_the_base_config_give(
    make_settings: Callable[..., Settings],
) -> None:
    made = make_settings()
    bare = dataclasses.replace(made.profile.kernel, fragments=())
    fragments = needs.fragments_by_symbol(dataclasses.replace(made.profile, kernel=bare))
    wanted = {name: found.kconfig for name, found in recipe.readable().items() if found.kconfig}
    assert {"containerd", "faasd", "buildkit", "buildah", "iptables"} <= wanted.keys()
    lines = needs.missing({}, wanted, fragments)
    # The others are on in every kernel that was not stripped of them on purpose.
    rest = {line for line in lines if "add the fragment" not in line}
    assert rest == {
        "code-server needs CONFIG_INOTIFY_USER, CONFIG_UNIX98_PTYS: request it by =y or =m in a fragment",
        "containerd needs CONFIG_POSIX_MQUEUE: request it by =y or =m in a fragment",
        "dropbear needs CONFIG_INET, CONFIG_UNIX98_PTYS: request it by =y or =m in a fragment",
        "nodejs needs CONFIG_EPOLL, CONFIG_EVENTFD, CONFIG_FUTEX: request it by =y or =m in a fragment",
    }

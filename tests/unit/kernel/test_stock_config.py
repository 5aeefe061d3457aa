# SPDX-License-Identifier: MIT
"""What is asked of a kernel that others built is proved against its config, or explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Kernel
from tasks.config.settings import Settings
from tasks.kernel import needs, stock_config
from tasks.kernel.kconfig_tasks import QUESTIONS
from tasks.kernel.stock_tasks import kconfig, kernel
from tasks.util.errors import UserError
from tests.support.settings import both

RELEASE = "6.1.0-56-amd64"
CONFIG = "CONFIG_RD_GZIP=y\nCONFIG_SQUASHFS=m\n# CONFIG_EXT4_FS_SECURITY is not set\n"


@pytest.fixture
def stock(make_settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    """Return a function that makes settings with a taken kernel, its config, and one fragment."""

    def make(fragment: str, config: str = CONFIG) -> Settings:
        (tmp_path / "own.config").write_text(fragment)
        names = (str(tmp_path / "own.config"),) if fragment else ()
        made = make_settings()
        chosen = Kernel(source=KernelImage(folder=str(tmp_path)), fragments=names)
        made = dataclasses.replace(made, profile=dataclasses.replace(made.profile, kernel=chosen))
        made.paths.kernel.mkdir(parents=True)
        (made.paths.kernel / "config").write_text(config)
        (made.paths.kernel / "release").write_text(f"{RELEASE}\n")
        return made

    return make


def test_what_is_requested_holds(stock: Callable[..., Settings], capsys: pytest.CaptureFixture[str]) -> None:
    made = stock("CONFIG_RD_GZIP=y\nCONFIG_SQUASHFS=y\n# CONFIG_NO_SUCH is not set\n")
    stock_config.prove(*both(made))
    assert made.paths.config.read_text() == CONFIG
    assert "3 requested lines hold, 1 of them as modules" in capsys.readouterr().out


def test_what_it_lacks_is_explained(stock: Callable[..., Settings]) -> None:
    made = stock("CONFIG_RD_GZIP=y\nCONFIG_EXT4_FS_SECURITY=y\nCONFIG_EXT3_FS_XATTR=y\n")
    with pytest.raises(UserError) as caught:
        stock_config.prove(*both(made))
    said = caught.value
    assert said.message == f"the stock kernel {RELEASE} has no EXT4_FS_SECURITY, EXT3_FS_XATTR"
    assert said.hint.startswith(
        'build one: kernel.source = { kind = "apt", package = "linux-source-[0-9]*" }'
    )
    lines = [line.strip() for line in said.detail.splitlines()]
    assert lines[0].endswith(
        "own.config:2: CONFIG_EXT4_FS_SECURITY=y: the kernel has # CONFIG_EXT4_FS_SECURITY is not set"
    )
    assert lines[2].startswith("note: "), "kconfig/notes.toml knows what became of it"
    assert not made.paths.config.exists()


@pytest.mark.parametrize("line", ["# CONFIG_RD_GZIP is not set", 'CONFIG_RD_GZIP="text"'])
def test_another_value_is_a_miss_too(stock: Callable[..., Settings], line: str) -> None:
    with pytest.raises(UserError) as caught:
        stock_config.prove(*both(stock(f"{line}\n")))
    assert caught.value.message == f"the stock kernel {RELEASE} has another value of RD_GZIP"


def test_nobody_can_tell_without_a_config(stock: Callable[..., Settings]) -> None:
    made = stock("CONFIG_RD_GZIP=y\n", config="")
    with pytest.raises(UserError, match=f"the config of the kernel {RELEASE} is not known") as caught:
        stock_config.prove(*both(made))
    assert "kernel.source.config" in caught.value.hint


def test_nothing_is_asked_of_a_kernel_without_a_config(
    stock: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    made = stock("", config="")
    stock_config.prove(*both(made))
    assert made.paths.config.read_text() == ""
    needs.check(*both(made), {"containerd": ("OVERLAY_FS",)})
    assert "nobody knows if the kernel has what containerd need" in capsys.readouterr().out


def test_what_an_extension_needs_of_it(stock: Callable[..., Settings]) -> None:
    made = stock("")
    stock_config.prove(*both(made))
    with pytest.raises(UserError) as caught:
        needs.check(*both(made), {"containerd": ("OVERLAY_FS", "SQUASHFS")})
    assert caught.value.message == (
        "containerd needs CONFIG_OVERLAY_FS: the stock kernel cannot get it, build one that has it"
    )
    assert caught.value.hint == "kernel.source in profiles/apt.toml"


def test_a_report_has_each_requested_line(
    stock: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    stock_config.print_report(*both(stock("CONFIG_SQUASHFS=y\n")))
    assert capsys.readouterr().out.endswith("own.config:1  CONFIG_SQUASHFS=y  CONFIG_SQUASHFS=m\n")
    with pytest.raises(UserError, match="not configured here"):
        stock_config.refuse(names=["mine"])


def test_its_tasks_depend_on_its_files(stock: Callable[..., Settings], tmp_path: Path) -> None:
    """Each file of a folder counts, and for the proof its config and each fragment."""
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    made = stock("CONFIG_SQUASHFS=y\n")
    task = kernel(made, ["base"], [], ["made"])
    assert str(tmp_path / "vmlinuz") in task["file_dep"]
    assert "base" not in task["file_dep"], "its modules are not there"
    again = kernel(made, ["base"], [], ["made"], "another toolchain")
    assert again["uptodate"][0].values != task["uptodate"][0].values, "depmod is the toolchain's"
    assert task["targets"] == ["made", str(made.paths.kernel / "config")]
    prove = next(iter(kconfig(made)))
    assert {str(made.paths.kernel / "config"), str(tmp_path / "own.config")} <= set(prove["file_dep"])


def test_a_kernel_of_others_answers_to_the_commands_of_a_configuration(
    stock: Callable[..., Settings],
) -> None:
    tasks = {task["basename"]: task for task in kconfig(stock("CONFIG_SQUASHFS=y\n"))}
    assert {*QUESTIONS, "kconfig", "kconfig:diff", "kconfig:report"} == set(tasks)
    action, arguments = tasks["kconfig:menu"]["actions"][0]
    failure = action(*arguments, names=["mine"], program="nconfig")
    assert "not configured here" in str(failure)

# SPDX-License-Identifier: MIT
"""What changed in a configuration: against the base config, and since the last build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import kconfig_diff
from tasks.kernel.fragments import Request
from tasks.util.errors import UserError
from tests.support.settings import both, with_values


def request(symbol: str, value: str, line: int = 1, file: str = "f.config") -> Request:
    return Request(symbol, value, file, line)


def test_the_diff_separates_what_was_asked_from_what_followed() -> None:
    original = 'CONFIG_CC_VERSION_TEXT="gcc 9"\nCONFIG_LOGO=y\nCONFIG_A=y\n'
    base = 'CONFIG_CC_VERSION_TEXT="gcc 12"\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_G=y\n# CONFIG_SAME is not set\n'
    final = (
        'CONFIG_CC_VERSION_TEXT="gcc 13"\n# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=y\n'
        "CONFIG_GCC_VERSION=130000\nCONFIG_CC_HAS_ASM_GOTO=y\n"
    )
    asked = [request("B", "y", 1), request("A", "n", 2), request("SAME", "n", 3)]
    assert kconfig_diff.format_diff(original, base, final, asked) == (
        "# asked for\n"
        "- CONFIG_A=y  (f.config:2)\n"
        "~ CONFIG_B=m -> y  (f.config:1)\n"
        "\n# followed by itself (select or default)\n"
        "+ CONFIG_C=y\n"
        "- CONFIG_G=y\n"
        "\n# base file, as this kernel version reads it\n"
        "+ CONFIG_B=m\n"
        "+ CONFIG_G=y\n"
        "- CONFIG_LOGO=y\n"
    )
    assert "base file" not in kconfig_diff.format_diff("", base, final, asked)


@pytest.mark.parametrize(
    ("symbol", "is_fact"),
    [
        ("CC_VERSION_TEXT", True),
        ("CC_IS_GCC", True),
        ("GCC_VERSION", True),
        ("LD_IS_BFD", True),
        ("LD_VERSION", True),
        ("AS_TPAUSE", True),
        ("CC_HAS_ASM_INLINE", True),
        ("GCC10_NO_ARRAY_BOUNDS", True),
        ("PAHOLE_VERSION", True),
        ("TOOLS_SUPPORT_RELR", True),
        ("RUSTC_LLVM_VERSION", True),
        ("CC_OPTIMIZE_FOR_SIZE", False),
        ("GCC_PLUGINS", False),
        ("LD_DEAD_CODE_DATA_ELIMINATION", False),
        ("ASN1", False),
        ("SQUASHFS_XATTR", False),
        ("RUST", False),
        ("LOCALVERSION", False),
    ],
)
def test_facts_about_the_toolchain_are_no_change(symbol: str, is_fact: bool) -> None:
    text = kconfig_diff.format_diff("", "", f"CONFIG_{symbol}=y\n", [])
    assert (symbol not in text) is is_fact


def test_print_diff_without_a_run_says_what_to_run(
    make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings()
    with pytest.raises(UserError, match="does not exist"):
        kconfig_diff.print_diff(*both(settings))
    settings.paths.config.parent.mkdir(parents=True)
    (settings.paths.config.parent / "diff.txt").write_text("# asked for\n+ CONFIG_A=y\n")
    kconfig_diff.print_diff(*both(settings))
    assert capsys.readouterr().out == "# no kernel has been built here yet\n\n# asked for\n+ CONFIG_A=y\n"


def test_the_diff_begins_with_what_changed_since_the_last_build(
    make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that came, one that went and one that changed, and what followed from them."""
    fragment = tmp_path / "my.config"
    settings = with_values(make_settings(), fragments=(str(fragment),))
    folder = settings.paths.config.parent
    folder.mkdir(parents=True)
    settings.paths.kernel.mkdir(parents=True)

    fragment.write_text("CONFIG_GONE=y\nCONFIG_MORE=m\nCONFIG_SAME=y\n")
    built = "CONFIG_GONE=y\nCONFIG_MORE=m\nCONFIG_SAME=y\nCONFIG_OLD_DEP=y\n"
    settings.paths.config.write_text(built)
    (settings.paths.kernel / "config").write_text(built)
    (folder / "diff.txt").write_text("# asked for\n")
    kconfig_diff.remember(*both(settings))
    kconfig_diff.print_diff(*both(settings))
    assert capsys.readouterr().out == "# since the last build: nothing changed\n\n# asked for\n"

    fragment.write_text("CONFIG_MORE=y\nCONFIG_SAME=y\nCONFIG_NEW=y\n")
    settings.paths.config.write_text(
        "CONFIG_MORE=y\nCONFIG_SAME=y\nCONFIG_NEW=y\nCONFIG_NEW_DEP=y\nCONFIG_GCC_VERSION=13\n"
    )
    kconfig_diff.print_diff(*both(settings))
    assert capsys.readouterr().out == (
        "# since the last build: asked for\n"
        f"- CONFIG_GONE=y  (no longer asked at {fragment}:1)\n"
        f"~ CONFIG_MORE=m -> y  ({fragment}:1)\n"
        f"+ CONFIG_NEW=y  ({fragment}:3)\n"
        "\n# since the last build: brought by that, by the base config or by the source\n"
        "+ CONFIG_NEW_DEP=y\n"
        "- CONFIG_OLD_DEP=y\n"
        "\n# asked for\n"
    )


def test_a_build_of_which_no_requests_are_known_is_compared_by_the_lines_of_now() -> None:
    before, after = {"A": "y"}, {"B": "y", "C": "y"}
    text = kconfig_diff.format_since_build(before, after, None, [request("B", "y", 3)])
    assert "+ CONFIG_B=y  (f.config:3)\n\n#" in text
    assert text.endswith("- CONFIG_A=y\n+ CONFIG_C=y\n")

# SPDX-License-Identifier: MIT
"""Bootcodes: which are refused, and the line that the kernel gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import bootcodes, profile
from tasks.util.errors import UserError
from tests.support.profiles import MINIMAL, minimal_checkout

REFUSED = {
    r'["cde\nLABEL x"]': r"bootcodes[0]: expected characters that can be printed, got 'cde\nLABEL x'",
    r'["a\u0000b"]': r"bootcodes[0]: expected characters that can be printed, got 'a\x00b'",
    r'["a\tb"]': r"bootcodes[0]: expected characters that can be printed, got 'a\tb'",
    r'["a\u001b[2J"]': r"bootcodes[0]: expected characters that can be printed, got 'a\x1b[2J'",
    '["cde", "it\'s"]': "bootcodes[1]: GRUB changes ' and \\ in a bootcode, got \"it's\"",
    r'["a\\b"]': r"bootcodes[0]: GRUB changes ' and \ in a bootcode, got 'a\\b'",
    '["a b"]': "bootcodes[0]: expected one word, or one with a space in quotes, "
    "as in 'name=\"some value\"', got 'a b'",
    r'["a\""]': "bootcodes[0]: expected one word",
    r'["a=\"b\"c"]': "bootcodes[0]: expected one word",
    r'["a\"b\"=c"]': "bootcodes[0]: expected one word",
    r'["\"\""]': "bootcodes[0]: expected one word",
    '[""]': "bootcodes[0]: expected one word",
    '["' + "x" * 5000 + '"]': "bootcodes: 5,000 bytes in all; the kernel's command line has room for 1,887",
    '["' + '", "'.join(["quiet"] * 315) + '"]': "bootcodes: 1,889 bytes in all",
    "[]\ntimeout = -5": "timeout: expected 0 to 3599 seconds, got -5",
    "[]\ntimeout = 3600": "timeout: expected 0 to 3599 seconds, got 3600",
    '[]\nvolume_id = "MY DISC"': "volume_id: expected up to 32 letters, digits, '_', '.' and '-', "
    "got 'MY DISC'",
    '[]\nvolume_id = "' + "x" * 33 + '"': "volume_id: expected up to 32 letters",
    '[]\nvolume_id = "-V"': "volume_id: expected up to 32 letters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30])
def test_one_that_a_menu_cannot_carry_is_refused_by_its_key(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = minimal_checkout(tmp_path, monkeypatch) / "profiles/mine.toml"
    path.write_text(MINIMAL.replace("bootcodes = []", f"bootcodes = {text}"))
    with pytest.raises(UserError) as caught:
        profile.load("mine")
    assert caught.value.message.startswith(f"{path}: boot.{REFUSED[text]}")
    assert len(caught.value.message.splitlines()) == 1
    assert len(caught.value.message) < len(str(path)) + 200


CARRIED = {
    "cde": "cde",
    "console=ttyS0,115200": "console=ttyS0,115200",
    "tce=LABEL=müsli": "tce=LABEL=müsli",
    "a;b|c&d$e`f`<g>#{h}*?!~": "a;b|c&d$e`f`<g>#{h}*?!~",
    'dyndbg="file ext4 +p"': '"dyndbg=file ext4 +p"',
    '"dyndbg=file ext4 +p"': '"dyndbg=file ext4 +p"',
    'name="value"': "name=value",
    'name=""': "name=",
}


@pytest.mark.parametrize("code", CARRIED)
def test_the_line_of_the_kernel(code: str) -> None:
    bootcodes.check(["cde", code])
    assert bootcodes.line(["cde", code]) == f"cde {CARRIED[code]}"

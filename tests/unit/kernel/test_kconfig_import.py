# SPDX-License-Identifier: MIT
"""Lists of loaded modules, and the names of fragments that are made of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import kconfig_import
from tasks.kernel.kconfig_import import default_name, loaded_modules
from tasks.util.errors import UserError


def test_modules_are_read_of_lsmod_and_of_proc() -> None:
    lsmod = "Module                  Size  Used by\nvirtio_net  90112  0\nnf_nat  53248  2 nf_tables,x\n\n"
    proc = "loop 40960 2 - Live 0x0000000000000000\nsnd-pcm 1 0 snd, Live 0xffff (O)\n"
    assert loaded_modules(lsmod, "f") == ["virtio_net", "nf_nat"]
    assert loaded_modules(proc, "f") == ["loop", "snd-pcm"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no module is loaded"),
        ("Module                  Size  Used by\n", "no module is loaded"),
        ("CONFIG_A=y\n", "f: not the output of lsmod: 'CONFIG_A=y'"),
        ("loop 40960 2\nsh: lsmod: not found\n", "f: not the output of lsmod: 'sh: lsmod: not found'"),
    ],
)
def test_what_is_no_list_of_modules_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        loaded_modules(text, "f")


@pytest.mark.parametrize(("lsmod", "said"), [("", "no module is loaded"), ("none", "none does not exist")])
def test_a_machine_without_modules_and_a_missing_list_are_told(
    lsmod: str,
    said: str,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kernel without modules has no /proc/modules."""
    monkeypatch.setattr(kconfig_import, "THIS_MACHINE", tmp_path / "proc-modules")
    monkeypatch.setenv("TCBUILD_CWD", str(tmp_path))
    with pytest.raises(UserError, match=said):
        kconfig_import.local(make_settings(), ["small-and-new"], lsmod=lsmod)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("config-5.4.3-tinycore64", "config-5.4.3-tinycore64"),
        ("My Box.config", "my-box"),
        (".config", "imported"),
        ("a.config", "a"),
    ],
)
def test_a_fragment_is_named_after_its_file(file: str, name: str) -> None:
    assert default_name(Path(file)) == name

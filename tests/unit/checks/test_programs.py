# SPDX-License-Identifier: MIT
"""Programs and scripts of an extension: their interpreters, modes and machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.checks import programs
from tasks.checks.left_out import LeftOut
from tasks.config import architecture
from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.util.errors import UserError
from tests.support import images

PC = architecture.load("x86_64")
BASE = [
    cpio.directory("usr/bin"),
    cpio.symlink("bin", "usr/bin"),
    cpio.regular("usr/bin/busybox", b"", 0o755),
    cpio.symlink("usr/bin/sh", "busybox"),
    cpio.symlink("usr/bin/env", "/bin/busybox"),
]
NODE = [cpio.regular("usr/local/bin/node", b"", 0o755)]
BASH = [
    cpio.regular("usr/local/bin/bash", b"", 0o755),
    cpio.regular("usr/local/tce.installed/bash", b"ln -s /usr/local/bin/bash /bin\n", 0o755),
]


def check(
    tmp_path: Path,
    files: dict[str, bytes | str],
    *,
    modes: dict[str, int] | None = None,
    own: tuple[str, ...] = (),
    left_out: tuple[LeftOut, ...] = (),
    **deps: list[Member],
) -> None:
    """Check files (path -> content, or target of a link), executable but for `modes`."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
            path.chmod((modes or {}).get(name, 0o755))
    programs.check("x", PC, tmp_path, sorted(files), {"the base": BASE, **deps}, own, left_out)


@pytest.mark.parametrize(
    ("head", "needed"),
    [
        (b"#!/bin/sh\n", ["/bin/sh"]),
        (b"#!/bin/sh", ["/bin/sh"]),
        (b"#! \t/usr/bin/perl -w\nuse x\n", ["/usr/bin/perl"]),
        (b"#!/usr/bin/env node\n", ["/usr/bin/env", "node"]),
        (b"#!/usr/bin/env -S node --no-warnings\n", ["/usr/bin/env", "/usr/bin/env -S", "node"]),
        (b"#!/bin/env -iSnode x\n", ["/bin/env", "/bin/env -S", "node"]),
        (b"#!/bin/env -S -u HOME LANG=C python3 -u\n", ["/bin/env", "/bin/env -S", "python3"]),
        (b"#!/usr/bin/env --split-string=node -x\n", ["/usr/bin/env", "/usr/bin/env -S", "node"]),
        (b"#!/usr/bin/env --split-string node\n", ["/usr/bin/env", "/usr/bin/env -S", "node"]),
        (b"#!/usr/bin/env --unset HOME node\n", ["/usr/bin/env", "node"]),
        (b"#!node\n", ["./node"]),
        (b"#!bin/env sh\n", ["./bin/env"]),
        (b"#!/usr/bin/env -i PATH=/bin sh\n", ["/usr/bin/env", "sh"]),
        (b"#!/usr/bin/env\n", ["/usr/bin/env"]),
        (b"#!/bin/sh\r\n", ["/bin/sh\r"]),
        (b"#!/usr/bin/env sh\r\n", ["/usr/bin/env", "sh\r"]),
        (b"#!\n/bin/sh\n", []),
        (b"", []),
        (b"\x7fELF", []),
        (b"# no script", []),
    ],
)
def test_what_a_script_needs(head: bytes, needed: list[str]) -> None:
    assert programs.interpreters(head) == needed


@pytest.mark.parametrize(
    "line",
    [
        "#!/bin/sh",
        "#! /usr/bin/sh -e",
        "#!/bin/busybox ash",
        "#!/usr/bin/env sh",
        "#!/usr/local/bin/env -S sh -e",
        "#!/usr/bin/env node",
        "#!/usr/local/bin/node",
        "#!/usr/local/bin/own",
        "#!/bin/bash",
        "#!/usr/bin/env /bin/sh",
    ],
)
def test_an_interpreter_that_is_there(tmp_path: Path, line: str) -> None:
    """In the base through its links, in a dependency, in the extension, or linked by tce.installed."""
    files: dict[str, bytes | str] = {
        "usr/local/bin/own": b"",
        "usr/local/bin/env": b"",
        "usr/local/bin/tool": f"{line}\n".encode(),
    }
    check(tmp_path, files, node=NODE, bash=BASH)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("#!/usr/bin/python3", "/usr/bin/python3"),
        ("#!/usr/bin/env python3", "python3"),
        ("#!/opt/env sh", "/opt/env"),
        ("#!/usr/bin/env -S sh -e", "/usr/bin/env -S"),
        ("#!/usr/bin/node", "/usr/bin/node"),
        ("#!/bin/sh\r", "'/bin/sh\\\\r'"),
    ],
)
@pytest.mark.parametrize(
    "path", ["usr/local/bin/tool", "sbin/tool", "usr/local/etc/init.d/tool", "usr/local/tce.installed/x"]
)
def test_a_script_without_its_interpreter(tmp_path: Path, path: str, line: str, shown: str) -> None:
    with pytest.raises(UserError, match=f"extension x: {path} is a script for {shown}, which is neither"):
        check(tmp_path, {path: f"{line}\n".encode()}, node=NODE)


def test_hints_for_an_interpreter(tmp_path: Path) -> None:
    out = LeftOut("python3-minimal", "usr/bin/python3", "drop")
    cases = [
        (b"#!/usr/bin/python3\n", "python3-minimal has it as usr/bin/python3, which `drop` in the recipe"),
        (b"#!/usr/bin/node\n", "/usr/local/bin/node is there: name it in the `#!` line"),
        (b"#!/usr/bin/perl\n", "depend on an extension that has perl, or leave the script out by `drop`"),
        (b"#!/usr/bin/env -S sh -e\n", "BusyBox's env has no -S: name the interpreter itself"),
        (b"#!/bin/sh\r\n", "the script has DOS line ends: convert it by dos2unix"),
        (b"#!node\n", "/usr/local/bin/node is there: name it in the `#!` line"),
    ]
    for number, (script, hint) in enumerate(cases):
        with pytest.raises(UserError) as caught:
            check(tmp_path / str(number), {"usr/bin/tool": script}, left_out=(out,), node=NODE)
        assert caught.value.hint.startswith(hint)


def test_a_link_in_path_to_a_script_elsewhere(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "usr/local/lib/tool/cli.js": b"#!/usr/bin/env node\n",
        "usr/local/bin/tool": "../lib/tool/cli.js",
        "usr/local/bin/sh2": "/bin/sh",
    }
    with pytest.raises(
        UserError, match=r"usr/local/bin/tool \(usr/local/lib/tool/cli\.js\) is a script for node"
    ):
        check(tmp_path / "a", files)
    check(tmp_path / "b", files, node=NODE)


def test_a_link_in_path_that_leads_nowhere(tmp_path: Path) -> None:
    out = LeftOut("npm", "usr/local/lib/npm/cli.js", "drop")
    files: dict[str, bytes | str] = {"usr/local/bin/npm": "../lib/npm/cli.js"}
    with pytest.raises(UserError) as caught:
        check(tmp_path / "a", files, left_out=(out,))
    expected = "extension x: usr/local/bin/npm leads to /usr/local/lib/npm/cli.js, which is nowhere"
    assert caught.value.message == expected
    assert caught.value.hint.startswith("npm has it as usr/local/lib/npm/cli.js")


@pytest.mark.parametrize(
    "files",
    [
        {"usr/local/bin/later": "/tmp/later", "usr/local/lib/x": "nothing"},
        {"usr/local/bin/made": "../lib/tool", "usr/local/tce.installed/x": b"cp a /usr/local/lib/tool\n"},
        {"usr/local/bin/sh2": "/bin/sh"},
    ],
    ids=["another-folder", "made-by-tce.installed", "in-the-base"],
)
def test_a_link_whose_target_is_made_later(tmp_path: Path, files: dict[str, bytes | str]) -> None:
    check(tmp_path, files)


def test_an_interpreter_without_its_x_bit(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "usr/local/lib/own": b"\x7fELF",
        "usr/bin/tool": b"#!/usr/local/lib/own\n",
    }
    check(tmp_path / "a", files)
    with pytest.raises(
        UserError, match="usr/bin/tool is a script for /usr/local/lib/own, which has no x bit"
    ):
        check(tmp_path / "b", files, modes={"usr/local/lib/own": 0o644})


def test_a_relative_interpreter_depends_on_the_current_folder(tmp_path: Path) -> None:
    for line, shown in ((b"#!node\n", "./node"), (b"#!/usr/bin/env bin/sh\n", "bin/sh")):
        with pytest.raises(UserError, match=f"is a script for {shown}, which is looked for in the current"):
            check(tmp_path, {"usr/bin/tool": line}, node=NODE)


def test_a_byte_order_mark_hides_the_interpreter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="usr/bin/tool has a byte order mark before its `#!`"):
        check(tmp_path, {"usr/bin/tool": b"\xef\xbb\xbf#!/bin/sh\n"})
    check(tmp_path, {"usr/share/tool": b"\xef\xbb\xbf#!/bin/sh\n", "usr/bin/data": b"\xef\xbb\xbftext"})


def test_scripts_elsewhere_are_only_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of them, only those that can be executed: packages carry examples and tests of developers."""
    files: dict[str, bytes | str] = {
        "usr/lib/tool/helper": b"#!/usr/bin/perl\n",
        "usr/lib/tool/other": b"#!/usr/bin/env python3\n",
        "usr/share/doc/tool/example": b"#!/usr/bin/ruby\n",
    }
    check(tmp_path, files, modes={"usr/share/doc/tool/example": 0o644})
    said = capsys.readouterr().out
    assert (
        said
        == "x.tcz: no perl, python3 for 2 scripts outside PATH: usr/lib/tool/helper, usr/lib/tool/other\n"
    )


@pytest.mark.parametrize(
    ("path", "content", "own", "refused"),
    [
        ("usr/local/bin/tool", images.elf(), False, True),
        ("usr/local/bin/tool", b"#!/bin/sh\n", False, True),
        ("usr/local/tce.installed/x", b"#!/bin/sh\n", True, True),
        ("sbin/tool.sh", b"#!/bin/sh\n", True, True),
        ("usr/bin/gettext.sh", b"#!/bin/sh\n", False, False),
        ("usr/bin/table", b"data", False, False),
        ("usr/bin/libx.so.1", images.shared(), False, False),
        ("usr/share/tool", b"#!/bin/sh\n", True, False),
        ("usr/local/tce.installed/x", b"", True, False),
        ("usr/local/etc/init.d/functions", b"#!/bin/sh\n", True, False),
    ],
)
def test_a_program_without_its_x_bit(
    tmp_path: Path, path: str, content: bytes, own: bool, refused: bool
) -> None:
    def run() -> None:
        check(tmp_path, {path: content}, modes={path: 0o644}, own=(path,) if own else ())

    if not refused:
        run()
        return
    with pytest.raises(UserError, match=f"extension x: {path} is a program, but has no x bit") as caught:
        run()
    assert caught.value.hint == (
        f"chmod +x extensions/x/files/{path}" if own else "take an origin that stores modes"
    )


def test_a_program_of_another_machine(tmp_path: Path) -> None:
    static = {
        "usr/local/bin/arm": images.elf(machine=images.AARCH64),
        "usr/local/bin/old": images.elf(machine=images.I386, bits=32),
        "usr/share/firmware.elf": images.elf(machine=images.AARCH64),
    }
    with pytest.raises(UserError) as caught:
        check(tmp_path, {**static})
    assert caught.value.message == "extension x: usr/local/bin/arm is for aarch64, not for x86-64"
    (tmp_path / "usr/local/bin/arm").unlink()
    del static["usr/local/bin/arm"]
    check(tmp_path, {**static})

# SPDX-License-Identifier: MIT
"""Programs from their source as an origin: its keys, and the commands of each build system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.origins import kinds
from tasks.origins.kinds.base import Resources
from tasks.origins.kinds.source import SourceOrigin, build_systems
from tasks.origins.source_trees import FolderTree
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import CommandFailed

MAKEFILE = """\
PREFIX = /usr
tool: tool.c
	$(CC) $(CFLAGS) $(MORE) -o tool tool.c
install: tool
	install -D tool $(DESTDIR)$(PREFIX)/bin/tool
	install -d $(DESTDIR)$(PREFIX)/lib
	touch $(DESTDIR)$(PREFIX)/lib/libtool.la
"""
TOOL = '#include <stdio.h>\nint main(void) { puts("made of " __FILE__); return 0; }\n'


def source(**more: Any) -> SourceOrigin:
    values: dict[str, Any] = {"version": "1.2", "source": FolderTree(path="src"), "build": "make"} | more
    return SourceOrigin(**values)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"into": "usr"}, "into: `prefix` says where the programs lie"),
        ({"prefix": "usr"}, "prefix: expected"),
        ({"toolchain": "../x"}, "toolchain: expected"),
        ({"version": ""}, "version: needed by kind = 'source'"),
    ],
)
def test_what_a_source_may_not_say(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        source(**more)


def test_each_build_system_has_its_commands() -> None:
    for name in ("autotools", "cmake", "meson", "make", "cargo"):
        system = source(build=name).system
        assert system is getattr(build_systems(), name)
        assert system.compile and system.install and system.needs


def test_another_kind_owns_what_a_source_is_locked_by() -> None:
    for identity in ("https://h/a.tgz", f"git:https://h/a@{'1' * 40}"):
        assert kinds.kind_of(identity) not in (None, SourceOrigin)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    top = tmp_path / "src"
    top.mkdir()
    (top / "Makefile").write_text(MAKEFILE)
    (top / "tool.c").write_text(TOOL)
    return tmp_path


def unpacked(folder: Path, origin: SourceOrigin) -> dict[str, bytes]:
    """Compile with this machine's programs; return the files."""
    resources = Resources(folder, True, folder, lambda names: {}, lambda name: [])
    found: dict[str, bytes] = {}
    for label, made in origin.unpack(resources, (), folder / "scratch/content"):
        assert label == "src"
        found = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    return found


def test_a_program_is_compiled_stripped_and_names_no_folder(folder: Path) -> None:
    made = unpacked(folder, source())
    assert list(made) == ["usr/local/bin/tool"]
    assert b"made of tool.c" in made["usr/local/bin/tool"]
    assert b".symtab" not in made["usr/local/bin/tool"]


def test_options_and_settings_reach_the_commands(folder: Path) -> None:
    more = source(
        prefix="/opt/x", options=("MORE=-DA",), install=("DESTDIR={into}/below",), env={"CC": "cc -v"}
    )
    assert list(unpacked(folder, more)) == ["below/opt/x/bin/tool"]
    log = (folder / "source-src.log").read_text()
    assert "cc -v -O2" in log and " -DA -o tool" in log


def test_what_does_not_compile(folder: Path) -> None:
    (folder / "src/tool.c").write_text("int main(void) { return x; }\n")
    with pytest.raises(CommandFailed, match="make failed with exit status 2"):
        unpacked(folder, source())


def test_a_result_with_the_path_of_its_build_is_refused(folder: Path) -> None:
    (folder / "src/tool.c").write_text("int main(void) { return sizeof FOLDER > 9; } char a[] = FOLDER;\n")
    with pytest.raises(UserError, match="src: tool holds the path that it was built in"):
        unpacked(folder, source(options=("MORE=-DFOLDER='\"$(CURDIR)\"'",)))


def test_a_source_of_another_build_system(folder: Path) -> None:
    with pytest.raises(UserError, match=r"src has no CMakeLists\.txt, which build = 'cmake' needs"):
        unpacked(folder, source(build="cmake"))

# SPDX-License-Identifier: MIT
"""What make is asked for, and what its objects are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config.kernel_source import STAMP
from tasks.config.settings import Paths
from tasks.kernel import build, tree_state


@pytest.mark.parametrize(
    ("line", "goals"),
    [
        ("CONFIG_GDB_SCRIPTS=y", ["bzImage", "modules", "scripts_gdb"]),
        ("# CONFIG_GDB_SCRIPTS is not set", ["bzImage", "modules"]),
        ("", ["bzImage", "modules"]),
    ],
)
def test_gdbs_scripts_are_made_if_the_kernel_has_them(tmp_path: Path, line: str, goals: list[str]) -> None:
    """`make all` makes them, and tcbuild does not run it."""
    paths = Paths("mine", tmp_path, tmp_path)
    paths.config.parent.mkdir()
    paths.config.write_text(f"{line}\n")
    assert build.goals(paths) == goals


def test_a_further_kernel_of_the_tree_has_no_modules(tmp_path: Path) -> None:
    assert build.goals(Paths("mine", tmp_path, tmp_path, variant="kunit")) == ["bzImage"]


def test_a_build_folder_tells_whether_its_objects_are_of_the_tree_as_it_was_unpacked(tmp_path: Path) -> None:
    paths = Paths("mine", tmp_path, tmp_path)
    (paths.linux / STAMP).parent.mkdir(parents=True)
    (paths.linux / STAMP).write_text("linux 1\n")
    tree_state.record(paths.linux)
    assert not build.is_untouched(paths), "it is empty"
    assert build.fresh_build_folder(paths, "gcc")
    assert build.is_untouched(paths)
    (paths.linux / "new.c").touch()
    assert not build.is_untouched(paths)
    (paths.linux / "new.c").unlink()
    assert build.is_untouched(paths)
    build.forget_if_edited(paths)
    assert build.is_untouched(paths)
    (paths.linux / "new.c").touch()
    build.forget_if_edited(paths)
    (paths.linux / "new.c").unlink()
    assert not build.is_untouched(paths), "objects of it may be left"
    assert not build.fresh_build_folder(paths, "gcc")
    assert not build.is_untouched(paths)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", ""),
        ('CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_KEY="/srv/keys/mine.pem"\n', ""),
        ('CONFIG_MODULE_SIG_KEY="certs/signing_key.pem"\n', "the key that signs modules"),
        ("CONFIG_RANDSTRUCT=y\n", "the order of the members of structures"),
        ("CONFIG_GCC_PLUGIN_RANDSTRUCT=y\n", "the order of the members of structures"),
        ("# CONFIG_GCC_PLUGIN_RANDSTRUCT is not set\nCONFIG_RANDSTRUCT_NONE=y\n", ""),
    ],
    ids=["nothing", "key-of-ones-own", "key", "structures", "structures-by-a-plugin", "neither"],
)
def test_what_make_draws_by_chance_is_told(tmp_path: Path, line: str, found: str) -> None:
    paths = Paths("mine", tmp_path, tmp_path)
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(line)
    assert build.drawn(paths) == found


@pytest.mark.parametrize(
    ("line", "is_fresh"), [("CONFIG_IKHEADERS=m\n", True), ("CONFIG_IKCONFIG=m\n", False)]
)
def test_a_kernel_that_holds_its_headers_has_a_folder_for_each_configuration(
    tmp_path: Path, line: str, is_fresh: bool
) -> None:
    paths = Paths("mine", tmp_path, tmp_path)
    (paths.linux / STAMP).parent.mkdir(parents=True)
    (paths.linux / STAMP).write_text("linux 1\n")
    paths.config.parent.mkdir()
    paths.config.write_text("CONFIG_BPF=y\n")
    assert build.fresh_build_folder(paths, "gcc")
    paths.config.write_text(f"CONFIG_BPF=y\n{line}")
    assert build.holds_headers(paths) is is_fresh
    assert build.fresh_build_folder(paths, "gcc") is is_fresh, "headers that the other one has left"
    assert not build.fresh_build_folder(paths, "gcc")
    paths.config.write_text(line)
    assert build.fresh_build_folder(paths, "gcc") is is_fresh


PASTES = "#define IS(option) IS_ENABLED(CONFIG_SERIAL_8250_ ## option)\nint pci = IS(EXAR);\n"


def test_another_configuration_takes_objects_whose_symbols_a_macro_names(tmp_path: Path) -> None:
    """make would keep them: fixdep sees `CONFIG_SERIAL_8250_` in the source, and no EXAR."""
    paths = Paths("apt", tmp_path / "out", tmp_path / "cache")
    objects = {name: paths.build / f"drivers/{name}.o" for name in ("pci", "core")}
    for name, text in {"pci": PASTES, "core": "#ifdef CONFIG_SERIAL_8250_EXAR\n#endif\n"}.items():
        for file in (paths.linux / f"drivers/{name}.c", objects[name]):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    paths.config.parent.mkdir(parents=True)
    for config, left in {"# one\n": {"core"}, "# two\n": {"core"}}.items():
        objects["pci"].touch()
        paths.config.write_text(config)
        build.configure(paths)
        assert {name for name, path in objects.items() if path.exists()} == left
        assert (paths.build / ".config").read_text() == config
        objects["pci"].touch()
        build.configure(paths)
        assert objects["pci"].exists(), "it was made for this configuration"

# SPDX-License-Identifier: MIT
"""Toolchains: their descriptions, the command line that enters a root, fingerprints, pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.toolchain import build_root
from tasks.toolchain.build_root import Bind, BuildRoot
from tasks.util.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of toolchains in place of the real one."""
    empty = tmp_path / "toolchains"
    empty.mkdir()
    monkeypatch.setattr(build_root, "FOLDER", empty)
    return empty


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The skeleton of a merged-/usr root."""
    made = tmp_path / "root"
    for name in ("usr/bin", "etc", "home/user", "var/lib"):
        (made / name).mkdir(parents=True)
    (made / "bin").symlink_to("usr/bin")
    return made


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.toml").write_text(text)


ROOT_TOML = """
description = "d"
compiler = "gcc-9"
[root]
suite = "bullseye"
keyring = "/keys.gpg"
packages = ["gcc-9", "libc6-dev"]
"""


@pytest.mark.parametrize("name", build_root.names())
def test_every_shipped_toolchain_is_well_formed(name: str) -> None:
    loaded = build_root.load(name)
    assert loaded.description
    assert (loaded.root is None) == (name == build_root.HOST)
    if loaded.root is not None:
        assert loaded.compiler in loaded.root.packages
        assert list(loaded.root.packages) == sorted(loaded.root.packages), "keep the list sorted"


def test_the_hosts_toolchain_exists() -> None:
    assert build_root.HOST in build_root.names()


@pytest.mark.parametrize("pin", sorted(build_root.FOLDER.glob("*.packages")), ids=lambda path: path.stem)
def test_a_pin_names_every_package_the_toolchain_asks_for(pin: Path) -> None:
    loaded = build_root.load(pin.stem)
    assert loaded.root is not None
    lines = pin.read_text().splitlines()
    assert lines == sorted(lines)
    pinned = {line.split(":")[0]: line.partition("=")[2] for line in lines}
    assert all(pinned.values())
    assert set(loaded.root.packages) <= pinned.keys()


def test_an_unknown_toolchain_lists_the_known_ones(folder: Path) -> None:
    write(folder, "host", 'description = "d"\ncompiler = "gcc"')
    with pytest.raises(UserError) as caught:
        build_root.load("gcc99")
    assert "gcc99" in caught.value.message
    assert "host" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('suite = "bullseye"', 'suite = "http://x y"', "root.suite"),
        ('suite = "bullseye"', 'suiet = "bullseye"', "suiet"),
        ('suite = "bullseye"', "", "root.suite"),
        ('"libc6-dev"', '"libc6 --force"', "--force"),
        ('"/keys.gpg"', '"keys.gpg"', "root.keyring"),
        ('keyring = "/keys.gpg"', 'keyring = "/keys.gpg"\nvariant = "standart"', "root.variant"),
    ],
)
def test_a_malformed_description_names_the_key(folder: Path, old: str, new: str, said: str) -> None:
    assert old in ROOT_TOML
    write(folder, "t", ROOT_TOML.replace(old, new))
    with pytest.raises(UserError) as caught:
        build_root.load("t")
    assert said in caught.value.message
    assert "t.toml" in caught.value.message


def test_a_root_is_another_folder_when_description_or_pin_changes(folder: Path, tmp_path: Path) -> None:
    write(folder, "t", ROOT_TOML)
    first = build_root.root_folder(tmp_path, "t")
    assert build_root.root_folder(tmp_path, "t") == first
    (folder / "t.packages").write_text("gcc-9:amd64=1\n")
    pinned = build_root.root_folder(tmp_path, "t")
    (folder / "t.packages").write_text("gcc-9:amd64=2\n")
    other_pin = build_root.root_folder(tmp_path, "t")
    write(folder, "t", ROOT_TOML.replace("libc6-dev", "make"))
    assert len({first, pinned, other_pin, build_root.root_folder(tmp_path, "t")}) == 4


def test_the_hosts_toolchain_needs_no_root(tmp_path: Path) -> None:
    assert build_root.ensure_root(tmp_path, "host", offline=True) == Path("/")
    assert not list(tmp_path.iterdir())


def test_offline_without_the_root_says_so(folder: Path, tmp_path: Path) -> None:
    write(folder, "t", ROOT_TOML)
    with pytest.raises(UserError, match="not in the cache"):
        build_root.ensure_root(tmp_path / "cache", "t", offline=True)


def test_a_cached_root_is_used_without_any_program(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a cached root must not start anything")

    write(folder, "t", ROOT_TOML)
    cached = build_root.root_folder(tmp_path, "t")
    (cached / "root").mkdir(parents=True)
    (cached / build_root.PACKAGES).write_text("gcc-9:amd64=1\n")
    monkeypatch.setattr(build_root, "run", refuse)
    assert build_root.ensure_root(tmp_path, "t", offline=False) == cached / "root"


def test_a_missing_keyring_is_named_before_anything_is_downloaded(folder: Path, tmp_path: Path) -> None:
    write(folder, "t", ROOT_TOML.replace("/keys.gpg", str(tmp_path / "absent.gpg")))
    with pytest.raises(UserError, match=r"absent\.gpg is missing"):
        build_root.ensure_root(tmp_path / "cache", "t", offline=False)
    assert not build_root.root_folder(tmp_path / "cache", "t").exists()


def test_a_host_command_is_left_alone() -> None:
    assert build_root.command(Path("/"), ["make", Path("/x")], [Bind(Path("/x"))]) == ["make", "/x"]


def pairs(argv: list[str], option: str) -> list[tuple[str, str]]:
    """Return the two operands of each `option` in `argv`."""
    return [(argv[n + 1], argv[n + 2]) for n, word in enumerate(argv) if word == option]


def test_a_root_command_shows_the_roots_programs_and_the_binds_only(root: Path) -> None:
    source, build = Path("/home/user/linux"), Path("/home/user/build")
    argv = build_root.command(root, ["make", "-C", source], [Bind(source), Bind(build, writable=True)])
    assert argv[0] == "bwrap"
    assert argv[-4:] == ["--", "make", "-C", str(source)]
    assert pairs(argv, "--ro-bind") == [
        (f"{root}/usr", "/usr"),
        (f"{root}/etc", "/etc"),
        (str(source), str(source)),
    ]
    assert pairs(argv, "--bind") == [(str(build), str(build))]
    assert pairs(argv, "--symlink") == [("usr/bin", "/bin")]
    assert "--unshare-all" in argv, "no network"
    assert "--die-with-parent" in argv


def test_an_inner_bind_comes_after_the_outer_one(root: Path) -> None:
    inner, outer = Path("/work/out/build"), Path("/work")
    argv = build_root.command(root, ["true"], [Bind(inner, writable=True), Bind(outer)])
    assert argv.index(str(outer)) < argv.index(str(inner))


@pytest.mark.parametrize("path", ["/", "/usr/src/linux", "/etc", "/proc/x", "/dev/shm/build"])
def test_a_bind_over_the_roots_own_files_is_refused(root: Path, path: str) -> None:
    with pytest.raises(UserError, match="cannot be shown"):
        build_root.command(root, ["true"], [Bind(Path(path))])


BASE = ("host", "gcc", "12.2.0\n", "GNU ld (GNU Binutils for Debian) 2.40\n", "glibc 2.36\n", "")


def test_a_fingerprint_is_one_readable_line() -> None:
    assert build_root.describe(*BASE) == "host, gcc 12.2.0, ld 2.40, glibc 2.36"


@pytest.mark.parametrize(
    ("position", "other"),
    [(0, "debian11"), (1, "gcc-12"), (2, "12.3.0"), (3, "GNU ld 2.41"), (4, "glibc 2.37"), (5, "abc")],
)
def test_each_part_changes_the_fingerprint(position: int, other: str) -> None:
    changed = [*BASE]
    changed[position] = other
    assert build_root.describe(*changed) != build_root.describe(*BASE)


@pytest.mark.parametrize("position", [2, 3, 4])
def test_a_program_that_says_nothing_is_an_error_and_no_fingerprint(position: int) -> None:
    changed = [*BASE]
    changed[position] = "\n"
    with pytest.raises(UserError, match="print no version"):
        build_root.describe(*changed)


def test_the_mirror_is_the_archive_and_not_the_security_one() -> None:
    targets = (
        "http://one.example/debian-security/ Debian Debian-Security main\n"
        "http://two.example/node/ Nodesource Node main\n"
        "http://three.example/debian/ Debian Debian contrib\n"
        "http://four.example/debian/ Debian Debian main\n"
        "http://five.example/debian/ Debian Debian main\n"
    )
    assert build_root.parse_mirror(targets) == "http://four.example/debian/"


@pytest.mark.parametrize("targets", ["", "http://x/ Ubuntu Ubuntu main\n", "http://x/  main\n"])
def test_without_a_debian_mirror_the_variable_is_named(targets: str) -> None:
    with pytest.raises(UserError) as caught:
        build_root.parse_mirror(targets)
    assert build_root.MIRROR_VARIABLE in caught.value.hint


def test_the_variable_goes_before_apts_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build_root.MIRROR_VARIABLE, "http://mine.example/debian")
    assert build_root.mirror() == "http://mine.example/debian"


@pytest.mark.parametrize(("uid", "mode"), [(0, "root"), (1000, "unshare")])
def test_mmdebstrap_gets_the_signed_suite_and_a_mode_the_user_can_use(
    monkeypatch: pytest.MonkeyPatch, uid: int, mode: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    wanted = BuildRoot("bullseye", ("make", "gcc-9"), "/keys.gpg")
    argv = build_root.mmdebstrap(wanted, Path("/c/root.tar"), "http://m.example/debian", Path("/c/a.conf"))
    assert argv[-3:] == ["bullseye", "/c/root.tar", "http://m.example/debian"]
    assert {f"--mode={mode}", "--keyring=/keys.gpg", "--include=gcc-9,make", "--aptopt=/c/a.conf"} <= {*argv}


def test_packages_other_than_the_pinned_ones_are_shown(folder: Path) -> None:
    (folder / "t.packages").write_text("gcc-9:amd64=9.3.0-22\nmake:amd64=4.3-4.1\n")
    build_root.check_pinned("t", "gcc-9:amd64=9.3.0-22\nmake:amd64=4.3-4.1\n")
    with pytest.raises(UserError) as caught:
        build_root.check_pinned("t", "gcc-9:amd64=9.3.0-23\nmake:amd64=4.3-4.1\n")
    assert "-gcc-9:amd64=9.3.0-22" in caught.value.detail
    assert "+gcc-9:amd64=9.3.0-23" in caught.value.detail
    assert "make" not in caught.value.detail


def test_a_toolchain_without_pin_takes_what_is_offered(folder: Path) -> None:
    build_root.check_pinned("t", "anything:amd64=1\n")

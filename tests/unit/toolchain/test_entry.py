# SPDX-License-Identifier: MIT
"""The words that run a command with a toolchain: on this machine, by bwrap and by proot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.toolchain import build_root, entry, host_match
from tasks.toolchain.entry import Bind, Entry
from tasks.util.errors import ToolMissing, UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The skeleton of a merged-/usr root."""
    made = tmp_path / "root"
    for name in ("usr/bin", "etc", "home/user", "var/lib"):
        (made / name).mkdir(parents=True)
    (made / "bin").symlink_to("usr/bin")
    return made


def pairs(argv: list[str], option: str) -> list[tuple[str, str]]:
    """Return the two operands of each `option` in `argv`."""
    return [(argv[n + 1], argv[n + 2]) for n, word in enumerate(argv) if word == option]


def test_a_command_of_this_machine_is_left_alone() -> None:
    here = Entry("host", "as asked")
    assert here.box([Bind(Path("/usr/src"))]) == []
    assert here.file("/usr/lib/x") == Path("/usr/lib/x")


def test_a_program_outside_the_root_is_named_by_its_path(root: Path) -> None:
    """Who starts it finds its files by that path, as the go command's GOROOT."""
    assert Entry("host", "").outside("env") == ["/usr/bin/env"]
    assert Entry("bwrap", "", root).outside("env")[-1] == f"{root}/usr/bin/env"
    with pytest.raises(ToolMissing, match="no-such-program is not installed"):
        Entry("host", "").outside("no-such-program")


def test_bwrap_shows_the_roots_programs_and_the_binds_only(root: Path) -> None:
    source, build = Path("/home/user/linux"), Path("/home/user/build")
    found = Entry("bwrap", "", root, ("bwrap",), ("--unshare-all",))
    box = found.box([Bind(source), Bind(build, writable=True)])
    assert (box[0], box[-1]) == ("bwrap", "--")
    assert pairs(box, "--ro-bind") == [
        (f"{root}/usr", "/usr"),
        (f"{root}/etc", "/etc"),
        (str(source), str(source)),
    ]
    assert pairs(box, "--bind") == [(str(build), str(build))]
    assert pairs(box, "--symlink") == [("usr/bin", "/bin")]
    assert {"--unshare-all", "--die-with-parent"} <= {*box}
    assert found.file("/usr/lib/x") == root / "usr/lib/x"


def test_proot_shows_the_root_and_the_binds(root: Path) -> None:
    box = Entry("proot", "", root, ("proot",)).box([Bind(Path("/work/out"), writable=True)])
    assert box[:3] == ["proot", "-r", str(root)]
    assert [box[n + 1] for n, word in enumerate(box) if word == "-b"] == [
        "/dev",
        "/proc",
        "/tmp",
        "/work/out",
    ]


@pytest.mark.parametrize("way", ["bwrap", "proot"])
def test_an_inner_bind_comes_after_the_outer_one(root: Path, way: entry.Way) -> None:
    inner, outer = Path("/work/out/build"), Path("/work")
    box = Entry(way, "", root, (way,)).box([Bind(inner, writable=True), Bind(outer)])
    assert box.index(str(outer)) < box.index(str(inner))


@pytest.mark.parametrize("path", ["/", "/usr/src/linux", "/etc", "/proc/x", "/dev/shm/build"])
def test_a_bind_over_the_roots_own_files_is_refused(root: Path, path: str) -> None:
    with pytest.raises(UserError, match="cannot be shown") as caught:
        Entry("proot", "", root, ("proot",)).box([Bind(Path(path))])
    assert "toolchain=host" in caught.value.hint


@pytest.mark.parametrize("path", ["/root/checkout", "/home/user/checkout", "/srv/x", "/var/tmp/x", "/tmp/x"])
def test_other_folders_of_this_machine_can_be_shown(root: Path, path: str) -> None:
    assert path in Entry("bwrap", "", root, ("bwrap",)).box([Bind(Path(path))])


def test_a_machine_with_the_locked_versions_needs_no_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(entry.VARIABLE, raising=False)
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    assert entry.root_needed("debian12") == ""
    # What a machine has besides would be found by configure scripts.
    assert entry.root_needed("debian12-source") == "its programs would use what else this machine has"
    found = entry.of_toolchain(tmp_path, "debian12")
    assert (found.way, found.root) == ("host", Path("/"))
    assert "in the locked versions" in found.why


def test_another_machine_needs_it_and_says_what_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(entry.VARIABLE, raising=False)
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "gcc-12 is not installed here")
    assert entry.root_needed("debian12") == "gcc-12 is not installed here"
    assert entry.root_needed(build_root.HOST) == ""
    with pytest.raises(UserError, match="not in the cache") as caught:
        entry.of_toolchain(tmp_path, "debian12")
    assert caught.value.hint == "./doit toolchain makes it"


def test_the_variable_asks_for_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    monkeypatch.setenv(entry.VARIABLE, "proot")
    assert entry.root_needed("debian12") == "TCBUILD_TOOLCHAIN=proot"
    assert entry.root_needed(build_root.HOST) == ""
    monkeypatch.setenv(entry.VARIABLE, "chroot")
    with pytest.raises(UserError, match="expected root, bwrap, proot"):
        entry.root_needed("debian12")


def test_a_root_that_cannot_be_entered_names_both_ways(root: Path) -> None:
    loader = root / entry.LIBRARIES / "ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text("#!/bin/sh\nexit 1\n")
    loader.chmod(0o755)
    with pytest.raises(UserError, match=r"cannot be entered \(tried bwrap, proot\)") as caught:
        entry._entered(root, "why", "root")
    assert "toolchain=host" in caught.value.hint
    assert "If files of it are gone: ./doit toolchain" in caught.value.hint


def test_a_root_that_has_lost_its_loader_names_the_folder_to_remove(root: Path) -> None:
    with pytest.raises(UserError, match="cannot be entered") as caught:
        entry._entered(root, "why", "bwrap")
    assert "If files of it are gone: ./doit toolchain" in caught.value.hint


@pytest.mark.parametrize(
    ("wanted", "works", "why"),
    [
        ("root", ("proot",), "gcc differs; user namespaces cannot be made"),
        ("root", ("bwrap", "proot"), "gcc differs"),
        ("proot", ("bwrap", "proot"), "gcc differs"),
    ],
)
def test_namespaces_are_blamed_only_if_they_failed(
    root: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, works: tuple[str, ...], why: str
) -> None:
    monkeypatch.setattr(entry, "_works", lambda candidate: candidate.way in works)
    assert entry._entered.__wrapped__(root, "gcc differs", wanted).why == why

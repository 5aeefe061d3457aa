# SPDX-License-Identifier: MIT
"""Two builds in different circumstances, of a small checkout made here, by the real programs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.provenance.reproduce import reproduce as reproduce_reproduce
from tasks.provenance.reproduce import variations
from tasks.provenance.reproduce.reproduce import copy_checkout
from tasks.provenance.reproduce.variations import Start
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import run

# Writes a core, an extension and an ISO of what stands in files/; @WORD@ in a file there is
# replaced by what the machine says: a recipe that is not reproducible.
DODO = """
import os, socket, sys, time
from pathlib import Path
sys.path.insert(0, ".")
from tasks.initramfs import core; from tasks.formats import cpio
from tasks.initramfs.core import Archive
from tasks.util.process import run

SAYS = {{
    b"@HOST@": lambda: socket.gethostname(),
    b"@YEAR@": lambda: time.strftime("%Y"),
    b"@ZONE@": lambda: time.strftime("%z"),
    b"@FOLDER@": lambda: os.getcwd(),
    b"@HOME@": lambda: os.environ["HOME"],
    b"@USER@": lambda: str(os.getuid()),
    b"@CORES@": lambda: str(len(os.sched_getaffinity(0))),
    b"@LOCALE@": lambda: os.environ.get("LC_ALL", "none"),
    b"@FLAGS@": lambda: os.environ.get("CFLAGS", "none"),
    b"@MODE@": lambda: oct(os.stat("dodo.py").st_mode),
    b"@ORDER@": lambda: " ".join(os.listdir("files")),
    b"@CHILD@": lambda: run(["date", "+%Y"]).stdout,
}}

def build():
    out = Path("artifacts/apt")
    Path("tree/etc").mkdir(parents=True)
    (out / "tcz").mkdir(parents=True, exist_ok=True)
    members = [cpio.directory("etc")]
    for path in sorted(Path("files").iterdir()):
        data = path.read_bytes()
        for word, say in SAYS.items():
            data = data.replace(word, say().encode()) if word in data else data
        members.append(cpio.regular(f"etc/{{path.name}}", data))
        (Path("tree/etc") / path.name).write_bytes(data)
        os.chmod(Path("tree/etc") / path.name, 0o644)
    core.write_core([Archive("gzip", tuple(members))], out / "corepure64.gz", mtime=1)
    fixed = ["-all-time", "1", "-mkfs-time", "1", "-all-root", "-noappend", "-no-progress"]
    for folder in ("tree", "tree/etc"):
        os.chmod(folder, 0o755)
    run(["mksquashfs", "tree", out / "tcz/x.tcz", *fixed, "-processors", "1"])

def task_iso():
    return {{"actions": [build], "uptodate": [False]}}
"""


@dataclass
class Checkout:
    folder: Path
    settings: Settings

    def file(self, name: str, text: str) -> None:
        (self.folder / "files" / name).write_text(text)

    def reproduce(self, **options: object) -> dict[str, object]:
        reproduce_reproduce.reproduce(self.settings, ["iso"], **options)  # type: ignore[arg-type]
        loaded: dict[str, object] = json.loads(self.report.read_text())
        return loaded

    @property
    def report(self) -> Path:
        return self.settings.paths.output / "reproduce/report.json"


@pytest.fixture
def tmp_path(open_folder: Path) -> Path:
    """The other user must get through."""
    return open_folder


@pytest.fixture
def checkout(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkout:
    folder = tmp_path / "checkout"
    (folder / "files").mkdir(parents=True)
    (folder / "dodo.py").write_text(DODO.format())
    shutil.copytree(CHECKOUT.root / "profiles", folder / "profiles")
    # The other user may not be let into the folder of this checkout.
    shutil.copytree(CHECKOUT.root / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    run(["git", "init", "-q", folder])
    monkeypatch.setattr(CHECKOUT, "root", folder)
    settings = make_settings()
    (settings.paths.cache / "downloads").mkdir(parents=True)
    made = Checkout(folder, settings)
    made.file("plain", "always the same\n" * 100)
    made.file("zz", "the last one\n")
    return made


def test_what_is_the_same_is_reported_so(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    report = checkout.reproduce()
    said = capsys.readouterr().out
    assert report["artefacts"] == ["corepure64.gz", "tcz/x.tcz"]
    assert report["differing"] == {}
    varied, others = report["varied"], report["not varied"]
    assert isinstance(varied, dict)
    assert isinstance(others, dict)
    assert varied.keys() | others.keys() == {"folder", *variations.CHANGES}
    assert f"reproduce: 0 of 2 artefacts differ over {len(varied)} variations" in said
    for name, why in others.items():
        assert f"not varied: {name}: {why}" in said
    left = {path.name for path in checkout.report.parent.iterdir()}
    assert not {name for name in left if not name.endswith((".log", ".json"))}


# What each word in a file depends on; a machine that cannot vary it skips that test.
WORDS = {
    "@FOLDER@": "folder",
    "@HOME@": "folder",
    "@HOST@": "host name",
    "@YEAR@": "clock",
    "@CHILD@": "clock",
    "@ZONE@": "time zone",
    "@CORES@": "cores",
    "@USER@": "user",
    "@LOCALE@": "locale",
    "@FLAGS@": "environment",
    "@MODE@": "umask",
    "@ORDER@": "file order",
}


@pytest.mark.parametrize("word, variation", WORDS.items(), ids=[word.strip("@") for word in WORDS])
def test_what_depends_on_one_is_found_and_named(checkout: Checkout, word: str, variation: str) -> None:
    checkout.file("made", f"made by {word}\n")
    with pytest.raises(UserError) as caught:
        checkout.reproduce(only=variation)
    report = json.loads(checkout.report.read_text())
    if variation not in report["varied"]:
        pytest.skip(report["not varied"][variation])
    for name in ("corepure64.gz", "tcz/x.tcz"):
        assert "etc/made: byte " in report["differing"][name]
    offset = int(report["differing"]["tcz/x.tcz"].rpartition("byte ")[2].split()[0].replace(",", ""))
    assert offset >= len("made by ")
    assert "2 artefacts are not the same in both builds: " in caught.value.message
    assert "etc/made: byte " in caught.value.detail
    kept = checkout.report.parent / "differing"
    assert (kept / "first/tcz/x.tcz").read_bytes() != (kept / "second/tcz/x.tcz").read_bytes()
    if shutil.which("diffoscope"):
        assert "made by" in (checkout.report.parent / "diffoscope.txt").read_text()


def test_left_out_is_not_varied(checkout: Checkout) -> None:
    checkout.file("made", "@ZONE@ @FLAGS@")
    report = checkout.reproduce(leave_out="time zone, environment, file order")
    skipped = report["not varied"]
    assert isinstance(skipped, dict)
    assert skipped["time zone"] == skipped["environment"] == "left out by --leave-out"


@pytest.mark.parametrize("option", ["only", "leave_out"])
def test_unknown_variation(checkout: Checkout, option: str) -> None:
    with pytest.raises(UserError, match="weather: no such variation") as caught:
        checkout.reproduce(**{option: "weather"})
    assert "time zone" in caught.value.hint


def test_build_that_fails_is_shown(checkout: Checkout) -> None:
    (checkout.folder / "dodo.py").write_text("def task_iso():\n    return {'actions': ['echo why; false']}\n")
    with pytest.raises(UserError, match="failed with exit status") as caught:
        checkout.reproduce(only="folder")
    assert "why" in caught.value.detail
    assert not (checkout.report.parent / "a").exists()


def test_nothing_built_proves_nothing(checkout: Checkout) -> None:
    (checkout.folder / "dodo.py").write_text("def task_iso():\n    return {'actions': None}\n")
    with pytest.raises(UserError, match="neither build made anything"):
        checkout.reproduce(only="folder")


def test_copy_is_as_a_clone_with_that_umask(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.folder / "run").write_text("")
    (checkout.folder / "run").chmod(0o755)
    (checkout.folder / "link").symlink_to("run")
    (checkout.folder / ".gitignore").write_text("artifacts/\n")
    (checkout.folder / "artifacts").mkdir()
    (checkout.folder / "artifacts/big").touch()
    start = Start(tmp_path / "copy", umask=0o077)
    start.folder.mkdir()
    copy_checkout(checkout.folder, start)
    found = {str(p.relative_to(start.folder)): oct(p.lstat().st_mode) for p in start.folder.rglob("*")}
    assert found["run"] == "0o100700"
    assert found["dodo.py"] == "0o100600"
    assert found["files"] == "0o40700"
    assert os.readlink(start.folder / "link") == "run"
    assert "artifacts" not in found


def test_a_tree_that_is_no_repository_is_named(tmp_path: Path) -> None:
    copy = Start(tmp_path / "copy")
    copy.folder.mkdir()
    with pytest.raises(UserError) as caught:
        copy_checkout(tmp_path, copy)
    assert caught.value.hint == (
        f"both builds get the files that git lists: git init in {tmp_path} if it is no repository"
    )


def test_of_a_wheel_what_it_installed_is_copied(tmp_path: Path) -> None:
    """Without the mark of a wheel, so that the copy is a checkout."""
    installed = tmp_path / "installed"
    for name in ("doit", "wheel.toml", "tasks/code.py", "tasks/__pycache__/code.pyc"):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text("")
    (installed / "doit").chmod(0o755)
    copy = Start(tmp_path / "copy")
    copy.folder.mkdir()
    copy_checkout(installed, copy)
    found = {str(path.relative_to(copy.folder)) for path in copy.folder.rglob("*") if path.is_file()}
    assert found == {"doit", "tasks/code.py"}
    assert os.access(copy.folder / "doit", os.X_OK)


def test_a_view_left_by_a_killed_run_is_taken_away(checkout: Checkout) -> None:
    start = Start(checkout.settings.paths.output / "reproduce/the-second-of-the-two-builds", reverse=True)
    start.folder.mkdir(parents=True)
    with variations.place(start) as view:
        if not start.reverse or view == start.folder:
            pytest.skip("disorderfs cannot be mounted here")
        assert os.path.ismount(view)
        checkout.reproduce(only="folder")
        assert not os.path.ismount(view)


@pytest.mark.parametrize(
    "given", [{}, {"frozen": "1"}, {"fragments": "qemu,containers"}, {"fragments": ""}, {"toolchain": "host"}]
)
def test_both_builds_are_asked_for_what_this_command_was(given: dict[str, str], tmp_path: Path) -> None:
    settings = variables.resolve({"profile": "apt", **given}, tmp_path)
    asked = reproduce_reproduce.command_variables(settings)
    assert asked == [f"{name}={value}" for name, value in given.items()]
    again = variables.resolve({"profile": "apt", **dict(word.split("=") for word in asked)}, tmp_path)
    assert again.profile == settings.profile

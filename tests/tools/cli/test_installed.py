# SPDX-License-Identifier: MIT
"""tcbuild as a wheel and as a container image: what is in it, the commands, the same bytes as a checkout."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.report import docs_check
from tasks.util.checkout import CHECKOUT
from tasks.util.files import sha256_file
from tests.support import hosts, podman
from tests.support.built import Outcome, copy_checkout, doit, outcome
from tests.support.gitrepo import GitRepository

PROFILE = "quick"  # it compiles no kernel
LEFT_OUT = (".ci/", "tests/")
NAME = "run-"
"""The names of kept containers begin so."""


@dataclass(frozen=True)
class Made:
    """A wheel that was made of a checkout with one commit."""

    checkout: Path
    commit: str
    wheel: Path


def make(checkout: Path, into: Path, umask: int, **env: str) -> Path:
    """Make a wheel by the command of docs/install.md; return it."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(into), "."]
    done = subprocess.run(
        command, cwd=checkout, env={**os.environ, **env}, umask=umask, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    top = tmp_path_factory.mktemp("wheel")
    repository = GitRepository(copy_checkout(top / "checkout"))
    commit = repository.commit({})
    return Made(repository.top, commit, make(repository.top, top / "made", 0o022))


def test_a_wheel_has_what_git_tracks_but_tests(made: Made) -> None:
    tracked = GitRepository(made.checkout).git("ls-files").splitlines()
    wanted = {name: made.checkout / name for name in tracked if not name.startswith(LEFT_OUT)}
    assert {"dodo.py", "doit", "profiles/quick.toml", "rootfs/rootfs.toml"} <= wanted.keys()
    with zipfile.ZipFile(made.wheel) as archive:
        files = {one.filename: one for one in archive.infolist() if ".dist-info/" not in one.filename}
        record = tomllib.loads(archive.read("tcbuild/wheel.toml").decode())
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        needs = [
            line for line in archive.read(about).decode().splitlines() if line.startswith("Requires-Dist")
        ]
        assert files.keys() == {f"tcbuild/{name}" for name in (*wanted, "wheel.toml")}
        for name, path in wanted.items():
            assert archive.read(f"tcbuild/{name}") == path.read_bytes(), name
            programs = files[f"tcbuild/{name}"].external_attr >> 16, path.stat().st_mode
            assert len({bool(mode & stat.S_IXUSR) for mode in programs}) == 1, name
    assert record == {"commit": made.commit, "changes": False}
    assert made.wheel.name.startswith(f"tcbuild-0.20231114221320+g{made.commit[:12]}-")
    assert needs and all("extra ==" in line for line in needs), "pip installs nothing that the lock pins"


def test_the_same_commit_gives_the_same_wheel(made: Made, tmp_path: Path) -> None:
    """In another clone, at another time, with another umask and environment."""
    subprocess.run(["git", "clone", "-q", made.checkout, tmp_path / "clone"], check=True)
    other = make(tmp_path / "clone", tmp_path / "made", 0o077, SOURCE_DATE_EPOCH="1", TZ="Asia/Tokyo")
    assert (other.name, sha256_file(other)) == (made.wheel.name, sha256_file(made.wheel))


@dataclass(frozen=True)
class Installed:
    """A wheel in site-packages (`site`), and the folder in which its command is run."""

    site: Path
    here: Path
    wheel: Path

    def tcbuild(self, *words: str, **env: str) -> Outcome:
        program = self.site / "bin/tcbuild"
        given = {name: value for name, value in os.environ.items() if not name.startswith("TCBUILD_")}
        given |= {"PYTHONPATH": str(self.site), **env}
        return outcome([sys.executable, str(program), *words], self.here, given)

    def state(self) -> list[str]:
        """Return commit and changes as a manifest states them."""
        ask = "from tasks.provenance import materials; print(*materials.git_state())"
        return outcome([sys.executable, "-B", "-c", ask], self.site / "tcbuild", os.environ).output.split()


@pytest.fixture(scope="module")
def installed(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    top = tmp_path_factory.mktemp("installed")
    site, here = top / "site", top / "here"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", site, made.wheel], check=True)
    for folder in (here, here / "tree"):  # where a setup would make the venv
        (folder / "artifacts").mkdir(parents=True)
        (folder / "artifacts/.venv").symlink_to(sys.prefix)
        for need in ("python", "build", "unit"):
            (folder / f"artifacts/.setup-{need}").touch()
    (here / "tree/profiles").mkdir()
    (here / "tree/profiles/mine.toml").write_text(f'inherit = "{PROFILE}"\n')
    return Installed(site, here, made.wheel)


def test_results_lie_where_one_types_or_in_the_tree(installed: Installed) -> None:
    for words, name, folder in (
        ([f"profile={PROFILE}"], PROFILE, "artifacts"),
        (["tree=tree", "profile=mine"], "mine", "tree/artifacts"),
    ):
        done = installed.tcbuild("info", "inputs", *words)
        assert f"{installed.here / folder / name}/inputs.manifest.json" in done.output
    done = installed.tcbuild("list", TCBUILD_TREE="tree:nowhere")
    assert "tree=nowhere: there is no such folder" in done.output
    assert "hint: tcbuild init DIR writes a tree" in done.output
    assert not (installed.site / "tcbuild/artifacts").exists()


def test_what_would_edit_the_installation_is_refused(installed: Installed) -> None:
    for words in (
        ["lock:containerd"],
        ["toolchain:lock", "debian12"],
        ["docs"],
        ["test:unit"],
        ["lock"],
    ):
        done = installed.tcbuild(*words, f"profile={PROFILE}")
        assert done.status == 1, words
        assert "is part of what a wheel installed, which stays as it is" in done.output, words
        assert "init DIR" in done.output, words
    with zipfile.ZipFile(installed.wheel) as archive:
        for path in (installed.site / "tcbuild").rglob("*.toml"):
            assert path.read_bytes() == archive.read(str(path.relative_to(installed.site))), path


def test_a_wheel_knows_its_commit_and_edits_of_what_it_installed(made: Made, installed: Installed) -> None:
    assert installed.state() == [made.commit, "False"]
    edited = installed.site / "tcbuild/README.md"
    text = edited.read_text()
    edited.write_text(f"{text}\n")
    try:
        assert installed.state() == [made.commit, "True"]
    finally:
        edited.write_text(text)
    assert installed.state() == [made.commit, "False"]


@pytest.mark.slow
def test_podman_makes_an_image_that_gives_the_iso_of_the_checkout(made: Made) -> None:
    """The commands are those of docs/install.md; in the image, pipx installs the wheel."""
    if os.geteuid() != 0:
        pytest.skip("apt in a fresh system needs root")
    build, *runs = documented("podman build")
    with hosts.debian13("machine") as system:
        (system.checkout / "artifacts").mkdir()
        shutil.copy2(made.wheel, system.checkout / "artifacts")
        podman.install(system)
        podman.said(system, build)
        work = system.root / "work"
        work.mkdir()
        said = [podman.said(system, f"cd /work\n{kept(line, index)}") for index, line in enumerate(runs)]
        assert not any("installing" in output for output in said), "the image has all that a build needs"
        assert " /opt" not in podman.said(system, f"podman diff {NAME}0"), "what is installed stays as it is"
        (iso,) = (work / "artifacts" / PROFILE).glob("*.iso")
        manifest = (iso.parent / f"{iso.name}.manifest.json").read_text()
        assert f'"commit": "{made.commit}"' in manifest
        here = doit(made.checkout, "iso", f"profile={PROFILE}")
        assert here.status == 0, here.output
        assert sha256_file(iso) == sha256_file(made.checkout / "artifacts" / PROFILE / iso.name)
        # The last two make a tree and build it.
        assert list((work / "product/artifacts/product").glob("*.iso"))


def documented(start: str) -> list[str]:
    """Return the commands of the block of docs/install.md that begins so."""
    page = (CHECKOUT.root / "docs/install.md").read_text()
    (block,) = (one for one in docs_check.blocks(page) if one.text.startswith(start))
    return block.text.splitlines()


def kept(command: str, number: int) -> str:
    """Return a command of Podman whose container is kept, by a name."""
    assert command.startswith("podman run --rm ")
    return command.replace("--rm", f"--name {NAME}{number}")

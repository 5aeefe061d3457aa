# SPDX-License-Identifier: MIT
"""`./doit init` writes a tree whose `./doit` finds or fetches tcbuild, and which builds anywhere."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.config.settings import NO_CACHE, SHARED_VARIABLE
from tests.support.built import Outcome, copy_checkout, doit, outcome

GOALS = ("rootfs", "tcz:common", "tcz:product")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it printed."""
    person = ["-c", "user.name=n", "-c", "user.email=n@invalid"]
    done = subprocess.run(["git", "-C", folder, *person, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def committed(folder: Path) -> str:
    """Make a folder a repository with one commit of all that is not ignored; return the commit."""
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def run(tree: Path, *words: str, **env: str) -> Outcome:
    """Run `./doit` of a tree in the folder above it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TCBUILD")}
    kept = {name: os.environ[name] for name in ("TCBUILD_CACHE",) if name in os.environ}
    return outcome(
        [str(tree / "doit"), *words], tree.parent, clean | kept | {SHARED_VARIABLE: NO_CACHE} | env
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = copy_checkout(tmp_path / "tcbuild")
    committed(folder)
    return folder


def test_a_tree_is_written_once_and_is_valid(checkout: Path, tmp_path: Path) -> None:
    done = doit(checkout, "init", "../My Product", "--ci", "github", "--url", "https://tcbuild.example/x.git")
    assert done.status == 0, done.output
    tree = tmp_path / "My Product"
    files = {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and ".tcbuild" not in path.parts
    }
    assert files == {
        ".github/workflows/my-product.yml",
        ".gitignore",
        "checks/my-product.toml",
        "doit",
        "extensions/my-product/files/usr/local/bin/my-product",
        "extensions/my-product/recipe.toml",
        "kconfig/my-product.config",
        "profiles/my-product.toml",
    }
    for name in files:
        text = (tree / name).read_text()
        assert "SPDX" not in text
        for schema in re.findall("^#:schema (.*)", text):
            assert (tree / name).parent.joinpath(schema).is_file()
        assert not [word for word in ("@NAME@", "@BASE@", "@COMMIT@", "@URL@", "@FRAGMENTS@") if word in text]
    commit = git(checkout, "rev-parse", "HEAD")
    assert f'tcbuild = "{commit}"' in (tree / "profiles/my-product.toml").read_text()
    assert "url='https://tcbuild.example/x.git'" in (tree / "doit").read_text()
    again = doit(checkout, "init", "../My Product")
    assert (again.status, "is there already" in again.output) == (1, True)
    listed = run(tree, "list")
    assert listed.status == 0
    assert "is written for tcbuild" not in listed.output
    assert f"tree {tree}: the tree is no git repository, or one without a commit" in listed.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init"], "init takes one folder"),
        (["init", "mine"], "lies in tcbuild's checkout"),
        (["init", "../x", "--name", "attr"], "tcbuild has a recipe 'attr'"),
        (["init", "../x", "--name", "quick"], "tcbuild has a profile 'quick'"),
        (["init", "../x", "--name", "A b"], "cannot be the name of a tree"),
        (["init", "../x", "--base", "none"], "unknown profile 'none'"),
        (["init", "../x", "--ci", "none-such"], "expected github, gitlab or none"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    checkout: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    done = doit(checkout, *words)
    assert done.status == 1
    assert says in done.output
    assert not (tmp_path / "x").exists()
    assert not (checkout / "mine").exists()


def test_on_a_terminal_it_asks(checkout: Path, tmp_path: Path) -> None:
    """An empty answer takes the default."""
    controller, terminal = pty.openpty()
    command = ["./doit", "init", "../product", "--ci", "gitlab"]
    with subprocess.Popen(command, cwd=checkout, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.write(controller, b"hut\n\n")
        assert process.wait(timeout=300) == 0
    os.close(terminal)
    said = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert "name of the profile [product]: " in said
    assert "[quick]: " in said
    assert "CI (" not in said
    assert 'inherit = "quick"' in (tmp_path / "product/profiles/hut.toml").read_text()
    assert (tmp_path / "product/.gitlab-ci.yml").is_file()


def test_its_doit_finds_or_fetches_the_pinned_tcbuild(checkout: Path, tmp_path: Path) -> None:
    """Repositories whose ./doit prints its words stand for tcbuild."""
    done = doit(checkout, "init", "../product", "--url", str(tmp_path / "upstream"), "--ci", "none")
    assert done.status == 0, done.output
    tree, cache = tmp_path / "product", tmp_path / "cache"
    said = {}
    for name in ("upstream", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "doit").write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name / "doit").chmod(0o755)
        said[name] = committed(tmp_path / name)
    profile = tree / "profiles/product.toml"
    profile.write_text(profile.read_text().replace(git(checkout, "rev-parse", "HEAD"), said["upstream"]))
    env = {"TCBUILD_CACHE": str(cache)}
    words = f"tree={tree} profile=product"
    assert f"tree {tree}" in run(tree, "list").output  # the link
    (tree / ".tcbuild").unlink()
    (tmp_path / "upstream/doit").write_text("newer\n")
    git(tmp_path / "upstream", "commit", "-q", "-a", "-m", "newer")
    first, second = run(tree, "iso", **env), run(tree, **env)
    assert first.output.splitlines()[-1] == f"upstream {words} iso"
    assert second.output == f"upstream {words} list\n"
    assert [path.name for path in (cache / "checkouts").iterdir()] == [said["upstream"]]
    assert run(tree, "iso", TCBUILD=str(tmp_path / "other"), **env).output == f"other {words} iso\n"
    profile.write_text(profile.read_text().replace(said["upstream"], "0" * 40))
    refused = run(tree, "iso", **env)
    assert refused.status != 0
    assert [path.name for path in (cache / "checkouts").iterdir()] == [said["upstream"]]
    (tree / "profiles/two.toml").write_text('tcbuild = "v1"\n')
    assert "are written for several tcbuilds" in run(tree, "iso", **env).output


def test_two_trees_give_the_same_bytes_in_two_places(checkout: Path, tmp_path: Path) -> None:
    """Two checkouts build them.  A tree that moves with its results stays up to date."""
    for name in ("common", "product"):
        assert doit(checkout, "init", f"../{name}", "--ci", "none").status == 0
        (tmp_path / name / ".tcbuild").unlink()
    product, common = tmp_path / "product", tmp_path / "common"
    profile = product / "profiles/product.toml"
    profile.write_text(profile.read_text() + '\n[[extensions]]\nname = "common"\n')
    motd = product / "rootfs/files/etc/product.conf"
    motd.parent.mkdir(parents=True)
    motd.write_text("of the tree\n")
    commits = [committed(tree) for tree in (common, product)]
    other = tmp_path / "elsewhere/another"
    other.parent.mkdir()
    git(tmp_path, "clone", "-q", "tcbuild", str(other))
    for tree in (common, product):
        git(tmp_path, "clone", "-q", tree.name, f"elsewhere/{tree.name}-copy")
    places = [
        (checkout, common, product),
        (other, other.parent / "common-copy", other.parent / "product-copy"),
    ]
    # What the first stores, the second does not take: it makes the same itself.
    shared = f"cache={tmp_path}/shared"
    for (tcbuild, below, above), cache in zip(places, (shared, "cache=none"), strict=True):
        done = run(above, f"tree={below}", f"tree={above}", *GOALS, cache, TCBUILD=str(tcbuild))
        assert done.status == 0, done.output
        assert [git(folder, "status", "--porcelain") for folder in (tcbuild, below, above)] == ["", "", ""]
        assert not (tcbuild / "artifacts/product").exists()
    one, two = (above / "artifacts/product" for _, _, above in places)
    names = ["rootfs64.gz", "rootfs.index", "tcz/common.tcz", "tcz/product.tcz", "tcz/product.tcz.md5.txt"]
    assert [(one / name).read_bytes() == (two / name).read_bytes() for name in names] == [True] * len(names)
    assert b"etc/product.conf" in (one / "rootfs.index").read_bytes()
    taken = (f"out={tmp_path}/out", shared, *GOALS)
    done = run(above, f"tree={below}", f"tree={above}", *taken, TCBUILD=str(other))
    assert done.output.count("from the shared cache") == len(GOALS), done.output
    said = run(
        product, f"tree={common}", "tree=product", shared, "explain", *GOALS, TCBUILD=str(checkout)
    ).output
    assert "everything is up to date" in said
    for commit, tree in zip(commits, (common, product), strict=True):
        assert f"tree {tree}: commit {commit[:12]}\n" in said
    moved = tmp_path / "moved"
    shutil.move(product, moved)
    words = (f"tree={common}", f"tree={moved}", shared, "explain", *GOALS)
    assert "everything is up to date" in run(moved, *words, TCBUILD=str(other)).output
    (moved / "extensions/product/files/usr/local/bin/product").write_text("#!/bin/sh\n")
    said = run(moved, *words, TCBUILD=str(checkout)).output
    assert f"changed: {moved}/extensions/product/files/usr/local/bin/product" in said
    assert "commit " + commits[1][:12] + ", with changes" in said
    assert "tcz:common would run" not in said

# SPDX-License-Identifier: MIT
"""What is outdated, and what an update of one thing changes, with the real apt, pip and git."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.profile import Boot, Extension, Kernel, Profile
from tasks.config.settings import Paths, Settings
from tasks.config.sources import Core
from tasks.fetch import inputs, outdated, recipe_inputs, update
from tasks.fetch.outdated import Row
from tasks.origins import suite
from tasks.origins.lock import Lock, load_lock
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.toolchain import build_root
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.mirror import Page
from tests.support.repository import SUITE, Repository, serving
from tests.support.settings import with_values
from tests.support.wheels import make_wheel
from tests.support.workshop import INFO

TCZ = "11.x/x86_64/tcz"
TOOLCHAIN = """
description = "made up"

[root]
suite = { distribution = "debian", name = "bookworm" }
makers = ["make"]
"""


@dataclass
class Project:
    """A profile with a kernel, packages, two recipes and two upstream extensions; all is locked once."""

    settings: Settings
    repository: Repository
    extra: dict[str, tuple[str, ...]]

    @property
    def lock(self) -> Lock:
        return load_lock(self.settings.paths.pinned_lock)

    def serve(self, name: str, content: bytes) -> None:
        pages, path = self.repository.mirror.pages, f"{TCZ}/{name}.tcz"
        pages[path] = Page(b"hsqs" + content)
        md5 = hashlib.md5(pages[path].content).hexdigest()
        pages[f"{path}.md5.txt"] = Page(f"{md5}  {name}.tcz\n".encode())

    def rows(self, *names: str) -> list[Row]:
        """Return what `outdated` knows, when everybody could be asked."""
        rows, unasked = outdated.answers(outdated.questions(self.settings, self.extra, names))
        assert unasked == []
        return rows

    def newer(self, *names: str) -> dict[str, tuple[str, str]]:
        """Return what is outdated: `NAME WHAT` -> locked, newest."""
        shown = [row for row in self.rows(*names) if row.outdated and (not names or row.name in names)]
        return {f"{row.name} {row.what}": (row.locked, row.newest) for row in shown}

    def update(self, *names: str) -> None:
        update.update(self.settings, self.extra, names)

    def recipe(self, name: str, text: str) -> Path:
        path = CHECKOUT.extensions / name / "recipe.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(INFO + text)
        return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    monkeypatch.setattr(CHECKOUT, "images", tmp_path / "images")
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    monkeypatch.setattr(build_root, "FOLDER", tmp_path / "toolchains")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "toolchains").mkdir()
    (tmp_path / "toolchains/host.toml").write_text('description = "this machine"\n')
    with serving(tmp_path / "apt", monkeypatch) as repository:
        for name in ("busybox", "attr", "shared", "make"):
            repository.add(name, "1")
        repository.add("linux-source-6.1", "6.1.1-1")
        repository.publish()
        profile = Profile(
            description="made up",
            source_date_epoch=1,
            kernel=Kernel(AptSource(package="linux-source-[0-9]*"), "base.config", "allnoconfig", ()),
            core=Core(packages=("busybox", "shared")),
            boot=Boot(()),
            suite=SUITE,
            mirrors=(repository.mirror.url,),
            tcz=TCZ,
            extensions=tuple(Extension(name, origin="upstream") for name in ("one", "two")),
        )
        settings = Settings(Paths("mine", tmp_path / "out", tmp_path / "cache"), profile)
        made = Project(settings, repository, {"tool": ("attr", "shared")})
        made.recipe("tool", '[[origin]]\nkind = "apt"\npackages = ["attr", "shared"]\n')
        made.serve("one", b"1")
        made.serve("two", b"1")
        inputs.lock(settings, made.extra)
        yield made


def test_nothing_is_outdated_at_first(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert {row.name for row in project.rows()} == {"kernel", "rootfs", "tool", "one", "two"}
    assert project.newer() == {}
    capsys.readouterr()
    outdated.tell(project.settings, project.extra)
    assert capsys.readouterr().out == "6 were asked about, and none is outdated\n"
    outdated.tell(project.settings, project.extra, ["tool"])
    assert capsys.readouterr().out.splitlines() == [
        "name  what    locked  newest  where from",
        "tool  attr    1       1       debian bookworm",
        "tool  shared  1       1       debian bookworm",
        "2 were asked about, and none is outdated",
    ]


def test_each_thing_is_outdated_by_its_own_name_and_updated_alone(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("busybox", "attr", "shared", "linux-source-6.1"):
        project.repository.add(name, "6.1.2-1" if name.startswith("linux") else "2")
    project.repository.publish()
    project.serve("two", b"2")
    newer = project.newer()
    assert set(newer) == {
        "kernel linux-source-[0-9]*",
        "rootfs busybox",
        "rootfs shared",
        "tool attr",
        "two two.tcz",
    }
    assert newer["kernel linux-source-[0-9]*"] == ("linux-source-6.1 6.1.1-1", "linux-source-6.1 6.1.2-1")
    assert newer["rootfs busybox"] == ("1", "2")
    assert set(project.newer("tool")) == {"tool attr", "tool shared"}
    expected = {
        "kernel": {"package linux-source-6.1"},
        "tool": {"package attr", "package shared"},
        "two": {"extension two.tcz"},
        "rootfs": {"package busybox"},
    }
    for name, changed in expected.items():
        before = project.lock
        capsys.readouterr()
        project.update(name)
        said = capsys.readouterr().out
        lines = list(update.differences(update.of_lock(before), update.of_lock(project.lock)))
        assert {line.partition(":")[0] for line in lines} == changed
        assert all(f"update: {line}\n" in said for line in lines)
        assert f"update: {name}: check the difference, then commit it\n" in said
        assert project.lock.needs == before.needs
    assert project.newer() == {}
    # What `lock` makes from here is the same, but for the dates that older packages needed.
    after = project.lock
    inputs.lock(project.settings, project.extra)
    assert replace(project.lock, archive=()) == replace(after, archive=())
    capsys.readouterr()
    project.update("rootfs")
    assert capsys.readouterr().out.endswith("update: rootfs: no change\n")


def test_an_update_never_goes_back(project: Project) -> None:
    before = project.settings.paths.pinned_lock.read_bytes()
    for key in [key for key in project.repository.records if key[1] == "busybox"]:
        del project.repository.records[key]
    project.repository.add("busybox", "0.9")
    project.repository.publish()
    assert project.newer() == {}
    with pytest.raises(UserError, match=r"busybox: the suite has 0\.9, which is older than the locked 1"):
        project.update("rootfs")
    assert project.settings.paths.pinned_lock.read_bytes() == before


def test_what_cannot_be_asked_is_one_line(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pages = project.repository.mirror.pages
    del pages[f"{TCZ}/one.tcz.md5.txt"]
    pages[f"{TCZ}/two.tcz.md5.txt"] = Page(status=403)
    url = f"{project.repository.mirror.url}/no/repository/releases/download/v{{version}}/t"
    project.recipe("lost", f'[[origin]]\nkind = "archive"\nversion = "1"\nurls = ["{url}"]\nmode = 0o755\n')
    outdated.tell(project.settings, project.extra)
    lines = capsys.readouterr().out.splitlines()
    unasked = [line for line in lines if line.startswith("not asked: ")]
    assert len(unasked) == 3
    assert "not asked: one: one.tcz: no mirror publishes its md5" in lines
    assert any(line.startswith("not asked: two: two.tcz: ") and "403" in line for line in lines)
    assert any(line.startswith("not asked: lost: ") and ": git: " in line for line in lines)


def test_offline_says_so_and_asks_nobody(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    asked = len(project.repository.mirror.requests)
    capsys.readouterr()
    outdated.tell(with_values(project.settings, offline=True), project.extra)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(
        line.startswith("not asked: ") and line.endswith(": offline=1 forbids to ask") for line in lines
    )
    assert len(project.repository.mirror.requests) == asked
    with pytest.raises(UserError, match="which offline=1 forbids"):
        update.update(with_values(project.settings, offline=True), project.extra, ["rootfs"])


def test_an_unknown_name_is_refused(project: Project) -> None:
    for function in (outdated.tell, update.update):
        with pytest.raises(UserError, match="nothing of 'nosuch' is locked") as caught:
            function(project.settings, project.extra, ["nosuch"])
        assert "kernel, one, rootfs, tool, two" in caught.value.hint
    with pytest.raises(UserError, match="no name is given"):
        update.update(project.settings, project.extra)


def test_a_toolchain_is_locked_anew(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (build_root.FOLDER / "made.toml").write_text(TOOLCHAIN)
    name = "toolchain:made"
    with_root = replace(project.settings.profile, toolchain="made")
    project.settings = replace(project.settings, profile=with_root)
    build_root.lock_path("made").write_text(
        Lock(package=suite.resolve(SUITE, ["make"], project.settings.paths.cache)).to_toml()
    )
    project.repository.add("make", "2")
    project.repository.publish()
    assert project.newer() == {f"{name} make": ("1", "2")}
    before = project.settings.paths.pinned_lock.read_bytes()
    project.update(name)
    assert "update: package make: 1 sha256" in capsys.readouterr().out
    assert project.newer() == {}
    assert project.settings.paths.pinned_lock.read_bytes() == before


def test_a_recipe_gets_the_newest_version_and_keeps_its_words(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive by the page of a folder, one by the tags of a repository, and a wheel."""
    mirror = project.repository.mirror
    for version in ("1.2", "1.10"):
        mirror.pages[f"dist/v{version}/thing-{version}"] = Page(f"thing {version}".encode())
        mirror.pages[f"o/r/releases/download/{version}/prog"] = Page(f"prog {version}".encode())

    def offer(*versions: str) -> None:
        links = "".join(f'<a href="v{one}/">v{one}/</a>' for one in (*versions, "2.0-rc1"))
        mirror.pages["dist/"] = Page(f"<html>{links}".encode(), headers={"Content-Type": "text/html"})
        for path, content in repository_of_tags(tmp_path / "git" / versions[-1], versions).items():
            mirror.pages[f"o/r/{path}"] = Page(content)

    offer("1.2")
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "thing", version="1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    path = project.recipe(
        "thing",
        f'[[origin]]\nkind = "archive"\nversion = "1.2" # a comment\n'
        f'urls = ["{mirror.url}/dist/v{{version}}/thing-{{version}}"]\nmode = 0o755\n'
        f'[[origin]]\nkind = "archive"\nversion = "1.2"\n'
        f'urls = ["{mirror.url}/o/r/releases/download/{{version}}/prog"]\nmode = 0o755\n'
        f'[[origin]]\nkind = "wheel"\npackage = "thing"\nversion = "1"\ntag = "py3-none-any"\n',
    )
    recipe_inputs.lock(project.settings, "thing")
    assert project.newer("thing") == {}
    make_wheel(tmp_path / "wheels", "thing", version="2")
    text, old = path.read_text(), recipe_lock.committed_lock("thing")
    offer("1.2", "1.10")
    assert set(project.newer("thing").values()) == {("1.2", "1.10"), ("1", "2")}
    assert len(project.newer("thing")) == 3
    profile_lock = project.settings.paths.pinned_lock.read_bytes()
    project.update("thing")
    said = capsys.readouterr().out
    assert "update: written: extensions/thing/recipe.toml\n" in said
    assert "update: origin thing: 1 sha256 " in said
    wanted = text.replace('"1.2" # a comment', '"1.10" # a comment').replace(
        'version = "1.2"', 'version = "1.10"'
    )
    assert path.read_text() == wanted.replace('version = "1"', 'version = "2"')
    new = recipe_lock.committed_lock("thing")
    assert {file.name for file in new.file} == {"thing-1.10", "prog", "thing-2-py3-none-any.whl"}
    assert not {file.sha256 for file in new.file} & {file.sha256 for file in old.file}
    assert project.settings.paths.pinned_lock.read_bytes() == profile_lock
    assert project.newer("thing") == {}
    recipe_inputs.fetch(project.settings, "thing")


def repository_of_tags(folder: Path, tags: Sequence[str]) -> dict[str, bytes]:
    """Return the files of a git repository with these tags, as a web server without git has them."""
    run(["git", "init", "--quiet", "--bare", folder])
    who = ["-c", "user.name=n", "-c", "user.email=n@invalid"]
    tree = run(["git", "-C", folder, "hash-object", "-t", "tree", "-w", "/dev/null"]).stdout.strip()
    commit = run(["git", "-C", folder, *who, "commit-tree", tree, "-m", "one"]).stdout.strip()
    for tag in tags:
        run(["git", "-C", folder, "tag", tag, commit])
    run(["git", "-C", folder, "update-server-info"])
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found | {"info/refs?service=git-upload-pack": found["info/refs"]}


def test_a_recipe_that_has_a_published_sha256_is_left_to_a_person(project: Project) -> None:
    mirror = project.repository.mirror
    mirror.pages["dist/"] = Page(b"v1/ v2/ ")
    url = f"{mirror.url}/dist/v{{version}}/t"
    more = f'mode = 0o755\nsha256 = "{"0" * 64}"\npublished_by = ["one"]\n'
    path = project.recipe("thing", f'[[origin]]\nkind = "archive"\nversion = "1"\nurls = ["{url}"]\n{more}')
    text = path.read_text()
    with pytest.raises(UserError, match="2 is newer, and the recipe has the sha256 that one publishes"):
        project.update("thing")
    assert path.read_text() == text
    assert not recipe_lock.path("thing").exists()


def test_a_kernel_of_kernel_org_stays_in_its_series(project: Project) -> None:
    mirror = project.repository.mirror
    for version in ("5.5.3", "5.5.10", "5.10.1"):
        mirror.pages[f"linux/v5.x/linux-{version}.tar.xz"] = Page(version.encode())
    source = KernelOrgSource(version="5.5.3", mirror=f"{mirror.url}/linux")
    kernel = replace(project.settings.profile.kernel, source=source)
    project.settings = replace(project.settings, profile=replace(project.settings.profile, kernel=kernel))
    written = (
        f'[kernel]\nsource = {{ kind = "kernel.org", version = "5.5.3", mirror = "{mirror.url}/linux" }}\n'
    )
    project.settings.paths.profile_file.write_text(f'release = "5.5.3" # not this\n{written}')
    inputs.lock(project.settings, project.extra)
    names = "".join(f'<a href="linux-{one}.tar.xz">x</a>' for one in ("5.5.3", "5.5.10", "5.10.1"))
    mirror.pages["linux/v5.x/"] = Page(f"<html>{names}".encode(), headers={"Content-Type": "text/html"})
    wanted = {"kernel linux-5.5.3.tar.xz": ("5.5.3", "5.5.10")}
    assert project.newer("kernel") == wanted
    sums = "".join(f"{'0' * 64}  linux-{one}.tar.xz\n" for one in ("5.5.3", "5.5.10", "5.10.1"))
    mirror.pages["linux/v5.x/sha256sums.asc"] = Page(sums.encode())
    assert project.newer("kernel") == wanted
    before = project.lock
    project.update("kernel")
    text = project.settings.paths.profile_file.read_text()
    assert text == f'release = "5.5.3" # not this\n{written.replace("5.5.3", "5.5.10")}'
    changed = set(update.of_lock(project.lock)) ^ set(update.of_lock(before))
    assert changed == {("file", "v5.x/linux-5.5.3.tar.xz"), ("file", "v5.x/linux-5.5.10.tar.xz")}

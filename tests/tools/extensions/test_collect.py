# SPDX-License-Identifier: MIT
"""Wheels by the real pip from a folder of wheels, and what `./doit` says of recipes without a lock."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.config import recipe_lock
from tasks.config.recipe import load
from tasks.extensions import build
from tasks.fetch import recipe_inputs
from tasks.formats.squashfs import squashfs_members
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError
from tests.support.built import Outcome, copy_checkout, doit
from tests.support.images import shared
from tests.support.settings import with_values
from tests.support.standins import PLAIN, compiled
from tests.support.workshop import INFO, LD, Workshop

TAG = "py2.py3-none-manylinux_2_28_x86_64"
WHEEL = f"node_thing-20.1-{TAG}.whl"


@dataclass
class Index:
    """A folder of wheels that pip is told to look in, and nowhere else."""

    workshop: Workshop
    folder: Path

    def offer(self, name: str = WHEEL, program: bytes = b"", content: str = "data") -> None:
        self.folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(self.folder / name, "w") as wheel:
            project, version = name.split("-")[:2]
            for path, mode, data in (
                ("node_thing/bin/node", 0o755, program or shared("libc.so.6", interpreter=LD)),
                ("node_thing/lib/index.js", 0o644, content.encode()),
                (f"{project}-{version}.dist-info/METADATA", 0o644, metadata(project, version)),
                (f"{project}-{version}.dist-info/WHEEL", 0o644, b"Wheel-Version: 1.0\n"),
                (f"{project}-{version}.dist-info/RECORD", 0o644, b""),
            ):
                entry = zipfile.ZipInfo(path)
                entry.external_attr = (0o100000 | mode) << 16
                wheel.writestr(entry, data)

    def recipe(self, version: str = "20.1", tag: str = TAG) -> None:
        self.workshop.extension(
            "node",
            f'{INFO}[[origin]]\nkind = "wheel"\npackage = "node-thing"\nversion = "{version}"\n'
            f'tag = "{tag}"\n'
            'into = "usr/local/lib"\nkeep = ["*/node_thing/*"]\n'
            'rename = { "usr/local/lib/node_thing/bin/" = "usr/local/bin/" }\n',
        )

    def lock(self, relock: bool = False) -> None:
        recipe_inputs.lock(with_values(self.workshop.settings, relock=relock), "node")

    def fetch(self, offline: bool = False) -> None:
        recipe_inputs.fetch(with_values(self.workshop.settings, offline=offline), "node")

    @property
    def cached(self) -> Path:
        (file,) = recipe_lock.committed_lock("node").file
        return file.cached_in(self.workshop.settings.paths.cache)


def metadata(project: str, version: str) -> bytes:
    # No Python could be chosen by this: the files are wanted, not the package.
    text = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
    return f"{text}Requires-Python: >=9.9\nRequires-Dist: no-such-package\n".encode()


@pytest.fixture
def index(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    workshop.package("unused", {"x": b""})
    made = Index(workshop, tmp_path / "wheels")
    made.offer()
    made.recipe()
    return made


def test_a_wheel_is_taken_for_its_files(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    index.lock()
    assert f"lock: {WHEEL}" in capsys.readouterr().out
    index.cached.unlink()
    index.fetch()
    build.build(index.workshop.settings, "node")
    members = squashfs_members(index.workshop.settings.paths.tcz / "node.tcz")
    files = {item.name: item.mode & 0o777 for item in members if item.mode & 0o170000 == 0o100000}
    assert files == {"usr/local/bin/node": 0o755, "usr/local/lib/node_thing/lib/index.js": 0o644}
    assert "Version:        20.1\n" in index.workshop.side("node", ".info")


def test_another_wheel_than_the_locked_one(index: Index) -> None:
    index.lock()
    index.cached.unlink()
    index.offer(content="other data")
    with pytest.raises(UserError, match=f"extension node: {re.escape(WHEEL)}: wrong sha256") as caught:
        index.fetch()
    assert "./doit lock:node relock=1" in caught.value.hint
    assert not index.cached.exists()
    index.lock(relock=True)
    index.fetch()


def test_offline_and_a_damaged_cache(index: Index, tmp_path: Path) -> None:
    index.lock()
    index.fetch(offline=True)
    index.cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match="in the cache is damaged, and offline=1 forbids"):
        index.fetch(offline=True)
    index.fetch()
    index.fetch(offline=True)


@pytest.mark.parametrize(
    ("version", "tag", "words"),
    [
        ("20.2", TAG, "pip failed|python.* failed"),
        ("20.1", "py3-none-win_amd64", "pip failed|python.* failed"),
    ],
    ids=["version", "tag"],
)
def test_what_pip_cannot_find(index: Index, version: str, tag: str, words: str) -> None:
    index.recipe(version, tag)
    with pytest.raises(UserError, match=words) as caught:
        index.lock()
    assert f"node_thing-{version}-{tag}.whl: check version and tag" in caught.value.hint
    assert not recipe_lock.path("node").exists()


def test_a_wheel_of_another_tag_that_also_fits(index: Index) -> None:
    """pip chooses; the lock is of the file that the recipe names."""
    (index.folder / WHEEL).unlink()
    index.offer("node_thing-20.1-py3-none-any.whl")
    with pytest.raises(
        UserError, match=f"pip downloaded node_thing-20.1-py3-none-any.whl instead of {WHEEL}"
    ):
        index.lock()


def test_a_library_that_a_wheels_program_lacks(index: Index, tmp_path: Path) -> None:
    program = compiled(tmp_path / "node", PLAIN, "-Wl,--no-as-needed", "-lcrypto").read_bytes()
    index.offer(program=program)
    index.lock()
    index.fetch()
    with pytest.raises(UserError, match=r"usr/local/bin/node needs libcrypto\.so\.\d") as caught:
        build.build(index.workshop.settings, "node")
    assert re.match(r"libssl\S+ provides it", caught.value.hint)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the recipe `faasd` has no lock, whatever is locked here."""
    folder = copy_checkout(tmp_path_factory.mktemp("clone") / "tcbuild")
    (folder / "extensions/faasd/lock.toml").unlink(missing_ok=True)
    return folder


@pytest.fixture
def run(clone: Path) -> Callable[..., Outcome]:
    return lambda *words: doit(clone, *words, "profile=apt")


def test_all_recipes_leaves_out_what_is_not_locked(run: Callable[..., Outcome], clone: Path) -> None:
    """`./doit tcz --all` says so in a line each; asked for by name it is an error."""
    done = run("tcz:all", "-s")
    assert done.status == 0
    assert re.search(
        r"^left out: faasd\.tcz: no sha256 is locked for https://\S+/faasd \(", done.output, re.M
    )
    listed = run("list", "--all", "tcz").output
    assert "tcz:attr" in listed
    assert "tcz:faasd" not in listed
    done = run("fetch:faasd")
    assert done.status != 0
    assert "error: fetch:faasd: no sha256 is locked for https://" in done.output
    assert "hint: ./doit lock:faasd fetches it once" in done.output
    assert "Traceback" not in done.output
    assert "origins/faasd.toml" in run("info", "tcz:faasd").output


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('name = "faasd"\nalternative = "9"', "the recipe of faasd has no alternative '9'"),
        ('name = "buildkit"\nalternative = "9"', "hint: it has: go, 0.8, release, 0.8-release"),
    ],
)
def test_an_unknown_alternative_in_a_profile(
    run: Callable[..., Outcome], clone: Path, line: str, error: str
) -> None:
    path = clone / "profiles/apt.toml"
    whole = path.read_text()
    path.write_text(f"{whole}\n[[extensions]]\n{line}\n")
    try:
        done = run("tcz:all", "-s")
    finally:
        path.write_text(whole)
    assert done.status != 0
    assert error in done.output
    assert "Traceback" not in done.output


def test_fetching_again_only_when_something_is_gone(
    run: Callable[..., Outcome], clone: Path, tmp_path: Path
) -> None:
    """With a lock whose file lies in the cache, nothing is asked of anybody."""
    content = b"stand-in"
    digest = hashlib.sha256(content).hexdigest()
    files = tuple(
        OriginFile(origin.identity(), origin.identity().rsplit("/", 1)[1], digest, len(content))
        for origin in recipe_lock.lockable_origins(load("faasd"))
    )
    listed = doit(clone, "tcz:all", "--single", "profile=apt").output
    assert "left out: faasd" in listed, "which has no lock"
    lock = clone / "extensions/faasd/lock.toml"
    lock.write_text(OriginLock(files).to_toml())
    cache = tmp_path / "cache"
    for file in files:
        file.cached_in(cache).parent.mkdir(parents=True, exist_ok=True)
        file.cached_in(cache).write_bytes(content)
    env = {"TCBUILD_CACHE": str(cache)}
    try:
        words = ("fetch:faasd", "profile=apt", "offline=1")
        first, second = (doit(clone, *words, env=env) for _ in range(2))
        assert (first.status, first.ran) == (0, ["fetch:faasd"]), first.output
        assert (second.status, second.ran) == (0, []), second.output
        listed = doit(clone, "tcz:all", "--single", "profile=apt", env=env).output
        assert "left out: faasd" not in listed
        files[0].cached_in(cache).unlink()
        third = doit(clone, *words, env=env)
        assert (third.status != 0, third.ran) == (True, ["fetch:faasd"])
        assert "is not in the cache, and offline=1 forbids to fetch it" in third.output
    finally:
        lock.unlink()

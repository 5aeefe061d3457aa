# SPDX-License-Identifier: MIT
"""A checkout of its own to measure in, with a cache of its own, thrown away afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config import inheritance
from tasks.config.profile import Profile
from tasks.config.settings import NO_CACHE, SHARED_VARIABLE, Paths, Settings
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError
from tasks.util.files import remove_tree
from tests.bench.measure import OURS, Case, meter
from tests.support.built import copy_checkout
from tests.support.settings import with_values

DATA = Path(__file__).parent / "data"
PROFILE = "bench"
TREE = "bench-tree"  # the same, its kernel from a folder that somebody edits
ASIDE = "aside"  # beside the checkout: what was set aside
KEPT = "downloads"  # of the cache: what is fetched is no part of any measurement


@dataclass(frozen=True)
class Workplace:
    """A checkout with profile `bench`, and what it makes."""

    checkout: Path
    cache: Path
    settings: Settings

    @property
    def peers(self) -> Path:
        """Folder of what peers make; below ours, so that ccache treats the paths alike."""
        return self.settings.paths.output / "peers"

    @property
    def env(self) -> dict[str, str]:
        """The environment of `./doit`: the caller's, and our cache.

        Python compiles tcbuild once, as on a user's machine, whatever the caller's Python does.
        """
        caller = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # What an earlier row made must be made again.
        return {**caller, "TCBUILD_CACHE": str(self.cache), SHARED_VARIABLE: NO_CACHE}

    def doit(self, *words: str) -> list[str]:
        """Return the command a person would type."""
        return [str(self.checkout / "doit"), *words, f"profile={self.settings.paths.name}"]

    def run(self, *words: str) -> None:
        """Bring something about before measurements.  Raises `UserError` if it fails."""
        meter(self.doit(*words), self.checkout, self.env)

    def ours(self, *words: str, **more: object) -> Case:
        """Return our case of a row: `./doit WORDS`."""
        return Case(OURS, self.doit(*words), self.checkout, self.env, **more)  # type: ignore[arg-type]

    def run_tool(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Run a program before measurements.  Raises `UserError` if it fails."""
        meter(argv, self.settings.paths.output, env)

    def with_profile(self, name: str) -> Settings:
        """Return the settings of another profile of this checkout."""
        profile = inheritance.load([self.checkout / "profiles"], name, Profile)
        output = self.checkout / "artifacts" / name
        fragments = profile.kernel.fragments
        return with_values(self.settings, name=name, profile=profile, output=output, fragments=fragments)

    def empty_cache(self) -> None:
        """Drop all that could make a build a look-up: ccache and whatever lies beside it."""
        for path in self.cache.iterdir():
            if path.name != KEPT:
                remove_tree(path)

    def another_checkout(self) -> Workplace:
        """Return a further checkout of the same user, with the same profiles and cache; it has no results."""
        checkout = self.checkout.with_name("another")
        self.set_aside(checkout)
        shutil.copytree(self.checkout, checkout, ignore=shutil.ignore_patterns("artifacts"))
        artifacts = checkout / "artifacts"
        _set_up(artifacts)
        settings = with_values(self.settings, output=artifacts / self.settings.paths.name)
        return replace(self, checkout=checkout, settings=settings)

    def drop(self, *paths: Path) -> None:
        """Remove results, so that the next run makes them again."""
        for path in paths:
            remove_tree(path)

    def set_aside(self, folder: Path) -> None:
        """Drop a folder that has a kernel tree, as if it had never been there; its files stay meanwhile.

        ext4 takes no inode again within the first minutes after its file was removed, and looks at each of
        them for each new file (recently_deleted in fs/ext4/ialloc.c): after the 92,000 files of a tree, that
        makes the next tree take four to eight times as long.
        """
        if folder.exists():
            aside = self.checkout.with_name(ASIDE)
            aside.mkdir(exist_ok=True)
            folder.rename(aside / str(len(list(aside.iterdir()))))


def make(folder: Path, config: str, download: Path | None = None) -> Workplace:
    """Lay out a workplace in `folder`, which may hold one already.

    config: `small` (data/bench.toml) or `profile` (data/bench-profile.toml).  Downloads are
    shared with the user's cache.  Raises `UserError` for another config.
    """
    source = {"small": "bench.toml", "profile": "bench-profile.toml"}.get(config)
    if source is None:
        raise UserError(f"unknown config {config!r}", "small or profile")
    folder = folder.absolute()
    checkout, cache = folder / "tcbuild", folder / "cache"
    if checkout.is_dir():  # kept from before: its results stay
        for path in checkout.iterdir():
            if path.name != "artifacts":
                remove_tree(path)
    copy_checkout(checkout)
    shutil.copyfile(DATA / source, checkout / "profiles" / f"{PROFILE}.toml")
    edited = f'{{ kind = "file", path = "artifacts/{PROFILE}/linux" }}'
    tree = f'inherit = "{PROFILE}"\n[kernel]\nsource = {edited}\npatches = ""\n'
    (checkout / "profiles" / f"{TREE}.toml").write_text(tree)
    (checkout / "patches" / PROFILE).mkdir()
    (checkout / "patches" / PROFILE / "series").touch()
    for fragment in DATA.glob("*.config"):
        shutil.copyfile(fragment, checkout / "kconfig" / fragment.name)
    artifacts = checkout / "artifacts"
    _set_up(artifacts)
    cache.mkdir(exist_ok=True)
    shared = download or cache_folder() / KEPT
    shared.mkdir(parents=True, exist_ok=True)
    remove_tree(cache / KEPT)
    (cache / KEPT).symlink_to(shared)
    profile = inheritance.load([checkout / "profiles"], PROFILE, Profile)
    settings = Settings(Paths(PROFILE, artifacts / PROFILE, cache), profile)
    return Workplace(checkout, cache, settings)


def _set_up(artifacts: Path) -> None:
    """Do what `./doit` would: the interpreter is the one that this runs in, and the programs are there."""
    artifacts.mkdir(exist_ok=True)
    remove_tree(artifacts / ".venv")
    (artifacts / ".venv").symlink_to(sys.prefix)
    for need in ("python", "build", "vm"):
        (artifacts / f".setup-{need}").touch()


def edit(path: Path, text: str) -> None:
    """Append `text` to a file: a person's edit."""
    with path.open("a", encoding="utf-8") as sink:
        sink.write(text)


def script(*commands: Sequence[str | Path]) -> list[str]:
    """Return one command that runs several, stopping at the first that fails."""
    lines = [shlex.join(map(str, command)) for command in commands]
    return ["sh", "-ec", "\n".join(lines)]

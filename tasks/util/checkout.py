# SPDX-License-Identifier: MIT
"""The folders of tcbuild: the checkout (which holds `dodo.py`), trees of one's own, the cache folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tasks.util.errors import UserError

Kind = Literal["profiles", "extensions", "images", "kconfig", "patches", "rootfs", "checks"]
KINDS: tuple[Kind, ...] = ("profiles", "extensions", "images", "kconfig", "patches", "rootfs", "checks")
"""The folders of the checkout, and of a tree, in which names are looked up."""


def caller_folder() -> Path:
    """Return the folder in which the command was typed; the wrapper changes the folder."""
    return Path(os.environ.get("TCBUILD_CWD") or ".")


def _beside() -> Path:
    """Return the folder in which the wrapper lets results of what a wheel installed lie."""
    return Path(os.environ.get("TCBUILD_BESIDE") or caller_folder()).absolute()


class Checkout:
    """A checkout, and the trees that are used with it.

    root: the folder with dodo.py.  trees: folders with the same `KINDS` of folders as the checkout; of
    two files of one name, that of a later tree is used, and that of the checkout last.
    wheel: the record of the commit (`commit`, `changes`) that only a wheel has (hatch_build.py).  What it
    installs stays as it is: the wrapper ./doit names the folder for artifacts.
    Everything that looks for a file of the checkout asks this object.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trees: tuple[Path, ...] = ()
        self.wheel = root / "wheel.toml"
        self.artifacts = _beside() / "artifacts" if self.is_installed else root / "artifacts"
        self.checks = root / "checks"
        self.extensions = root / "extensions"
        self.images = root / "images"
        self.kconfig = root / "kconfig"
        self.patches = root / "patches"
        self.profiles = root / "profiles"
        self.rootfs = root / "rootfs"
        self.own_secrets = root / "secrets.toml"

    @property
    def is_installed(self) -> bool:
        """Whether this is no checkout, but was installed from a wheel."""
        return self.wheel.is_file()

    def refuse_installed(self, path: Path, what: str) -> None:
        """Raise `UserError` if a command is to write or run `path`, and a wheel installed its folder."""
        if self.is_installed and path.is_relative_to(self.root):
            hint = "give it a tree of your own: init DIR, then tree=DIR; or use a checkout"
            raise UserError(f"{what} is part of what a wheel installed, which stays as it is", hint)

    def use(self, trees: Sequence[Path]) -> None:
        """Look names up in `trees` (absolute paths), too; later ones win."""
        self.trees = tuple(trees)

    @property
    def results(self) -> Path:
        """The folder for the results of profiles: artifacts/ of the last tree, or of the checkout."""
        return self.trees[-1] / "artifacts" if self.trees else self.artifacts

    @property
    def secrets(self) -> list[Path]:
        """secrets.toml of the checkout, and of each tree that has one."""
        there = (tree / self.own_secrets.name for tree in self.trees)
        return [self.own_secrets, *(path for path in there if path.is_file())]

    def folders(self, kind: Kind) -> list[Path]:
        """Return the folders in which names of a kind are looked up, in this order; they need not exist."""
        own: Path = getattr(self, kind)
        return [*(tree / kind for tree in reversed(self.trees)), own]

    def in_trees(self, kind: Kind, name: str) -> list[Path]:
        """Return what the trees have of that name and kind, the last of which wins."""
        there = (tree / kind / name for tree in self.trees)
        return [path for path in there if os.path.exists(path)]

    def find(self, kind: Kind, name: str) -> Path:
        """Return the file or folder `name` of a kind; the checkout's if there is none."""
        own: Path = getattr(self, kind) / name
        return [own, *self.in_trees(kind, name)][-1]

    def found(self, kind: Kind, pattern: str) -> dict[str, Path]:
        """Return all of a kind that match a pattern, by their paths in its folder, sorted."""
        # Later ones win: the first folder comes last.
        folders = reversed(self.folders(kind))
        every = {str(path.relative_to(top)): path for top in folders for path in top.glob(pattern)}
        return dict(sorted(every.items()))

    def path(self, name: str) -> Path:
        """Return the file or folder at the path `name` of a tree or the checkout; the checkout's if none."""
        there = (tree / name for tree in reversed(self.trees))
        return next((path for path in there if os.path.exists(path)), self.root / name)

    def roots(self) -> dict[str, Path]:
        """Return the checkout and the trees by name: CHECKOUT, TREE1, TREE2 ...; one in another is first."""
        if not self.trees:
            return {"CHECKOUT": self.root}
        every = {"CHECKOUT": self.root} | {f"TREE{number}": tree for number, tree in enumerate(self.trees, 1)}
        return dict(sorted(every.items(), key=lambda item: -len(item[1].parts)))

    def root_of(self, path: Path) -> str:
        """Return the name of the checkout or tree that a file lies in, "" if it lies elsewhere."""
        return next((name for name, root in self.roots().items() if path.is_relative_to(root)), "")

    def is_in_tree(self, path: Path) -> bool:
        """Tell whether a file lies in a tree."""
        return self.root_of(path).startswith("TREE")

    def name_of(self, path: Path) -> str:
        """Return what messages call a file: its path in the checkout, or as it is if it lies elsewhere."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def label_of(self, path: Path) -> str:
        """Return what results call a file: its path in the checkout or in its tree, or as it is.

        So a result does not depend on the place of a tree.
        """
        root = self.root_of(path)
        return str(path.relative_to(self.roots()[root])) if root else str(path)


CHECKOUT = Checkout(Path(__file__).resolve().parents[2])


def cache_folder() -> Path:
    """Return the user cache folder: $TCBUILD_CACHE, or tcbuild below $XDG_CACHE_HOME or ~/.cache.

    A container may have no home, or one that cannot be written to; then it is artifacts/.cache.
    """
    chosen = os.environ.get("TCBUILD_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "tcbuild"
    # `~` stays as it is for a user id without a name if HOME is unset.
    if base.startswith("~") or not _can_write(folder):
        return CHECKOUT.artifacts / ".cache"
    return folder.absolute()


def _can_write(folder: Path) -> bool:
    """Tell whether `folder` can be written to; if it does not exist, whether it can be made."""
    # os.path: for a folder in another user's home, Path.exists raises an error.
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    return os.access(there, os.W_OK | os.X_OK)

# SPDX-License-Identifier: MIT
"""An input is edited while a task runs: nothing stale is recorded, nothing wrong is shared.

A run of profile `rooted` is stopped at a random moment (SIGSTOP to all its processes), an input is
edited, and the run goes on.  The next run must give what a build from nothing gives of the edited
input.  Half of the runs use a shared cache; a second clone with the original input must get the
original from it.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.util.files import remove_tree, sha256_file
from tests.faults.world import World
from tests.support.stopped import stopped

PROFILE = "rooted"
ISO = f"tcbuild-{PROFILE}.iso"
SAID = ("changed while the task ran", "changed since this run began")
# What the edit of an input can meet: a stage, the targets to make it run, and how long it takes here.
STAGES = {
    "kconfig": ("kconfig/config", 2.0),
    "rootfs": ("rootfs64.gz", 2.0),
    "tcz:own": ("tcz/own.tcz", 0.6),
    "tcz:inside": ("tcz/inside.tcz", 0.6),
    "core": ("corepure64.gz", 0.6),
    "iso": (ISO, 1.5),
}
SLOW = ("kconfig:base", "kconfig", "kernel", "rootfs")


@dataclass(frozen=True)
class Edit:
    """An edit of an input.  path: in the checkout; text: what is appended, "" for a change of the mode."""

    stage: str
    path: str
    text: str

    def make(self, checkout: Path) -> Callable[[], None]:
        """Make the edit; return a function that undoes it."""
        path = checkout / self.path
        if not path.exists():
            path.write_text(self.text)
            return path.unlink
        old, mode = path.read_bytes(), path.stat().st_mode

        def undo() -> None:
            path.write_bytes(old)
            path.chmod(mode)

        if self.text:
            path.write_bytes(old + self.text.encode())
        else:
            path.chmod(mode ^ 0o111)
        return undo


EDITS = (
    Edit("kconfig", "kconfig/small.config", "CONFIG_CRC4=m\n"),
    Edit("rootfs", "rootfs/files/etc/motd", "another\n"),
    Edit("rootfs", "rootfs/files/etc/motd", ""),
    Edit("rootfs", "rootfs/files/etc/new", "new\n"),
    Edit("tcz:own", "extensions/own/recipe.toml", 'comments = ["another"]\n'),
    Edit("tcz:own", "extensions/own/files/usr/local/share/own", "another\n"),
    Edit("tcz:own", "extensions/own/files/usr/local/share/new", "new\n"),
    Edit("tcz:inside", "extensions/inside/files/usr/local/share/inside", "another\n"),
    Edit("iso", "tasks/image/boot/isolinux.cfg", "# another\n"),
    Edit("core", f"profiles/{PROFILE}.toml", '[system]\nhostname = "other"\n'),
)
_known: dict[Edit | None, str] = {}
"""The sha256 of the ISO after an edit; None: of the original."""


def edit(world: World, rng: random.Random) -> str:
    """Edit an input in the middle of a run; see the module."""
    chosen = rng.choice(EDITS)
    stage = chosen.stage if rng.random() < 0.8 else rng.choice(list(STAGES))
    target, seconds = STAGES[stage]
    shared = rng.random() < 0.5
    output = world.checkout / "artifacts" / PROFILE
    store = world.folder / "store"
    if not output.exists():
        status, said = world.start("lock", profile=PROFILE).end()
        assert status == 0, said
        _expected(world, None)  # fills the trusted store
        status, said = world.start("iso", f"cache={world.folder / 'trusted'}", profile=PROFILE).end()
        assert status == 0, said
    remove_tree(output / target)
    if shared:
        _seed(store, world.folder / "trusted", without=stage)
    words = ("iso", "-n", rng.choice(["1", "4"]), *([f"cache={store}"] if shared else []))
    wait = rng.uniform(0, seconds)
    run = world.start(*words, profile=PROFILE)
    reached = run.until(f"=> {stage}") if words[2] == "1" else False
    time.sleep(wait if reached else rng.uniform(0.3, 3.0))
    with stopped(run.process):
        undo = chosen.make(world.checkout)
    try:
        status, said = run.end()
        assert "Traceback" not in said, said
        late = "told" if any(text in said for text in SAID) else "unseen"
        assert status == (1 if late == "told" else 0), said
        status, again = world.start(*words, profile=PROFILE).end()
        assert status == 0, again
        expected = _expected(world, chosen)
        assert sha256_file(output / ISO) == expected, f"stale: {chosen}, {stage}\n{said}\n{again}"
    finally:
        undo()
    if shared:
        _assert_not_poisoned(world, store, said)
    return (
        f"{chosen.path} edited {wait:.2f} s into {stage}, {late}{', with a shared cache' if shared else ''}"
    )


def _seed(store: Path, trusted: Path, without: str) -> None:
    """Make a shared cache that has what takes long to build, except the results of the task `without`."""
    remove_tree(store)
    shutil.copytree(trusted / "archives", store / "archives")
    (store / "entries").mkdir()
    for path in (trusted / "entries").iterdir():
        task = json.loads(path.read_bytes().partition(b"\n")[2])["task"]
        if task in SLOW and task != without:
            shutil.copy(path, store / "entries")


def _expected(world: World, chosen: Edit | None) -> str:
    """Return the sha256 of the ISO that a build from nothing gives; the inputs are as `chosen` makes them.

    Nothing is edited meanwhile.  A shared cache that only these builds use spares the kernel.
    """
    if chosen not in _known:
        _known[chosen] = _build(world, world.folder / "trusted")
    return _known[chosen]


def _assert_not_poisoned(world: World, store: Path, said: str) -> None:
    expected = _known[None]
    assert _build(world, store) == expected, f"poisoned: a clone with the original input got another\n{said}"


def _build(world: World, store: Path) -> str:
    """Build in an empty output folder with a shared cache; return the sha256 of the ISO."""
    clone = world.folder / "clone"
    remove_tree(clone)
    status, said = world.start("iso", f"cache={store}", f"out={clone}", profile=PROFILE).end()
    assert status == 0, said
    return sha256_file(clone / ISO)

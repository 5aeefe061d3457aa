# SPDX-License-Identifier: MIT
"""What can happen: work to be done, and something that goes wrong in the middle of it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from tasks.util.files import remove_tree
from tests.faults.code import code
from tests.faults.world import Run, World
from tests.support.stopped import descendants

STAGES = ("fetch", "linux", "kconfig", "kernel", "tcz:", "core", "iso")
TOOLS = {
    "kconfig": ("make", "flex", "bison"),
    "kernel": ("make", "ld", "gcc", "depmod"),
    "tcz:": ("mksquashfs",),
    "core": ("sqfs2tar",),
    "iso": ("xorriso", "mcopy", "mformat", "grub-mkimage"),
    "linux": ("patch", "tar"),
    "fetch": ("apt-get",),
}
Fault = Callable[[World, random.Random], str]
"""Does its harm to the world; returns in words what was done.  The world may be out of order after it."""


@contextmanager
def work(world: World, rng: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Give the next run something to do; yield what, and the stages that will run.

    Edited inputs are put back at the end.
    """
    checkout, out = world.checkout, world.output
    removable = {
        "kernel": (out / "kernel", ["kernel"]),
        "build": (out / "kernel/vmlinuz64", ["kernel"]),
        "source": (out / "linux", ["linux", "kconfig", "kernel"]),
        "lock.toml": (out / "lock.toml", ["fetch"]),
        "upstream.tcz": (out / "tcz/upstream.tcz", ["tcz:"]),
        "own.tcz": (out / "tcz/own.tcz", ["tcz:"]),
        "core": (out / "corepure64.gz", ["core"]),
        "iso": (world.iso, ["iso"]),
    }
    fragment, recipe = checkout / "kconfig/small.config", checkout / "extensions/inside/recipe.toml"
    size = rng.randint(12, 20)
    edits = {
        "fragment": (fragment, f"CONFIG_CRC7=m\nCONFIG_LOG_BUF_SHIFT={size}\n", ["kconfig", "kernel", "iso"]),
        "recipe": (recipe, recipe.read_text().replace("own", f"{size}"), ["tcz:", "core", "iso"]),
        "menu": (checkout / "tasks/image/boot/isolinux.cfg", f"# {size}\n", ["iso"]),
    }
    with ExitStack() as stack:
        kind = rng.choice([*removable, *edits])
        if kind in removable:
            path, stages = removable[kind]
            remove_tree(path)
            if kind == "build" and rng.random() < 0.3:
                remove_tree(out / "build")
            yield f"without {kind}", stages
        else:
            path, text, stages = edits[kind]
            old = path.read_text()
            stack.enter_context(world.edited(path, old + text if kind == "menu" else text))
            yield f"another {kind}", stages


@contextmanager
def in_the_middle(
    world: World, rng: random.Random, *, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, Run]]:
    """Start a run with something to do, and yield at a random moment of a random stage of it."""
    with work(world, rng) as (what, stages):
        stage = rng.choice(stages)
        wait = rng.uniform(0, 1.5) ** 2
        run = world.start("iso", before=before)
        reached = run.until(f"=> {stage}")
        time.sleep(wait if reached else 0)
        late = "" if reached and run.process.poll() is None else ", which was over"
        try:
            yield f"{what}: {wait:.2f} s into {stage}{late}", run
        finally:
            if run.process.poll() is None:
                run.end()


def kill_all(world: World, rng: random.Random) -> str:
    """A power cut, as far as processes go: all of the run is killed at once."""
    with in_the_middle(world, rng) as (where, run):
        for pid in (run.process.pid, *descendants(run.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.end()
    return f"kill -9 of all, {where}"


def kill_one(world: World, rng: random.Random) -> str:
    """Out of memory: one process of the run is killed, doit itself or one it has started."""
    with in_the_middle(world, rng) as (where, run):
        victim = rng.choice([run.process.pid, *descendants(run.process.pid)])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        run.end()
    which = "doit" if victim == run.process.pid else "a child"
    return f"kill -9 of {which}, {where}"


def stop(world: World, rng: random.Random) -> str:
    """Ctrl-C, a closed terminal, or a CI system's polite end."""
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    with in_the_middle(world, rng) as (where, run):
        run.process.send_signal(number)
        _status, said = run.end()
        assert "Traceback" not in said, said
    return f"{number.name}, {where}"


def second_run(world: World, rng: random.Random) -> str:
    """Somebody starts the same once more; both end well."""
    with in_the_middle(world, rng) as (where, run):
        other = world.start("iso")
        for one in (run, other):
            status, said = one.end()
            assert status == 0, said
    return f"a second run, {where}"


def flipped_byte(world: World, rng: random.Random) -> str:
    """A byte of a file that was made or fetched changes; half of the time there is work to do as well."""
    with ExitStack() as stack:
        what = stack.enter_context(work(world, rng))[0] if rng.random() < 0.5 else "nothing to do"
        path = world.made(rng)
        data = bytearray(path.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if what != "nothing to do":
            _status, said = world.start("iso").end()
            assert "Traceback" not in said, said
    name = path.relative_to(world.output if path.is_relative_to(world.output) else world.cache)
    return f"byte {place:,} of {name} flipped, {what}"


def network(world: World, rng: random.Random) -> str:
    """The mirror is gone, slow, cuts what it sends, or sends something else; the cache is empty."""
    shutil.rmtree(world.cache / "downloads")
    (world.output / "lock.toml").unlink(missing_ok=True)
    if rng.random() < 0.5:
        remove_tree(world.output / "linux")
    sound = dict(world.mirror.pages)
    times = rng.choice([1, 2, 6, None])
    done = []
    for path in rng.sample(sorted(sound), rng.randint(1, len(sound))):
        page = sound[path]
        kind = rng.choice(["status", "cut", "wrong", "wait", "gone"])
        middle = rng.randrange(max(1, len(page.content)))
        world.mirror.pages[path] = {
            "status": replace(page, status=rng.choice([403, 500, 503]), times=times),
            "cut": replace(page, cut=middle, times=times),
            "wrong": replace(page, content=page.content[:middle] + b"!" + page.content[middle + 1 :]),
            "wait": replace(page, wait=rng.uniform(0, 2), times=times),
            "gone": replace(page, status=404),
        }[kind]
        done.append(f"{path}: {kind}")
    _status, said = world.start("iso").end()
    assert "Traceback" not in said, said
    world.mirror.pages.update(sound)
    return f"network faults ({times or 'no end of'} times): {', '.join(done)}"


def missing_tool(world: World, rng: random.Random) -> str:
    """A program that a stage needs is not there; in a mount namespace, this machine keeps it."""
    with work(world, rng) as (what, stages):
        stage = rng.choice(stages)
        tool = shutil.which(rng.choice(TOOLS[stage]))
        assert tool is not None
        hide = f'mount --bind /dev/null "$(readlink -f {tool})" && exec "$0" "$@"'
        status, said = world.start("iso", before=("unshare", "-m", "sh", "-c", hide)).end()
        assert "Traceback" not in said, said
    return f"without {tool}, {what}: exit status {status}"


def full_disk(world: World, rng: random.Random) -> str:
    """The disk with the output folder fills up."""
    filler = world.output.parent / "filler"
    with in_the_middle(world, rng) as (where, run):
        with suppress(OSError), filler.open("wb") as stream:
            while True:
                stream.write(bytes(1 << 20))
        status, said = run.end()
        filler.unlink()
        assert "Traceback" not in said, said
    return f"a full disk, {where}: exit status {status}"


def can_mount() -> bool:
    """Tell whether a file system can be mounted here, and namespaces made."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


FAULTS: tuple[Fault, ...] = (kill_all, kill_one, stop, second_run, flipped_byte, network, code)
NEED_MOUNT: tuple[Fault, ...] = (missing_tool, full_disk)

# SPDX-License-Identifier: MIT
"""At random moments something goes wrong; one plain `./doit iso` afterwards gives the same ISO.

$TCBUILD_FAULTS says how many (10, one of each kind), $TCBUILD_SEED which, $TCBUILD_FAULT_KIND of which kind;
`./doit faults` sets them.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.util.files import is_temporary, sha256_file
from tests.faults.edits import edit
from tests.faults.faults import FAULTS, NEED_MOUNT, can_mount
from tests.faults.world import World
from tests.support.built import built, with_source
from tests.support.mirror import Mirror

COUNT = int(os.environ.get("TCBUILD_FAULTS", "10"))
SEED = os.environ.get("TCBUILD_SEED") or str(random.SystemRandom().randrange(1 << 32))
KIND = os.environ.get("TCBUILD_FAULT_KIND", "")
DISK_MIB = 3072
NAMES = sorted(kind.__name__ for kind in (*FAULTS, edit, *NEED_MOUNT))
if KIND not in ("", *NAMES):
    pytest.exit(f"--kind {KIND}: unknown; one of: {', '.join(NAMES)}", returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is a small file system of its own."""
    folder = tmp_path_factory.mktemp("faults")
    own = can_mount()
    if own:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", folder], check=True)
    try:
        yield folder, own
    finally:
        if own:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def world(mounted: tuple[Path, bool]) -> Iterator[World]:
    if not built().profile.core.rootfs:
        pytest.skip("this profile has Tiny Core's own root and kernel")
    with Mirror() as mirror:
        yield World(mounted[0], with_source(), mirror)


def test_one_plain_run_makes_everything_good(world: World, mounted: tuple[Path, bool]) -> None:
    print(f"seed {SEED}")
    kinds = [
        kind for kind in (*FAULTS, edit, *(NEED_MOUNT if mounted[1] else ())) if KIND in ("", kind.__name__)
    ]
    assert kinds, f"faults of kind {KIND} need a file system that this machine cannot mount"
    rounds = random.Random(f"{SEED} order")
    order = [kind for _ in range(COUNT // len(kinds) + 1) for kind in rounds.sample(kinds, len(kinds))]
    survived: Counter[str] = Counter()
    for number, fault in enumerate(order[:COUNT]):
        what = fault(world, random.Random(f"{SEED} {number}"))
        print(f"{number}: {what}", flush=True)
        status, said = world.start("iso").end()
        assert status == 0, f"fault {number} of seed {SEED}: {what}\n{said}"
        assert sha256_file(world.iso) == world.reference, f"fault {number} of seed {SEED}: {what}\n{said}"
        survived[fault.__name__] += 1
    print(f"{survived.total()} of {COUNT} faults survived: {dict(survived)}")
    left = [path for path in world.output.rglob(".*") if is_temporary(path.name)]
    assert not left, "what killed runs left is removed by the next"

# SPDX-License-Identifier: MIT
"""What profiles and checkouts share by the cache of their user; test_rebuild_chains.py has what rebuilds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.cli import variables
from tasks.config.settings import SHARED_VARIABLE
from tasks.engine import run_history
from tasks.util.checkout import cache_folder
from tasks.util.files import remove_tree, sha256_file
from tests.support.built import Outcome, built, copy_checkout, doit
from tests.support.edits import edited
from tests.tools.test_rebuild_chains import clone, ordered, run  # noqa: F401

TASKS = {"kconfig:base", "kconfig", "kernel", "rootfs", "tcz:attr", "core"}


def own_cache(folder: Path) -> dict[str, str]:
    """Return the environment of a user with a cache folder of his own, which has all but results."""
    folder.mkdir()
    for path in cache_folder().iterdir():
        if path.name != variables.RESULTS:
            (folder / path.name).symlink_to(path)
    return {"TCBUILD_CACHE": str(folder), SHARED_VARIABLE: ""}


def test_a_fresh_clone_and_a_warm_shared_cache_give_the_iso_without_a_kernel_tree(
    clone: Path,  # noqa: F811
    run: Callable[..., Outcome],  # noqa: F811
    tmp_path: Path,
) -> None:
    name, own = built().paths.name, own_cache(tmp_path / "cache")
    made = clone / "artifacts" / name
    before = {file: sha256_file(made / file) for file in results_of(made)}
    assert run("forget", "--all").status == 0
    done = run("iso", env=own)  # from the objects and the tree that are there
    assert done.status == 0, done.output
    assert "from your own cache" not in done.output
    listed = run("cache:list", env=own)
    assert {line.split()[-1] for line in listed.output.splitlines()[:-1]} == TASKS, listed.output
    assert run("iso", env=own).ran == []
    assert run("forget", "kernel").status == 0
    assert "kernel: from your own cache" in run("kernel", env=own).output
    assert "kernel: from your own cache" not in run("kernel", "-s", "-a", env=own).output, "-a: do it again"
    # A profile of another name, description and boot menu, with the same kernel.
    other = clone / "profiles/other.toml"
    other.write_text(f'inherit = "{name}"\ndescription = "Another"\n[boot]\ntimeout = 9\n')
    done = doit(clone, "iso", "profile=other", env=own)
    other.unlink()
    assert done.status == 0, done.output
    assert {task for task in TASKS if f"{task}: from your own cache" in done.output} == TASKS, done.output
    shutil.rmtree(made.with_name("other"))
    # In another checkout, and once more where artifacts/ was removed by hand: byte for byte, with a manifest
    # that does not tell the difference.
    fresh = copy_checkout(tmp_path / "fresh")
    there, store = fresh / "artifacts" / name, f"cache={own['TCBUILD_CACHE']}/{variables.RESULTS}"
    for words, called in (([], "your own"), ([], "your own"), ([store], "the shared")):
        remove_tree(there)
        done = doit(fresh, "iso", f"profile={name}", *words, env=own)
        assert done.status == 0, done.output
        assert {task for task in TASKS if f"{task}: from {called} cache" in done.output} == TASKS
        assert {file: sha256_file(there / file) for file in results_of(there)} == before
    records, _ = run_history.load(there)
    assert {task.name for task in records[-1].tasks if task.outcome == "from cache"} == TASKS
    assert [path.name for path in (there / "linux").iterdir()] == [".tcbuild"]
    assert not (there / "build").exists()
    listed = doit(fresh, "cache:list", f"profile={built().paths.name}", store)
    assert f"{len(TASKS)} entries, " in listed.output, listed.output
    # The bill of materials has the kernel's licence, which the tree tells.
    done = doit(fresh, "sbom", f"profile={name}", store)
    assert done.status == 0, done.output
    (bill,) = there.glob("*.cdx.json")
    assert "GPL-2.0-only WITH Linux-syscall-note" in bill.read_text()
    # One changed line: what it touches is unpacked, configured and compiled; the rest is there.
    with edited(fresh / "kconfig/qemu.config", "# What", "# This"):
        done = doit(fresh, "explain", f"profile={built().paths.name}", store)
        assert "would come from the shared cache" not in done.output
        done = doit(fresh, "iso", f"profile={built().paths.name}", store)
    assert (done.status, ordered(done.ran)) == (0, ["inputs", "kconfig"]), done.output
    assert (there / "linux" / "Kconfig").is_file()


def results_of(output: Path) -> list[Path]:
    """Return the files that people take from an output folder, the ISO's manifest among them."""
    kernel = [path.relative_to(output) for path in (output / "kernel").rglob("*") if path.is_file()]
    iso = f"tcbuild-{output.name}.iso"
    return [*kernel, *map(Path, (iso, f"{iso}.manifest.json", "rootfs.index", "corepure64.gz"))]

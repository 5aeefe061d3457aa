# SPDX-License-Identifier: MIT
"""`./doit import` of what tcbuild itself makes, and builds from what comes out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.formats import iso9660
from tasks.origins.lock import load_lock
from tests.support.built import Outcome, built, copy_checkout, doit
from tests.support.media import MENU, write


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def done(folder: Path, *words: str) -> Outcome:
    outcome = doit(folder, *words, env={"CI": "1"})
    assert outcome.status == 0, outcome.output
    return outcome


def parts(iso: Path) -> dict[str, bytes]:
    """Return the kernel, the core, the menu and the extensions of an ISO."""
    found = iso9660.extents(iso)
    wanted = ("cde/", "boot/vmlinuz64", "boot/corepure64.gz")
    return {
        name: iso9660.content(iso, one)
        for name, one in found.items()
        if name.startswith(wanted) and not name.endswith(".info")
    }


def test_our_own_iso_comes_back(checkout: Path) -> None:
    """Without a connection, and without a compiler; the second import and build have nothing to do."""
    image = built()
    said = done(checkout, "import", str(image.paths.iso), "again").output
    assert "wrote profiles/again.toml and profiles/again.lock.toml" in said
    assert "kernel" in done(checkout, "iso", "profile=again", "offline=1").ran
    iso = checkout / "artifacts/again/tcbuild-again.iso"
    assert parts(iso) == parts(image.paths.iso)
    done(checkout, "import", str(image.paths.iso), "again")
    assert done(checkout, "iso", "profile=again", "offline=1").ran == []


def test_a_disk_comes_back_with_its_backup(checkout: Path, tmp_path: Path) -> None:
    """What lies in a folder becomes a disk image; that becomes a profile with the same files."""
    image = built()
    files = {
        "boot/vmlinuz64": image.paths.vmlinuz.read_bytes(),
        "boot/corepure64.gz": image.paths.core.read_bytes(),
        "boot/isolinux/isolinux.cfg": MENU.encode(),
        "tce/onboot.lst": b"attr.tcz\n",
        "tce/optional/attr.tcz": (image.paths.tcz / "attr.tcz").read_bytes(),
        "tce/mydata.tgz": b"a backup, as it is",
    }
    write(tmp_path / "stick", files)
    done(checkout, "import", str(tmp_path / "stick"), "one")
    done(checkout, "disk", "profile=one", "offline=1")
    disk = checkout / "artifacts/one/tcbuild-one.qcow2"
    said = done(checkout, "import", str(disk), "two").output
    assert "  backup: partition 2: tce/mydata.tgz (it may hold passwords and keys), 18 bytes\n" in said
    assert "the bootcode tce=UUID=" in said
    one, two = (load_lock(checkout / f"profiles/{name}.lock.toml") for name in ("one", "two"))
    assert one.extension == two.extension
    assert {file for file in one.file if file.path != "corepure64.gz"} <= set(two.file)


def test_a_cache_that_was_emptied_is_named(checkout: Path, tmp_path: Path) -> None:
    image = built()
    done(checkout, "import", str(image.paths.iso), "again")
    env = {"CI": "1", "TCBUILD_CACHE": str(tmp_path / "cache")}
    out = tmp_path / "out"
    failed = doit(checkout, "fetch", "profile=again", f"out={out}", env=env)
    assert failed.status == 1
    words = f"is not in the cache, and no server has it: it was imported from {image.paths.iso.name}"
    assert words in failed.output
    assert f"hint: import it again: ./doit import {image.paths.iso.name} again" in failed.output
    heir = 'description = "x"\ninherit = "again"\n[boot]\ntimeout = 9\n'
    (checkout / "profiles/heir.toml").write_text(heir)
    failed = doit(checkout, "fetch", "profile=heir", f"out={out}", env=env)
    hint = f"hint: import it again: ./doit import {image.paths.iso.name} again"
    assert hint in failed.output, "the import writes no profile of another kind"
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    locked = doit(checkout, "lock", "profile=again", "relock=1")
    assert locked.status == 0, locked.output
    assert load_lock(checkout / "profiles/again.lock.toml").extension

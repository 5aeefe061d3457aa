# SPDX-License-Identifier: MIT
"""Profile tc11 against a mirror of our own: lock, fetch, modules, extensions, core and ISO.

The kernel is the one `./doit iso` has built, put where the `kernel` task would have it
(`doit run --single` runs one task and none of those before it): the mirror's kernel source
is only the outlines of one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats import initramfs_file
from tasks.origins import http
from tasks.util.files import sha256_file
from tests.support.built import built, copy_checkout
from tests.support.mirror import Mirror, Page
from tests.support.tinycore import DISTRIBUTION, TCZ, Checkout, TinyCore, squashfs

TOOL = "usr/local/bin/tool"
SCRIPT = "usr/local/tce.installed/inside"
EXTENSIONS = """
[[extensions]]
name = "tool"
origin = "upstream"

[[extensions]]
name = "copied"
place = "copy2fs"
origin = "upstream"

[[extensions]]
name = "inside"
place = "initrd"
origin = "upstream"

[[extensions]]
name = "original-modules-KERNEL"
place = "ondemand"
"""
STAGES = ("fetch", "modules", "tcz", "core", "iso")


def image() -> Settings:
    """Return the settings of the built image, if its root is ours: it serves as rootfs64.gz."""
    settings = built()
    if not settings.profile.core.rootfs:
        pytest.skip("the image of this checkout has no root of its own")
    return settings


def release() -> str:
    return (image().paths.kernel / "release").read_text().strip()


def put_kernel(output: Path) -> None:
    """Put the built kernel, and the config that the manifest names, where its tasks would have them."""
    shutil.copytree(image().paths.kernel, output / "kernel", symlinks=True)
    shutil.copytree(image().paths.config.parent, output / "kconfig", symlinks=True)


def offer(tiny: TinyCore, folder: Path) -> None:
    """Everything of the profile, with real squashfs files."""
    contents = {
        "tool": ("libtool.tcz \r\n\r\nnet-bridging-KERNEL.tcz\r\n", {TOOL: "#!/bin/sh\necho tool\n"}),
        "libtool": (None, {"usr/local/lib/libtool": "lib\n"}),
        "copied": ("libtool.tcz", {"usr/local/share/copied": "copied\n"}),
        "inside": ("deep.tcz\n", {SCRIPT: "#!/bin/sh\necho inside\n"}),
        "deep": ("inside.tcz\n", {"usr/local/share/deep": "deep\n"}),
    }
    for name, (dep, files) in contents.items():
        (folder / name).mkdir(parents=True)
        tiny.extension(name, dep, squashfs(folder / name, files, executable=(TOOL, SCRIPT)))
    tiny.kernel()
    tiny.distribution((image().paths.output / "rootfs64.gz").read_bytes())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("double")
    with Mirror() as mirror:
        made = Checkout(copy_checkout(folder / "checkout"), folder / "cache", TinyCore(mirror))
        offer(made.tiny, folder / "contents")
        made.write_profile(
            EXTENSIONS,
            release=f'"{release()}"',
            # As the root was made: then it goes into the core byte for byte.
            source_date_epoch=str(image().profile.source_date_epoch),
            # Debian's kmod, which that root has, reads no .ko.gz.
            compress_modules="false",
        )
        put_kernel(made.out)
        locked = made.doit("lock")
        assert locked.status == 0, locked.output
        made.stages(*STAGES)
        yield made


def layout(iso: Path) -> dict[str, str]:
    """Return all files of the ISO's cde/ and, of the small ones that say what to load, the text."""
    cde = iso.parent / "cde"
    shutil.rmtree(cde, ignore_errors=True)
    run = ["xorriso", "-osirrox", "on", "-indev", str(iso), "-extract", "/cde", str(cde)]
    subprocess.run(run, check=True, capture_output=True)
    files = (path for path in cde.rglob("*") if path.is_file())
    return {
        str(path.relative_to(cde)): path.read_text() if path.suffix in (".lst", ".dep") else ""
        for path in files
    }


def test_the_iso_has_what_the_profile_says(checkout: Checkout) -> None:
    found = layout(checkout.out / "tcbuild-double.iso")
    assert found["onboot.lst"] == "tool.tcz\ncopied.tcz\n"
    assert found["copy2fs.lst"] == "copied.tcz\n"
    upstream = {"tool", "libtool", "copied"}
    names = {name.removeprefix("optional/") for name in found if name.startswith("optional/")}
    assert {f"{name}.tcz" for name in upstream} < names
    assert not {name for name in names if name.startswith(("inside", "deep"))}
    for group in ("net-bridging", "kvm", "original-modules"):
        assert f"{group}-{release()}.tcz" in names
    # A list of its own, clean: CRLF and empty lines are gone, -KERNEL is tce-load's to replace.
    assert found["optional/tool.tcz.dep"] == "libtool.tcz\nnet-bridging-KERNEL.tcz\n"
    assert "net-bridging-KERNEL.tcz\n" in found[f"optional/original-modules-{release()}.tcz.dep"]
    sums = sorted((checkout.out / "cde/optional").glob("*.md5.txt"))
    assert len(sums) == len([name for name in names if name.endswith(".tcz")])
    for path in sums:
        subprocess.run(
            ["md5sum", "--check", "--strict", path], cwd=path.parent, check=True, capture_output=True
        )


def test_the_core_has_the_root_its_modules_and_what_is_placed_in_it(checkout: Checkout) -> None:
    packed = (checkout.out / "corepure64.gz").read_bytes()
    assert packed.startswith((image().paths.output / "rootfs64.gz").read_bytes())
    found = initramfs_file.merged(initramfs_file.read_core(checkout.out / "corepure64.gz"))
    assert found[SCRIPT].data == b"#!/bin/sh\necho inside\n"
    assert found["usr/local/share/deep"].data == b"deep\n"
    assert found["tmp/setup.lst"].data == f"/{SCRIPT}\n".encode()
    modules = [name for name in found if re.search(r"\.ko$", name)]
    assert [name for name in modules if name.endswith("/overlay.ko")]
    assert not [name for name in modules if name.endswith("/bridge.ko")]
    alone = [
        member.name
        for archive in initramfs_file.read_core(checkout.out / "modules64.gz")
        for member in archive.members
    ]
    assert set(modules) == {name for name in alone if name.endswith(".ko")}


def test_a_second_run_does_nothing(checkout: Checkout) -> None:
    said = checkout.stages(*STAGES)
    assert "=> " not in said
    assert said.count("everything is up to date") == len(STAGES)


@pytest.mark.skipif(os.geteuid() != 0, reason="taking the network away needs root")
def test_without_any_network_the_same_iso_comes_out(checkout: Checkout, tmp_path: Path) -> None:
    """In a network namespace without even a loopback interface that is up."""
    put_kernel(tmp_path / "out")
    words = (f"out={tmp_path / 'out'}", "offline=1", "frozen=1")
    before = len(checkout.tiny.mirror.requests)
    checkout.stages(*STAGES, words=words, before=("unshare", "--net"))
    for name in ("tcbuild-double.iso", "corepure64.gz"):
        assert sha256_file(tmp_path / "out" / name) == sha256_file(checkout.out / name), name
    assert len(checkout.tiny.mirror.requests) == before


def test_relock_is_refused_where_it_would_do_nothing(checkout: Checkout) -> None:
    """Though everything is up to date: a variable that is silently ignored misleads."""
    before = checkout.lock.read_bytes()
    done = checkout.doit("fetch", "relock=1")
    assert done.status == 1, done.output
    assert "fetch never does" in done.output
    assert checkout.lock.read_bytes() == before
    checkout.stages("fetch")


def test_the_tree_is_printed(checkout: Checkout) -> None:
    done = checkout.doit("tcz:tree", "inside", "tool")
    assert done.status == 0, done.output
    lines = done.output.splitlines()[1:-1]
    assert [re.sub(r"(\w)  .*", r"\1", line) for line in lines] == [
        *("inside", "`-- deep", "    `-- inside"),
        *("tool", "|-- libtool", f"`-- net-bridging-{release()}"),
        lines[-1],
    ]
    assert lines[2].endswith("  (circle)")
    assert re.fullmatch(r"5 extensions, \d+K", lines[-1])


@pytest.mark.parametrize(
    ("stage", "made"), [("modules", "modules/modules.sha256"), ("core", "corepure64.gz")]
)
def test_an_archive_that_the_cache_lost_is_fetched_again(checkout: Checkout, stage: str, made: str) -> None:
    """Task `fetch` is up to date then, so the stages that read the base fetch it themselves."""
    (lost,) = checkout.cache.glob("downloads/*/rootfs64.gz")
    before = sha256_file(lost), sha256_file(checkout.out / made)
    lost.unlink()
    (checkout.out / made).unlink()
    assert f"=> {stage}" in checkout.stages(stage)
    assert (sha256_file(lost), sha256_file(checkout.out / made)) == before


def test_auto_leaves_out_what_is_not_locked(checkout: Checkout) -> None:
    (checkout.folder / "profiles/tc11.lock.toml").unlink()
    record = checkout.folder / "artifacts/profile.json"
    command, env = checkout.command("images")  # a run, though there is nothing to do for it

    def chosen() -> str:
        record.unlink(missing_ok=True)
        done = subprocess.run(
            command[:-1], cwd=checkout.folder, env=env, capture_output=True, text=True, check=True
        )
        return done.stderr.splitlines()[0]

    url = checkout.tiny.mirror.url
    assert chosen() == f"profile=auto chose double: mirror {url} answered (recorded in profile.json)"
    lock = checkout.lock.read_bytes()
    checkout.lock.unlink()
    try:
        reason = chosen()
    finally:
        checkout.lock.write_bytes(lock)
    assert reason.startswith(
        "profile=auto chose apt: double: 6 of its files have no sha256 yet (./doit lock "
    )
    assert "; tc11: 4 of its files have no sha256 yet (./doit lock profile=tc11)" in reason


@pytest.fixture
def fresh(checkout: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """The same checkout with nothing locked, an empty cache, and a mirror that may be broken."""
    pages = {path: Page(page.content) for path, page in checkout.tiny.mirror.pages.items()}
    lock = checkout.lock.read_bytes()
    checkout.lock.unlink()
    yield Checkout(checkout.folder, tmp_path / "cache", checkout.tiny)
    checkout.tiny.mirror.pages = pages
    checkout.lock.write_bytes(lock)


def refused(fresh: Checkout, tmp_path: Path, *words: str) -> str:
    """Run a command that must fail by one error and leave nothing; return what it said."""
    done = fresh.doit(*words, f"out={tmp_path / 'out'}")
    assert done.status == 1, done.output
    assert "Traceback" not in done.output
    assert done.output.count("error: ") == 1
    assert "  hint: " in done.output
    assert not fresh.lock.exists()
    assert not (tmp_path / "out/lock.toml").exists()
    assert list(fresh.cache.rglob("*.part")) == []
    return done.output


def test_fetch_does_not_learn(fresh: Checkout, tmp_path: Path) -> None:
    before = len(fresh.tiny.mirror.requests)
    said = refused(fresh, tmp_path, "fetch")
    assert "no sha256 is locked for " in said
    assert "./doit lock profile=double" in said
    assert len(fresh.tiny.mirror.requests) == before


@pytest.mark.parametrize(
    ("path", "page", "says"),
    [
        (f"{TCZ}/deep.tcz", None, "inside.tcz needs deep.tcz, which no mirror has"),
        (f"{TCZ}/deep.tcz", Page(b"hsqs wrong"), "deep.tcz could not be checked: "),
        (f"{TCZ}/deep.tcz", Page(location="http://127.0.0.1:1/x"), "connection refused"),
        (f"{DISTRIBUTION}/rootfs64.gz", Page(b"abc", cut=1), "rootfs64.gz could not be downloaded: "),
        (f"{DISTRIBUTION}/rootfs64.gz.md5.txt", Page(b"<html>"), "a web page in place of the file"),
    ],
    ids=["404", "wrong-bytes", "redirected-nowhere", "cut", "md5-is-html"],
)
def test_faults_of_a_mirror_give_one_error(
    fresh: Checkout, tmp_path: Path, path: str, page: Page | None, says: str
) -> None:
    fresh.tiny.mirror.pages.pop(path)
    if page is not None:
        fresh.tiny.mirror.pages[path] = page
    assert says in refused(fresh, tmp_path, "lock")


def test_ctrl_c_while_a_mirror_is_slow_leaves_nothing(fresh: Checkout, tmp_path: Path) -> None:
    # Longer than the block in which a body is written: the .part tells that the download goes on.
    page = Page(b"slow" * http.BLOCK, cut=http.BLOCK + 2, stall=True)
    fresh.tiny.mirror.pages[f"{DISTRIBUTION}/rootfs64.gz"] = page
    command, env = fresh.command("lock", f"out={tmp_path / 'out'}")
    process = subprocess.Popen(
        command, cwd=fresh.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not any(fresh.cache.rglob("rootfs64.gz.part")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list(fresh.cache.rglob("*.part")) == []
    assert not fresh.lock.exists()


def test_a_wrong_release_is_named_before_anything_is_made(checkout: Checkout, tmp_path: Path) -> None:
    put_kernel(tmp_path / "out")
    (tmp_path / "out/kernel/release").write_text("5.4.1-tinycore64\n")
    done = checkout.doit("run", "--single", "modules", f"out={tmp_path / 'out'}")
    assert done.status == 1
    assert f"declares kernel.release = '{release()}', but the kernel's is '5.4.1-tinycore64'" in done.output
    assert not (tmp_path / "out/modules").exists()

# SPDX-License-Identifier: MIT
"""A kernel tree of one's own, through `./doit kernel`: what an edit runs, and what is said of a fault.

The tree looks like a kernel's to tcbuild, make, gcc and the checks of the result, and has one C file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.formats.cpio import regular
from tasks.formats.initramfs_file import Archive
from tasks.initramfs.core import write_core
from tasks.util.files import sha256_file
from tests.support.built import Outcome, copy_checkout, outcome
from tests.support.images import RELEASE, bzimage, elf

PROFILE = """
description = "A kernel tree of one's own"
source_date_epoch = 1700000000
[kernel]
source = { kind = "file", path = "../linux" }
base = "base-mine.config"
base_mode = "allnoconfig"
fragments = []
[core]
archives = [{ kind = "file", path = "../core.gz" }]
[boot]
bootcodes = []
"""
MODULE = f'const char vermagic[] __attribute__((section(".modinfo"))) = "vermagic={RELEASE} SMP";\n'
TREE = {
    "Makefile": f"""\
VERSION = 5
PATCHLEVEL = 4
SUBLEVEL = 3
allnoconfig: ; @cp $(KCONFIG_ALLCONFIG) $(KCONFIG_CONFIG)
olddefconfig: ; @true
bzImage: $(O)/fs/dir.o ; @mkdir -p $(O)/include/config; echo {RELEASE} >$(O)/include/config/kernel.release
modules: $(O)/drivers/one.ko ; @echo drivers/one.o >$(O)/modules.order
$(O)/fs/%.o: fs/%.c
	@echo "  CC      fs/$*.o"; mkdir -p $(O)/fs; gcc -Wall -c -o $@ $<
$(O)/drivers/%.ko: drivers/%.c
	@mkdir -p $(O)/drivers; gcc -Wall -c -o $@ $<
install: ; @$(HOME)/bin/$(INSTALLKERNEL) {RELEASE} image image $(INSTALL_PATH)
MODULES = $(INSTALL_MOD_PATH)/lib/modules/{RELEASE}
modules_install: ; @mkdir -p $(MODULES); cp $(O)/drivers/one.ko $(MODULES); touch $(MODULES)/modules.dep
mrproper: ; @rm -f $(PRODUCTS) .config
PRODUCTS = fs/table.h
.NOTPARALLEL:
""",
    "Kconfig": 'source "fs/Kconfig"\nconfig LOCALVERSION_AUTO\n\tbool "x"\n',
    "arch/x86/Makefile": "",
    "fs/Kconfig": "# nothing\n",
    "fs/dir.c": "int dir(void) { return 0; }\n",
    "fs/other.c": "int other(void) { return 0; }\n",
    "drivers/one.c": MODULE,
}
CHAIN = ["linux", "kconfig:base", "kconfig", "kernel"]
BASE_CONFIG = "".join(f"CONFIG_{name}=y\n" for name in ("64BIT", "X86_64", "BINFMT_ELF", "BLK_DEV_INITRD"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the profile, and beside it the tree; the kernel is built once."""
    folder = copy_checkout(tmp_path_factory.mktemp("own") / "tcbuild")
    for name, text in TREE.items():
        path = folder.with_name("linux") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder.with_name("linux") / "image").write_bytes(bzimage())
    write_core([Archive("gzip", (regular("init", elf(), 0o755),))], folder.with_name("core.gz"), mtime=0)
    (folder / "profiles/mine.toml").write_text(PROFILE)
    (folder / "profiles/mine.lock.toml").write_text("")
    (folder / "kconfig/base-mine.config").write_text(BASE_CONFIG)
    done = build(folder)
    assert done.status == 0, done.output
    assert chain(done) == CHAIN
    assert done.ran.index("linux") < done.ran.index("inputs") < done.ran.index("kernel"), done.output
    return folder


def build(checkout: Path) -> Outcome:
    env = {**os.environ, "TCBUILD_CACHE": str(checkout.with_name("cache")), "CI": "1"}
    command = [sys.executable, "-m", "tasks.cli.main", "kernel", "profile=mine", "offline=1"]
    return outcome(command, checkout, env)


def chain(done: Outcome) -> list[str]:
    """Return the tasks of the kernel that ran; `inputs` and `kconfig:root` run beside them."""
    return [task for task in done.ran if task not in ("fetch", "inputs", "kconfig:root")]


def digest(checkout: Path) -> str:
    """Return the digest of the tree in the manifest of the inputs."""
    made = json.loads((checkout / "artifacts/mine/inputs.manifest.json").read_text())
    (found,) = (one for one in made["inputs"] if one["name"] == "linux")
    assert found["kind"] == "local"
    return str(found["sha256"])


def compiled(checkout: Path) -> list[str]:
    log = (checkout / "artifacts/mine/logs/kernel.log").read_text()
    return [line.split()[1] for line in log.splitlines() if line.startswith("  CC ")]


def append(name: str, text: str = "\n") -> Callable[[Path], None]:
    """Return an edit: text at the end of a file."""

    def edit(linux: Path) -> None:
        (linux / name).parent.mkdir(parents=True, exist_ok=True)
        with (linux / name).open("a") as stream:
            stream.write(text)

    return edit


@pytest.mark.parametrize(
    ("edit", "tasks", "objects"),
    [
        (append("fs/dir.c"), ["linux", "kernel"], ["fs/dir.o"]),
        (append("fs/other.c"), ["linux", "kernel"], []),
        (append("fs/Kconfig", "# more\n"), CHAIN, []),
        (append("Makefile"), CHAIN, []),
        (append("scripts/tool.sh"), CHAIN, []),
        (lambda linux: os.utime(linux / "fs/dir.c"), ["linux"], None),
    ],
    ids=["c-file", "unused-c-file", "kconfig", "makefile", "script", "touched"],
)
def test_an_edit_runs_its_own_chain_and_nothing_else(
    checkout: Path, edit: Callable[[Path], None], tasks: list[str], objects: list[str] | None
) -> None:
    before = digest(checkout)
    edit(checkout.with_name("linux"))
    done = build(checkout)
    assert (done.status, chain(done)) == (0, tasks), done.output
    assert ("inputs" in done.ran) == ("kernel" in tasks)
    assert "fetch" not in done.ran
    if objects is not None:
        assert compiled(checkout) == objects
    assert (digest(checkout) != before) == ("kernel" in tasks), "the manifest says what was built"


def test_modules_are_installed_again_only_if_one_changed(checkout: Path) -> None:
    """make would strip all of them again for each edited C file."""
    linux, kernel = checkout.with_name("linux"), checkout / "artifacts/mine/kernel"
    module = kernel / f"modules/lib/modules/{RELEASE}/one.ko"
    log = checkout / "artifacts/mine/logs/kernel-modules.log"

    def runs_make() -> bool:
        before = log.stat().st_mtime_ns
        done = build(checkout)
        assert (done.status, "kernel" in done.ran) == (0, True), done.output
        listed = f"{sha256_file(module)}  {module.relative_to(kernel / 'modules')}"
        assert listed in (kernel / "modules.sha256").read_text().splitlines()
        return log.stat().st_mtime_ns != before

    append("fs/dir.c")(linux)
    assert not runs_make()
    assert "modules_install" in log.read_text(), "the manifest has the command that made them"
    append("drivers/one.c", "int more;\n")(linux)
    assert runs_make()
    assert b"more" in module.read_bytes()
    good = module.read_bytes()
    module.write_bytes(b"damaged")
    assert runs_make()
    assert module.read_bytes() == good
    append("Makefile")(linux)
    assert runs_make()
    append("fs/dir.c")(linux)
    assert not runs_make()


def test_products_are_no_edits(checkout: Path) -> None:
    names = ("fs/dir.o", "fs/.dir.o.cmd", "fs/dir.c~", "include/config/auto.conf", ".git/HEAD", "tags")
    for name in names:
        append(name)(checkout.with_name("linux"))
    assert build(checkout).ran == []


def test_a_tree_that_was_built_in_place_and_cleaned_is_the_same(checkout: Path) -> None:
    linux = checkout.with_name("linux")
    before = digest(checkout)
    (linux / ".config").write_text("CONFIG_64BIT=y\n")
    (linux / "fs/table.h").write_text("a product of no fixed name\n")
    done = build(checkout)
    assert (done.status, done.ran) == (0, ["linux"]), done.output
    assert not (checkout / "artifacts/mine/linux/fs/table.h").exists()
    assert build(checkout).ran == []
    for name in (".config", "fs/table.h", "include/config/auto.conf"):
        (linux / name).unlink(missing_ok=True)
    assert build(checkout).ran == []
    assert digest(checkout) == before


def test_a_fault_in_an_edited_file_is_shown_with_what_to_do(checkout: Path) -> None:
    linux = checkout.with_name("linux")
    good = (linux / "fs/dir.c").read_text()
    (linux / "fs/dir.c").write_text("#include <openssl/none.h>\n")
    done = build(checkout)
    assert done.status == 1
    said = "fs/dir.c:1:10: fatal error: openssl/none.h: No such file or directory"
    assert f"make failed with exit status 2: {said}" in done.output
    assert "hint: apt-get install libssl-dev" in done.output
    assert f"log: {checkout}/artifacts/mine/logs/kernel.log" in done.output
    (linux / "fs/dir.c").write_text(good)
    assert build(checkout).status == 0


def test_an_unusable_tree_is_named_in_one_line(checkout: Path) -> None:
    linux = checkout.with_name("linux")
    (linux / "Makefile").rename(linux / "gone")
    done = build(checkout)
    (linux / "gone").rename(linux / "Makefile")
    assert done.status == 1
    assert f"the kernel tree {linux} cannot be used: it has no Makefile" in done.output
    assert "Traceback" not in done.output


def test_the_kernel_says_which_patches_it_has(checkout: Path) -> None:
    """One is for another release, and one is in the source already."""
    series = checkout / "patches/mine"
    series.mkdir()
    names = ("new", "other", "had")
    (series / "series").write_text("".join(f"{name}.patch\n" for name in names))
    for name, head in zip(names, ("", "Releases: 5.4 to 5.4.2\n", ""), strict=True):
        line = {"had": "one.h"}.get(name, name)
        text = f"{head}--- /dev/null\n+++ b/fs/{line}\n@@ -0,0 +1 @@\n+/* {name} */\n"
        (series / f"{name}.patch").write_text(text)
    (checkout.with_name("linux") / "fs/one.h").write_text("/* had */\n")
    profile = checkout / "profiles/mine.toml"
    profile.write_text(PROFILE.replace("[core]", 'patches = "mine"\n[core]'))
    done = build(checkout)
    profile.write_text(PROFILE)
    assert (done.status, chain(done)) == (0, CHAIN), done.output
    assert "inputs" in done.ran, "the record has the profile, which names the series"
    assert (checkout / "artifacts/mine/kernel/patches").read_text().splitlines() == [
        "new.patch: applied",
        "other.patch: left out, it is for 5.4 to 5.4.2 and the source is 5.4.3",
        "had.patch: left out, the source has it",
    ]
    assert (checkout / "artifacts/mine/linux/fs/new").exists()

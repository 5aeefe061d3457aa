# SPDX-License-Identifier: MIT
"""Commands in a real root, by the root's own bubblewrap and by its own proot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.origins import suite
from tasks.toolchain import build_root, entry, proot_start
from tasks.toolchain.entry import Bind, Entry
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError
from tasks.util.process import run

# bwrap and proot with their libraries, and a few programs to run in the root.
SMALL = {
    *("bubblewrap", "libc6", "libcap2", "libgcc-s1", "libpcre2-8-0", "libselinux1", "libtalloc2", "proot"),
    *("coreutils", "dash", "gcc-12-base", "libacl1", "libattr1", "libgmp10"),
}


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a few packages of toolchain debian12, from the mirror or from the cache."""
    cache, top = cache_folder(), tmp_path_factory.mktemp("small")
    shipped, wanted = build_root.lock("debian12"), build_root.load("debian12").root
    assert wanted is not None
    packages = [package for package in shipped.package if package.name in SMALL]
    assert len(packages) == len(SMALL)
    suite.fetch(wanted.suite, packages, cache, dates=shipped.archive)
    root = top / "root"
    build_root.unpack(root, [package.cached_in(cache) for package in packages], top / "unpack.log")
    return root


@pytest.fixture(params=["bwrap", "proot"])
def way(request: pytest.FixtureRequest, small_root: Path) -> Entry:
    """One way into the root; skips the test where the kernel forbids it."""
    try:
        return entry._entered(small_root, "a test", request.param)
    except UserError as error:
        pytest.skip(f"{error} (in a chroot the kernel refuses namespaces)")


SPAWNS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
	for (int round = 0; round < 5; round++) {
		char line[16];
		FILE *stream = popen("echo child", "r");
		fputs(fgets(line, sizeof line, stream), stdout);
		pclose(stream);
		for (int i = 0; i < 200; i++)
			memset(malloc(10000), 1, 10000);
	}
	return 0;
}
"""

# Has a path where the heap of its child is, and asks for the file.
HEAP = """
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	unsigned long heap = 0;
	int ends[2];
	if (argc > 1) {
		heap = (unsigned long)sbrk(0);
		return write(1, &heap, sizeof heap) < 0;
	}
	posix_spawn_file_actions_t actions;
	if (pipe(ends) || posix_spawn_file_actions_init(&actions) ||
		posix_spawn_file_actions_adddup2(&actions, ends[1], 1))
		return 2;
	if (posix_spawn(NULL, argv[0], &actions, NULL, (char *[]){argv[0], "child", NULL}, NULL))
		return 3;
	if (read(ends[0], &heap, sizeof heap) != sizeof heap)
		return 4;
	void *page = (void *)(heap + 0x10000 & ~0xfffUL);
	if (mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page)
		return 5;
	return access(strcpy(page, "/"), F_OK) ? 6 : puts("found") < 0;
}
"""


def compiled(folder: Path, source: str) -> Path:
    (folder / "program.c").write_text(source)
    run(["gcc", "-O1", "-static", "-o", folder / "program", folder / "program.c"])
    return folder / "program"


def shell(way: Entry, script: str, *binds: Bind, cwd: Path | None = None) -> str:
    return run(["sh", "-ec", script], box=way.box(binds), cwd=cwd).stdout


def test_a_command_sees_the_root_and_the_binds_and_nothing_else(way: Entry, tmp_path: Path) -> None:
    source, build = tmp_path / "a/source", tmp_path / "a/build"
    for folder in (source, build, tmp_path / "a/secret"):
        folder.mkdir(parents=True)
    (source / "Makefile").write_text("all:\n")
    script = f"""
        cat Makefile
        test -r {source}/Makefile && stat -c %s {source}/Makefile
        echo made >{build}/object; mv {build}/object {build}/moved; cp -p {build}/moved {build}/copy
        ! test -e {Path(__file__)}
        test -x /usr/bin/env; pwd; echo "$HOME"
    """
    out = shell(way, script, Bind(source), Bind(build, writable=True), cwd=source).splitlines()
    assert out == ["all:", "5", str(source), "/tmp" if way.way == "bwrap" else "/root"]
    assert (build / "copy").read_text() == "made\n"
    assert (build / "copy").stat().st_uid == os.getuid()


def test_the_roots_files_are_meant_and_not_the_machines(way: Entry, small_root: Path) -> None:
    out = shell(way, "ls /usr/bin; stat -c %i /usr/bin/sha256sum; readlink -f /bin/sh").splitlines()
    assert out[:-2] == sorted(path.name for path in (small_root / "usr/bin").iterdir())
    assert int(out[-2]) == (small_root / "usr/bin/sha256sum").stat().st_ino
    assert out[-1] == "/usr/bin/dash"


def test_the_exit_status_is_the_commands_and_its_name_is_said(way: Entry, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(UserError, match="sh failed with exit status 7") as caught:
        run(["sh", "-c", "exit 7"], box=way.box(()), log=log)
    assert way.program[-1] in caught.value.detail, "the command to copy is whole"
    lines = log.read_text().splitlines()
    assert lines[0].startswith("# in a build root: ")
    assert lines[1] == "+ sh -c 'exit 7'"


def test_nothing_stays_mounted_or_running(way: Entry, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    shell(way, "true", Bind(tmp_path))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_command_finds_the_roots_programs_and_those_of_its_own_path(way: Entry, tmp_path: Path) -> None:
    tool = tmp_path / "made-up"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    box = way.box([Bind(tmp_path)])
    said = run(["sh", "-c", "made-up; ls -d /usr"], box=box, env={"PATH": f"{tmp_path}:/usr/bin"}).stdout
    assert said.splitlines() == ["found", "/usr"]


def test_a_program_that_starts_others_lives(way: Entry, tmp_path: Path) -> None:
    """Under proot the C library shares the memory of parent and child by clone(2)."""
    program = compiled(tmp_path, SPAWNS)
    assert run([program], box=way.box([Bind(tmp_path)])).stdout == "child\n" * 5


def test_a_childs_heap_is_not_that_of_its_parent(way: Entry, tmp_path: Path) -> None:
    """proot 5.1.0 as it is refuses to read a path there: `Bad address`, about once a kernel."""
    program = compiled(tmp_path, HEAP)
    assert run([program], box=way.box([Bind(tmp_path)])).stdout == "found\n"


def test_another_proot_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "usr/bin/proot"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another")
    with pytest.raises(UserError, match="is not the proot 5"):
        run([sys.executable, proot_start.__file__, "loader", other])

# SPDX-License-Identifier: MIT
"""The cause of a failed make, found in logs as the real tools wrote them (Linux 5.4 and 6.12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.kernel.make_errors import explained, find_cause, rules
from tasks.util.process import CommandFailed

SOUND = "".join(f"  LD [M]  sound/pci/hda/{number}.ko\n" for number in range(300))


@pytest.mark.parametrize(
    ("log", "line", "hint"),
    [
        (
            "arch/x86/entry/thunk_64.o: warning: objtool: missing symbol table\n"
            "make[3]: *** [../linux/scripts/Makefile.build:348: arch/x86/entry/thunk_64.o] Error 1\n",
            "arch/x86/entry/thunk_64.o: warning: objtool: missing symbol table",
            'kernel.toolchain = "debian11"',
        ),
        (
            "subcmd-util.h:56:23: error: pointer may be used after 'realloc' [-Werror=use-after-free]\n",
            "subcmd-util.h:56:23: error: pointer may be used after 'realloc' [-Werror=use-after-free]",
            'kernel.patches = "linux-5.4"',
        ),
        (
            'ERROR: modpost: "no_such_function" [fs/isofs/isofs.ko] undefined!\n'
            "make[2]: *** [../linux/scripts/Makefile.modpost:145: Module.symvers] Error 1\n",
            'ERROR: modpost: "no_such_function" [fs/isofs/isofs.ko] undefined!',
            "Kconfig symbol",
        ),
        (
            'ERROR: "no_such_function" [fs/isofs/isofs.ko] undefined!\n',
            'ERROR: "no_such_function" [fs/isofs/isofs.ko] undefined!',
            "Kconfig symbol",
        ),
        (
            "make[3]: *** No rule to make target 'debian/certs/debian-uefi-certs.pem', needed by"
            " 'certs/x509_certificate_list'.  Stop.\n",
            "make[3]: *** No rule to make target 'debian/certs/debian-uefi-certs.pem', needed by"
            " 'certs/x509_certificate_list'.  Stop.",
            'CONFIG_SYSTEM_TRUSTED_KEYS=""',
        ),
        (
            "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n",
            "gcc: fatal error: Killed signal terminated program cc1",
            "jobs=1",
        ),
        (
            "  CC       openat2_test\ngcc: error: cannot specify -static with -fsanitize=address\n"
            "make: *** [../lib.mk:222: openat2_test] Error 1\n",
            "gcc: error: cannot specify -static with -fsanitize=address",
            "",
        ),
        (
            "fs/ext4/super.c:1:1: fatal error: error writing to /tmp/cc.s: No space left on device\n",
            "fs/ext4/super.c:1:1: fatal error: error writing to /tmp/cc.s: No space left on device",
            "free some space",
        ),
        (
            "/bin/sh: 1: bc: not found\n"
            "make[2]: *** [../linux/./Kbuild:24: include/generated/timeconst.h] Error 127\n",
            "/bin/sh: 1: bc: not found",
            "apt-get install bc",
        ),
        (
            "scripts/extract-cert.c:21:10: fatal error: openssl/bio.h: No such file or directory\n",
            "scripts/extract-cert.c:21:10: fatal error: openssl/bio.h: No such file or directory",
            "apt-get install libssl-dev",
        ),
        (
            "make: flexx: No such file or directory\n",
            "make: flexx: No such file or directory",
            "install a package that provides flexx",
        ),
        (
            "ld: warning: a.o: missing .note.GNU-stack section implies executable stack\n"
            "ld: NOTE: This behaviour is deprecated and will be removed in a future version of the linker\n"
            "net/x.c:1:2: error: expected ';' before 'int'\n",
            "net/x.c:1:2: error: expected ';' before 'int'",
            "",
        ),
        (
            "checking for gcc... no\nconfigure: error: no acceptable C compiler found in $PATH\n",
            "configure: error: no acceptable C compiler found in $PATH",
            "",
        ),
        (
            "configure: error: in `/tmp/build':\nconfigure: error: C compiler cannot create executables\n",
            "configure: error: C compiler cannot create executables",
            "",
        ),
        (
            "CMake Error at CMakeLists.txt:3 (find_package):\n",
            "CMake Error at CMakeLists.txt:3 (find_package):",
            "",
        ),
        (
            'meson.build:9:0: ERROR: Dependency "zlib" not found, tried pkgconfig\n',
            'meson.build:9:0: ERROR: Dependency "zlib" not found, tried pkgconfig',
            "",
        ),
    ],
)  # fmt: skip
def test_the_cause_of_a_kernel_and_what_helps(log: str, line: str, hint: str) -> None:
    found = find_cause((SOUND + log + SOUND + "make: *** [Makefile:224: __sub-make] Error 2").splitlines())
    assert found is not None
    assert found.line == line
    assert hint in found.hint
    assert not [shown for shown in found.lines if "sound/" in shown]


def test_warnings_and_notes_are_no_errors() -> None:
    log = (
        "fs/a.c:3:5: warning: unused variable 'error' [-Wunused-variable]\n"
        "ld: warning: vmlinux has a LOAD segment with RWX permissions\n"
        "fs/a.c:3:5: note: declared here\n"
    )
    assert find_cause((SOUND + log).splitlines()) is None


def test_the_first_of_several_errors_and_how_many_targets_failed() -> None:
    log = [
        "fs/b.c:9:2: error: expected ';' before 'return'",
        "make[3]: *** [scripts/Makefile.build:229: fs/b.o] Error 1",
        "mm/c.c:1:2: error: #error no",
        "make[3]: *** [scripts/Makefile.build:229: mm/c.o] Error 1",
        "make[2]: *** [scripts/Makefile.build:478: fs] Error 2",
        "make[1]: *** [/home/me/linux/Makefile:1936: .] Error 2",
        "make: *** [Makefile:224: __sub-make] Error 2",
    ]
    found = find_cause(log)
    assert found is not None
    assert found.line == log[0]
    assert found.targets == ("fs/b.o", "mm/c.o")


def test_only_the_last_command_of_a_log_counts() -> None:
    log = ["+ make a", "a.c:1:1: error: x", "+ make b", "  CC      a.o"]
    assert find_cause(log, "make b") is None
    assert find_cause([*log, "b.c:1:1: error: y"], "make b") is not None


def test_a_script_that_traces_its_commands_does_not_cut_the_log() -> None:
    found = find_cause(["+ make a", "+ set -e", "a.c:1:1: error: x", "+ cc a.c", "+ exit 1"], "make a")
    assert found is not None
    assert found.line == "a.c:1:1: error: x"


@pytest.mark.parametrize(
    "said",
    [
        "init/Kconfig:12: syntax error",
        'drivers/Kconfig.debug:3: unknown statement "confg"',
        'Kconfig:9: can\'t open file "nothing/Kconfig"',
        "error: recursive dependency detected!",
    ],
)
def test_a_mistake_in_a_kconfig_file_stands_first(said: str) -> None:
    made = "make[2]: *** [../linux/scripts/kconfig/Makefile:77: olddefconfig] Error 1"
    found = find_cause(["init/Kconfig:2:warning: ignoring unsupported character", said, made])
    assert found is not None
    assert (found.line, found.lines[0]) == (said, said)


def test_without_a_log_or_a_cause_the_error_stays(tmp_path: Path) -> None:
    error = CommandFailed("make failed", "hint", "  | tail", "make", None)
    assert explained(error) is error
    error = CommandFailed("make failed", "hint", "  | tail", "make", tmp_path / "gone")
    assert explained(error) is error
    (tmp_path / "log").write_text("+ make\nnothing\n")
    error = CommandFailed("make failed", "hint", "  | tail", "make", tmp_path / "log")
    assert explained(error) is error


def test_no_hint_is_shadowed_by_an_earlier_one() -> None:
    hints = [hint for _, hint in rules().hints]
    assert len(hints) == len(set(hints))


def test_lines_of_other_jobs_do_not_part_an_error() -> None:
    log = [
        "fs/a.c: In function 'f':",
        "  CC      fs/b.o",
        "fs/a.c:1:22: error: 'x' undeclared",
        "  LD [M]  sound/c.ko",
        "    1 | int f(void) { return x; }",
        "make[3]: *** [scripts/Makefile.build:229: fs/a.o] Error 1",
        "fs/b.c:2:1: warning: of another job",
    ]
    found = find_cause(log)
    assert found is not None
    assert found.lines == (log[0], log[2], log[4])


# As ld 2.40 writes it, by strace.
LD_PIECES = [
    *("/usr/bin/ld", ": ", "/tmp/cc7.o", ": in function `", "main", "':\n", "a.c:", "(", ".text", "+0x", "5"),
    *(")", ": undefined reference to `", "f", "'\n", "collect2: error: ld returned 1 exit status\n"),
]


@pytest.mark.parametrize("place", range(len(LD_PIECES) + 1))
@pytest.mark.parametrize("other", ["  LD [M]  sound/a.o\n", "  CC      lib/a.o\n  MODPOST Module.symvers\n"])
def test_progress_of_another_job_inside_a_line_of_ld(place: int, other: str) -> None:
    said = "".join([*LD_PIECES[:place], other, *LD_PIECES[place:]])
    found = find_cause((other + said + "make[1]: *** [Makefile:8: FAULT] Error 1\n").splitlines())
    assert found is not None
    assert found.line == "a.c:(.text+0x5): undefined reference to `f'"
    assert found.lines == tuple("".join(LD_PIECES).splitlines())
    assert "not built" in found.hint


def test_a_log_that_ends_inside_a_line() -> None:
    found = find_cause(["make[1]: *** [Makefile:8: a] Error 1", "ld: b.o: bad  CC      lib/a.o"])
    assert found is not None
    assert found.line == "ld: b.o: bad"


def test_lines_of_a_source_are_no_progress() -> None:
    lines = ["a.c:1:2: error: x", "    1 |  MODULE_LICENSE (GPL);", "      |  ^~~~"]
    found = find_cause(lines)
    assert found is not None
    assert list(found.lines) == lines

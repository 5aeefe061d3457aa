# SPDX-License-Identifier: MIT
"""What is said of a make that failed: by real make, gcc, as, ld and sh, with several jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.kernel import make_errors
from tasks.util.errors import UserError
from tasks.util.process import CommandFailed, run

# As kbuild: a line of progress for each object, a make below a make, and 200 good objects that take
# their time, so that their lines stand below the fault's.
MAKEFILE = """\
all: ; @$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) objects
objects: FAULT good
good: $(foreach n,$(shell seq 200),good$(n).o)
good%.o: ; @echo "  LD [M]  sound/$@"; sleep 0.0$$(( $* % 3 ))
%.o: %.c ; @echo "  CC      $@"; gcc -Wall -Werror -O2 -c -o $@ $<
%.o: %.S ; @echo "  AS      $@"; gcc -c -o $@ $<
"""
MAIN = "int main(void) { return 0; }\n"


def failure(folder: Path, fault: str, files: Mapping[str, str]) -> UserError:
    """Return the error of a make of a small tree with the rule `fault`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "Makefile").write_text(MAKEFILE + fault)
    with pytest.raises(CommandFailed) as caught:
        run(["make"], cwd=folder, log=folder / "log", jobs=4, hint="the usual hint")
    return make_errors.explained(caught.value)


def shown(error: UserError) -> list[str]:
    return [line[4:] for line in error.detail.splitlines() if line.startswith("  | ")]


def test_a_missing_header(tmp_path: Path) -> None:
    """The lines of the other jobs are left out; log and command to copy stand below."""
    error = failure(
        tmp_path,
        "FAULT: drivers/key.o",
        {
            "drivers/key.c": '#include "key.h"\n' + MAIN,
            "drivers/key.h": "#include <openssl/no-such-header.h>\n",
        },
    )
    said = "drivers/key.h:1:10: fatal error: openssl/no-such-header.h: No such file or directory"
    assert error.message == f"make failed with exit status 2: {said}"
    assert error.hint == "apt-get install libssl-dev"
    assert shown(error) == [
        "In file included from drivers/key.c:1:",
        said,
        "    1 | #include <openssl/no-such-header.h>",
        "      |          ^~~~~~~~~~~~~~~~~~~~~~~~~~",
        "compilation terminated.",
    ]
    assert f"  log: {tmp_path}/log" in error.detail
    assert re.search(
        rf"^  command: \(cd {tmp_path} && env MAKEFLAGS=-j4 .*make\)$", error.detail, re.MULTILINE
    )
    assert "sound/" not in str(error)
    assert (tmp_path / "log").read_text().count("  LD [M]") > 0


def test_a_fault_in_c_and_one_in_assembler(tmp_path: Path) -> None:
    error = failure(tmp_path, "FAULT: a.o", {"a.c": "int f(void) { return x; }\n"})
    assert "a.c:1:22: error: 'x' undeclared (first use in this function)" in error.message
    assert shown(error)[0] == "a.c: In function 'f':"
    assert error.hint == "the usual hint"
    error = failure(tmp_path, "FAULT: b.o", {"b.S": "nosuch %eax\n"})
    assert "b.S:1: Error: no such instruction: `nosuch %eax'" in error.message
    assert shown(error)[0] == "b.S: Assembler messages:"


@pytest.mark.parametrize(
    ("rule", "files", "said", "hint"),
    [
        ("FAULT: ; @gcc a.c",
         {"a.c": "void f(void); int main(void) { f(); }"}, "undefined reference", "not built"),
        ("FAULT: ; @gcc a.c b.c",
         {"a.c": MAIN + "int yylloc = 1;", "b.c": "int yylloc = 2;"}, "multiple definition", "older"),
        ("FAULT: certs/my.pem", {}, "No rule to make target 'certs/my.pem'", "CONFIG_SYSTEM_TRUSTED_KEYS"),
        ("FAULT: ; @no-such-tool", {}, "no-such-tool: No such file or directory", "a package that"),
        ("FAULT: ; @: ; PATH=/none; bc", {}, "bc: not found", "apt-get install bc"),
        ("FAULT: ; @sh -c 'kill -9 $$$$'", {}, "Killed", "fewer jobs"),
        ("FAULT: ; @gcc -c a.c -wrapper sh,-c,'kill -9 $$$$'",
         {"a.c": MAIN}, "Killed signal", "fewer jobs"),
        ("ifeq (1,$(MAKELEVEL))\n$(error this tool is missing)\nendif", {},
         "*** this tool is missing.", ""),
        ("FAULT: ; @echo sorry, no >&2; false", {}, "*** [Makefile:", ""),
    ],
)  # fmt: skip
def test_other_causes(tmp_path: Path, rule: str, files: dict[str, str], said: str, hint: str) -> None:
    error = failure(tmp_path, rule, files)
    assert said in error.message
    assert hint in error.hint
    assert len(error.detail.splitlines()) < 16


def test_what_no_pattern_knows_is_what_stands_before_makes_own_message(tmp_path: Path) -> None:
    error = failure(tmp_path, "FAULT: ; @echo sorry, no >&2; false", {})
    assert "sorry, no" in shown(error)


def test_where_many_fail_they_are_counted(tmp_path: Path) -> None:
    """As by `make -k`: each target that failed, without the makes above it."""
    names = [f"bad{number}" for number in range(12)]
    objects = " ".join(f"{name}.o" for name in names)
    error = failure(
        tmp_path,
        f"MAKEFLAGS += -k\nFAULT: {objects}",
        {f"{name}.c": "int f(void) { return x; }" for name in names},
    )
    line = next(line for line in error.detail.splitlines() if "targets failed" in line)
    assert line.startswith("  12 targets failed: bad")
    assert line.endswith(" and 4 more")
    assert "all" not in line

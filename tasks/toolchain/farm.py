# SPDX-License-Identifier: MIT
"""The common parts of compile farms: their settings for make, and the probe of a host.

A farm must make the same bytes as this machine.  distcc and icecc preprocess on this machine
and send the result, so only a host's compiler and assembler matter.  Before the build, each
host compiles a small program, the probe.  Its object must equal the one compiled here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.util.process import run

SECONDS = "60"  # for one probe, even on a busy host
PROBE = """\
struct node { struct node *next; long key; const char *name; };
static const char *const names[] = { "one", "two", "three" };
extern void use(const char *, unsigned long);
long walk(struct node *node, long limit)
{
    long sum = 0;
    for (; node && sum < limit; node = node->next) {
        switch (node->key & 7) {
        case 0: sum += node->key * 3; break;
        case 1: sum ^= node->key / 10; break;
        case 2: use(names[node->key % 3], sizeof(*node)); break;
        case 5: sum -= __builtin_popcountl(node->key); break;
        default: __asm__ volatile("1: rep; nop\\n.pushsection .probe,\\"a\\"\\n.long 1b - .\\n.popsection");
        }
    }
    return sum;
}
"""
COMPILER = re.compile(rb"GCC: (\([^)\0]*\) [0-9.]+|[^\0]{1,80})")
ASSEMBLER = re.compile(r"GNU assembler version (.*)")


@dataclass(frozen=True)
class Farm:
    """A farm's settings for make, and its report.

    env: for make; jobs: how many make runs at a time, 0 if no host is used and this machine's
    processors decide; report: returns the line to log after the build.
    """

    env: Mapping[str, str]
    jobs: int
    report: Callable[[], str]


@dataclass(frozen=True)
class Object:
    """A compiled probe: the object's bytes, b"" if compiling failed, and the compiler's output."""

    content: bytes
    output: str

    @property
    def compiler(self) -> str:
        """The compiler's name and version, from the object's .comment section."""
        found = COMPILER.search(self.content)
        return found[1].decode(errors="replace") if found else "an unknown compiler"

    @property
    def assembler(self) -> str:
        """The assembler's version as `-Wa,-v` prints it."""
        found = ASSEMBLER.search(self.output)
        return found[1].strip() if found else "an unknown version"


def compile_probe(words: Sequence[str], folder: Path, env: Mapping[str, str]) -> Object:
    """Create `folder`, and compile the probe there with the compiler command `words`."""
    folder.mkdir(parents=True)
    (folder / "probe.c").write_text(PROBE)
    flags = ["-O2", "-fno-pic", "-Wa,-v", "-c", "probe.c", "-o", "probe.o"]
    argv = ["timeout", SECONDS, *words, *flags]
    done = run(argv, cwd=folder, env=env, log=folder / "probe.log", check=False)
    made = folder / "probe.o"
    return Object(made.read_bytes() if done.status == 0 and made.is_file() else b"", done.stdout)


def difference(here: Object, there: Object) -> str:
    """Return why a host is unusable, as half a sentence; "" if it makes the same bytes."""
    if not there.content:
        said = [line.strip() for line in there.output.splitlines() if "error" in line.lower()]
        return f"it did not compile a probe{f' ({said[0]})' if said else ''}"
    if here.compiler != there.compiler:
        return f"its compiler is {there.compiler}, here it is {here.compiler}: the bytes would differ"
    if here.assembler != there.assembler:
        return f"its assembler is {there.assembler}, here it is {here.assembler}: the bytes could differ"
    if here.content != there.content:
        return "it compiles the probe to other bytes, although its compiler has the same version"
    return ""

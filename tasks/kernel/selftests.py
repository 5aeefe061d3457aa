# SPDX-License-Identifier: MIT
"""Build the kernel's self tests (its Documentation/dev-tools/kselftest.rst) with the profile's toolchain.

Each target is a folder of tools/testing/selftests.  Its programs are linked statically, because the guest's
C library may be another one.  Nothing is installed: the target's own Makefile names its files, as its rule
`install` does (selftests/lib.mk).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.config.settings import Paths, Settings
from tasks.kernel import kbuild
from tasks.kernel.kbuild import Kbuild
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import locked
from tasks.util.log import logger
from tasks.util.text import did_you_mean

DATA = Path(__file__).with_name("selftests.toml")
TREE = Path("tools/testing/selftests")
GOAL = "tcbuild-files"
TESTS = "$(TEST_GEN_PROGS) $(TEST_CUSTOM_PROGS) $(TEST_PROGS)"
# What tests use beside them.
OTHERS = "$(TEST_PROGS_EXTENDED) $(TEST_FILES) $(TEST_GEN_PROGS_EXTENDED) $(TEST_GEN_FILES) $(TEST_INCLUDES)"
# A further rule of the target's Makefile, which prints its variables.
RULE = f"{GOAL}: ; @printf 'test %s\\n' {TESTS}; printf 'file %s\\n' {OTHERS} $(wildcard settings)"
LIMIT = re.compile(r"^timeout=(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Known:
    """The content of selftests.toml.

    timeout: seconds.  helpers: folders of the tree that are brought beside every target.
    """

    targets: tuple[str, ...]
    timeout: int
    helpers: tuple[str, ...]


@functools.cache
def known() -> Known:
    """Return selftests.toml."""
    return toml_schema.load(DATA, Known)


@dataclass(frozen=True)
class Target:
    """A target that was built.

    tests: the names of its tests, in their order; missing: of these, name -> why it could not be built.
    timeout: the seconds that each test may take, 0 for no limit.
    files: all that runs, path in the folder of the tests -> file.
    """

    name: str
    tests: tuple[str, ...]
    missing: dict[str, str]
    timeout: int
    files: dict[str, Path]


def build(settings: Settings, names: Sequence[str] = ()) -> list[Target]:
    """Build targets, by default those of selftests.toml; the kernel tree and the toolchain must be ready.

    Raises `UserError` for a profile of 32 bits, for an unknown target, and if
    the tree's headers cannot be made.
    """
    if settings.profile.architecture.bits != 64:
        raise UserError(
            "kselftest: the toolchains have a C library for 64-bit programs alone",
            "choose a 64-bit profile: profile=apt",
        )
    tree = settings.paths.linux / TREE
    chosen = tuple(dict.fromkeys(names or known().targets))
    for name in chosen:
        check_target(tree, name)
    make, log = kbuild.of_profile(settings), settings.paths.logs / "kselftest.log"
    objects(settings.paths).mkdir(parents=True, exist_ok=True)
    with locked(objects(settings.paths) / ".lock"):
        log.unlink(missing_ok=True)
        make.run([f"O={objects(settings.paths)}", "headers"], log=log, jobs=kbuild.jobs())
        return [_build(settings.paths, make, name, log) for name in chosen]


def check_target(tree: Path, name: str) -> None:
    """Raise `UserError` if the folder of self tests has no target of that name."""
    plain = re.fullmatch(r"[\w-]+(/[\w-]+)*", name)
    if plain and (tree / name / "Makefile").is_file():
        return
    names = sorted(path.parent.relative_to(tree).as_posix() for path in tree.glob("*/Makefile"))
    hint = did_you_mean(name, names, str) or f"one of: {', '.join(names)}"
    raise UserError(f"kselftest: the kernel's tree has no target {name!r}", hint)


def objects(paths: Paths) -> Path:
    """Return the folder in which self tests are built."""
    return paths.output / "kselftest"


def _build(paths: Paths, make: Kbuild, name: str, log: Path) -> Target:
    """Build one target as far as it goes: a program that needs a library which is missing stops no other."""
    tree, output = paths.linux / TREE, objects(paths) / "kselftest" / name
    output.mkdir(parents=True, exist_ok=True)
    common = [
        *("-C", str(TREE / name), f"OUTPUT={output}", f"O={objects(paths)}"),
        f"CC={make.toolchain.compiler} -static",
        f"KHDR_INCLUDES=-isystem {objects(paths)}/usr/include",
    ]
    why = ""
    try:
        make.run([*common, "--keep-going", "all"], log=log, jobs=kbuild.jobs())
    except UserError as error:
        why = error.message
        logger.warning(f"kselftest: {name} was not built wholly: {why}; log: {log}")
    printed = make.run([*common, "-s", f"--eval={RULE}", GOAL]).stdout
    tests, others = listed(printed, "test"), listed(printed, "file")
    places = (output.parent.parent / "kselftest", tree)
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for word in tests:
        found = dict(named_files(word, name, places))
        files |= found
        if not found:
            missing[Path(word).name] = why or "its Makefile does not make it"
    for word in [*others, *(str(tree / helper) for helper in known().helpers)]:
        files |= dict(named_files(word, name, places))
    return Target(name, tuple(Path(word).name for word in tests), missing, limit(files, name), files)


def listed(printed: str, kind: str) -> list[str]:
    """Return the words of the lines `KIND WORD` that the rule prints, each once."""
    lines = (line.partition(" ") for line in printed.splitlines())
    return list(dict.fromkeys(word for first, _, word in lines if first == kind and word))


def named_files(word: str, name: str, places: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield (path in the folder of the tests, file) of what a Makefile's word names; a folder has several.

    places: the folders that are laid one over the other.
    """
    for place in places:
        path = Path(place, name, word)
        if not path.exists():
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            inside = _inside(file, places)
            if inside and file.is_file():
                yield inside, file
        return


def _inside(file: Path, places: Sequence[Path]) -> str:
    """Return the path of a file in the one of `places` that holds it; "" if none does."""
    whole = Path(*file.parent.resolve().parts, file.name)
    for place in places:
        if whole.is_relative_to(place.resolve()):
            return whole.relative_to(place.resolve()).as_posix()
    return ""


def limit(files: dict[str, Path], name: str) -> int:
    """Return the seconds for each test of a target, as its file `settings` says, or the kernel's own."""
    settings = files.get(f"{name}/settings")
    found = LIMIT.search(settings.read_text(errors="replace")) if settings else None
    return int(found[1]) if found else known().timeout

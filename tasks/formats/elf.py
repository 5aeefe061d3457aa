# SPDX-License-Identifier: MIT
"""Read ELF files: kernel modules, and the shared libraries that programs need.

pyelftools parses the files.  A file may be damaged or no ELF file, so every access goes
through `open_elf`, which turns any exception into a `UserError`.
"""

from __future__ import annotations

import fnmatch
import io
import mmap
import os
import posixpath
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.formats import compression
from tasks.util.errors import UserError
from tasks.util.links import follow_links

if TYPE_CHECKING:  # every command loads this module, and few read an ELF file: pyelftools is imported then
    from elftools.elf.dynamic import DynamicSection, DynamicSegment
    from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
X86_64, I386 = "EM_X86_64", "EM_386"
MODULE_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
MODULE_LIMIT = 256 << 20  # bytes; the largest modules with debug information have about 100 MB
MAX_HEADERS = 1 << 16

# Version tables (LSB Core, "Symbol Versioning"); 32-bit and 64-bit files have the same.
VERNEED, VERNAUX = "HHIII", "IHHII"  # version, cnt, file, aux, next; hash, flags, other, name, next
VERDEF, VERDAUX = "HHHHIII", "II"  # version, flags, ndx, cnt, hash, aux, next; name, next
VER_FLG_BASE, VER_FLG_WEAK = 1, 2

CONFIGURATION = "/etc/ld.so.conf"
MULTIARCH = ("x86_64-linux-gnu", "i386-linux-gnu", "aarch64-linux-gnu")
LIBRARY_DIRS = (
    *(f"{folder}/{name}" for name in MULTIARCH for folder in ("/lib", "/usr/lib")),
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
)
"""The default search folders of ld.so: Debian's multiarch folders, the defaults of ld.so(8), and
/usr/local/lib, which is in ld.so.conf of Debian and Tiny Core.  A root may have libraries of several
machines; ld.so ignores those of another one, wherever they lie."""


@contextmanager
def open_elf(source: Path | bytes, name: str = "") -> Iterator[ELFFile]:
    """Yield a file or bytes parsed as ELF; any exception inside the block becomes a `UserError`.

    name: the file's name in messages; "" means the path.
    """
    from elftools.elf.elffile import ELFFile

    label = name or (str(source) if isinstance(source, Path) else "the data")
    try:
        with _stream(source) as stream:
            if stream.read(4) != MAGIC:
                raise UserError(f"{label} is not an ELF file")
            stream.seek(0)
            elf = ELFFile(stream)
            # With a damaged count, pyelftools would run for hours.
            if elf.num_sections() > MAX_HEADERS or elf.num_segments() > MAX_HEADERS:
                raise UserError(f"{label} is a damaged ELF file: impossible number of headers")
            yield elf
    except (UserError, OSError):
        raise
    except Exception as error:
        # pyelftools raises about a dozen exception types for damaged files.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{label} is a damaged ELF file: {reason}") from None


@contextmanager
def _stream(source: Path | bytes) -> Iterator[Any]:
    # A mapping instead of a buffered file: read() of a damaged length must not allocate it.
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    with source.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield io.BytesIO(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            yield view


def build_id(source: Path | bytes, name: str = "") -> str:
    """Return the build-id of a file in hexadecimal digits, "" if it has none.

    The linker makes it of all that it links (ld(1), --build-id).  `strip` leaves it as it is.
    """
    from elftools.elf.sections import NoteSection

    with open_elf(source, name) as elf:
        for section in elf.iter_sections():
            if isinstance(section, NoteSection):
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
    return ""


def has_debug_information(path: Path) -> bool:
    """Return whether a file has DWARF's debug information."""
    with open_elf(path) as elf:
        return elf.get_section_by_name(".debug_info") is not None


def is_elf(path: Path) -> bool:
    """Return whether a regular file starts with the ELF magic."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def machine_name(machine: str | int) -> str:
    """Return a readable name for pyelftools' `EM_...`, or for the number of an unknown machine."""
    if isinstance(machine, int):
        return f"machine {machine}"
    from elftools.elf.descriptions import describe_e_machine

    # pyelftools describes it as "Advanced Micro Devices X86-64".
    return "x86-64" if machine == X86_64 else str(describe_e_machine(machine))


def short_machine_name(machine: str) -> str:
    """Return pyelftools' `EM_...` as `uname -m` would say it: `EM_AARCH64` as aarch64."""
    return {X86_64: "x86-64", I386: "32-bit x86"}.get(machine, machine.removeprefix("EM_").lower())


def program_machine(path: Path) -> str:
    """Return the machine (`EM_...`) of a program or library; "" if `path` is none or damaged."""
    try:
        with open_elf(path) as elf:
            return str(elf["e_machine"]) if elf["e_type"] in ("ET_EXEC", "ET_DYN") else ""
    except UserError:
        return ""


# Kernel modules


def read_module(path: Path) -> bytes:
    """Return a module's ELF content; .ko.gz, .ko.xz and .ko.zst are decompressed."""
    data = path.read_bytes()
    if compression.detect(data) == "plain":
        return data
    try:
        return compression.decompress_one(memoryview(data), 0, MODULE_LIMIT)[0]
    except UserError as error:
        raise UserError(f"{path}: {error.message}", error.hint) from None


def modinfo(path: Path) -> dict[str, list[str]]:
    """Return a module's `.modinfo`: tag (`license`, `vermagic` ...) -> its values in file order.

    Raises `UserError` if the file is no ELF file or has no `.modinfo`.
    """
    return module_facts(path)[0]


def module_facts(path: Path) -> tuple[dict[str, list[str]], str]:
    """Return (`.modinfo` as in `modinfo`, machine as `EM_...`) of a module."""
    data = read_module(path)
    with open_elf(data, str(path)) as elf:
        section = _section(elf, data, b".modinfo")
        if section is None:
            raise UserError(f"{path} is not a kernel module: it has no .modinfo section")
        found: dict[str, list[str]] = {}
        for entry in section.split(b"\0"):
            tag, equals, value = entry.decode(errors="replace").partition("=")
            if equals:
                found.setdefault(tag, []).append(value)
        return found, str(elf["e_machine"])


def _section(elf: ELFFile, data: bytes, name: bytes) -> bytes | None:
    """Return the content of the first section `name` of an ELF file with the bytes `data`; None without.

    pyelftools parses all sections for that.  A kernel of a distribution has 4,000 modules, and that
    took 13 s.  The layout is that of Elf32_Shdr and Elf64_Shdr (elf(5)): name, type, flags, address,
    offset, size.
    """
    order = "<" if elf.little_endian else ">"
    row = struct.Struct(f"{order}{'IIQQQQ' if elf.elfclass == 64 else 'IIIIII'}")
    first, step = elf["e_shoff"], elf["e_shentsize"]
    headers = [row.unpack_from(data, first + number * step) for number in range(elf.num_sections())]
    _, _, _, _, names, _ = headers[elf.get_shstrndx()]
    for at, _, _, _, offset, size in headers:
        if data.startswith(name + b"\0", names + at):
            return data[offset : offset + size]
    return None


def modules_below(root: Path) -> list[Path]:
    """Return all modules below `root`, sorted; links (`build`, `source`) are not followed."""
    found = []
    for folder, _, names in os.walk(root):
        found += [Path(folder, name) for name in names if name.endswith(MODULE_SUFFIXES)]
    return sorted(found)


def check_modules(root: Path, release: str, machine: str) -> int:
    """Check that every module below `root` fits the kernel `release`; return their number.

    root: the target of `make modules_install`, or any unpacked tree; machine: EM_...
    Three things are checked: vermagic (include/linux/vermagic.h), whose first word is the release
    and which the kernel compares when it loads the module; the machine; and the folder
    `lib/modules/RELEASE`, where modprobe searches.
    Raises `UserError` with the first module that does not fit, its value, and the expected value.
    """
    modules = modules_below(root)
    for path in modules:
        name = path.relative_to(root)
        info, built_for = module_facts(path)
        magic = info.get("vermagic", [""])[0]
        if magic.split(" ")[0] != release:
            raise UserError(
                f"{name}: vermagic is {magic!r}, expected it to start with {release!r}",
                "the kernel would refuse it; build modules and kernel from one tree and config",
            )
        if built_for != machine:
            raise UserError(f"{name}: built for {machine_name(built_for)}, expected {machine_name(machine)}")
        parts = name.parts
        if "modules" in parts[:-2]:
            place = parts[parts.index("modules") + 1]
            if place != release:
                raise UserError(
                    f"{name}: lies below modules/{place}, expected modules/{release}",
                    "modprobe searches /lib/modules/$(uname -r) only",
                )
    return len(modules)


# Shared libraries


@dataclass(frozen=True)
class VersionNeed:
    """A version of symbols (`GLIBC_2.34`) that a file needs of `library`, a name of DT_NEEDED."""

    library: str
    version: str


@dataclass(frozen=True)
class Dynamic:
    """The data that ld.so reads from a file: dynamic section, interpreter, word size, machine."""

    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    interpreter: str = ""
    kind: tuple[int, str] = (0, "")
    """(32 or 64, machine): ld.so ignores a library of another kind."""
    versions: tuple[VersionNeed, ...] = ()
    """Without weak needs: ld.so starts a program that misses one of those."""
    defines: tuple[str, ...] = ()
    """The versions that the library defines; of a library without any, ld.so accepts every need."""


def dynamic(source: Path | bytes, name: str = "") -> Dynamic:
    """Return the data that ld.so reads from a file or bytes; a static program has little of it.

    name: the file's name in messages; "" means the path.  Raises `UserError` if the file is not
    ELF or damaged.
    """
    from elftools.elf.dynamic import DynamicSection, DynamicSegment
    from elftools.elf.segments import InterpSegment

    with open_elf(source, name) as elf:
        interpreter = ""
        table: DynamicSegment | DynamicSection | None = None
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = segment.get_interp_name()
            elif isinstance(segment, DynamicSegment):
                table = segment
        if table is None:  # a file without segments may still have the section
            table = next((part for part in elf.iter_sections() if isinstance(part, DynamicSection)), None)
        values: dict[str, list[str]] = {}
        numbers: dict[str, int] = {}
        for tag in table.iter_tags() if table is not None else ():
            numbers.setdefault(str(tag.entry.d_tag), tag.entry.d_val)
            key = {"DT_NEEDED": "needed", "DT_SONAME": "soname"}.get(tag.entry.d_tag)
            key = key or {"DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}.get(tag.entry.d_tag)
            if key:
                values.setdefault(key, []).append(getattr(tag, key))
        versions = _VersionTables(elf, numbers)
        return Dynamic(
            needed=tuple(values.get("needed", ())),
            soname=values.get("soname", [""])[0],
            rpath=_split(values.get("rpath", [""])[0]),
            runpath=_split(values.get("runpath", [""])[0]),
            interpreter=interpreter,
            kind=(elf.elfclass, str(elf["e_machine"])),
            versions=tuple(versions.needs()),
            defines=tuple(versions.definitions()),
        )


def _split(search: str) -> tuple[str, ...]:
    return tuple(filter(None, search.split(":")))


class _VersionTables:
    """The version tables of a file, found by its dynamic section: stripped files have no other."""

    def __init__(self, elf: ELFFile, tags: Mapping[str, int]) -> None:
        self.elf = elf
        self.tags = tags
        self.left = MAX_HEADERS  # entries; a damaged file could name millions

    def needs(self) -> Iterator[VersionNeed]:
        for at in self._table("DT_VERNEED"):
            while True:
                _, count, library, auxiliary, following = self._entry(VERNEED, at)
                place = at + auxiliary
                for _ in range(count):
                    _, flags, _, name, step = self._entry(VERNAUX, place)
                    if not flags & VER_FLG_WEAK:
                        yield VersionNeed(self._string(library), self._string(name))
                    place += step
                if not following:
                    break
                at += following

    def definitions(self) -> Iterator[str]:
        for at in self._table("DT_VERDEF"):
            while True:
                _, flags, _, _, _, auxiliary, following = self._entry(VERDEF, at)
                if not flags & VER_FLG_BASE:  # that one is the library's own name
                    yield self._string(self._entry(VERDAUX, at + auxiliary)[0])
                if not following:
                    break
                at += following

    def _table(self, tag: str) -> list[int]:
        """Return the place of a table in the file; [] if there is none."""
        return [next(self.elf.address_offsets(self.tags[tag]))] if tag in self.tags else []

    def _entry(self, layout: str, at: int) -> tuple[int, ...]:
        self.left -= 1
        if self.left < 0:
            raise ValueError("impossible number of versions")
        order = "<" if self.elf.little_endian else ">"
        self.elf.stream.seek(at)
        return struct.unpack(order + layout, self.elf.stream.read(struct.calcsize(order + layout)))

    def _string(self, offset: int) -> str:
        from elftools.common.utils import parse_cstring_from_stream

        (strings,) = self._table("DT_STRTAB")
        return (parse_cstring_from_stream(self.elf.stream, strings + offset) or b"").decode(errors="replace")


def needed(path: Path) -> list[str]:
    """Return the DT_NEEDED names of a program or library, in the order ld.so loads them."""
    return list(dynamic(path).needed)


def interpreter(path: Path) -> str:
    """Return a program's PT_INTERP (`/lib64/ld-linux-x86-64.so.2`), "" if it has none."""
    return dynamic(path).interpreter


def soname(path: Path) -> str:
    """Return a library's DT_SONAME, "" if it has none."""
    return dynamic(path).soname


@dataclass(frozen=True, order=True)
class UnmetVersion:
    """`file` needs `version` of the library `name`, but `found`, where ld.so finds it, has only `defined`."""

    file: str
    name: str
    version: str
    found: str
    defined: tuple[str, ...]


@dataclass(frozen=True)
class Unmet:
    """What ld.so misses: (file, missing library or interpreter) and versions of symbols, both sorted."""

    libraries: tuple[tuple[str, str], ...] = ()
    versions: tuple[UnmetVersion, ...] = ()


def closure(
    files: Mapping[str, Path],
    base: Mapping[str, Path] | None = None,
    provided: Collection[str] = (),
    library_dirs: Collection[str] = LIBRARY_DIRS,
) -> Unmet:
    """Return what ld.so would not find for the files of a root.

    files: absolute path in the root -> path on this machine.  Symbolic links are included and
    followed inside the root, never on this machine.
    base: the same for the roots below (Tiny Core's base, extensions loaded before); they are
    searched.  Of them, only the versions of what `files` load are checked.  provided: absolute
    paths that exist, without their content.

    The search order is that of ld.so(8): DT_RPATH of the file and its loaders unless there is a
    DT_RUNPATH, DT_RUNPATH, the folders of /etc/ld.so.conf, then `library_dirs`; $ORIGIN is the file's
    folder.  Files that are not ELF or damaged need nothing.  A library that programs only open with
    dlopen(3) may be listed, even if the program has already loaded the libraries that it needs.
    """
    whole = {**(base or {}), **files}
    root = _Root(whole, frozenset(provided), (*configured_dirs(whole), *library_dirs))
    missing: set[tuple[str, str]] = set()
    versions: set[UnmetVersion] = set()
    seen: set[str] = set()
    # Programs first: a library may need the DT_RPATH of the program that loads it.  Libraries
    # that no program loads are checked on their own afterwards.
    for program in (True, False):
        for path in sorted(files):
            info = None if files[path].is_symlink() else root.dynamic(path)
            if info is None or bool(info.interpreter) is not program or path in seen:
                continue
            if info.interpreter and not root.exists(info.interpreter):
                missing.add((path, info.interpreter))
            versions |= root.unmet_versions(root.load(path, seen, missing))
    return Unmet(tuple(sorted(pair for pair in missing if pair[0] in files)), tuple(sorted(versions)))


def configured_dirs(files: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the folders that /etc/ld.so.conf of a root names (ldconfig(8)).

    files: as in `closure`.  A link to a configuration is not followed.
    """
    found: list[str] = []
    todo, seen = [CONFIGURATION], set[str]()
    while todo:
        path = todo.pop(0)
        here = files.get(path)
        if path in seen or here is None or here.is_symlink():
            continue
        seen.add(path)
        for line in here.read_text(errors="replace").splitlines():
            word, _, rest = line.partition("#")[0].strip().partition(" ")
            if word == "include":
                pattern = posixpath.join(posixpath.dirname(path), rest.strip())
                todo += sorted(fnmatch.filter(files, pattern))
            elif word.startswith("/"):
                found.append(word.rstrip("/"))
    return tuple(found)


def _expand(text: str, path: str) -> str:
    """Replace $ORIGIN by the folder of the file `path`."""
    origin = posixpath.dirname(path)
    return text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


@dataclass
class _Root:
    """The files of a root, as `closure` takes them, with what was read from them."""

    files: Mapping[str, Path]
    provided: frozenset[str]
    library_dirs: tuple[str, ...]
    cache: dict[str, Dynamic | None] = field(default_factory=dict)

    def resolve(self, path: str) -> str:
        """Follow all symbolic links of a path inside the root; return "" for a loop."""
        return follow_links(path, self._link)

    def _link(self, path: str) -> str:
        here = self.files.get(path)
        return os.readlink(here) if here is not None and here.is_symlink() else ""

    def exists(self, path: str) -> bool:
        real = self.resolve(path)
        return real in self.files or real in self.provided or path in self.provided

    def dynamic(self, path: str) -> Dynamic | None:
        """Return the data that ld.so reads from a file of this root; None if it is not ELF."""
        if path not in self.cache:
            try:
                here = self.files[path]
                self.cache[path] = dynamic(here) if here.is_file() and is_elf(here) else None
            except UserError:
                self.cache[path] = None
        return self.cache[path]

    def find(self, name: str, path: str, info: Dynamic, loaders: tuple[str, ...]) -> str:
        """Return the real path where ld.so finds `name` for the file `path`; "" if nowhere."""
        if "/" in name:
            direct = _expand(name, path)
            return self.resolve(direct) if self.exists(direct) else ""
        search = info.runpath or (*info.rpath, *loaders)
        for folder in (*search, *self.library_dirs):
            candidate = posixpath.normpath(f"{_expand(folder, path)}/{name}")
            real = self.resolve(candidate)
            if real in self.files:
                library = self.dynamic(real)
                if library is not None and library.kind == info.kind:
                    return real
            elif real in self.provided or candidate in self.provided:
                return real
        return ""

    def load(
        self, start: str, seen: set[str], missing: set[tuple[str, str]]
    ) -> tuple[set[str], dict[str, str]]:
        """Load `start` and its libraries as ld.so does; add those not found to `missing`.

        Returns the loaded files and, by name and soname, the file that serves it.
        """
        queue: list[tuple[str, tuple[str, ...]]] = [(start, ())]
        loaded: set[str] = set()
        names: dict[str, str] = {}  # ld.so reuses a loaded library of the same soname
        while queue:
            path, loaders = queue.pop(0)
            info = self.dynamic(path) if path in self.files else None
            if info is None or path in loaded:
                continue
            loaded.add(path)
            seen.add(path)
            names.setdefault(info.soname, path)
            own = tuple(_expand(folder, path) for folder in info.rpath)
            for name in info.needed:
                if name in names:
                    continue
                found = self.find(name, path, info, loaders)
                if not found:
                    missing.add((path, name))
                else:
                    names[name] = found
                    queue.append((found, loaders if info.runpath else (*own, *loaders)))
        return loaded, names

    def unmet_versions(self, loading: tuple[set[str], dict[str, str]]) -> set[UnmetVersion]:
        """Return the versions that the files of a `load` need of each other and that are not defined."""
        loaded, names = loading
        unmet = set()
        for path in loaded:
            info = self.dynamic(path)
            for need in info.versions if info else ():
                found = names.get(need.library, "")
                library = self.dynamic(found) if found in self.files else None
                if library and library.defines and need.version not in library.defines:
                    unmet.add(UnmetVersion(path, need.library, need.version, found, library.defines))
        return unmet

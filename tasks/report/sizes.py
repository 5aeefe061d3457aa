# SPDX-License-Identifier: MIT
"""`./doit size`: the sizes of all built parts, and their changes.

Current sizes come from the output folder, earlier sizes from the records of runs
(tasks/engine/run_history.py).  The sizes of the kernel's built-in code come from its objects.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.architecture import FileNames
from tasks.config.settings import Paths
from tasks.engine import run_history
from tasks.engine.run_history import Run
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.text import as_typed

# kernel/modules/lib/modules/RELEASE/kernel/net/ipv6/ip6_udp_tunnel.ko(.gz)
MODULE = re.compile(r"kernel/modules/lib/modules/[^/]+/(?:kernel/)?(?P<path>.+\.ko(?:\.gz|\.xz|\.zst)?)")
MODULE_KEY, TCZ_KEY = "module:", "tcz/"
REST, ALL_MODULES, ALL_TCZ = "core:rest", "modules", "extensions"
LABELS = {
    REST: "  extensions and settings in it",
    ALL_MODULES: "kernel modules, all",
    ALL_TCZ: "extensions, all",
}
# Folders of a kernel tree whose sub-folders are subsystems of their own.
DIVIDED_FOLDERS = ("arch", "drivers", "fs", "kernel", "net", "sound")
OBJECT = re.compile(r"\s*(\d+)\s+(\d+)\s+(\d+)\s+\d+\s+[0-9a-f]+\s+(\S+\.o)\b")
MAX_ROWS = 15


@dataclass(frozen=True)
class Size:
    """The size of one part, in bytes.

    key: its path below the output folder, or a name of this module; group: `image`, `kernel`,
    `core`, `module` or `extension`; history: the recorded sizes, oldest first, the current size
    last.
    """

    key: str
    label: str
    group: str
    bytes: int
    history: tuple[int, ...]

    @property
    def before(self) -> int | None:
        """The last recorded size that differs from the current one, if any."""
        return next((size for size in reversed(self.history) if size != self.bytes), None)

    @property
    def change(self) -> int | None:
        """The difference to `before` in bytes, None without an earlier size."""
        return None if self.before is None else self.bytes - self.before

    @property
    def name(self) -> str:
        """The label without its indent."""
        return self.label.strip()


def collect(paths: Paths, runs: Sequence[Run]) -> list[Size]:
    """Return the sizes of all built parts, images first, with their history in `runs`."""
    now = _measure(paths)
    names = paths.architecture.files
    states, made = _replay(runs)
    now |= _sums(names, now, now)
    found = []
    for key in _order(paths, now):
        past = [state[key] for state, keys in zip(states, made, strict=True) if key in keys and key in state]
        if key in (REST, ALL_MODULES, ALL_TCZ):
            past = [sums[key] for state in states if key in (sums := _sums(names, state, now))]
        history = past if past and past[-1] == now[key] else [*past, now[key]]
        found.append(Size(key, _label(names, key), _group(names, key), now[key], tuple(history)))
    return found


def _measure(paths: Paths) -> dict[str, int]:
    """Return key -> bytes of the files in the output folder."""
    output, names = paths.output, paths.architecture.files
    images = [paths.iso, *(paths.iso.with_suffix(ending) for ending in (".img", ".qcow2"))]
    parts = [output / name for name in (names.core, names.rootfs, names.modules)]
    files = [*images, paths.vmlinuz, paths.kernel / "modules", *parts]
    files += sorted(paths.tcz.glob("*.tcz"))
    return _by_key(dict(run_history.sizes_of([str(path) for path in files], output)))


def _by_key(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return key -> bytes; keys of modules lack the kernel's release, so that releases can be compared."""
    keyed = {}
    for path, size in sizes.items():
        module = MODULE.fullmatch(path)
        if module or not path.startswith("kernel/modules/"):
            keyed[MODULE_KEY + module["path"] if module else path] = size
    return keyed


def _replay(runs: Iterable[Run]) -> tuple[list[dict[str, int]], list[set[str]]]:
    """Return the known sizes after each run, and the keys that each run built."""
    state: dict[str, int] = {}
    states, made = [], []
    for one in runs:
        keys: set[str] = set()
        for task in one.tasks:
            new = _by_key(task.sizes)
            if any(key.startswith(MODULE_KEY) for key in new):
                state = {key: size for key, size in state.items() if not key.startswith(MODULE_KEY)}
            state = state | new
            keys |= new.keys()
        states.append(state)
        made.append(keys)
    return states, made


def _sums(names: FileNames, state: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return the sums that the sizes in `state` allow: all modules, all extensions, the rest of the core."""
    sums = {}
    modules = [size for key, size in state.items() if key.startswith(MODULE_KEY)]
    if modules:
        sums[ALL_MODULES] = sum(modules)
    tcz = {key for key in now if _is_tcz(key)}
    # A record may hold only some extensions; their sum is not an earlier size of all.
    if tcz and tcz <= state.keys():
        sums[ALL_TCZ] = sum(size for key, size in state.items() if _is_tcz(key))
    if {names.core, names.rootfs, names.modules} <= state.keys():
        sums[REST] = max(0, state[names.core] - state[names.rootfs] - state[names.modules])
    return sums


def _is_tcz(key: str) -> bool:
    return key.startswith(TCZ_KEY) and key.endswith(".tcz")


def _order(paths: Paths, now: Mapping[str, int]) -> Iterator[str]:
    names = paths.architecture.files
    top = [f"{paths.iso.stem}{ending}" for ending in (".iso", ".img", ".qcow2")]
    top += [f"kernel/{names.kernel}", names.core, names.rootfs, names.modules, REST, ALL_MODULES, ALL_TCZ]
    yield from (key for key in top if key in now)
    rest = [key for key in now if key not in top]
    yield from sorted(rest, key=lambda key: (not _is_tcz(key), -now[key], key))


def _label(names: FileNames, key: str) -> str:
    labels = LABELS | {
        f"kernel/{names.kernel}": names.kernel,
        names.rootfs: f"  base root ({names.rootfs})",
        names.modules: f"  modules ({names.modules})",
    }
    return labels.get(key) or key.removeprefix(MODULE_KEY).removeprefix(TCZ_KEY)


def _group(names: FileNames, key: str) -> str:
    if key in (names.core, names.rootfs, names.modules, REST):
        return "core"
    if _is_tcz(key) or key == ALL_TCZ:
        return "extension"
    if key.startswith(MODULE_KEY) or key == ALL_MODULES:
        return "module"
    return "kernel" if key.startswith("kernel/") else "image"


# --- the kernel's built-in code --------------------------------------------


@dataclass(frozen=True)
class CodeSize:
    """A subsystem or object of the kernel image; text, data, bss: bytes of its ELF sections."""

    name: str
    text: int
    data: int
    bss: int

    @property
    def total(self) -> int:
        """The bytes in memory."""
        return self.text + self.data + self.bss


def has_objects(paths: Paths) -> bool:
    """Return whether the build folder holds the objects of the kernel."""
    return bool(_archives(paths.build))


def _archives(build: Path) -> list[str]:
    """Return the archives of all built-in objects, relative to the build folder.

    Since Linux 6.1 there is one, vmlinux.a; before, there is one in each top folder but arch/.
    """
    if (build / "vmlinux.a").is_file():
        return ["vmlinux.a"]
    found = [*build.glob("*/built-in.a"), *build.glob("arch/*/built-in.a"), *build.glob("lib/lib.a")]
    return sorted(str(path.relative_to(build)) for path in found)


def objects(paths: Paths) -> list[CodeSize]:
    """Return the objects built into the kernel, largest first.

    Raises `UserError` if there are none, for example because the kernel came from a cache.
    """
    archives = _archives(paths.build)
    if not archives:
        raise UserError(
            f"{paths.build} holds no objects of a kernel",
            "a kernel from the shared cache has none; ./doit forget kernel, then ./doit kernel cache=none",
        )
    said = run(["size", *archives], cwd=paths.build).stdout
    matches = [match for line in said.splitlines() if (match := OBJECT.match(line))]
    parts = [CodeSize(match[4], int(match[1]), int(match[2]), int(match[3])) for match in matches]
    return sorted(parts, key=lambda part: (-part.total, part.name))


def subsystems(parts: Iterable[CodeSize]) -> list[CodeSize]:
    """Return the sums of the objects by folder of the kernel tree, largest first."""
    sums: dict[str, list[int]] = {}
    for part in parts:
        folders = part.name.split("/")[:-1]
        name = "/".join(folders[: 2 if folders and folders[0] in DIVIDED_FOLDERS else 1]) or "."
        found = sums.setdefault(name, [0, 0, 0])
        for index, size in enumerate((part.text, part.data, part.bss)):
            found[index] += size
    return sorted((CodeSize(name, *found) for name, found in sums.items()), key=lambda part: -part.total)


# --- the command -----------------------------------------------------------


def print_sizes(paths: Paths, names: Sequence[str], as_json: bool = False) -> None:
    """Print the sizes of the built parts and their changes.

    names: names or patterns of files, `modules`, `extensions`, or `kernel` for the kernel's
    built-in code.  Raises `UserError` if nothing is built yet, or if nothing has such a name.
    """
    if "kernel" in names:
        _print_kernel(paths, as_json)
        names = [name for name in names if name != "kernel"]
        if not names:
            return
    runs, faults = run_history.load(paths.output)
    found = select(collect(paths, runs), names)
    if not found:
        raise UserError("nothing is built yet", "./doit iso")
    if as_json:
        print(json.dumps({"profile": paths.name, "sizes": [_facts(size) for size in found]}, indent=2))
        return
    for fault in faults:
        logger.warning(fault)
    rows = [(size.label, f"{size.bytes:,}", *change_text(size)) for size in found]
    _print_table([("", "bytes", "change", ""), *rows])


def select(found: Sequence[Size], names: Sequence[str]) -> list[Size]:
    """Return the sizes with the names `names`, or all but single modules if there are no names."""
    if not names:
        return [size for size in found if not size.key.startswith(MODULE_KEY)]
    keep: dict[Size, None] = {}
    for name in names:
        group = {"modules": "module", "extensions": "extension"}.get(name)
        fits = [size for size in found if size.group == group or (group is None and _matches(size, name))]
        if not fits:
            parts = [size.name for size in found if not size.key.startswith(MODULE_KEY)]
            known = ", ".join(["kernel", "modules", *parts]) if found else ""
            hint = f"choose one of: {known}" if found else "./doit iso"
            raise UserError(f"nothing built is called {name!r}", hint)
        keep |= dict.fromkeys(fits)
    return list(keep)


def _matches(size: Size, name: str) -> bool:
    base = size.key.removeprefix(MODULE_KEY).rpartition("/")[2]
    plain = {size.name, base, base.removesuffix(".tcz"), base.partition(".ko")[0], size.key}
    return any(fnmatch.fnmatchcase(text, name) for text in plain) or name.endswith("/" + size.key)


def _facts(size: Size) -> dict[str, Any]:
    key = size.key.removeprefix(MODULE_KEY)
    return {
        "name": size.name,
        "group": size.group,
        "path": key,
        "bytes": size.bytes,
        "before": size.before,
        "change": size.change,
    }


def change_text(size: Size) -> tuple[str, str]:
    """Return a change in bytes and in per cent as text; two empty texts if there is none."""
    if size.change is None or not size.before:
        return "", ""
    return f"{size.change:+,}", f"{100 * size.change / size.before:+.1f} %"


def _print_kernel(paths: Paths, as_json: bool) -> None:
    parts = objects(paths)
    by_folder = subsystems(parts)
    if as_json:
        facts = {"subsystems": by_folder, "objects": parts}
        lists = {key: [vars(part) for part in value] for key, value in facts.items()}
        print(json.dumps({"profile": paths.name, **lists}, indent=2))
        return
    head = ("text", "data", "bss", "in memory")
    for title, some in (("subsystem", by_folder[:MAX_ROWS]), ("object", parts[:MAX_ROWS])):
        rows = [
            (part.name, *(f"{size:,}" for size in (part.text, part.data, part.bss, part.total)))
            for part in some
        ]
        _print_table([(title, *head), *rows])
        print()
    total = sum(part.total for part in parts)
    more = as_typed("all of them: ./doit size --json kernel")
    print(f"{len(parts):,} objects, {total:,} bytes in memory; {more}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())

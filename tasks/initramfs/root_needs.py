# SPDX-License-Identifier: MIT
"""What a base root needs of the kernel, checked before it boots: tasks/initramfs/root_needs.toml.

Tiny Core's scripts wait without end for device nodes that a kernel without their drivers never
makes.  And the kernel ends in a panic if it cannot run /init, or what /init is run by.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tasks.config import inputs
from tasks.config.plan import extensions_at
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import elf
from tasks.formats.initramfs_file import read_core, unpacked
from tasks.formats.initramfs_unpacker import RootFs
from tasks.kernel import installed
from tasks.kernel.fragments import display_path, parse_config
from tasks.kernel.needs import STOCK, fragments_by_symbol
from tasks.util import toml_schema
from tasks.util.errors import UserError

FILE = Path(__file__).with_name("root_needs.toml")
BUILT_IN = "=y"
INIT, SECOND_INIT = "/init", "/sbin/init"
MAX_INTERPRETERS = 4  # fs/exec.c: a script may be run by a script, up to this depth


@dataclass(frozen=True)
class Need:
    """A thing that a root does, and what it needs of the kernel.

    what: the words after "this root".
    kconfig: symbols without CONFIG_, all needed; of `A|B` one; `A=y` must be built in.
    modules: of a symbol that may be a module (m): the module's name.  It must be in the core.
    script, pattern: only if a line of the script (path below `/`) has this regular expression.
    bootcode: only with this bootcode (a shell pattern).
    without: not with this bootcode.
    medium: only for this image: iso or disk.
    extensions: only if extensions are loaded from outside the core.
    """

    what: str
    kconfig: tuple[str, ...]
    modules: dict[str, str] = field(default_factory=dict)
    script: str = ""
    pattern: str = ""
    bootcode: str = ""
    without: str = ""
    medium: str = ""
    extensions: bool = False


@dataclass(frozen=True)
class Program:
    """A machine of programs (EM_... of ELF), and the symbols of kernels that run them, as `Need.kconfig`."""

    machine: str
    kconfig: tuple[str, ...]


@dataclass(frozen=True)
class RootNeeds:
    """The content of tasks/initramfs/root_needs.toml."""

    need: tuple[Need, ...]
    program: tuple[Program, ...]


@dataclass(frozen=True)
class Kernel:
    """What is known of the kernel.

    config: symbol without CONFIG_ -> value.
    fragments: symbol -> the fragment of kconfig/ that sets it, of those that the profile lacks.
    modules: names of the modules in the core; None before the kernel is built.
    stock: others built it, so its config cannot be changed.  If nobody knows that, it is empty.
    """

    config: Mapping[str, str]
    fragments: Mapping[str, str]
    modules: frozenset[str] | None = None
    stock: bool = False

    def has(self, symbol: str) -> bool:
        """Return whether a symbol is built in; true if nobody knows the config."""
        return not self.config or self.config.get(symbol) == "y"

    def lacking(self, need: Need | Program) -> Iterator[tuple[str, str]]:
        """Yield, for each unmet part, (what the kernel lacks, what to add)."""
        if not self.config:
            return
        modules = need.modules if isinstance(need, Need) else {}
        for either in need.kconfig:
            symbols = [one.removesuffix(BUILT_IN) for one in either.split("|")]
            built_in = BUILT_IN in either
            values = [self.config.get(symbol, "n") for symbol in symbols]
            if any(
                value == "y" or (value == "m" and not built_in and self._has(modules.get(symbol, "")))
                for symbol, value in zip(symbols, values, strict=True)
            ):
                continue
            names = " or ".join(f"CONFIG_{symbol}" for symbol in symbols)
            what = f"the kernel has no {names}"
            if "m" in values:
                what = f"{names} is a module" if built_in else f"its module of {names} is not in the core"
            yield what, self._advice(symbols, is_module="m" in values, built_in=built_in)

    def _advice(self, symbols: Sequence[str], *, is_module: bool, built_in: bool) -> str:
        if self.stock:
            return 'set kernel.modules = "core"' if is_module and not built_in else STOCK
        fragment = next((self.fragments[one] for one in symbols if one in self.fragments), "")
        if fragment and not is_module:
            return f"add the fragment {fragment}"
        return f"request CONFIG_{symbols[0]}=y in a fragment"

    def _has(self, module: str) -> bool:
        """Return whether a module is in the core; true if that is not known or does not matter."""
        return not module or self.modules is None or module.replace("_", "-") in self.modules


def check(paths: Paths, profile: Profile) -> None:
    """Raise `UserError` if the checked config lacks something that the base needs, before it is compiled."""
    files = inputs.base_archives(paths, profile)
    root = unpacked(archive for path in files for archive in read_core(path))
    kernel = Kernel(_config(paths.config), fragments_by_symbol(profile), stock=_is_stock(profile))
    _refuse(paths, unmet(kernel, profile, root))


def check_core(paths: Paths, profile: Profile, root: RootFs) -> None:
    """Raise `UserError` if the kernel, or the core whose files are `root`, lacks something that it needs."""
    _refuse(paths, unmet(_built(paths, profile), profile, root))


def check_medium(paths: Paths, profile: Profile, medium: str) -> None:
    """Raise `UserError` if the kernel cannot read an image of this kind: iso or disk."""
    kernel = _built(paths, profile)
    needs = [need for need in table().need if need.medium == medium and _applies(need, profile, None)]
    _refuse(paths, [line for need in needs for line in _lines(need, kernel)])


def table() -> RootNeeds:
    """Return tasks/initramfs/root_needs.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(FILE, RootNeeds)


def unmet(kernel: Kernel, profile: Profile, root: RootFs) -> list[str]:
    """Return a line for each thing that `root` needs to boot and would miss: the programs first."""
    given = [code[len("rdinit=") :] for code in profile.boot.bootcodes if code.startswith("rdinit=")]
    first = given[-1] if given else INIT
    lines = list(_program_lines(root, first, kernel))
    if not lines and root.find(SECOND_INIT, follow=True) is not None:
        lines += _program_lines(root, SECOND_INIT, kernel)
    for need in table().need:
        if not need.medium and _applies(need, profile, root):
            lines += _lines(need, kernel)
    return lines


def _lines(need: Need, kernel: Kernel) -> list[str]:
    """Return one line for each part of `need` that the kernel lacks; equal advice is given once."""
    by_advice: dict[str, list[str]] = {}
    for lacks, advice in kernel.lacking(need):
        by_advice.setdefault(advice, []).append(lacks)
    otherwise = f", or the bootcode {need.without}" if need.without else ""
    return [
        f"this root {need.what}, and {' and '.join(lacks)}: {advice}{otherwise}"
        for advice, lacks in by_advice.items()
    ]


def _applies(need: Need, profile: Profile, root: RootFs | None) -> bool:
    codes = profile.boot.bootcodes
    if need.without in codes:
        return False
    if need.bootcode and not any(fnmatchcase(code, need.bootcode) for code in codes):
        return False
    if need.extensions and not extensions_at(profile, "onboot", "copy2fs", "ondemand"):
        return False
    if not need.script or root is None:
        return True
    node = root.find(need.script, follow=True)
    return node is not None and re.search(need.pattern.encode(), node.data, re.MULTILINE) is not None


def _program_lines(root: RootFs, path: str, kernel: Kernel) -> Iterator[str]:
    """Yield why the kernel could not run `path`, or what runs it."""
    who = ""
    for _ in range(MAX_INTERPRETERS + 1):
        node = root.find(path, follow=True)
        if node is None or node.kind != stat.S_IFREG or not node.mode & 0o111:
            yield f"the core has no executable {path}{who}: the kernel would stop with a panic"
            return
        if not node.data.startswith(b"#!"):
            yield from _elf_lines(root, path, node.data, kernel)
            return
        if not kernel.has("BINFMT_SCRIPT"):
            yield f"{path} is a script, and the kernel has no CONFIG_BINFMT_SCRIPT: request it in a fragment"
        words = node.data[2:].partition(b"\n")[0].split()
        if not words:
            yield f"{path} is a script that names no interpreter: the kernel would stop with a panic"
            return
        who = f", which {path} is run by"
        path = words[0].decode(errors="replace")
    yield f"the scripts that run {path} are too many: the kernel would stop with a panic"


def _elf_lines(root: RootFs, path: str, data: bytes, kernel: Kernel) -> Iterator[str]:
    try:
        program = elf.dynamic(data, path)
    except UserError as error:
        yield f"{error.message}: the kernel would stop with a panic"
        return
    _, machine = program.kind
    rule = next((one for one in table().program if one.machine == machine), None)
    name = elf.short_machine_name(machine)
    if rule is None:
        yield f"{path} is a program for {name}, which no kernel of tcbuild runs"
        return
    for lacks, advice in kernel.lacking(rule):
        yield f"{path} is a program for {name}, and {lacks}: {advice}"
    if not kernel.has("BINFMT_ELF"):
        yield f"{path} is a program, and the kernel has no CONFIG_BINFMT_ELF: request it in a fragment"
    if program.interpreter and root.find(program.interpreter, follow=True) is None:
        missing = f"the core has no {program.interpreter}"
        yield f"{missing}, which {path} is run by: the kernel would stop with a panic"


def _built(paths: Paths, profile: Profile) -> Kernel:
    """Return the built kernel, as its config and the modules in the core tell."""
    modules = _modules(installed.core_modules(paths, profile))
    config = _config(paths.kernel / "config")
    return Kernel(config, fragments_by_symbol(profile), frozenset(modules), _is_stock(profile))


def _is_stock(profile: Profile) -> bool:
    return profile.kernel.image is not None


def _config(path: Path) -> dict[str, str]:
    try:
        return parse_config(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", "build the kernel first: ./doit kernel") from None


def _modules(folder: Path) -> set[str]:
    """Return the names of the modules below `folder`, with `-` for `_`, as modprobe compares them."""
    return {path.name.split(".")[0].replace("_", "-") for path in folder.rglob("*.ko*")}


def _refuse(paths: Paths, lines: Sequence[str]) -> None:
    if lines:
        where = f"kernel.fragments and boot.bootcodes in {display_path(paths.profile_file)}"
        raise UserError(lines[0], where, "\n".join(f"  {line}" for line in lines[1:]))

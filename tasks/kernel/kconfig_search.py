# SPDX-License-Identifier: MIT
"""Find symbols of the kernel's configuration, and say why one has its value.

The answers are those of the tree's own Kconfig engine (`kconfig/explain.c`) on the proved config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.config.settings import Settings
from tasks.kernel import kconfig, kconfig_explain
from tasks.kernel.fragments import Request, parse_config, same_value
from tasks.kernel.kconfig_explain import LEVEL, Symbol
from tasks.kernel.kconfig_workspace import workspace
from tasks.kernel.requests import profile_requests
from tasks.util.errors import UserError

SHOWN = 20
"""How many symbols a search describes."""
EXPLAINED = 3
"""Up to how many symbols a search prints with their helps."""
DEPTH = 4
"""How many selects `why` follows."""


@dataclass(frozen=True)
class Setting:
    """The proved config and what it came from.

    asked: the request for a symbol, if there is one; base: the values of the base config; final: those of the
    proved config, and text: its text.
    """

    asked: Mapping[str, Request]
    base: Mapping[str, str]
    final: Mapping[str, str]
    text: str = ""

    def ask(
        self, settings: Settings, stage: str, questions: Sequence[str]
    ) -> tuple[dict[str, Symbol], list[str]]:
        """Return what the engine says under the proved config, as `kconfig_explain.ask` does."""
        with workspace(settings, stage) as space:
            (space.work / "config").write_text(self.text)
            return kconfig_explain.ask(space, "config", questions)

    @classmethod
    def of_profile(cls, settings: Settings) -> Setting:
        """Return the setting of a profile that has been configured.  Raises `UserError` if it has not."""
        requests = profile_requests(settings.paths, settings.profile)
        final = kconfig.proved_config(settings.paths)
        base = parse_config(settings.paths.base_config.read_text())
        base_requests = kconfig.base_requests(settings.paths, settings.profile)
        asked = {request.symbol: request for request in [*base_requests, *requests]}
        return cls(asked, base, parse_config(final), final)


def check_search(_settings: Settings, names: Sequence[str]) -> list[str]:
    """Return the words that are searched.  Raises `UserError` if there is none."""
    words = [name.removeprefix("CONFIG_") for name in names if name.strip()]
    if not words:
        raise UserError("kconfig:search needs a word", "./doit kconfig:search btrfs")
    return words


def search(settings: Settings, names: Sequence[str]) -> None:
    """Print the symbols that have every one of the words `names` in their name, prompt or help.

    Raises `UserError` if no word is given, and if no symbol has them.
    """
    words = check_search(settings, names)
    setting = Setting.of_profile(settings)
    symbols, _names = setting.ask(settings, "kconfig-search", [f"?{max(words, key=len)}"])
    found = sorted(
        (one for one in symbols.values() if all(word.lower() in text_of(one) for word in words)),
        key=lambda one: (_rank(one, words), one.name),
    )
    if not found:
        raise UserError(f"no symbol of this kernel has {' and '.join(words)} in name, prompt or help")
    for one in found[:SHOWN]:
        print("\n".join(describe(one, setting, with_help=len(found) <= EXPLAINED)))
    if len(found) > SHOWN:
        rest = [one.name for one in found[SHOWN:]]
        print(f"and {len(rest)} more: {', '.join(rest)}")


def text_of(symbol: Symbol) -> str:
    """Return all words of a symbol in lower case: its name, prompts and helps."""
    words = [symbol.name, *(part for entry in symbol.entries for part in (entry.prompt, *entry.help))]
    return "\n".join(words).lower()


def _rank(symbol: Symbol, words: Sequence[str]) -> int:
    """Return how well the words fit a symbol; 0 fits best."""
    lower = [word.lower() for word in words]
    prompts = " ".join(entry.prompt for entry in symbol.entries).lower()
    if lower == [symbol.name.lower()]:
        return 0
    if all(word in symbol.name.lower() for word in lower):
        return 1
    return 2 if all(word in prompts for word in lower) else 3


def describe(symbol: Symbol, setting: Setting, *, with_help: bool) -> list[str]:
    """Return the lines about a symbol: value, prompt, what it depends on, what sets it, and its help."""
    prompts = [entry.prompt for entry in symbol.entries if entry.prompt]
    title = f'"{prompts[0]}"' if prompts else "no prompt"
    lines = [f"{symbol.name} [={symbol.value}]  {symbol.type}, {title}"]
    lines.append(f"    defined at {', '.join(symbol.at)}")
    depends = dict.fromkeys(entry.depends for entry in symbol.entries if entry.depends)
    lines += [f"    depends on {one}" for one in depends]
    lines += [f"    {line}" for line in causes(symbol, setting)]
    text = next((entry.help for entry in symbol.entries if entry.help and with_help), [])
    return [*lines, *(f"        {line}".rstrip() for line in text)]


def check_why(_settings: Settings, names: Sequence[str]) -> list[str]:
    """Return the symbols that are asked about.  Raises `UserError` if there is none."""
    if not names:
        raise UserError("kconfig:why needs a symbol", "./doit kconfig:why BTRFS_FS")
    return [name.removeprefix("CONFIG_") for name in names]


def why(settings: Settings, names: Sequence[str]) -> None:
    """Print why each of the symbols `names` has its value, and what brings those about that select it.

    Raises `UserError` if no symbol is given, and for one that the kernel does not know.
    """
    wanted = check_why(settings, names)
    setting = Setting.of_profile(settings)
    symbols, known = setting.ask(settings, "kconfig-why", [f"+{name}" for name in wanted])
    notes = kconfig_explain.load_notes()
    for name in wanted:
        if symbols[name].type == "unknown":
            near = kconfig_explain.near_names(name, known)
            hint = notes.get(name) or (f"near names: {', '.join(near)}" if near else "")
            raise UserError(f"this kernel has no symbol {name}", hint)
        print("\n".join(_chain(symbols[name], symbols, setting, 0, set())))


def _chain(
    symbol: Symbol, symbols: Mapping[str, Symbol], setting: Setting, depth: int, seen: set[str]
) -> Iterator[str]:
    """Yield the lines on a symbol, and indented those on the symbols that select it."""
    indent = "    " * depth
    seen.add(symbol.name)
    title = f"{symbol.name}={symbol.value}"
    yield f"{indent}{title}" if depth else f"{title}  {symbol.type}, defined at {', '.join(symbol.at)}"
    for line in causes(symbol, setting) or ["nothing asks for it"]:
        yield f"{indent}    {line}"
    for value, text in [*symbol.selects, *symbol.implies]:
        name = text.split(" ", 1)[0].strip("(")
        if value != "n" and depth < DEPTH and name in symbols and name not in seen:
            yield from _chain(symbols[name], symbols, setting, depth + 1, seen)


def causes(symbol: Symbol, setting: Setting) -> list[str]:
    """Return what gives a symbol its value, a line each; for one that is off, what keeps it off."""
    lines = []
    asked = setting.asked.get(symbol.name)
    final = setting.final.get(symbol.name, "n")
    if asked:
        took = "" if same_value(asked.value, final) else f", which gave {final}"
        lines.append(f"asked at {asked.where}: {asked.text}{took}")
    elif symbol.prompts and setting.base.get(symbol.name, "n") == final != "n":
        lines.append("the base config has this value")
    active = [
        (kind, text)
        for kind, pairs in (("selected", symbol.selects), ("implied", symbol.implies))
        for value, text in pairs
        if value != "n"
    ]
    lines += [f"{kind} by {text}" for kind, text in active]
    if symbol.default and not asked:
        lines.append(f"its default: {symbol.default[1]}")
    if symbol.choice:
        lines.append(
            f'member of the choice "{symbol.choice[0]}", which holds {symbol.choice[1] or "no member"}'
        )
    if LEVEL.get(final, LEVEL["y"]) < LEVEL["y"]:
        lines += _limits(symbol, final)
    return lines


def _limits(symbol: Symbol, final: str) -> Iterator[str]:
    """Yield what keeps a symbol at its value, n or m."""
    if not symbol.prompts and final == "n":
        yield "it cannot be set by hand (no prompt), only by select or default"
        yield from (f"would be selected by {text}" for value, text in symbol.selects[:8] if value == "n")
    for need in (need for prompt in symbol.prompts for need in prompt.needs):
        if need.value == final:
            yield f"depends on {need.text}: {'unmet' if final == 'n' else 'allows only m'}"
            yield from (f"  {kconfig_explain.operand_line(operand, {})}" for operand in need.operands)

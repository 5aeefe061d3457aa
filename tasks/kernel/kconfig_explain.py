# SPDX-License-Identifier: MIT
"""Explain with the kernel's own Kconfig engine why requested config lines did not take effect.

`kconfig/explain.c` is compiled against the tree's scripts/kconfig, and runs where
`conf` runs.  Its records (explain.c describes them) become a block of text per missed request.
While every request takes effect, a build does not run it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.kernel.fragments import Request
from tasks.kernel.kconfig_workspace import Workspace
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

LEVEL = {"n": 0, "m": 1, "y": 2}


@dataclass
class Operand:
    """A symbol in an unmet term; `selectors` are known only if it has no prompt."""

    name: str
    value: str
    type: str
    prompts: int
    at: tuple[str, ...]
    selectors: list[str] = field(default_factory=list)


@dataclass
class Need:
    """An AND-term of a prompt's condition that is below y."""

    value: str
    text: str
    operands: list[Operand] = field(default_factory=list)


@dataclass
class Prompt:
    """One prompt of a symbol: the highest value it allows, and the terms that keep it below y."""

    limit: str
    needs: list[Need] = field(default_factory=list)


@dataclass
class Entry:
    """One definition of a symbol: its prompt ("" if it has none), what it depends on, its help's lines."""

    prompt: str
    depends: str
    help: list[str] = field(default_factory=list)


@dataclass
class Symbol:
    """The engine's records of one symbol.  `selects` and `implies` are pairs (value, expression)."""

    name: str
    type: str = "unknown"
    value: str = "n"
    at: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    range: tuple[str, str] | None = None
    choice: tuple[str, str] | None = None
    default: tuple[str, str] | None = None
    selects: list[tuple[str, str]] = field(default_factory=list)
    implies: list[tuple[str, str]] = field(default_factory=list)

    @property
    def limit(self) -> str:
        return max((prompt.limit for prompt in self.prompts), key=LEVEL.__getitem__, default="n")


def parse_records(text: str) -> tuple[dict[str, Symbol], list[str]]:
    """Return the queried symbols and the sorted names of all symbols, from explain's output.

    Raises `ValueError` if the output is not complete.
    """
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        raise ValueError("the output ends early")
    symbols: dict[str, Symbol] = {}
    names = set()
    current = Symbol("")
    for line in lines[:-1]:
        key, *rest = line.split("\t")
        if key == "name":
            names.add(rest[0])
        elif key == "symbol":
            current = symbols[rest[0]] = Symbol(rest[0])
        else:
            try:
                _add_record(current, key, rest)
            except IndexError:
                raise ValueError(f"record {key!r} is out of place") from None
    return symbols, sorted(names)


def _add_record(symbol: Symbol, key: str, rest: list[str]) -> None:
    match key, rest:
        case "type", [kind]:
            symbol.type = kind
        case "value", [value]:
            symbol.value = value
        case "at", [position]:
            symbol.at.append(position)
        case "entry", [prompt, depends]:
            symbol.entries.append(Entry(prompt, depends))
        case "help", [line]:
            symbol.entries[-1].help.append(line)
        case "prompt", [limit]:
            symbol.prompts.append(Prompt(limit))
        case "need", [value, text]:
            symbol.prompts[-1].needs.append(Need(value, text))
        case "of", [name, value, kind, prompts, positions]:
            operand = Operand(name, value, kind, int(prompts), tuple(positions.split()))
            symbol.prompts[-1].needs[-1].operands.append(operand)
        case "by", [name]:
            symbol.prompts[-1].needs[-1].operands[-1].selectors.append(name)
        case "range", [low, high]:
            symbol.range = (low, high)
        case "choice", [prompt, member]:
            symbol.choice = (prompt, member)
        case "default", [value, text]:
            symbol.default = (value, text)
        case "select", [value, text]:
            symbol.selects.append((value, text))
        case "imply", [value, text]:
            symbol.implies.append((value, text))
        case _:
            raise ValueError(f"unexpected record {key!r}")


def ask(workspace: Workspace, config: str, questions: Iterable[str]) -> tuple[dict[str, Symbol], list[str]]:
    """Return the engine's records of the symbols asked for, and the names of all symbols.

    config: a file of `workspace.work`, the config in force; questions: as explain.c describes them.
    Raises `UserError` if its output is not complete.
    """
    asked = workspace.work / "asked"
    asked.write_text("".join(f"{question}\n" for question in sorted(set(questions))))
    try:
        return parse_records(workspace.ask("explain", config, str(asked)))
    except ValueError as error:
        message = f"kconfig/explain.c failed: {error}"
        raise UserError(message, f"its messages are in {workspace.log}") from None


def load_notes() -> dict[str, str]:
    """Return by symbol the notes of kconfig/notes.toml on symbols that kernels gained or lost."""
    with CHECKOUT.find("kconfig", "notes.toml").open("rb") as stream:
        return {str(name): str(text) for name, text in tomllib.load(stream)["symbols"].items()}


def describe(
    miss: Request,
    symbol: Symbol,
    config: Mapping[str, str],
    names: Sequence[str],
    notes: Mapping[str, str],
    asked: Mapping[str, Request],
) -> str:
    """Return the block of text that explains one missed request; `config` is the resulting config."""
    got = config.get(miss.symbol, "n")
    if symbol.type == "unknown":
        lines = [f"{miss.where}: {miss.text}: unknown symbol in this kernel version"]
        near = near_names(miss.symbol, names)
        lines += [f"note: {notes[miss.symbol]}"] if miss.symbol in notes else []
        lines += [f"near names: {', '.join(near)}"] if near else []
        return "\n    ".join(lines)
    lines = [f"{miss.where}: {miss.text}: got {got}"]
    lines.append(f"{symbol.type}, defined at {', '.join(symbol.at)}")
    lines += _type_mismatch(miss, symbol) or _reasons(miss, symbol, config, asked)
    return "\n    ".join(lines)


def near_names(name: str, names: Sequence[str]) -> list[str]:
    """Return up to six likely symbols: those that contain `name`, those it contains, then similar ones."""
    longer = sorted((other for other in names if f"_{name}_" in f"_{other}_"), key=len)
    shorter = [other for other in names if len(other) > 4 and f"_{other}_" in f"_{name}_"]
    similar = difflib.get_close_matches(name, names, n=4, cutoff=0.75)
    return list(dict.fromkeys([*longer[:3], *sorted(shorter, key=len)[-1:], *similar]))[:6]


def _type_mismatch(miss: Request, symbol: Symbol) -> list[str]:
    value = miss.value
    is_number = value.lstrip("-").isdigit() or value.startswith(("0x", "0X"))
    allowed = {
        "bool": value in ("y", "n"),
        "tristate": value in LEVEL,
        "integer": is_number and not value.startswith(("0x", "0X")),
        "hex": value.startswith(("0x", "0X")),
        "string": value.startswith('"'),
    }
    if not allowed.get(symbol.type, True):
        expected = {"bool": "y or n", "tristate": "y, m or n", "integer": "a decimal number", "hex": "0x..."}
        line = (
            f"type mismatch: {symbol.type} takes {expected.get(symbol.type, 'a text in quotes')}, not {value}"
        )
        return [line + (" (it cannot be a module)" if value == "m" else "")]
    if symbol.range and is_number:
        low, high = (int(end, 0) for end in symbol.range)
        if not low <= int(value, 16 if symbol.type == "hex" else 10) <= high:
            return [f"out of range: {value} is not within {symbol.range[0]} to {symbol.range[1]}"]
    return []


def _reasons(
    miss: Request, symbol: Symbol, config: Mapping[str, str], asked: Mapping[str, Request]
) -> list[str]:
    # Texts and numbers need a visible prompt only, so m is enough.
    wanted = LEVEL.get(miss.value, LEVEL["m"])
    got = config.get(miss.symbol, "n")
    if miss.value in LEVEL and LEVEL.get(got, 0) > wanted:
        return _too_high(symbol, wanted, config)
    if not symbol.prompts:
        return _no_prompt(symbol)
    if LEVEL[symbol.limit] < wanted:
        lines = []
        for number, prompt in enumerate(symbol.prompts):
            lines += ["or, where it is defined again:"] if number else []
            lines += _unmet(prompt, wanted, asked)
        return lines
    if symbol.choice:
        prompt_text, holder = symbol.choice
        by = f" (asked at {asked[holder].where})" if holder in asked else ""
        return [f'not chosen: the choice "{prompt_text}" holds {holder or "no member"}{by}']
    return [f"the kernel writes the value differently; request it as {got}"]


def _too_high(symbol: Symbol, wanted: int, config: Mapping[str, str]) -> list[str]:
    lines = [f"raised by select from {text}" for value, text in symbol.selects if LEVEL[value] > wanted]
    if lines:
        return lines
    if symbol.choice:
        return [f'the choice "{symbol.choice[0]}" must have a member: request another one']
    lines = [f"raised by imply from {text}" for value, text in symbol.implies if LEVEL[value] > wanted]
    if LEVEL[symbol.limit] > 0:
        lines += ["MODULES is off, which turns m into y"] if config.get("MODULES", "n") == "n" else []
        return lines
    if symbol.default:
        lines.append(f"its default: {symbol.default[1]}")
    return ["it cannot be set by hand here (no visible prompt)", *lines]


def _no_prompt(symbol: Symbol) -> list[str]:
    lines = ["no prompt: it cannot be set by hand, only by select or default"]
    # Those with the fewest unmet terms first.
    texts = sorted((text for _, text in symbol.selects), key=lambda text: text.count("[=n]"))
    lines += [f"would be selected by {text}" for text in texts[:8]]
    if len(symbol.selects) > 8:
        lines.append(f"... and by {len(symbol.selects) - 8} more")
    if symbol.default:
        lines.append(f"its default: {symbol.default[1]}")
    return lines


def _unmet(prompt: Prompt, wanted: int, asked: Mapping[str, Request]) -> list[str]:
    lines = []
    for need in prompt.needs:
        if LEVEL[need.value] >= wanted:
            continue
        effect = "unmet" if need.value == "n" else "allows only m"
        lines.append(f"depends on {need.text}: {effect}")
        lines += [f"  {operand_line(operand, asked)}" for operand in need.operands]
    return lines


def operand_line(operand: Operand, asked: Mapping[str, Request]) -> str:
    """Return what is known of a symbol in an unmet term; asked: by symbol, the requests."""
    if not operand.at:
        return f"{operand.name}: not defined in this kernel version or architecture"
    text = f"{operand.name}={operand.value} ({', '.join(operand.at)})"
    if operand.name in asked:
        text += f", asked {asked[operand.name].value} at {asked[operand.name].where}"
    if not operand.prompts:
        by = f" by {', '.join(operand.selectors)}" if operand.selectors else ""
        text += f", no prompt: only selected{by}"
    return text

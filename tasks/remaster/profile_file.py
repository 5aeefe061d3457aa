# SPDX-License-Identifier: MIT
"""The TOML text of a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

SCHEMA = "#:schema ../tasks/config/schemas/profile.schema.json"
WIDTH = 100


def text(comment: str, table: Mapping[str, Any]) -> str:
    """Return a profile as a person would write it.

    table: keys -> values, tables and lists of tables as TOML has them; comment: one line.
    """
    lines = [SCHEMA, f"# {comment}"]
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    arrays = {key: value for key, value in table.items() if _is_array(value)}
    lines += [f"{key} = {_value(value)}" for key, value in table.items() if key not in {**tables, **arrays}]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    for name, items in arrays.items():
        for item in items:
            lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in item.items())]
    return "\n".join(lines) + "\n"


def _is_array(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, (list, tuple)):
        items = [_value(one) for one in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= WIDTH else "\n".join(["[", *(f"    {item}," for item in items), "]"])
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")

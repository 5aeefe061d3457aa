"""`./doit cache:list` and `./doit cache:prune`."""

from __future__ import annotations

import re
import time

from tasks.cache import entry as cache_entry
from tasks.cache.entry import entries
from tasks.cache.store import Refused, Store, Unreachable, open_store
from tasks.config.settings import SHARED_VARIABLE, Settings
from tasks.util.errors import UserError

# As IEC 80000-13 has them; a bare letter stands for the power of 1024, as with ls and dd.
UNITS = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", 1)
    for ending, base in (("", 1024), ("IB", 1024), ("B", 1000))
}


def print_list(settings: Settings) -> None:
    """Print task, size, age and key of all entries, the one used last first.

    Raises `UserError` if there is no shared cache, or if it cannot list.
    """
    store = _store(settings)
    try:
        found, archives, left = entries(store)
    except (Refused, Unreachable) as error:
        raise UserError(f"shared cache {store.shown}: {error}") from None
    now = time.time()
    for entry in found:
        task = entry.manifest.task if entry.manifest else "(damaged)"
        print(f"{entry.key[:12]}  {shown_size(entry.size):>10}  {shown_age(now - entry.used):>9}  {task}")
    total = sum(item.size for item in archives.values())
    more = f", {len(left)} unfinished files" if left else ""
    print(f"{store.shown}: {len(found)} entries, {shown_size(total)} in {len(archives)} archives{more}")


def prune(settings: Settings, max_size: str) -> None:
    """Remove what was used least recently until `max_size` is kept, and what is damaged or left behind."""
    cache_entry.prune(_store(settings), parse_size(max_size))


def _store(settings: Settings) -> Store:
    if not settings.shared_cache:
        hint = f"say cache=FOLDER or cache=URL, or set {SHARED_VARIABLE}"
        raise UserError("there is no shared cache", hint)
    return open_store(settings.shared_cache)


def parse_size(text: str) -> int:
    """Return the bytes that `500MB`, `1.5 GiB`, `10G` or `4096` say.  Raises `UserError` for all else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = match[2].upper() if match else ""
    if match is None or unit not in UNITS:
        raise UserError(f"--max-size={text}: expected a size as 500MB or 10GiB")
    return int(float(match[1]) * UNITS[unit])


def shown_size(size: int) -> str:
    """Return bytes for a person: `812 B`, `10.9 MiB`."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def shown_age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: `3 min`, `2 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"

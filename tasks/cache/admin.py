# SPDX-License-Identifier: MIT
"""`./doit cache:list` and `./doit cache:prune`."""

from __future__ import annotations

import time

from tasks.cache import entry as cache_entry
from tasks.cache.entry import entries
from tasks.cache.store import Refused, Store, Unreachable, open_store
from tasks.config.settings import SHARED_VARIABLE, Network, Settings
from tasks.util.errors import UserError
from tasks.util.sizes import format_size, parse_size


def print_list(settings: Settings) -> None:
    """Print key, size, age and task of each entry, the most recently used first.

    Raises `UserError` if there is no shared cache, or if it cannot list its entries.
    """
    store = _store(settings.network)
    try:
        found, archives, unfinished = entries(store)
    except (Refused, Unreachable) as error:
        raise UserError(f"shared cache {store.display_name}: {error}") from None
    now = time.time()
    for entry in found:
        task = entry.manifest.task if entry.manifest else "(damaged)"
        print(f"{entry.key[:12]}  {format_size(entry.size):>10}  {format_age(now - entry.used):>9}  {task}")
    total = sum(item.size for item in archives.values())
    more = f", {len(unfinished)} unfinished files" if unfinished else ""
    print(
        f"{store.display_name}: {len(found)} entries, {format_size(total)} in {len(archives)} archives{more}"
    )


def prune(network: Network, max_size: str) -> None:
    """Remove damaged and unfinished files, then the least recently used entries, down to `max_size`."""
    cache_entry.prune(_store(network), parse_size(max_size, "--max-size="))


def _store(network: Network) -> Store:
    if not network.shared_cache:
        hint = f"give cache=own, cache=FOLDER or cache=URL, or set {SHARED_VARIABLE}; "
        hint += "old build roots lie in the cache folder: ./doit toolchain:prune"
        raise UserError("there is no shared cache", hint)
    return open_store(network.shared_cache)


def format_age(seconds: float) -> str:
    """Return an age in seconds as text for people, in its largest unit: `3 min`, `2 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"

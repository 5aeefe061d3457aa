# SPDX-License-Identifier: MIT
"""profile=auto: choose Tiny Core's own sources if a mirror answers, else profile `apt`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from tasks.config import inheritance, inputs
from tasks.config import plan as config_plan
from tasks.config.profile import FALLBACK, Profile
from tasks.origins.http_session import RedirectRefused, Session
from tasks.origins.lock import LockedExtension, LockedFile, load_lock
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.errors import UserError

# Seconds for all mirrors together; a user waits for the answer.
BUDGET = 5.0


def choose(profiles: Mapping[str, Profile], offline: bool) -> tuple[str, str]:
    """Return the name of the profile to build, and the reason in one phrase.

    A profile with a `probe` path is chosen if all its downloads are locked and one of its
    mirrors has that path (offline: if the cache holds all its files); otherwise `apt`.
    A profile that inherits another is a variant, which only `profile=NAME` chooses.
    Raises `UserError` if no profile can be chosen.
    """
    reasons = []
    for name, profile in sorted(profiles.items()):
        if not profile.probe or profile.inherit:
            continue
        entries, lacking = _locked(name, profile)
        if lacking:
            count = len(lacking)
            of = f"{lacking[0]} has" if count == 1 else f"{count} of its files have"
            reasons.append(f"{name}: {of} no sha256 yet (./doit lock profile={name})")
            continue
        if offline:
            if all(entry.cached_in(cache_folder()).is_file() for entry in entries):
                return name, "offline, and the cache holds all its files"
            reasons.append(f"offline, and the cache does not hold the files of {name}")
            continue
        urls = [f"{mirror.rstrip('/')}/{profile.probe}" for mirror in profile.mirrors]
        answered = first_answer(urls, BUDGET, profile.redirects)
        if answered is not None:
            return name, f"mirror {profile.mirrors[answered]} answered"
        count = len(urls)
        none = "its one mirror did not answer" if count == 1 else f"none of its {count} mirrors answered"
        reasons.append(f"{name}: {none}")
    if FALLBACK not in profiles:
        raise UserError(f"no profile can be used ({'; '.join(reasons)})", "name a profile: profile=NAME")
    return FALLBACK, "; ".join(reasons) or "no other profile is declared"


def first_answer(urls: Sequence[str], budget: float, redirects: Sequence[str] = ()) -> int | None:
    """Return the index of the first of `urls` that exists (HEAD); None if no server confirms one in time.

    budget: seconds.  All are asked at once.  An earlier url is preferred to a quicker one,
    so the choice does not depend on chance.
    """
    answers: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()

    def ask(index: int, url: str) -> None:
        try:
            # `requests` does not bound a whole exchange, hence the thread and the deadline.
            with Session(redirects) as session:
                found = session.head(url, timeout=budget, allow_redirects=True).ok
        except (requests.RequestException, RedirectRefused, ValueError):
            found = False
        answers.put((index, found))

    for index, url in enumerate(urls):
        # Daemon threads: a name server that hangs must not keep the program from ending.
        threading.Thread(target=ask, args=(index, url), daemon=True).start()
    deadline = time.monotonic() + budget
    known: dict[int, bool] = {}
    while len(known) < len(urls):
        try:
            index, found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        known[index] = found
        first = next((index for index in range(len(urls)) if known.get(index, True)), None)
        if first in known:
            return first
    return next((index for index in sorted(known) if known[index]), None)


def _locked(name: str, profile: Profile) -> tuple[list[LockedFile | LockedExtension], list[str]]:
    """Return the lock entries of a profile's downloads from mirrors, and the names that are not locked."""
    lock = load_lock(_lock_file(name))
    files = {file.path: file for file in lock.file}
    needed = [path for source in inputs.sources(profile) if (path := source.published_path())]
    plan = config_plan.plan(profile, lock)
    upstream = set(plan.of_kind("upstream"))
    entries: list[LockedFile | LockedExtension] = [
        *(files[path] for path in needed if path in files),
        *(item for item in lock.extension if item.name in upstream),
    ]
    return entries, [*(path for path in needed if path not in files), *plan.missing]


def _lock_file(name: str) -> Path:
    return inheritance.pinned_lock(CHECKOUT.folders("profiles"), name)

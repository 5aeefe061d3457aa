# SPDX-License-Identifier: MIT
"""`./doit test:hosts`: build the ISO on other systems, compare it with this machine's, print a table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.errors import UserError, install_signal_handlers, report_errors
from tasks.util.log import logger
from tests.hosts import trial
from tests.hosts.table import VISITORS, table
from tests.support import hosts


def main(words: list[str] | None = None) -> None:
    """Try the systems that the command line names.  Raises `UserError` if one does not give the same ISO."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iso", type=Path, required=True)
    parser.add_argument("--hosts", default="")
    parser.add_argument("--visitors", default="")
    given = parser.parse_args(words)
    names = _chosen("hosts", given.hosts, list(hosts.load()))
    visitors = _chosen("visitors", given.visitors, list(VISITORS))
    if reason := hosts.probe():
        raise UserError(f"other systems cannot be tried here: {reason}")
    if "root" in visitors and os.geteuid() != 0:
        raise UserError("only root can try the root of a container", "--visitors user,namespaces")
    trials = []
    for name in names:
        for visitor in VISITORS:
            if visitor in visitors:
                found = trial.run(name, visitor, given.iso, cache_folder(), CHECKOUT.artifacts / "hosts")
                trials.append(found)
                logger.info(f"{name}, as {visitor}: {_verdict(found)}")
    print(table(trials), end="", flush=True)
    bad = [f"{one.host} as {one.visitor}" for one in trials if not one.is_good]
    if bad:
        raise UserError(f"not as on this machine: {', '.join(bad)}", "artifacts/hosts/logs has all output")


def _verdict(found: trial.Trial) -> str:
    seconds = ", ".join(f"{column} {end.seconds:.0f} s" for column, end in found.ended.items())
    failed = [end.failure for end in found.ended.values() if end.failure]
    outcome = {None: "no ISO", "": "the same ISO"}.get(found.difference, f"another ISO: {found.difference}")
    return "; ".join([seconds, outcome, *failed])


def _chosen(what: str, given: str, known: Sequence[str]) -> list[str]:
    wanted = [word for word in given.split(",") if word]
    for word in wanted:
        if word not in known:
            raise UserError(f"--{what}: there is no {word!r}", f"there are {', '.join(known)}")
    return [name for name in known if name in wanted] if wanted else list(known)


if __name__ == "__main__":
    install_signal_handlers()
    with report_errors():
        main()

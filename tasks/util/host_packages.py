# SPDX-License-Identifier: MIT
"""Install Debian packages on this machine by apt."""

from __future__ import annotations

import os
import shutil

from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.process import run


def install_packages(packages: list[str]) -> None:
    """Install Debian packages by apt.

    Raises `UserError`, which lists all of them, if apt is missing or the user is not root.
    """
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise UserError(
            f"missing, and this machine has no apt: {' '.join(packages)}",
            "install them by the package manager of this machine",
        )
    if os.geteuid() != 0:
        raise UserError(f"missing: {' '.join(packages)}", f"as root: {command}")
    logger.info(f"installing: {' '.join(packages)}")
    log = CHECKOUT.artifacts / "logs" / "setup.log"
    run(["apt-get", "update"], log=log, hint="apt's sources cannot be reached")
    run(["apt-get", "install", "-y", "--no-install-recommends", *packages], log=log)

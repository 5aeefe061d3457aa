"""Set up what a machine lacks to run tcbuild; called by `./doit`, with nothing but python3.

System packages come from the machine's own apt sources, Python packages from
its own pip configuration, into a venv in the cache folder that all checkouts
with the same requirements share.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from tasks.util import host
from tasks.util.checkout import ROOT
from tasks.util.errors import edge, install_signal_handlers
from tasks.util.files import remove_tree, write_atomic
from tasks.util.host_packages import ARTIFACTS, install_packages
from tasks.util.log import logger
from tasks.util.process import clean_env, run

# Each need includes the ones before it.
NEEDS = {
    "python": [],
    "build": ["build"],
    "vm": ["build", "vm"],
    "test": ["build", "vm", "toolchain", "distcc", "icecc", "sccache", "test"],
    "bench": ["build", "vm", "bench"],
}
REQUIREMENTS = ("requirements.txt", "requirements-test.txt")


def missing_packages(need: str) -> list[str]:
    """Return the Debian packages that `need` lacks on this machine, sorted."""
    groups = host.groups()
    tools = {tool: package for group in NEEDS[need] for tool, package in groups[group].items()}
    venv = [] if _has_venv() else ["python3-venv"]
    return sorted({*host.lacking(tools, clean_env()["PATH"]), *venv})


def _has_venv() -> bool:
    return run([sys.executable, "-c", "import ensurepip, venv"], check=False).status == 0


def refresh_apt_lists() -> None:
    """Fetch apt's package lists where there are none, as on a machine just installed."""
    if any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        logger.info("fetching apt's package lists")
        run(["apt-get", "update"], log=ARTIFACTS / "logs" / "setup.log")


def make_venv(cache: Path, requirements: list[str]) -> Path:
    """Return the venv for `requirements`, made at need.

    It is marked ready last, so a cut installation is started anew.
    """
    key = hashlib.sha256(f"{sys.executable} {sys.version}".encode())
    for name in requirements:
        key.update((ROOT / name).read_bytes())
    venv = cache / f"venv-{key.hexdigest()[:16]}"
    if (venv / "ready").is_file() and (venv / "bin" / "doit").exists():
        return venv
    logger.info(f"setting up Python packages: {', '.join(requirements)}")
    remove_tree(venv)
    log = ARTIFACTS / "logs" / "setup.log"
    run([sys.executable, "-m", "venv", venv], log=log)
    # How the machine reaches its package index is its own affair: pass pip's settings on.
    pip_env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    wanted = [word for name in requirements for word in ("-r", ROOT / name)]
    run([venv / "bin/pip", "install", "--no-input", "--quiet", *wanted], env=pip_env, log=log)
    write_atomic(venv / "ready", "")
    return venv


def main(need: str) -> None:
    """Make the machine ready for `need` (a key of `NEEDS`) and remember that it is."""
    from tasks.util.checkout import cache_folder

    lacking = missing_packages(need)
    if lacking:
        install_packages(lacking)
    if need != "python":
        refresh_apt_lists()
    # `test:unit` needs no system packages, but the test requirements: one venv serves all.
    venv = make_venv(cache_folder(), list(REQUIREMENTS))
    ARTIFACTS.mkdir(exist_ok=True)
    link = ARTIFACTS / ".venv"
    if not link.is_symlink() or link.readlink() != venv:
        remove_tree(link)
        link.symlink_to(venv)
    write_atomic(ARTIFACTS / f".setup-{need}", "")


if __name__ == "__main__":
    install_signal_handlers()
    with edge():
        main(sys.argv[1])

# SPDX-License-Identifier: MIT
"""Install what a machine lacks to run tcbuild.  `./doit` calls it; it needs only python3.

System packages come from the apt sources of the machine, Python packages from the index that
its pip is configured for.  Python packages go into a venv in the cache folder, which all checkouts
with the same lock share.  pip installs only files whose sha256 requirements.lock names.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.util import host, python_packages
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.errors import install_signal_handlers, report_errors
from tasks.util.files import atomic_path, remove_tree, write_atomic
from tasks.util.host_packages import CERTIFICATES, install_packages
from tasks.util.log import logger
from tasks.util.process import run, search_path


@dataclass(frozen=True)
class Need:
    """The needs of a command: groups of tools in host.toml, extras of pyproject.toml."""

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


TESTS = ("docs", "sbom", "test")
# The package of Debian and Ubuntu with the rest of the Python that runs this.
VENV_PACKAGE = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
# A command has one or more of these needs; `./doit` chooses them.
NEEDS = {
    "python": Need(),
    "build": Need(("host",)),  # a toolchain `host` installs more (tasks/toolchain/prepare.py)
    "vm": Need(("host", "vm")),
    "bisect": Need(("host", "vm", "git")),
    "sbom": Need(("host",), ("sbom",)),
    "s3": Need((), ("s3",)),
    "import": Need(("host", "import")),
    "unit": Need(("unit",), TESTS),
    "fuzz": Need(("host", "build", "compile"), TESTS),
    "faults": Need(("host", "build", "compile"), TESTS),
    "test": Need(("host", "build", "compile", "vm", "distcc", "icecc", "sccache", "test"), TESTS),
    "bench": Need(("host", "build", "compile", "vm", "bench"), ("bench",)),
}
# Runs pip from its wheel.  Debian's looks for certificates at one place only, where no user can write.
# That of Ubuntu 22.04 needs distutils, most of which is in a package of its own: Python 3.11 has the rest.
PIP_OF_WHEEL = """
import os, sys
wheel, certificates = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, wheel)
try:
    import distutils
    usr = os.path.join(os.path.dirname(wheel), "..", "..")
    distutils.__path__.append(os.path.join(usr, "lib/python%d.%d/distutils" % sys.version_info[:2]))
except ImportError:
    pass
from pip._vendor import certifi
if not os.path.exists(certifi.where()):
    certifi.where = lambda: certificates
from pip._internal.cli.main import main
sys.exit(main())
"""
VENV = CHECKOUT.artifacts / ".venv"
# The program `doit` of the venv: in a checkout the main program of tcbuild, elsewhere that of doit.
DOIT_SCRIPT = """#!{python}
import os, sys
if os.path.exists("tasks/cli/main.py"):
    sys.path.insert(0, os.getcwd())
    from tasks.cli.main import main
else:
    from doit.__main__ import main
sys.exit(main())
"""


def missing_packages(wanted: Collection[str]) -> list[str]:
    """Return the missing packages of the groups `wanted`, sorted.

    Tools of which this distribution has no package are logged: what needs them says so later.
    """
    groups = host.groups()
    tools = {tool: package for group in wanted for tool, package in groups[group].items()}
    without = [tool for tool in host.missing_tools(tools, search_path()) if not host.name_here(tools[tool])]
    if without:
        logger.info(f"this system has no package of {', '.join(without)}")
    venv = [] if _pip() else [VENV_PACKAGE]
    return sorted({*host.missing_packages(tools, search_path()), *venv})


def _pip() -> list[str]:
    """Return the start of the command by which pip installs into the venv {venv}; [] if there is none.

    Debian divides Python: a package of its own has the pip that venv copies into a venv.  Without it, the
    machine's pip serves, or the wheel of pip that a user without root got from there.
    """
    if _runs("import ensurepip, venv"):
        return ["{venv}/bin/pip"]
    if not _runs("import venv"):
        return []
    if _runs("import pip; assert int(pip.__version__.split('.')[0]) >= 23"):  # it has the option --python
        return [sys.executable, "-m", "pip", "--python", "{venv}/bin/python3"]
    added = host.added_folder()
    wheels = sorted((added / "usr/share/python-wheels").glob("pip-*.whl"))
    return (
        ["{venv}/bin/python3", "-c", PIP_OF_WHEEL, f"{wheels[-1]}", f"{added / CERTIFICATES}"]
        if wheels
        else []
    )


def _runs(code: str) -> bool:
    return run([sys.executable, "-c", code], check=False).status == 0


def make_venv(cache: Path, extras: Collection[str]) -> Path:
    """Return a venv with the packages for building and for `extras`: an existing one, or a new one.

    Its name is venv-KEY+EXTRA+EXTRA; KEY is a digest of the Python, the lock and DOIT_SCRIPT.  The
    file `ready` is written last, so an interrupted installation is started again.  A ready venv is
    never changed.
    """
    key, names = _key(), sorted(extras)
    found = _ready_venv(cache, key, extras)
    if found and not _is_moved(found):  # so that a read-only cache folder is enough
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".venv.lock"):
        if found := _ready_venv(cache, key, extras):  # another setup made it meanwhile, or it was moved
            if _is_moved(found):
                _correct_scripts(found)
            return found
        venv = cache / "+".join([f"venv-{key}", *names])
        logger.info(f"setting up Python packages for {', '.join(['building', *names])}")
        remove_tree(venv)
        log = CHECKOUT.artifacts / "logs" / "setup.log"
        pip = [word.format(venv=venv) for word in _pip()]
        with_pip = pip == [f"{venv}/bin/pip"]
        run([_python(), "-m", "venv", *([] if with_pip else ["--without-pip"]), venv], log=log)
        _install(pip, venv, python_packages.pins(CHECKOUT.root, names), log)
        (venv / "bin/doit").write_text(DOIT_SCRIPT.format(python=venv / "bin/python3"))
        write_atomic(venv / "ready", "")
        return venv


def _ready_venv(cache: Path, key: str, extras: Collection[str]) -> Path | None:
    """Return the ready venv that has `extras` and the fewest others, None if there is none."""
    ready = [path.parent for path in cache.glob(f"venv-{key}*/ready")]
    found = [venv for venv in ready if (venv / "bin/doit").exists()]
    enough = [venv for venv in found if extras_in(venv).issuperset(extras)]
    return min(enough, key=lambda venv: (len(extras_in(venv)), venv.name), default=None)


def _made_in(venv: Path) -> Path:
    """Return the folder in which a venv was made, as the first line of its program `doit` names it."""
    first, _, _ = (venv / "bin/doit").read_text().partition("\n")
    return Path(first.removeprefix("#!")).parent.parent


def _is_moved(venv: Path) -> bool:
    made_in = _made_in(venv)
    return not made_in.is_dir() or not made_in.samefile(venv)


def _correct_scripts(venv: Path) -> None:
    """Make the programs of a venv whose folder was moved start its Python again."""
    old, new = (f"#!{folder}/".encode() for folder in (_made_in(venv), venv))
    scripts = [path for path in (venv / "bin").iterdir() if path.is_file() and not path.is_symlink()]
    for script in sorted(scripts, key=lambda path: path.name == "doit"):  # last: it says that all are done
        content = script.read_bytes()
        if content.startswith(old):
            with atomic_path(script) as partial:
                partial.write_bytes(new + content.removeprefix(old))
                partial.chmod(0o755)


def _python() -> Path:
    """Return the program of this Python, not a link as python3: an upgrade of the system changes the link."""
    return Path(sys.executable).resolve()


def _key() -> str:
    digest = hashlib.sha256(
        f"{_python()} {sys.version} {python_packages.requirements(CHECKOUT.root)}".encode()
    )
    digest.update((CHECKOUT.root / python_packages.LOCK).read_bytes() + DOIT_SCRIPT.encode())
    return digest.hexdigest()[:16]


def extras_in(venv: Path) -> set[str]:
    """Return the extras of a venv, by its name; it need not exist any more."""
    return set(venv.name.split("+")[1:]) if venv.name.startswith("venv-") else set()


def _install(pip: Sequence[str], venv: Path, pins: Sequence[python_packages.Pin], log: Path) -> None:
    wanted = venv / "requirements.txt"
    wanted.write_text("".join(pin.text for pin in pins), encoding="utf-8")
    # The settings of pip say how to reach the package index, so pip gets them.  SOURCE_DATE_EPOCH has
    # compiled Python stand on the content of files, not on their times (py_compile), as images of
    # containers need it: their layers round times.
    passed = ("PIP_", "SOURCE_DATE_EPOCH")
    pip_env = {name: value for name, value in os.environ.items() if name.startswith(passed)}
    # Only wheels: a build from source would fetch files without a known hash.
    checked = ["--require-hashes", "--only-binary", ":all:", "-r", str(wanted)]
    hint = f"the package index cannot be reached, or lacks a file that {python_packages.LOCK} names"
    run([*pip, "install", "--no-input", "--quiet", *checked], env=pip_env, log=log, hint=hint)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    # The kernel releases the lock when this process ends (flock(2)).
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another setup")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def link_venv(cache: Path, extras: Collection[str]) -> None:
    """Link artifacts/.venv to a venv with `extras` and with all extras that it had before.

    So it only gains packages, and two commands with different needs do not replace it in turn.
    If it does not exist, the stamps of earlier setups are removed.
    """
    CHECKOUT.artifacts.mkdir(exist_ok=True)
    with _locked(CHECKOUT.artifacts / ".setup.lock"):
        before = VENV.readlink() if VENV.is_symlink() else Path()
        kept = extras_in(before) & python_packages.requirements(CHECKOUT.root).keys()
        venv = make_venv(cache, kept.union(extras))
        if venv == before:
            return
        if before == Path() or not extras_in(venv).issuperset(extras_in(before)):
            for stamp in CHECKOUT.artifacts.glob(".setup-*"):
                stamp.unlink()
        # Replaced atomically, because another command may start at the same time.
        link = CHECKOUT.artifacts / ".venv.new"
        remove_tree(link)
        link.symlink_to(venv)
        if not VENV.is_symlink():
            remove_tree(VENV)
        os.replace(link, VENV)


def main(needs: Sequence[str]) -> None:
    """Install what `needs` (keys of `NEEDS`) require, and write a stamp for each."""
    groups = {group for need in needs for group in NEEDS[need].groups}
    lacking = missing_packages(groups)
    if lacking:
        install_packages(lacking)
        if left := missing_packages(groups):
            # A program that needs one says so; another one may do, or it is not needed today.
            logger.info(f"still not there, though installed: what is needed of {', '.join(left)}")
    link_venv(cache_folder(), {extra for need in needs for extra in NEEDS[need].extras})
    for need in needs:
        write_atomic(CHECKOUT.artifacts / f".setup-{need}", "")


if __name__ == "__main__":
    install_signal_handlers()
    with report_errors():
        main(sys.argv[1:])

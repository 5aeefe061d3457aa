# SPDX-License-Identifier: MIT
"""Python packages made on the spot, and checkouts that are locked to them: setups without an index."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tasks.bootstrap import NEEDS
from tasks.util.files import sha256_file
from tests.support.built import copy_checkout

# Building needs `doit`, which stands for all of it; an extra needs one package with a dependency.
PYPROJECT = """[project.optional-dependencies]
build = ["doit"]
sbom = ["parts"]
s3 = ["bucket"]
bench = []
docs = []
test = ["prover"]
"""
GROUPS = sorted({group for need in NEEDS.values() for group in need.groups})
SCRIPT = "import sys\n\ndef main():\n    print('doit', *sys.argv[1:])\n"


def make_wheel(folder: Path, name: str, needs: str = "", version: str = "1") -> Path:
    """Write the wheel of a package with one module and, if it is doit, a program (PEP 427)."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}.py": SCRIPT,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    if name == "doit":
        files[f"{info}/entry_points.txt"] = "[console_scripts]\ndoit = doit:main\n"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(zipfile.ZipInfo(inside), text)  # without the time: the same bytes each time
    return path


def entry(wheel: Path, needed_by: str = "tcbuild (pyproject.toml)") -> str:
    """Return the lines of requirements.lock for a wheel."""
    name, version, *_ = wheel.name.split("-")
    return f"{name}=={version} \\\n    --hash=sha256:{sha256_file(wheel)}\n    # via {needed_by}\n"


def make_checkout(folder: Path) -> Path:
    """Copy this checkout; let it need nothing but a few tiny packages, whose wheels lie in its wheels/."""
    copy_checkout(folder)
    wheels = folder / "wheels"
    wheels.mkdir()
    lock = [entry(make_wheel(wheels, name)) for name in ("doit", "bucket", "prover")]
    lock.append(entry(make_wheel(wheels, "parts", needs="licences")))
    lock.append(entry(make_wheel(wheels, "licences"), needed_by="parts"))
    (folder / "requirements.lock").write_text("".join(lock))
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "tasks/cli/main.py").write_text("from doit import main\n")  # ours needs the real doit
    (folder / "tasks/util/host.toml").write_text("".join(f"[{group}]\n" for group in GROUPS))
    return folder

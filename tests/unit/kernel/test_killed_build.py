# SPDX-License-Identifier: MIT
"""A killed make: what it wrote last is made again, what it wrote before is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.kernel import killed_build
from tasks.util.checkout import CHECKOUT

MAKEFILE = """
all: early.o late.o
%.o: %.c
\tcp $< $@
late.o: late.c
\thead -c 3 $< > $@; touch half; while [ -e hang ]; do sleep 0.05; done; cp $< $@
"""


def names(build: Path) -> set[str]:
    return {path.name for path in build.iterdir()}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for name in ("early.c", "late.c", "Makefile"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 900,) * 2)
    (tmp_path / "early.c").write_text("early")
    (tmp_path / "late.c").write_text("late, whole")
    for name in ("early.c", "late.c"):
        os.utime(tmp_path / name, (time.time() - 900,) * 2)
    return tmp_path


def killed(build: Path) -> None:
    """Run make under `mark_running`, and kill all of it in the middle of late.o."""
    (build / "hang").touch()
    code = (
        "import subprocess, sys; from pathlib import Path; from tasks.kernel import killed_build\n"
        "with killed_build.mark_running(Path(sys.argv[1])):\n"
        "    subprocess.run(['make', '-s', '-C', sys.argv[1]], check=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(build)],
        cwd=CHECKOUT.root,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not (build / "half").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (build / "hang").unlink()


def test_a_half_written_object_is_not_taken(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["make", "-s", "-C", build, "early.o"], check=True)
    os.utime(build / "early.o", (time.time() - 300,) * 2)
    killed(build)
    assert (build / "late.o").read_text() == "lat"
    subprocess.run(["make", "-s", "-C", build], check=True)
    assert (build / "late.o").read_text() == "lat", "make alone takes it for whole"
    with killed_build.mark_running(build):
        assert (build / "early.o").exists(), "what was written long before is kept"
        subprocess.run(["make", "-s", "-C", build], check=True)
    assert (build / "late.o").read_text() == "late, whole"
    assert "was killed" in capsys.readouterr().out
    assert killed_build.MARK not in names(build)


def test_a_build_that_failed_by_itself_keeps_all(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), killed_build.mark_running(build):
        (build / "new.o").touch()
        raise ValueError
    with killed_build.mark_running(build):
        pass
    assert "new.o" in names(build)
    assert capsys.readouterr().out == ""


def test_configuration_and_links_stay(build: Path) -> None:
    (build / ".config").touch()
    (build / ".tcbuild.json").touch()
    (build / "include").mkdir()
    (build / "include" / ".config").touch()
    (build / "source").symlink_to("Makefile")
    assert killed_build.remove_last_written(build) == 1
    assert names(build) == {
        *("Makefile", "early.c", "late.c", ".config", ".tcbuild.json", "include", "source")
    }
    assert not list((build / "include").iterdir())

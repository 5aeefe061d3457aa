# SPDX-License-Identifier: MIT
"""What `./doit` installs of Python: by hash, only what a command needs, and once."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.built import Outcome, copy_checkout, doit, outcome
from tests.support.wheels import entry, make_checkout, make_wheel


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkout")


def environment(checkout: Path, cache: Path) -> dict[str, str]:
    """Return an environment whose pip has the wheels of the checkout and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "TCBUILD_"))}
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout / "wheels")}
    return kept | index | {"TCBUILD_CACHE": str(cache)}


def run(checkout: Path, cache: Path, *words: str) -> Outcome:
    return doit(checkout, *words, env=environment(checkout, cache))


def packages(checkout: Path) -> set[str]:
    """Return the names of the packages in the venv of a checkout, without those a venv begins with."""
    found = (checkout / "artifacts/.venv/lib").glob("python*/site-packages/*.dist-info")
    return {path.name.partition("-")[0] for path in found} - {"pip", "setuptools"}


def test_each_command_installs_what_it_needs_and_the_venv_only_grows(checkout: Path, cache: Path) -> None:
    done = run(checkout, cache, "list")
    assert done.output == "setting up Python packages for building\ndoit list\n"
    assert packages(checkout) == {"doit"}

    done = run(checkout, cache, "iso", "sbom")
    assert done.output == "setting up Python packages for building, sbom\ndoit iso sbom\n"
    assert packages(checkout) == {"doit", "parts", "licences"}

    for words in (["list"], ["iso"], ["sbom"], ["qemu"]):
        assert run(checkout, cache, *words).output == f"doit {' '.join(words)}\n"
    assert packages(checkout) == {"doit", "parts", "licences"}

    run(checkout, cache, "iso", "cache=s3://bucket/x")
    assert packages(checkout) == {"doit", "parts", "licences", "bucket"}
    run(checkout, cache, "test:unit")
    assert packages(checkout) == {"doit", "parts", "licences", "bucket", "prover"}


def test_compiled_python_stands_on_the_content_of_files_where_that_is_asked_for(
    checkout: Path, cache: Path
) -> None:
    """A layer of a container image rounds the times of files."""
    done = doit(checkout, "list", env={**environment(checkout, cache), "SOURCE_DATE_EPOCH": "1"})
    assert done.status == 0, done.output
    (compiled,) = (checkout / "artifacts/.venv/lib").glob("python*/site-packages/__pycache__/doit.*.pyc")
    # PEP 552: bit 0 says that the source's hash follows.
    assert compiled.read_bytes()[4] & 1


def test_setup_writes_nothing_to_stdout(checkout: Path, cache: Path) -> None:
    """A program or a shell may read what the command prints: `source <(./doit completion bash)`."""
    done = subprocess.run(
        ["./doit", "completion", "bash"],
        cwd=checkout,
        env=environment(checkout, cache),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "doit completion bash\n"), done.stderr
    assert done.stderr == "setting up Python packages for building\n"


def test_a_venv_that_has_more_serves_who_needs_less(checkout: Path, cache: Path, tmp_path: Path) -> None:
    run(checkout, cache, "sbom")
    other = make_checkout(tmp_path / "other")
    # Also where the cache is not ours to write to: then the lock cannot be taken.
    (cache / ".venv.lock").unlink()
    (cache / ".venv.lock").mkdir()
    assert run(other, cache, "list").output == "doit list\n"
    assert packages(other) == {"doit", "parts", "licences"}


def test_without_its_link_a_checkout_asks_again(checkout: Path, cache: Path) -> None:
    run(checkout, cache, "list")
    run(checkout, cache, "sbom")
    (checkout / "artifacts/.venv").unlink()
    run(checkout, cache, "list")
    assert packages(checkout) == {"doit"}
    run(checkout, cache, "sbom")
    assert packages(checkout) == {"doit", "parts", "licences"}


def test_a_moved_venv_is_mended_without_its_packages_being_fetched_again(
    checkout: Path, tmp_path: Path
) -> None:
    run(checkout, checkout / "cache", "list")
    moved = checkout.rename(tmp_path / "moved")
    env = environment(moved, moved / "cache") | {"PIP_FIND_LINKS": "/nowhere"}
    for _ in range(2):
        assert doit(moved, "list", env=env).output == "doit list\n"
    assert (moved / "artifacts/.venv").resolve().is_relative_to(moved)
    named = [script for script in (moved / "cache").glob("venv-*/bin/pip*") if not script.is_symlink()]
    assert named
    assert all(script.read_text().startswith(f"#!{moved}/cache/") for script in named)


def test_a_lock_that_changed_keeps_what_was_asked_for(checkout: Path, cache: Path) -> None:
    run(checkout, cache, "sbom")
    lock = checkout / "requirements.lock"
    wheels = checkout / "wheels"
    before, after = entry(wheels / "doit-1-py3-none-any.whl"), entry(make_wheel(wheels, "doit", version="2"))
    lock.write_text(lock.read_text().replace(before, after))
    done = run(checkout, cache, "list")
    assert done.output == "setting up Python packages for building, sbom\ndoit list\n"
    assert packages(checkout) == {"doit", "parts", "licences"}


@pytest.mark.parametrize("spoilt", ["doit", "licences"])
def test_a_package_that_is_not_what_the_lock_says_is_refused(
    checkout: Path, cache: Path, spoilt: str
) -> None:
    wheel = checkout / "wheels" / f"{spoilt}-1-py3-none-any.whl"
    good = wheel.read_bytes()
    make_wheel(checkout / "wheels", spoilt, needs="bucket")
    assert wheel.read_bytes() != good
    done = run(checkout, cache, "sbom")
    assert done.status == 1
    assert "Traceback" not in done.output
    assert "doit sbom" not in done.output
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.output
    assert (
        "hint: the package index cannot be reached, or lacks a file that requirements.lock names"
        in done.output
    )
    assert not list(cache.glob("venv-*/ready"))
    assert not (checkout / "artifacts/.venv").exists()

    wheel.write_bytes(good)  # what the cut installation left is started anew
    assert run(checkout, cache, "sbom").output.endswith("doit sbom\n")
    assert packages(checkout) == {"doit", "parts", "licences"}


def test_what_the_lock_does_not_have_is_not_installed(checkout: Path, cache: Path) -> None:
    """A dependency that is there, but not in the lock, has no hash."""
    lock = checkout / "requirements.lock"
    lock.write_text("".join(part for part in lock.read_text().partition("licences==")[0]))
    done = run(checkout, cache, "sbom")
    assert done.status == 1
    assert "all requirements must have their versions pinned" in done.output
    assert not list(cache.glob("venv-*/ready"))


def test_commands_at_the_same_time_do_not_disturb_each_other(
    checkout: Path, cache: Path, tmp_path: Path
) -> None:
    other = make_checkout(tmp_path / "other")
    started = [
        subprocess.Popen(
            ["./doit", *words],
            cwd=folder,
            env=environment(folder, cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, *words in ((checkout, "list"), (checkout, "sbom"), (other, "list"), (other, "bench"))
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0], said
    assert all("doit " in text.splitlines()[-1] for text in said), said
    assert packages(checkout) == {"doit", "parts", "licences"}
    for words in (["list"], ["sbom"]):
        assert run(checkout, cache, *words).output == f"doit {' '.join(words)}\n"


STAGES = """
import importlib
from tasks.report import docs

for task in docs.declared():
    for action in task.actions:
        try:
            importlib.import_module(f"tasks.{action.py_callable.__name__.rpartition('.')[0]}")
        except ModuleNotFoundError as error:
            print("lacking:", task.name, error.name)
"""


def test_a_fresh_machine_installs_for_building_only_what_building_needs(tmp_path: Path, cache: Path) -> None:
    """The real packages, from the machine's own index."""
    folder = copy_checkout(tmp_path / "copy")
    env = {**os.environ, "TCBUILD_CACHE": str(cache)}
    done = doit(folder, "list", "profile=apt", env=env)
    assert done.status == 0, done.output
    assert {"doit", "requests", "zstandard"} <= packages(folder)
    unwanted = {"mypy", "pytest", "hypothesis", "spdx_tools", "selenium", "tuxmake", "s3fs", "properdocs"}
    assert not packages(folder) & unwanted
    size = sum(path.stat().st_size for path in cache.glob("venv-*/**/*") if path.is_file())
    assert size < 100 << 20

    # Every task but the list of parts has all its packages; that one says what it lacks.
    python = folder / "artifacts/.venv/bin/python"
    lacking = subprocess.run([python, "-c", STAGES], cwd=folder, capture_output=True, text=True, check=True)
    assert set(re.findall("lacking: (.*)", lacking.stdout)) == {"sbom cyclonedx"}
    (folder / "artifacts/quick").mkdir()
    for name in ("tcbuild-quick.iso", "tcbuild-quick.iso.manifest.json"):  # which it would read
        (folder / "artifacts/quick" / name).write_text("{}")
    (folder / "artifacts/quick/lock.toml").write_text("")  # nothing to fetch, and no kernel tree
    for task, package in (("sbom", "cyclonedx"), ("test:unit", "pytest")):
        command = [str(folder / "artifacts/.venv/bin/doit"), "--single", task, "profile=quick"]
        plain = outcome(command, folder, env)
        assert plain.status != 0
        assert f"the Python package {package} is not installed" in plain.output
        assert "by ./doit, which installs" in plain.output
        assert "Traceback" not in plain.output

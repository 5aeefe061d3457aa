# SPDX-License-Identifier: MIT
"""`./doit` asks tasks/bootstrap.py for what the words of a command need, and only when it must."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import bootstrap
from tasks.report import docs
from tasks.util.checkout import CHECKOUT

# Stands where tasks/bootstrap.py does: it tells what it was asked for, and remembers it as that one does.
SETUP = """
import sys
from pathlib import Path
print("setup", *sys.argv[1:])
program = Path("artifacts/.venv/bin/doit")
program.parent.mkdir(parents=True, exist_ok=True)
program.write_text("#!/bin/sh\\necho doit $*\\n")
program.chmod(0o755)
python = program.with_name("python3")
python.unlink(missing_ok=True)
python.symlink_to(sys.executable)
for need in sys.argv[1:]:
    Path(f"artifacts/.setup-{need}").touch()
"""
PATH = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
INPUTS = ("tasks/util/host.toml", "pyproject.toml", "requirements.lock", "tasks/bootstrap.py")


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """A checkout with nothing in it but the wrapper and what it looks at, all from an hour ago."""
    shutil.copy(CHECKOUT.root / "doit", tmp_path / "doit")
    (tmp_path / "tasks/util").mkdir(parents=True)
    (tmp_path / "tasks/bootstrap.py").write_text(SETUP)
    for name in INPUTS[:-1]:
        (tmp_path / name).write_text("")
    age(tmp_path)
    return tmp_path


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        then = path.stat().st_mtime - 3600
        os.utime(path, (then, then))


def lines(folder: Path, *words: str, **env: str) -> list[str]:
    """Return what `./doit WORDS` says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TCBUILD_")}
    done = subprocess.run(
        [folder / "doit", *words], env=clean | PATH | env, capture_output=True, text=True, check=True, cwd="/"
    )
    setup = done.stderr.splitlines()  # stdout may be read by a program
    assert all(line.startswith("setup ") for line in setup)
    return [*setup, *done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        ([], "python"),
        (["list", "profile=apt"], "python"),
        (["init", "../product", "--name", "product", "--ci", "github"], "python"),
        (["tree=product", "explain", "tcz:product", "cache=s3://bucket/x"], "python s3"),
        (["graph", "iso", "qemu:test"], "python"),
        (["releases", "11.x"], "python"),
        (["verify", "image.iso"], "python build"),
        (["iso", "offline=1"], "build"),
        (["profile=apt"], "build"),
        (["-n", "1"], "build"),
        (["qemu:test"], "vm"),
        (["iso", "qemu"], "build vm"),
        (["sbom"], "sbom"),
        (["sbom", "iso", "disk"], "sbom build build"),
        (["test:unit"], "unit"),
        (["test"], "test"),
        (["test:affected", "--since=v1"], "test"),
        (["test:vm", "sbom"], "test sbom"),
        (["fuzz", "--inputs=5"], "fuzz"),
        (["faults"], "faults"),
        (["bench", "boot"], "bench build"),
        (["bisect", "--good=v1", "--bad=v2", "--", "iso"], "bisect"),
        (["iso", "cache=s3://bucket/x"], "build s3"),
        (["cache=s3a://bucket/x"], "build s3"),
        (["cache:list", "cache=s3://bucket/x"], "python s3"),
        (["iso", "cache=/mnt/cache"], "build"),
        (["toolchain"], "build"),
        (["toolchain:prune"], "python"),
    ],
)
def test_words_tell_what_is_needed(wrapper: Path, words: list[str], needs: str) -> None:
    said = lines(wrapper, *words)
    assert said == [f"setup {needs}", f"doit {' '.join(words or ['list'])}"]
    assert set(needs.split()) <= bootstrap.NEEDS.keys()


def test_an_address_in_the_environment_counts_too(wrapper: Path) -> None:
    assert lines(wrapper, "iso", TCBUILD_SHARED_CACHE="s3://bucket/x")[0] == "setup build s3"


def test_what_was_set_up_is_not_set_up_again(wrapper: Path) -> None:
    assert lines(wrapper, "test", "sbom") == ["setup test sbom", "doit test sbom"]
    for words in (["test"], ["sbom"], ["test", "sbom"], ["sbom", "test"]):
        assert lines(wrapper, *words) == [f"doit {' '.join(words)}"]
    assert lines(wrapper, "iso", "sbom") == ["setup build sbom", "doit iso sbom"]


@pytest.mark.parametrize("name", INPUTS)
def test_a_change_sets_up_again(wrapper: Path, name: str) -> None:
    lines(wrapper, "iso")
    age(wrapper)
    assert lines(wrapper, "iso") == ["doit iso"]
    (wrapper / name).touch()
    assert lines(wrapper, "iso") == ["setup build", "doit iso"]


def test_a_venv_that_is_gone_is_set_up_again(wrapper: Path) -> None:
    lines(wrapper, "iso")
    shutil.rmtree(wrapper / "artifacts/.venv")
    assert lines(wrapper, "iso") == ["setup build", "doit iso"]


def test_a_venv_whose_python_was_removed_is_set_up_again(wrapper: Path) -> None:
    lines(wrapper, "iso")
    python = wrapper / "artifacts/.venv/bin/python3"
    python.unlink()
    python.symlink_to("/usr/bin/python3.5")
    assert lines(wrapper, "iso") == ["setup build", "doit iso"]
    assert lines(wrapper, "iso") == ["doit iso"]


def stand_in(folder: Path, name: str, version: str) -> Path:
    """Make a program that says that it is Python `version`, and runs this one."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    said = f"import sys; sys.version_info = tuple(map(int, '{version}'.split('.')))"
    program.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && echo Python {version} && exit
[ "$1" = -c ] && exec {sys.executable} -c "{said}; $2"
echo using {name} >&2
exec {sys.executable} "$@"
"""
    )
    program.chmod(0o755)
    return folder


def with_pythons(wrapper: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [wrapper / "doit", "list"],
        env={"PATH": f"{folder}:{wrapper / 'tools'}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def no_python(wrapper: Path) -> Path:
    """A wrapper on a machine whose PATH has what it needs, but no Python."""
    (wrapper / "tools").mkdir()
    for tool in ("dirname", "sh"):
        (wrapper / "tools" / tool).symlink_to(f"/bin/{tool}")
    return wrapper


@pytest.mark.parametrize(
    ("there", "used"),
    [
        ({"python3": "3.11.2", "python3.14": "3.14.0"}, "python3"),
        ({"python3": "3.14.7"}, "python3"),
        ({"python3": "3.9.2", "python3.12": "3.12.3"}, "python3.12"),
        ({"python3": "3.15.0", "python3.13": "3.13.5", "python3.11": "3.11.2"}, "python3.13"),
        ({"python3.11": "3.11.2"}, "python3.11"),
    ],
)
def test_a_fitting_python_is_taken_wherever_it_is(no_python: Path, there: dict[str, str], used: str) -> None:
    for name, version in there.items():
        stand_in(no_python / "pythons", name, version)
    done = with_pythons(no_python, no_python / "pythons")
    assert done.stderr.splitlines() == [f"using {used}", "setup python"]
    assert done.stdout == "doit list\n"


@pytest.mark.parametrize(
    ("there", "has"),
    [
        ({}, "no python3"),
        ({"python3": "3.10.12"}, "Python 3.10.12"),
        ({"python3": "3.15.1", "python3.9": "3.9.2"}, "Python 3.15.1"),
    ],
)
def test_a_machine_without_a_fitting_python_is_told_so_in_one_line(
    no_python: Path, there: dict[str, str], has: str
) -> None:
    for name, version in there.items():
        stand_in(no_python / "pythons", name, version)
    done = with_pythons(no_python, no_python / "pythons")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: Python 3.11 to 3.14 is needed; PATH has {has}\n"


def test_every_task_that_needs_more_than_building_is_known_by_name(wrapper: Path) -> None:
    """The wrapper knows no tasks: a new one of these stages must be named in it."""
    more = {
        "cli.testing": {"unit", "test", "fuzz", "faults"},
        "provenance.sbom.cyclonedx": {"sbom"},
        "vm.qemu": {"vm"},
        "vm.boots": {"vm"},
        "vm.kselftest": {"vm"},
        "vm.kunit": {"vm"},
    }
    asked = []
    for task in docs.declared():
        stages = {action.py_callable.__name__.rpartition(".")[0] for action in task.actions}
        for stage in stages & more.keys():
            shutil.rmtree(wrapper / "artifacts", ignore_errors=True)
            _, need = lines(wrapper, task.name)[0].split()
            assert need in more[stage], task.name
            asked.append(task.name)
    # `bench` is a command, and no task: its need is asked for above.
    assert {"test", "test:unit", "faults", "sbom", "qemu", "qemu:test", "kselftest", "kunit"} <= set(asked)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python has no distutils")
def test_pip_of_a_wheel_finds_the_distutils_that_were_unpacked_beside_it(tmp_path: Path) -> None:
    """As on Ubuntu 22.04, whose Python 3.11 has next to nothing of it."""
    wheel = tmp_path / "usr/share/python-wheels/pip.whl"
    files = {
        wheel / "pip/_vendor/certifi.py": "def where(): return '/'\n",
        wheel / "pip/_internal/cli/main.py": "import distutils.made_up\ndef main(): return 7\n",
        tmp_path / f"usr/lib/python3.{sys.version_info.minor}/distutils/made_up.py": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    # -S: setuptools of this venv would put a distutils of its own in the place of Python's.
    words = [sys.executable, "-S", "-c", bootstrap.PIP_OF_WHEEL, str(wheel), "certificates"]
    done = subprocess.run(words, check=False)
    assert done.returncode == 7


def test_doit_is_told_the_folder_of_this_caller_and_not_of_one_further_out(wrapper: Path) -> None:
    """A `./doit` may run another one: a build of the same image elsewhere, a test, a check."""
    lines(wrapper, "list")
    (wrapper / "artifacts/.venv/bin/doit").write_text("#!/bin/sh\necho $TCBUILD_CWD\n")
    assert lines(wrapper, "list", TCBUILD_CWD="/outer") == ["/"]

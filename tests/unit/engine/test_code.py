# SPDX-License-Identifier: MIT
"""The code that a task stands on: found from imports, and the same for another comment."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from importlib.util import cache_from_source
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.engine import code, task
from tasks.engine.code import Code, UnchangedCode
from tasks.util import files
from tasks.util.checkout import CHECKOUT

FILES = {
    "tasks/__init__.py": "",
    "tasks/build/__init__.py": "",
    "tasks/build/core.py": """
from __future__ import annotations
from pathlib import Path
from typing import TYPE_CHECKING
from tasks.util import files
if TYPE_CHECKING:
    from tasks.util.typed import Typed
TABLE = Path(__file__).with_name("table.toml")
FOLDER = Path(__file__).with_name("boot")
def build():
    from tasks.util.late import late
    return 0o644
""",
    "tasks/build/table.toml": "a = 1\n",
    "tasks/build/boot/menu.cfg": "menu\n",
    "tasks/build/other.py": "from tasks.build import core\n",
    "tasks/fetch/__init__.py": "",
    "tasks/fetch/all.py": "from tasks.origins import http\n",
    "tasks/origins/__init__.py": "",
    "tasks/origins/http.py": "TIMEOUT = 3\n",
    "tasks/util/__init__.py": "",
    "tasks/util/files.py": "from tasks.origins.http import TIMEOUT\n",
    "tasks/util/late.py": "import elftools.elf\n",
    "tasks/util/typed.py": "class Typed:\n    def go(self):\n        return 1\n",
    "pyproject.toml": '[project.optional-dependencies]\nbuild = ["pyelftools", "requests"]\n',
    "requirements.lock": "".join(
        f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n    # via tcbuild\n"
        for name in ("pyelftools", "requests")
    ),
}
CORE = {
    *("tasks/__init__.py", "tasks/build/__init__.py", "tasks/build/core.py"),
    *("tasks/build/table.toml", "tasks/build/boot/menu.cfg"),
    *("tasks/util/__init__.py", "tasks/util/files.py", "tasks/util/late.py", "tasks/util/typed.py"),
    "requirements.lock (pyelftools)",
}


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout; files that this process edits count as edited before it."""
    monkeypatch.setattr(code, "STARTED", sys.maxsize)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digests(top: Path, *modules: str) -> dict[str, str]:
    known = Code(top, top / "artifacts" / code.RECORD)
    found = known.digests(modules or ["tasks.build.core"])
    known.keep()
    return found


def test_a_task_stands_on_what_its_modules_import_and_read(top: Path) -> None:
    assert set(digests(top)) == CORE
    assert set(digests(top, "tasks.build.other")) == {*CORE, "tasks/build/other.py"}


def test_code_that_fetches_counts_only_for_a_task_that_fetches(top: Path) -> None:
    assert "tasks/origins/http.py" in digests(top, "tasks.fetch.all")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/build/core.py", "0o644", "0o600"),
        ("tasks/util/typed.py", "return 1", "return 2"),
        ("tasks/util/late.py", "import elftools.elf", "LATE = 1\nimport elftools.elf"),
        ("tasks/build/table.toml", "1", "2"),
        ("tasks/build/boot/menu.cfg", "menu", "MENU"),
        ("requirements.lock", "pyelftools==1.0", "pyelftools==1.1"),
    ],
)
def test_an_edit_changes_the_digest_of_its_file_alone(top: Path, file: str, old: str, new: str) -> None:
    before = digests(top)
    (top / file).write_text(FILES[file].replace(old, new))
    after = digests(top)
    changed = [path for path in after if after[path] != before[path]]
    assert changed == ["requirements.lock (pyelftools)" if file == "requirements.lock" else file]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tasks/build/core.py", "# a comment\n" + FILES["tasks/build/core.py"]),
        (
            "tasks/util/typed.py",
            'class Typed:\n    """A text."""\n\n    def go(self):\n\n        return 1  # one\n',
        ),
        ("tasks/build/other.py", "OTHER = 1\n"),
        ("tasks/origins/http.py", "TIMEOUT = 4\n"),
        ("requirements.lock", FILES["requirements.lock"].replace("requests==1.0", "requests==1.1")),
    ],
    ids=["comment", "docstring-and-layout", "code-of-other-tasks", "code-that-fetches", "other-package"],
)
def test_what_cannot_change_a_result_changes_no_digest(top: Path, file: str, text: str) -> None:
    before = digests(top)
    (top / file).write_text(text)
    assert digests(top) == before


def test_every_python_gives_the_same_digests() -> None:
    """As with 3.11, where a function has no type_params, and 3.12, which ends some f-strings with ''."""
    text = "def one(a, b=None) -> None:\n    return f'{a:<{b}}', [], {}, ..., None\n"
    plain, newer = ast.parse(text), ast.parse(text)
    for node in ast.walk(newer):
        if isinstance(node, ast.FunctionDef):
            node.type_params = []  # type: ignore[attr-defined]
            node._fields = (*dict.fromkeys((*node._fields, "type_params")),)  # type: ignore[misc]
        elif isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))
    assert code.dumped(newer) == code.dumped(plain)
    for old, new in (("=None", "=0"), ("[], {}", "{}, []"), ("<{b}", ">{b}"), ("..., None", "None, ...")):
        assert code.dumped(ast.parse(text.replace(old, new))) != code.dumped(plain)


def test_a_new_executable_bit_of_data_counts(top: Path) -> None:
    before = digests(top)
    (top / "tasks/build/table.toml").chmod(0o755)
    assert digests(top) != before


def test_facts_are_kept_by_size_times_and_inode(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "artifacts").mkdir()
    monkeypatch.setattr(code, "is_settled", lambda _: True)
    before = digests(top)
    assert (top / "artifacts" / code.RECORD).is_file()

    read: list[Path] = []
    real = code.read

    def seen(path: Path) -> code.Facts:
        read.append(path)
        return real(path)

    monkeypatch.setattr(code, "read", seen)
    assert digests(top) == before
    assert read == []
    core = top / "tasks/build/core.py"
    status = core.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    core.write_text(FILES["tasks/build/core.py"].replace("0o644", "0o600"))
    os.utime(core, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(top) != before, "the same size and mtime do not hide an edit"
    assert read == [core]


def test_a_file_that_changed_just_now_is_read_again(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FINE_STEP", 60 * files.SECOND)  # so that the test may be slow
    (top / "artifacts").mkdir()
    digests(top)
    assert not (top / "artifacts" / code.RECORD).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 0}', '{"version": %s, "files": 1}'])
def test_a_damaged_record_counts_as_none(top: Path, text: str) -> None:
    before = digests(top)
    (top / "artifacts").mkdir()
    (top / "artifacts" / code.RECORD).write_text(text)
    assert digests(top) == before


def test_a_module_edited_while_this_process_runs_is_not_taken_for_the_one_that_runs(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = digests(top)
    monkeypatch.setattr(code, "STARTED", time.time_ns() - 3600 * 10**9)
    during = digests(top)
    assert all(during[path] != after[path] for path in CORE if path.startswith("tasks/"))


def test_the_check_names_the_files_that_changed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "ROOT", top)
    code._code_of.cache_clear()
    check = UnchangedCode(["tasks.build.core"], "core:one")
    saved: dict[str, Any] = {}
    one = SimpleNamespace(value_savers=[])
    assert not check(one, saved)
    saved.update(one.value_savers[0]())
    assert check(one, saved)
    assert check.changed_files(saved) == []
    (top / "tasks/util/typed.py").write_text("class Typed:\n    pass\n")
    (top / "tasks/util/late.py").write_text("")
    code._code_of.cache_clear()
    assert not check(one, saved)
    assert check.changed_files(saved) == [
        "requirements.lock (pyelftools)",
        "tasks/util/late.py",
        "tasks/util/typed.py",
    ]
    code._code_of.cache_clear()


DECLARED = """import os
PLACE = "a"
def helper():
    return PLACE
def task_core():
    "make the core"
    return {"actions": [helper]}
def task_iso():
    return {"actions": []}
"""


@pytest.mark.parametrize(
    ("old", "new", "touched"),
    [
        ("make the core", "make it", []),
        ("import os", "import os  # for paths", []),
        ("[helper]", "[helper, helper]", ["core", "core:list"]),
        ('"actions": []', '"actions": [1]', ["iso"]),
        ("return PLACE", "return 1", ["core", "core:list", "iso"]),
        ('"a"', '"b"', ["core", "core:list", "iso"]),
    ],
)
def test_a_declaration_in_dodo_counts_for_its_tasks_alone(
    top: Path, old: str, new: str, touched: list[str]
) -> None:
    def declared() -> dict[str, str]:
        known = Code(top, top / "artifacts" / code.RECORD)
        return {task: known.digests([], task)["dodo.py"] for task in ("core", "core:list", "iso")}

    (top / "dodo.py").write_text(DECLARED)
    before = declared()
    (top / "dodo.py").write_text(DECLARED.replace(old, new))
    after = declared()
    assert [task for task in before if before[task] != after[task]] == touched


def test_code_that_is_edited_while_a_task_runs_is_told(top: Path) -> None:
    known = Code(top, top / "artifacts" / code.RECORD)
    assert known.edited(["tasks.build.core"]) == []
    path = top / "tasks/util/late.py"
    text, status = path.read_text(), path.stat()
    path.write_text(text + "LATE = 1\n")
    assert known.edited(["tasks.build.core"]) == ["tasks/util/late.py"]
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known.edited(["tasks.build.core"]) == ["tasks/util/late.py"], "it may have been imported between"


def test_an_edit_that_keeps_size_and_mtime_is_run(tmp_path: Path) -> None:
    """Python would take the compiled file for current."""
    package = tmp_path / "tasks"
    package.mkdir()
    shutil.copy(CHECKOUT.root / "tasks/__init__.py", package)
    module = package / "one.py"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(*words: str) -> str:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        ).stdout

    module.write_text("print(4096)\n")
    run("-m", "compileall", "-q", "tasks")
    assert list(package.rglob("*.pyc"))
    status = module.stat()
    module.write_text("print(8192)\n")
    os.utime(module, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run("-c", "import tasks.one") == "8192\n"
    compiled = Path(cache_from_source(str(module)))
    assert compiled.read_bytes()[4:8] == b"\3\0\0\0", "with the hash of its source (PEP 552)"
    written = compiled.stat().st_mtime_ns
    assert run("-c", "import tasks.one") == "8192\n"
    assert compiled.stat().st_mtime_ns == written, "it is used, not written again"
    compiled.write_bytes(compiled.read_bytes()[:20])
    assert run("-c", "import tasks.one") == "8192\n", "a damaged one is made again"
    module.write_text("print(1024)\n")
    os.utime(module, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run("-c", "import tasks.one") == "1024\n"


def test_the_modules_of_a_task_are_those_of_its_actions_and_checks() -> None:
    from tasks.config import recipe_lock
    from tasks.engine.database import SavedValues

    actions = [task.do("initramfs.core", "build"), task.beside("fetch.stage_inputs", "fetch_images")]
    checks = [SavedValues({}), True, (recipe_lock.is_cached, [])]
    found = code.modules_of(actions, checks, [task.do("extensions.build", "base_root")])
    assert found == {"tasks.initramfs.core", "tasks.config.recipe_lock", "tasks.extensions.build"}


# Files beside modules that no task with targets reads: the editor's schemas, shell completion.
OF_NO_STAGE = ("tasks/config/schemas/", "tasks/cli/completion.")


def test_every_data_file_belongs_to_a_module() -> None:
    """Data that a module reads in another way would be no input of any task."""
    whole = Code(CHECKOUT.root, CHECKOUT.artifacts / code.RECORD)
    known = set(whole.digests([f"tasks.{module}" for module in modules()]))
    data = [
        path
        for path in (CHECKOUT.root / "tasks").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    names = [CHECKOUT.name_of(path) for path in data]
    assert [name for name in names if name not in known and not name.startswith(OF_NO_STAGE)] == []


def modules() -> list[str]:
    paths = (path.relative_to(CHECKOUT.root / "tasks") for path in (CHECKOUT.root / "tasks").rglob("*.py"))
    return [str(path.with_suffix("")).replace("/", ".") for path in paths if path.name != "__init__.py"]

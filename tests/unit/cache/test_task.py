# SPDX-License-Identifier: MIT
"""Tasks that ask the shared cache: what a cache, good or bad, can do to a build."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doit.exceptions import TaskFailed

from tasks.cache import entry
from tasks.cache import task as cache_task
from tasks.cache.store import Folder, Refused, Unreachable
from tasks.cache.task import SharedCache, shared
from tasks.config.settings import Settings
from tasks.engine import code, explain
from tasks.engine.task import Task, action, changed
from tasks.kernel import source_tree, tree_state
from tasks.provenance import commands
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.trees import Tree
from tests.support.cacheentries import make_checkout, settings_of
from tests.support.settings import with_values


@pytest.fixture(autouse=True)
def a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_checkout(tmp_path, monkeypatch)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], a_checkout: Path) -> Settings:
    return settings_of(a_checkout, make_settings())


@dataclasses.dataclass
class Bench:
    """A task that copies its input, counts how often, and fails on the input "bad"."""

    settings: Settings
    runs: int = 0
    meanwhile: Callable[[], object] = lambda: None
    """What somebody does once the task has read its inputs."""
    layout: Callable[[], object] = dict
    logs: dict[str, str] = dataclasses.field(default_factory=dict)
    tools: object = ()
    name: str = "tcz:attr"
    reads: tuple[Path, ...] = ()

    def work(self) -> None:
        self.runs += 1
        for log, said in self.logs.items():
            self.settings.paths.logs.mkdir(exist_ok=True)
            (self.settings.paths.logs / f"{log}.log").write_text(said)
        text = self.input.read_text()
        self.meanwhile()
        if text == "bad":
            raise UserError("it is bad", "make it good")
        self.made.parent.mkdir(parents=True, exist_ok=True)
        self.made.write_text(f"made of {text}")

    @property
    def input(self) -> Path:
        return self.settings.paths.output / "kconfig/config"

    @property
    def fragment(self) -> Path:
        """An input in the checkout."""
        return CHECKOUT.root / "kconfig/a.config"

    @property
    def made(self) -> Path:
        return self.settings.paths.output / "tcz/attr.tcz"

    def cache(self) -> SharedCache:
        return SharedCache.of(self.settings)

    def plain(self) -> Task:
        work = action(self.work)
        work.modules = ("tasks.one",)  # type: ignore[attr-defined]
        basename, _, name = self.name.rpartition(":")
        return {
            "basename": basename or name,
            "name": name if basename else None,
            "actions": [(work, [])],
            "file_dep": [str(self.input), str(self.fragment), *map(str, self.reads)],
            "targets": [str(self.made)],
            "uptodate": changed(epoch=1, layout=self.layout, tools=self.tools),
        }

    def task(self, cache: SharedCache | None = None) -> Task:
        return shared(cache or self.cache(), self.settings, self.plain())

    def run(self) -> Any:
        """Run the task as a new `./doit` would, and return what its action returned."""
        ((function, arguments),) = self.task()["actions"]
        return function(*arguments)


@pytest.fixture
def bench(settings: Settings) -> Bench:
    # Of this machine's own programs, the versions count.
    profile = dataclasses.replace(settings.profile, toolchain="host")
    return Bench(dataclasses.replace(settings, profile=profile))


def test_the_second_time_it_comes_from_the_cache(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() is None
    assert re.search(
        r"tcz:attr: stored in the shared cache \(\d+ bytes, key [0-9a-f]{12}\)", capsys.readouterr().out
    )
    bench.made.unlink()
    assert bench.run() == {"from_cache": True}, "which the run's record reads"
    assert re.search(r"tcz:attr: from the shared cache \(\d+ bytes, key", capsys.readouterr().out)
    assert (bench.runs, bench.made.read_text()) == (1, "made of CONFIG_X=y\n")
    bench.input.write_text("other")
    bench.run()
    assert (bench.runs, bench.made.read_text()) == (2, "made of other")


def test_what_comes_from_the_cache_needs_no_input(bench: Bench) -> None:
    """The first actions of a task bring its inputs: with a hit they are not done either."""
    done: list[str] = []

    def run() -> Any:
        before = [(action(done.append), [word]) for word in ("bring", "prepare")]
        task = {**bench.plain(), "actions": [*before, *bench.plain()["actions"]]}
        ((function, arguments),) = shared(bench.cache(), bench.settings, task)["actions"]
        return function(*arguments)

    assert run() is None
    assert (done, bench.runs) == (["bring", "prepare"], 1)
    bench.made.unlink()
    assert run() == {"from_cache": True}
    assert (done, bench.runs) == (["bring", "prepare"], 1)
    assert bench.made.read_text() == "made of CONFIG_X=y\n"


def test_what_a_user_has_of_his_own_is_kept_small(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.settings = with_values(bench.settings, own_cache=True)
    monkeypatch.setattr(cache_task, "OWN_LIMIT", 2000)
    store = Folder(Path(bench.settings.network.shared_cache))
    sizes = []
    for number in range(20):
        bench.input.write_text(f"{number}")
        assert bench.run() is None
        sizes.append(sum(found.size for found in entry.entries(store)[0]))
    assert 0 < max(sizes) <= 2000
    assert "entries kept" in capsys.readouterr().out
    assert bench.run() == {"from_cache": True}, "the newest stays"


def test_a_disk_that_is_full_ends_no_build(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(entry, "put", full)
    assert bench.run() is None
    assert "cannot be written to (No space left on device); tcbuild only reads it" in capsys.readouterr().out


def test_without_a_cache_the_task_is_what_it_was(bench: Bench) -> None:
    bench.settings = with_values(bench.settings, shared_cache="")
    task: Task = {"basename": "core", "actions": [], "file_dep": [], "targets": []}
    assert shared(SharedCache("", offline=False), bench.settings, task) is task


def test_a_failure_stays_one_and_nothing_is_stored(bench: Bench, tmp_path: Path) -> None:
    bench.input.write_text("bad")
    failed = bench.run()
    assert isinstance(failed, TaskFailed)
    assert "it is bad" in failed.get_msg()
    assert not (tmp_path / "store").exists()


def test_a_poisoned_entry_is_said_built_and_replaced(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    (archive,) = (tmp_path / "store/archives").iterdir()
    good = archive.read_bytes()
    archive.write_bytes(good[:-9] + bytes(9))
    bench.made.unlink()
    capsys.readouterr()
    assert bench.run() is None
    said = capsys.readouterr().out
    assert "warning: shared cache: the entry of tcz:attr is refused: its archive is damaged" in said
    assert (bench.runs, archive.read_bytes()) == (2, good)
    bench.run()
    assert bench.runs == 2


class Broken(Folder):
    """A store that fails in one of its functions."""

    failing: tuple[str, Exception] = ("", Refused())

    def _fail(self, what: str) -> None:
        if self.failing[0] == what:
            raise self.failing[1]

    def read(self, name: str, target: Path, limit: int) -> None:
        self._fail("read")
        super().read(name, target, limit)

    def write(self, name: str, source: Path) -> None:
        self._fail("write")
        super().write(name, source)

    def touch(self, name: str) -> None:
        self._fail("touch")
        super().touch(name)

    def remove(self, name: str) -> None:
        self._fail("remove")
        super().remove(name)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    store = Broken(tmp_path / "store")
    monkeypatch.setattr(cache_task, "open_store", lambda address: store)
    return store


@pytest.mark.parametrize(
    ("failing", "says"),
    [
        (
            ("read", Unreachable("connection refused")),
            "cannot be used (connection refused); building without it",
        ),
        (
            ("write", Refused("PUT: 403 Forbidden")),
            "cannot be written to (PUT: 403 Forbidden); tcbuild only reads it",
        ),
        (("write", Unreachable("timed out")), "cannot be used (timed out); building without it"),
    ],
)
def test_a_cache_that_fails_costs_one_line(
    bench: Bench,
    broken: Broken,
    failing: tuple[str, Exception],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken.failing = failing
    cache = bench.cache()
    actions = [bench.task(cache)["actions"][0][0] for _ in range(3)]
    for function in actions:  # three tasks of one run
        assert function() is None
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("warning: shared cache ")
    assert says in said[0]
    assert bench.runs == 3
    assert bench.made.read_text() == "made of CONFIG_X=y\n"


@pytest.mark.parametrize("function", ["touch", "remove"])
def test_a_cache_that_may_only_be_read_serves_all_the_same(
    bench: Bench, broken: Broken, tmp_path: Path, function: str
) -> None:
    bench.run()
    broken.failing = (function, Refused("Permission denied"))
    bench.run()
    assert bench.runs == 1
    (archive,) = (tmp_path / "store/archives").iterdir()
    archive.write_bytes(b"poison")
    assert bench.run() is None
    assert bench.runs == 2


def test_offline_asks_no_other_machine(
    bench: Bench, broken: Broken, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.failing = ("read", AssertionError("the network was asked"))
    address = "https://host/cache"
    bench.settings = with_values(bench.settings, shared_cache=address, offline=True)
    assert bench.run() is None
    assert capsys.readouterr().out == "shared cache: not used, because offline=1 forbids it\n"
    assert bench.runs == 1


def test_offline_a_folder_serves(bench: Bench) -> None:
    bench.settings = with_values(bench.settings, offline=True)
    bench.run()
    bench.run()
    assert bench.runs == 1


def test_a_machine_without_dpkg_builds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> dict[str, str]:
        raise UserError("dpkg-query is not installed")

    monkeypatch.setattr(cache_task, "tools", missing)
    bench.run()
    bench.run()
    assert bench.runs == 2
    assert "warning: no shared cache: dpkg-query is not installed" in capsys.readouterr().out


def test_a_missing_driver_fails_the_task_in_words(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # this venv may have it
    bench.settings = with_values(bench.settings, shared_cache="s3://bucket/x")
    failed = bench.run()
    assert isinstance(failed, TaskFailed)
    assert "pip install s3fs" in failed.get_msg()
    assert bench.runs == 0


def test_what_is_signed_with_another_secret_is_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    monkeypatch.setenv(entry.SECRET_VARIABLE, "s3cret")
    bench.run()
    assert bench.runs == 2
    assert "not signed with the secret in $TCBUILD_CACHE_KEY" in capsys.readouterr().out
    bench.run()
    assert bench.runs == 2


def test_the_commands_that_made_it_come_along_wherever_it_was_made(
    bench: Bench, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    first = bench.settings.paths
    bench.logs = {"tcz-attr": f"# in a root\n+ mksquashfs {first.output}/root x -processors 2\nsaid\n"}
    bench.run()
    written = (first.logs / "tcz-attr.log").read_text()
    assert written == bench.logs["tcz-attr"], "what ran here is told as it was"
    output = tmp_path / "elsewhere/out"
    bench.settings = with_values(bench.settings, output=output)
    bench.input.parent.mkdir(parents=True)
    bench.input.write_text("CONFIG_X=y\n")
    assert bench.run() == {"from_cache": True}
    there = (output / "logs/tcz-attr.log").read_text()
    assert there == commands.FROM_CACHE + "+ mksquashfs ${OUTPUT}/root x -processors ${JOBS}\n"
    found = [commands.logged(paths, ["tcz-attr"]) for paths in (first, bench.settings.paths)]
    assert found[0] == found[1] != {}


def test_a_log_of_an_earlier_build_goes_where_the_result_has_no_command(bench: Bench) -> None:
    bench.run()
    bench.settings.paths.logs.mkdir()
    log = bench.settings.paths.logs / "tcz-attr.log"
    log.write_text("+ of something else\n")
    assert bench.run() == {"from_cache": True}
    assert not log.exists()


def test_code_that_tells_the_commands_otherwise_takes_no_older_entry(bench: Bench) -> None:
    bench.run()
    (CHECKOUT.root / "tasks/provenance/redaction.py").write_text("OTHER = 1\n")
    code._code_of.cache_clear()
    assert bench.run() is None
    assert bench.runs == 2


def test_a_run_that_does_all_again_takes_nothing_and_stores(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    (archive,) = (tmp_path / "store/archives").iterdir()
    archive.write_bytes(b"")
    cache = bench.cache()
    ((function, _),) = bench.task(cache)["actions"]
    function.take_nothing()
    assert function() is None
    assert (bench.runs, archive.stat().st_size > 0) == (2, True)


def test_what_is_edited_in_place_in_artifacts_is_not_what_others_take(bench: Bench) -> None:
    """Neither the file that was stored nor one that was taken shares its content with the cache."""
    bench.run()
    for text in ("edited where it was made", "edited where it was taken"):
        with bench.made.open("r+") as file:
            file.write(text)
        assert bench.made.read_text().startswith(text)
        assert bench.run() == {"from_cache": True}
        assert bench.made.read_text() == "made of CONFIG_X=y\n"


def test_an_entry_that_another_run_prunes_meanwhile_is_none(
    bench: Bench, broken: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    capsys.readouterr()
    read = Folder.read

    def prune_before_the_archive(name: str, target: Path, limit: int) -> None:
        if name.startswith(entry.ARCHIVES):
            entry.prune(Folder(broken.top), 0)
        read(broken, name, target, limit)

    broken.read = prune_before_the_archive  # type: ignore[method-assign]
    assert bench.run() is None
    said = capsys.readouterr().out
    assert "warning" not in said
    assert bench.runs == 2


def test_ones_own_cache_knows_compilers_by_their_files(bench: Bench) -> None:
    """A compiler replaced by hand has another time; its package has the same version."""
    bench.settings = with_values(bench.settings, own_cache=True)
    bench.tools = [("/usr/bin/gcc", 1, 2)]
    bench.run()
    bench.tools = [("/usr/bin/gcc", 1, 3)]
    assert bench.run() is None
    assert bench.run() == {"from_cache": True}
    assert bench.runs == 2


@pytest.mark.parametrize("task", [*cache_task.KERNEL_TREE_TASKS, "tcz:attr"])
def test_what_comes_of_a_tree_that_somebody_edited_in_place_is_not_shared(
    bench: Bench, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key tells of the archive and the patches, and of no edit in artifacts/."""
    paths = bench.settings.paths
    bench.name = task
    (paths.linux / tree_state.STATE).parent.mkdir(parents=True)
    (paths.linux / "a.c").write_text("int a;")
    bench.reads = (paths.linux / "a.c",)  # an extension with modules from elsewhere reads the tree, too
    tree_state.record(paths.linux)
    paths.build.mkdir()
    (paths.build / source_tree.UNTOUCHED).touch()
    (paths.linux / "a.c").write_text("int b;")
    assert bench.run() is None
    said = capsys.readouterr().out
    assert said.startswith(f"warning: {task}: not stored in the shared cache, because {paths.linux} ")
    assert not (tmp_path / "store").exists()
    tree_state.record(paths.linux)
    assert bench.run() is None
    assert "stored in the shared cache (" in capsys.readouterr().out


def test_objects_of_a_tree_that_was_edited_for_a_while_are_not_shared(bench: Bench, tmp_path: Path) -> None:
    paths = bench.settings.paths
    bench.name = "kernel"
    (paths.linux / tree_state.STATE).parent.mkdir(parents=True)
    tree_state.record(paths.linux)
    paths.build.mkdir()  # make found it edited, and so there is no mark
    assert bench.run() is None
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("task", "stored"), [("kconfig", True), ("kernel", False), ("tcz:hello-KERNEL", False)]
)
def test_what_a_build_draws_by_chance_is_not_shared(
    bench: Bench, tmp_path: Path, task: str, stored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = bench.settings.paths
    bench.name = task
    bench.input.write_text('CONFIG_MODULE_SIG_KEY="certs/signing_key.pem"\n')
    (paths.linux / tree_state.STATE).parent.mkdir(parents=True)
    (paths.linux / "a.c").write_text("int a;")
    bench.reads = (paths.linux / "a.c",)
    tree_state.record(paths.linux)
    paths.build.mkdir()
    (paths.build / source_tree.UNTOUCHED).touch()
    assert bench.run() is None
    assert (tmp_path / "store").exists() == stored
    why = "because its build draws the key that signs modules by chance"
    assert (why in capsys.readouterr().out) == (not stored)


@dataclasses.dataclass
class Doits:
    """What explain looks at of one of doit's tasks."""

    file_dep: list[str]
    actions: list[Any]


def test_explain_asks_only_where_the_inputs_are_there(bench: Bench) -> None:
    @dataclasses.dataclass
    class Action:
        py_callable: Callable[[], Any]

    task = Doits([str(bench.input)], [Action(bench.task()["actions"][0][0])])
    assert explain.cached_in(task) == ""
    bench.run()
    assert explain.cached_in(task) == "the shared cache"
    assert explain.cached_in(Doits([*task.file_dep, "/no/such/file"], task.actions)) == ""
    assert explain.cached_in(Doits([], [Action(lambda: None)])) == ""
    bench.settings = with_values(bench.settings, own_cache=True)
    bench.run()
    mine = Doits(task.file_dep, [Action(bench.task()["actions"][0][0])])
    assert explain.cached_in(mine) == "your own cache"


def edit_and_undo(bench: Bench) -> None:
    text = bench.fragment.read_text()
    bench.fragment.write_text("in between")
    bench.fragment.write_text(text)


def new_file_and_gone(bench: Bench) -> None:
    (CHECKOUT.root / "rootfs/new").touch()
    (CHECKOUT.root / "rootfs/new").unlink()


def new_package(bench: Bench) -> None:
    """Install another compiler; it counts where the machine's own programs write results."""
    cache_task.tools = functools.cache(lambda: {"gcc": "5"})  # the fixture puts it back


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: bench.input.write_text("other"),
        lambda bench: bench.fragment.write_text("other"),
        lambda bench: bench.fragment.unlink(),
        edit_and_undo,
        lambda bench: (CHECKOUT.root / "rootfs/new").write_text("new"),
        new_file_and_gone,
        lambda bench: (CHECKOUT.root / "rootfs/link").symlink_to("new"),
        lambda bench: (CHECKOUT.root / "tasks/one.py").write_text("other = 1"),
        new_package,
    ],
    ids=["made", "input", "gone", "undone", "new-file", "new-file-and-gone", "new-link", "code", "tools"],
)
def test_what_was_built_while_an_input_changed_is_not_shared(
    bench: Bench, tmp_path: Path, change: Callable[[Bench], object], capsys: pytest.CaptureFixture[str]
) -> None:
    (CHECKOUT.root / "rootfs").mkdir()
    bench.layout = Tree(CHECKOUT.root / "rootfs")
    bench.meanwhile = lambda: change(bench)
    assert bench.run() is None
    said = "warning: tcz:attr: not stored in the shared cache, because an input changed meanwhile\n"
    assert capsys.readouterr().out == said
    assert not (tmp_path / "store").exists()
